//! Least squares of any rank.

use nalgebra::{DMatrix, DVector, Reflection, Unit};

use crate::error::{Error, Result};

/// `A P = Q R` by Householder reflections, where each step takes the column with the largest remaining norm: Businger and Golub
/// 1965, "Linear least squares solutions by Householder transformations"; Golub and Van Loan, Matrix Computations,
/// §5.4-5.5.
///
/// This is not `nalgebra`'s `ColPivQR`, which picks columns by their largest element, so that it does not reveal the rank;
/// and its `SVD` is wrong for some matrices of deficient rank
/// (<https://github.com/dimforge/nalgebra/issues/1172>).
pub(super) struct Pivoted {
    /// `R` in the upper triangle of its first `rank` rows; the values below the diagonal are not used.
    r: DMatrix<f64>,
    /// The first `rank` values of `Qᵀ y`.
    qty: DVector<f64>,
    /// The column of `A` that belongs to each column of `R`.
    order: Vec<usize>,
}

impl Pivoted {
    /// Factors a matrix of `m` rows and `p` columns. Columns of which no more than rounding is left count as sums of
    /// those before: `max(m, p)` times the precision of f64, of `sizes`. These are the lengths of the columns, or of
    /// what they were when they were rounded, as they were before a mean was taken off.
    pub(super) fn new(mut a: DMatrix<f64>, mut y: DVector<f64>, sizes: &[f64]) -> Self {
        let (m, p) = a.shape();
        let precision = f64::EPSILON * m.max(p) as f64;
        let mut order: Vec<usize> = (0..p).collect();
        // Squares of what is left of each column, and of what was left when it was last measured.
        let mut left: Vec<f64> = a.column_iter().map(|column| column.norm_squared()).collect();
        let mut measured = left.clone();
        let mut rounding: Vec<f64> = sizes.iter().map(|size| (precision * size).powi(2)).collect();
        let mut rank = 0;
        while rank < m.min(p) {
            let more = |best: Option<usize>, j: usize| match best {
                _ if left[j] <= rounding[j] => best,
                Some(best) if left[j] <= left[best] => Some(best),
                _ => Some(j),
            };
            let Some(best) = (rank..p).fold(None, more) else { break };
            a.swap_columns(rank, best);
            rounding.swap(rank, best);
            order.swap(rank, best);
            left.swap(rank, best);
            measured.swap(rank, best);

            let mut axis = a.view((rank, rank), (m - rank, 1)).column(0).clone_owned();
            let length = axis.norm();
            let pivot = if axis[0] >= 0.0 { -length } else { length };
            axis[0] -= pivot;
            let reflection = Reflection::new(Unit::new_normalize(axis), 0.0);
            reflection.reflect(&mut a.view_mut((rank, rank + 1), (m - rank, p - rank - 1)));
            reflection.reflect(&mut y.rows_mut(rank, m - rank));
            a[(rank, rank)] = pivot;

            for j in rank + 1..p {
                left[j] -= a[(rank, j)].powi(2);
                // The subtracted part has the rounding error of the other column.
                rounding[j] += (a[(rank, j)] / pivot).powi(2) * rounding[rank];
                // As in LAPACK's `dlaqp2`: norms are computed again before rounding errors dominate them.
                if left[j] <= f64::EPSILON.sqrt() * measured[j] {
                    left[j] = a.view((rank + 1, j), (m - rank - 1, 1)).norm_squared();
                    measured[j] = left[j];
                }
            }
            rank += 1;
        }
        Self { r: a.rows(0, rank).clone_owned(), qty: y.rows(0, rank).clone_owned(), order }
    }

    /// Number of linearly independent columns.
    pub(super) fn rank(&self) -> usize {
        self.r.nrows()
    }

    /// The `z` with the least `|A z − y|`; among these, if there are several, the one with the least `|z|`.
    ///
    /// # Errors
    /// If the system is too badly scaled to be solved.
    pub(super) fn solve(&self) -> Result<DVector<f64>> {
        let (rank, p) = self.r.shape();
        let r = self.r.upper_triangle();
        let z = if rank == 0 {
            DVector::zeros(p)
        } else if rank == p {
            r.solve_upper_triangular(&self.qty).ok_or_else(unsolvable)?
        } else {
            // R z = c of least norm: with Rᵀ = Q T, z = Q T⁻ᵀ c.
            let qr = r.transpose().qr();
            qr.q() * qr.r().tr_solve_upper_triangular(&self.qty).ok_or_else(unsolvable)?
        };
        let mut solution = DVector::zeros(p);
        self.order.iter().zip(&z).for_each(|(column, value)| solution[*column] = *value);
        Ok(solution)
    }

