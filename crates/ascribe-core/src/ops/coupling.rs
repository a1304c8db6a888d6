//! Probabilities of classes from those of pairs of classes.

use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, DVector};

use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::{Error, Result};

/// Pairwise coupling: input `r [N, C (C − 1) / 2]`, the probabilities of class `i` where the class is `i` or `j`, for all pairs `i < j`
/// in order; output `p [N, C]`, the probabilities of the classes that fit them best:
///
/// ```text
/// min Σᵢ Σ_{j≠i} (r_ji pᵢ − r_ij pⱼ)²   with Σ pᵢ = 1,   r_ji = 1 − r_ij
/// ```
///
/// by the iteration of Wu, Lin & Weng, *Probability estimates for multi-class classification by pairwise coupling* (JMLR 2004), method
/// 2, which support vector machines of LIBSVM use: up to 100 rounds, until the error is below 0.005 / C. The gradient is that of
/// the exact solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PairwiseCoupling {
    /// Number of classes C, at least 2.
    pub classes: usize,
}

/// Most rounds of the iteration.
const ROUNDS: usize = 100;
/// Most classes, so that the squares of their numbers stay small.
const MOST: usize = 1 << 12;

/// All pairs of classes in order.
fn pairs(classes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..classes).flat_map(move |i| (i + 1..classes).map(move |j| (i, j)))
}

