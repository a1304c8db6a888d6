use ascribe_core::{Autograd, Device, Differentiable, Inputs, Run, Target, Task, Tensor};

use super::*;

/// S = x₀² x₁ of two samples, whose gradient is (2 x₀ x₁, x₀²).
fn model() -> impl Differentiable {
    Autograd::new(|x: &Tensor| x.narrow(1, 0, 1)?.sqr()? * x.narrow(1, 1, 1)?)
}

fn inputs() -> Result<Inputs> {
    Inputs::single(Tensor::new(&[[2_f64, 3.0], [-1.0, 1.0]], &Device::Cpu)?)
}

/// γ(α) = α² x: a straight path that is not traversed at constant speed.
struct Late(Vec<Tensor>, Vec<Tensor>);

impl Path for Late {
    fn starts(&self) -> &[Tensor] {
        &self.0
    }

    fn position(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>> {
        row(&self.1, sample)?.iter().map(|x| Ok((x * (alpha * alpha))?)).collect()
    }

    fn velocity(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>> {
        row(&self.1, sample)?.iter().map(|x| Ok((x * (2.0 * alpha))?)).collect()
    }
}

/// First along x₀, then along x₁: a path with a corner, which refinement must find.
struct Corner(Vec<Tensor>, Vec<Tensor>);

impl Corner {
    fn times(&self, sample: usize, factors: [f64; 2]) -> Result<Vec<Tensor>> {
        let factors = Tensor::new(&[factors], &Device::Cpu)?;
        row(&self.1, sample)?.iter().map(|x| Ok((x * &factors)?)).collect()
    }
}

impl Path for Corner {
    fn starts(&self) -> &[Tensor] {
        &self.0
    }

    fn position(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>> {
        self.times(sample, [(2.0 * alpha).min(1.0), (2.0 * alpha - 1.0).max(0.0)])
    }

    fn velocity(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>> {
        self.times(sample, if alpha < 0.5 { [2.0, 0.0] } else { [0.0, 2.0] })
    }
}

fn close(found: &Tensor, expected: [[f64; 2]; 2], allowed: f64) -> Result<()> {
    for (found, expected) in found.to_vec2::<f64>()?.concat().iter().zip(expected.concat()) {
        assert!((found - expected).abs() < allowed, "{found} instead of {expected}");
    }
    Ok(())
}

#[test]
fn curved_paths_are_integrated_with_their_velocity() -> Result<()> {
    let (model, x) = (model(), inputs()?);
    let values: Vec<Tensor> = x.explained().map(|i| i.value.clone()).collect();
    let zeros: Vec<Tensor> = values.iter().map(|v| Ok(v.zeros_like()?)).collect::<Result<_>>()?;
    for batch in [1, 3, 64] {
        let run = Run::new().batch(batch);
        let task = Task::new(&model, &x, Target::Class(0), &run);
        let integrator =
            Integrator { quadrature: Quadrature::GaussLegendre, steps: 8, tolerance: None, max_steps: 8 };
        // On the ray through x, two thirds belong to x₀, whatever the speed along the path is.
        let shares = [[8.0, 4.0], [2.0 / 3.0, 1.0 / 3.0]];
        let late = |_| Ok(Late(zeros.clone(), values.clone()));
        close(&integrator.attribute(&task, 1, late, true)?.values[0], shares, 1e-12)?;
        let straight = |_| Straight::new(&x, &zeros);
        close(&integrator.attribute(&task, 1, straight, true)?.values[0], shares, 1e-12)?;
        assert!(integrator.attribute(&task, 1, late, false).is_err());
        // Along x₀, the first part of the path, the score does not change.
        let refined = Integrator { tolerance: Some(1e-9), max_steps: 64, ..integrator };
        let corner = refined.attribute(&task, 1, |_| Ok(Corner(zeros.clone(), values.clone())), true)?;
        close(&corner.values[0], [[0.0, 12.0], [0.0, 1.0]], 1e-9)?;
        assert_eq!(corner.baseline_scores, Some(vec![0.0, 0.0]));
        assert!(corner.warnings.is_empty());
    }
    Ok(())
}

/// Goes to the sample in `steps` equal steps, each of which moves the value with the smaller gradient first.
struct Guided<'a> {
    x: &'a Inputs,
    steps: usize,
}

impl Steered for Guided<'_> {
    fn starts(&self) -> Result<Vec<Tensor>> {
        self.x.explained().map(|i| Ok(i.value.zeros_like()?)).collect()
    }

    fn next(&self, step: &Step<'_>) -> Result<Option<Vec<Tensor>>> {
        let goal =
            self.x.explained().map(|i| Ok(i.value.narrow(0, step.sample, 1)?.to_vec2::<f64>()?[0].clone()));
        let goal = goal.collect::<Result<Vec<_>>>()?.concat();
        let at = step.position[0].to_vec2::<f64>()?[0].clone();
        let gradient = step.gradient[0].to_vec2::<f64>()?[0].clone();
        let missing: Vec<usize> = (0..2).filter(|&i| (goal[i] - at[i]).abs() > 1e-9).collect();
        let Some(&move_on) =
            missing.iter().min_by(|a, b| gradient[**a].abs().total_cmp(&gradient[**b].abs()))
        else {
            return Ok(None);
        };
        let mut to = at;
        to[move_on] += goal[move_on] / self.steps as f64;
        Ok(Some(vec![Tensor::from_vec(to, (1, 2), &Device::Cpu)?]))
    }
}

#[test]
fn steered_paths_account_for_the_change_along_them() -> Result<()> {
    let (model, x) = (model(), inputs()?);
    let mut before: Option<Vec<Vec<f64>>> = None;
    for batch in [1, 2] {
        let run = Run::new().batch(batch);
        let task = Task::new(&model, &x, Target::Class(0), &run);
        let found = integrate_steered(&task, &Guided { x: &x, steps: 1000 }, 2001)?;
        let rows = found.values[0].to_vec2::<f64>()?;
        for (sample, score) in [(0, 12.0), (1, 1.0)] {
            let sum: f64 = rows[sample].iter().sum();
            assert!((sum - score).abs() < 0.01 * score, "{sum} instead of {score}");
            assert_eq!(found.details["path_scores"][sample]["steps"], 2000);
            assert_eq!(found.details["path_scores"][sample]["start"], 0.0);
            let end = found.details["path_scores"][sample]["end"].as_f64().unwrap();
            assert!((end - score).abs() < 1e-9);
        }
        assert!(before.replace(rows.clone()).is_none_or(|before| before == rows), "whatever the batch");
    }
    let run = Run::new();
    let task = Task::new(&model, &x, Target::Class(0), &run);
    let error = integrate_steered(&task, &Guided { x: &x, steps: 1000 }, 10).unwrap_err();
    assert!(error.to_string().contains("has not ended after 10 steps"), "{error}");
    Ok(())
}