    /// A `B` with `B Bᵀ = (Aᵀ A)⁻¹`; `None` if there is no such inverse.
    ///
    /// # Errors
    /// If the system is too badly scaled to be solved.
    pub(super) fn inverse_root(&self) -> Result<Option<DMatrix<f64>>> {
        let (rank, p) = self.r.shape();
        if rank < p {
            return Ok(None);
        }
        let inverse = self.r.upper_triangle().solve_upper_triangular(&DMatrix::identity(p, p));
        let inverse = inverse.ok_or_else(unsolvable)?;
        let mut root = DMatrix::zeros(p, p);
        self.order.iter().zip(inverse.row_iter()).for_each(|(at, row)| root.set_row(*at, &row));
        Ok(Some(root))
    }
}

fn unsolvable() -> Error {
    Error::invalid("rows", "cannot be solved for", "features of comparable scale")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn random(m: usize, p: usize, seed: u64) -> DMatrix<f64> {
        let mut state = seed;
        DMatrix::from_fn(m, p, |_, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        })
    }

    fn factor(a: DMatrix<f64>, y: DVector<f64>) -> Pivoted {
        let sizes: Vec<f64> = a.column_iter().map(|column| column.norm()).collect();
        Pivoted::new(a, y, &sizes)
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(96))]

        /// The solution satisfies the normal equations, and lies in the span of the rows: the conditions of Moore and
        /// Penrose.
        #[test]
        fn least_squares_of_least_norm(
            m in 1_usize..12, p in 1_usize..12, rank in 0_usize..6, scale in -30_i32..30, seed: u64,
        ) {
            let rank = rank.min(m).min(p);
            let a = random(m, rank, seed) * random(rank, p, !seed) * 10_f64.powi(scale);
            let y = random(m, 1, seed ^ 7).column(0).clone_owned();
            let factors = factor(a.clone(), y.clone());
            prop_assert!(factors.rank() == rank, "{} instead of {}", factors.rank(), rank);
            let z = factors.solve().unwrap();
            let size = a.norm() * y.norm();
            prop_assert!((a.transpose() * (&a * &z - &y)).norm() <= 1e-10 * size);
            // z = Aᵀ t for some t: what Aᵀ leaves of it is nothing.
            let left = factor(a.transpose(), z.clone());
            let outside = &z - a.transpose() * left.solve().unwrap();
            prop_assert!(outside.norm() <= 1e-8 * z.norm());
            if let Some(root) = factors.inverse_root().unwrap() {
                let identity = (&root * root.transpose()) * (a.transpose() * &a);
                prop_assert!((identity - DMatrix::identity(p, p)).norm() < 1e-3);
            } else {
                prop_assert!(rank < p);
            }
        }
    }

    /// Of matrices like these, `nalgebra`'s own decomposition into singular values is wrong.
    #[test]
    fn ones_have_rank_one() {
        for (m, p) in [(3, 5), (6, 21), (21, 6), (1, 1), (30, 30)] {
            let factors = factor(DMatrix::repeat(m, p, 1.0), DVector::repeat(m, 3.0));
            assert_eq!(factors.rank(), 1);
            let z = factors.solve().unwrap();
            assert!(z.iter().all(|value| (value - 3.0 / p as f64).abs() < 1e-14), "{z}");
        }
    }

    #[test]
    fn nothing_has_rank_zero() {
        let factors = factor(DMatrix::zeros(4, 3), DVector::repeat(4, 1.0));
        assert_eq!((factors.rank(), factors.solve().unwrap()), (0, DVector::zeros(3)));
        assert!(factors.inverse_root().unwrap().is_none());
    }

    /// Kahan's matrix, of full rank, is not reordered by exchanges and its last column is nearly dependent.
    #[test]
    fn nearly_dependent_columns_are_independent() {
        let (s, c) = (0.6_f64, 0.8);
        let kahan = DMatrix::from_fn(20, 20, |i, j| match j.cmp(&i) {
            std::cmp::Ordering::Less => 0.0,
            std::cmp::Ordering::Equal => s.powi(i as i32),
            std::cmp::Ordering::Greater => -c * s.powi(i as i32),
        });
        let truth = DVector::from_fn(20, |i, _| i as f64);
        let factors = factor(kahan.clone(), &kahan * &truth);
        assert_eq!(factors.rank(), 20);
        assert!((factors.solve().unwrap() - truth).norm() < 1e-5);
    }
}