macro_rules! iterate {
    ($name:ident, $float:ty) => {
        /// The probabilities that one sample's pairs lead to, by the iteration.
        fn $name(classes: usize, r: &[$float]) -> Vec<$float> {
            let mut q = vec![0.0; classes * classes];
            for ((i, j), &own) in pairs(classes).zip(r) {
                let other = 1.0 - own;
                q[i * classes + i] += other * other;
                q[j * classes + j] += own * own;
                q[i * classes + j] = -other * own;
                q[j * classes + i] = -other * own;
            }
            let eps = 0.005 / classes as $float;
            let mut p = vec![1.0 / classes as $float; classes];
            let mut qp = vec![0.0; classes];
            for _ in 0..ROUNDS {
                let mut total = 0.0;
                for (i, qp) in qp.iter_mut().enumerate() {
                    *qp = q[i * classes..(i + 1) * classes].iter().zip(&p).map(|(q, p)| q * p).sum();
                    total += p[i] * *qp;
                }
                let error = qp.iter().fold(0.0, |most: $float, qp| most.max((qp - total).abs()));
                if error < eps {
                    break;
                }
                for i in 0..classes {
                    let row = &q[i * classes..(i + 1) * classes];
                    let step = (total - qp[i]) / row[i];
                    p[i] += step;
                    total = (total + step * (step * row[i] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
                    for (j, row) in row.iter().enumerate() {
                        qp[j] = (qp[j] + step * row) / (1.0 + step);
                        p[j] /= 1.0 + step;
                    }
                }
            }
            p
        }
    };
}

iterate!(single, f32);
iterate!(double, f64);

/// The gradient with respect to the pairs of one sample: that of the exact solution, where `Q p + b = 0` and `Σ pᵢ = 1`.
fn gradient(classes: usize, r: &[f64], grad: &[f64]) -> Option<Vec<f64>> {
    let size = classes + 1;
    let mut system = DMatrix::<f64>::zeros(size, size);
    for ((i, j), &own) in pairs(classes).zip(r) {
        let other = 1.0 - own;
        system[(i, i)] += other * other;
        system[(j, j)] += own * own;
        system[(i, j)] = -other * own;
        system[(j, i)] = -other * own;
    }
    for i in 0..classes {
        system[(i, classes)] = 1.0;
        system[(classes, i)] = 1.0;
    }
    let solver = system.lu();
    let mut right = DVector::zeros(size);
    right[classes] = 1.0;
    let p = solver.solve(&right)?;
    let mut right = DVector::zeros(size);
    right.as_mut_slice()[..classes].copy_from_slice(grad);
    let l = solver.solve(&right)?;
    let slope = |((i, j), &own): ((usize, usize), &f64)| {
        2.0 * (1.0 - own) * l[i] * p[i]
            - 2.0 * own * l[j] * p[j]
            - (2.0 * own - 1.0) * (l[i] * p[j] + l[j] * p[i])
    };
    Some(pairs(classes).zip(r).map(slope).collect())
}

impl Operator for PairwiseCoupling {
    fn name(&self) -> &'static str {
        "PairwiseCoupling"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Product
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [r] = shapes(inputs)?;
        if !(2..=MOST).contains(&self.classes) {
            return Err(Error::invalid("classes", self.classes.to_string(), format!("2 to {MOST}")));
        }
        let count = self.classes * (self.classes - 1) / 2;
        match r {
            [rows, pairs] if *pairs == count => Ok(vec![*rows, self.classes]),
            _ => Err(Error::invalid(
                "input",
                format!("has shape {r:?}"),
                format!("[N, {count}], for the pairs of {} classes", self.classes),
            )),
        }
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let r = input(inputs, 0)?;
        let (rows, width) = r.dims2()?;
        let host = r.to_device(&Device::Cpu)?.contiguous()?.flatten_all()?;
        let shape = (rows, self.classes);
        let p = match r.dtype() {
            DType::F32 => {
                let p = host.to_vec1::<f32>()?.chunks(width).flat_map(|r| single(self.classes, r)).collect();
                Tensor::from_vec::<_, f32>(p, shape, &Device::Cpu)?
            }
            DType::F64 => {
                let p = host.to_vec1::<f64>()?.chunks(width).flat_map(|r| double(self.classes, r)).collect();
                Tensor::from_vec::<_, f64>(p, shape, &Device::Cpu)?
            }
            other => return Err(Error::invalid("input", format!("holds {other:?}"), "f32 or f64")),
        };
        Ok(p.to_device(r.device())?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let r = args.input(0)?;
        let (_, width) = r.dims2()?;
        let (pairs, grad) =
            (crate::values::numbers(&r.flatten_all()?)?, crate::values::numbers(&args.grad.flatten_all()?)?);
        let mut found = Vec::with_capacity(pairs.len());
        for (r, grad) in pairs.chunks(width).zip(grad.chunks(self.classes)) {
            let one = gradient(self.classes, r, grad).ok_or_else(|| {
                Error::invalid(
                    "pairs",
                    "leave the probabilities open",
                    "values between 0 and 1, not at the ends",
                )
            })?;
            found.extend(one);
        }
        let found = Tensor::from_vec(found, r.dims(), &Device::Cpu)?;
        Ok(vec![Some(found.to_dtype(r.dtype())?.to_device(r.device())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_agree_give_their_probabilities() {
        // r_ij = pᵢ / (pᵢ + pⱼ).
        let p = [0.5, 0.3, 0.2];
        let r: Vec<f64> = pairs(3).map(|(i, j)| p[i] / (p[i] + p[j])).collect();
        let op = PairwiseCoupling { classes: 3 };
        let x = Tensor::from_vec(r, (1, 3), &Device::Cpu).unwrap();
        let y = op.forward(&[&x], Backend::Auto).unwrap().to_vec2::<f64>().unwrap();
        for (found, expected) in y[0].iter().zip(p) {
            // The iteration stops early.
            assert!((found - expected).abs() < 2e-3, "{y:?}");
        }
        assert_eq!(op.output_shape(&[&[7, 3]]).unwrap(), [7, 3]);
        let error = op.output_shape(&[&[7, 2]]).unwrap_err().to_string();
        assert!(error.contains("[N, 3]"), "{error}");
    }

    #[test]
    fn two_classes_get_the_probability_of_their_pair() {
        let x = Tensor::new(&[[0.5_f32], [0.3]], &Device::Cpu).unwrap();
        let y =
            PairwiseCoupling { classes: 2 }.forward(&[&x], Backend::Auto).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(y[0], [0.5, 0.5]);
        assert!((y[1][0] - 0.3).abs() < 5e-3 && (y[1][0] + y[1][1] - 1.0).abs() < 1e-6, "{y:?}");
    }

    /// The exact solution of the conditions for a minimum.
    fn exact(classes: usize, r: &[f64]) -> Vec<f64> {
        let mut system = DMatrix::<f64>::zeros(classes + 1, classes + 1);
        for ((i, j), &own) in pairs(classes).zip(r) {
            let other = 1.0 - own;
            system[(i, i)] += other * other;
            system[(j, j)] += own * own;
            system[(i, j)] -= other * own;
            system[(j, i)] -= other * own;
        }
        for i in 0..classes {
            system[(i, classes)] = 1.0;
            system[(classes, i)] = 1.0;
        }
        let mut right = DVector::zeros(classes + 1);
        right[classes] = 1.0;
        system.lu().solve(&right).unwrap().as_slice()[..classes].to_vec()
    }

    #[test]
    fn the_gradient_is_that_of_the_exact_solution() {
        let r = [0.7, 0.4, 0.2, 0.6, 0.55, 0.35];
        let grad = [1.0, -0.5, 0.25, 2.0];
        let found = gradient(4, &r, &grad).unwrap();
        let score = |r: &[f64]| exact(4, r).iter().zip(grad).map(|(p, g)| p * g).sum::<f64>();
        for (at, found) in found.into_iter().enumerate() {
            let moved = |step: f64| {
                let mut r = r;
                r[at] += step;
                score(&r)
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((found - expected).abs() < 1e-8, "{at}: {found} {expected}");
        }
    }
}
