//! Linear layers, matrix products and reductions.

use super::{Context, Transferred, link, mixed};
use crate::ops::Reduce;
use crate::roles::axis::Axis;

impl Context<'_> {
    pub(super) fn linear(&self) -> Transferred {
        let x = self.operand(0);
        let (Some((last, leading)), Some(&side)) = (x.split_last(), self.shape().last()) else {
            return Transferred::default();
        };
        if !self.is_dynamic(0) {
            return Transferred::default();
        }
        let mut axes = leading.to_vec();
        axes.push(mixed(last, leading, side));
        let links = (0..leading.len()).map(|i| link(0, i, i)).collect();
        Transferred { axes, links }
    }

    /// `[…, m, k] · […, k, n]`: rows are those of the left side, columns those of the right side.
    pub(super) fn product(&self) -> Transferred {
        let (a, b, shape) = (self.operand(0), self.operand(1), self.shape());
        let (&[ref a_batch @ .., ref m, ref left], &[ref b_batch @ .., ref right, ref n]) = (a, b) else {
            return Transferred::default();
        };
        let rank = shape.len();
        let mut found = self.broadcast(&[0, 1], 2, &shape[..rank - 2]);
        if self.is_dynamic(0) {
            found.links.push(link(0, a_batch.len(), rank - 2));
            found.axes.push(m.clone());
        } else {
            found.axes.push(mixed(right, b, m.len()));
        }
        if self.is_dynamic(1) {
            found.links.push(link(1, b_batch.len() + 1, rank - 1));
            found.axes.push(n.clone());
        } else {
            found.axes.push(mixed(left, &a[..a.len() - 1], n.len()));
        }
        found
    }

    pub(super) fn reduce(&self, reduce: &Reduce) -> Transferred {
        let mut found = Transferred::default();
        for (from, axis) in self.operand(0).iter().enumerate() {
            if !reduce.axes.contains(&from) {
                found.links.push(link(0, from, found.axes.len()));
                found.axes.push(axis.clone());
            } else if reduce.keep {
                found.axes.push(axis.reduced());
            }
        }
        found
    }

    /// The rows of a table: channels at each index.
    pub(super) fn embedding(&self) -> Transferred {
        let (index, &[.., width]) = (self.operand(1), self.shape()) else { return Transferred::default() };
        let links = (0..index.len()).map(|i| link(1, i, i)).collect();
        let mut axes = index.to_vec();
        axes.push(Axis::whole(crate::roles::AxisRole::Channel, width));
        Transferred { axes, links }
    }
}
