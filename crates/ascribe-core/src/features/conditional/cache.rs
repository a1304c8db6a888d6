//! Results that many draws need.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;

/// Number of f64 values that a cache holds: a quarter of a gigabyte.
const VALUES: usize = 1 << 25;

/// The largest number of results in a cache.
const ENTRIES: usize = 4096;

/// The latest results, each for what it was made from. The oldest one leaves when there is no room.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    held: Mutex<Held<K, V>>,
    room: usize,
}

#[derive(Debug)]
struct Held<K, V> {
    results: HashMap<K, Arc<V>>,
    /// The oldest key first.
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// A cache of results with at most this many values each.
    pub fn new(values: usize) -> Self {
        let held = Held { results: HashMap::new(), order: VecDeque::new() };
        Self { held: Mutex::new(held), room: (VALUES / values.max(1)).clamp(1, ENTRIES) }
    }

    /// The result for a key, which is made unless it is there.
    pub fn get(&self, key: &K, make: impl FnOnce() -> Result<V>) -> Result<Arc<V>> {
        let lock = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().results.get(key) {
            return Ok(Arc::clone(found));
        }
        // Not under the lock, so that other threads make theirs at the same time. If two make the same one, the results are
        // equal.
        let made = Arc::new(make()?);
        let mut held = lock();
        let Held { results, order } = &mut *held;
        if let Some(found) = results.get(key) {
            return Ok(Arc::clone(found));
        }
        if order.len() == self.room
            && let Some(oldest) = order.pop_front()
        {
            results.remove(&oldest);
        }
        order.push_back(key.clone());
        results.insert(key.clone(), Arc::clone(&made));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn the_oldest_result_leaves() -> Result<()> {
        let cache = Cache::new(VALUES / 2);
        let made = Mutex::new(Vec::new());
        for key in [1, 2, 1, 3, 2, 1, 1] {
            let found = cache.get(&key, || {
                made.lock().unwrap_or_else(PoisonError::into_inner).push(key);
                Ok(10 * key)
            })?;
            assert_eq!(*found, 10 * key);
        }
        assert_eq!(made.into_inner().unwrap_or_default(), [1, 2, 3, 1]);
        assert!(cache.get(&9, || Err(Error::invalid("this", "fails", "an error"))).is_err());
        assert_eq!(*cache.get(&9, || Ok(5))?, 5, "errors are not kept");
        Ok(())
    }
}
