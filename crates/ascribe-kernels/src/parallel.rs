//! Runs tasks on the current rayon pool, and gives them memory to share or to use as scratch.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `body(scratch, 0)`, …, `body(scratch, tasks − 1)` on the current rayon pool, each exactly once.
///
/// Threads take one task at a time, so that tasks of unequal length are balanced. Which thread runs a task is not
/// determined, so its result must depend on its index alone. Each thread that takes part calls `make` once and
/// reuses the scratch for all of its tasks.
pub(crate) fn run_tasks<S, M, B>(tasks: usize, make: M, body: B)
where
    M: Fn() -> S + Sync,
    B: Fn(&mut S, usize) + Sync,
{
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut task = next.fetch_add(1, Ordering::Relaxed);
        if task >= tasks {
            return;
        }
        let mut scratch = make();
        while task < tasks {
            body(&mut scratch, task);
            task = next.fetch_add(1, Ordering::Relaxed);
        }
    };
    let helpers = rayon::current_num_threads().min(tasks).saturating_sub(1);
    if helpers == 0 {
        worker();
        return;
    }
    rayon::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| worker());
        }
        worker();
    });
}

/// A mutable slice that tasks share, each writing its own part.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T> {
    pointer: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer comes from an exclusive slice of `T: Send`, and tasks access disjoint parts of it.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { pointer: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The start of the slice.
    pub(crate) fn pointer(&self) -> *mut T {
        self.pointer
    }

    /// The `len` elements that begin at index `start`.
    ///
    /// # Safety
    /// The range lies within the slice, and no other task uses it at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn range(&self, start: usize, len: usize) -> &'a mut [T] {
        debug_assert!(start + len <= self.len);
        // SAFETY: the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }
}

/// Uninitialised scratch memory of one thread, aligned to cache lines.
pub(crate) struct Scratch<T> {
    pointer: NonNull<T>,
    layout: Layout,
}

impl<T: Copy> Scratch<T> {
    /// Room for `len` elements.
    pub(crate) fn new(len: usize) -> Self {
        const LINE: usize = 64;
        let bytes = (len * size_of::<T>()).max(LINE).next_multiple_of(LINE);
        // Scratch is never larger than a cache or than a tensor that exists, so its size is always valid.
        let Ok(layout) = Layout::from_size_align(bytes, LINE) else { panic!("scratch of {bytes} bytes") };
        // SAFETY: the size is not zero.
        let Some(pointer) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        Self { pointer: pointer.cast(), layout }
    }

    /// The start of the memory.
    pub(crate) fn pointer(&mut self) -> *mut T {
        self.pointer.as_ptr()
    }

    /// Sets the first `len` elements to zero.
    pub(crate) fn zeroed(&mut self, len: usize) {
        assert!(len * size_of::<T>() <= self.layout.size());
        // SAFETY: the memory is that long. The elements are floats, for which zero bits are the number 0.
        unsafe { self.pointer.as_ptr().write_bytes(0, len) };
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.pointer.as_ptr().cast(), self.layout) };
    }
}
