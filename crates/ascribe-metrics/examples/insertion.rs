//! Insertion and deletion of an attribution that is right and of one that is not.

use ascribe_core::{BlackBox, DType, Device, Explainer, Inputs, Run, Target, Tensor};
use ascribe_metrics::{Case, Deletion, Insertion, Metric, PixelCurve};
use ascribe_perturb::Occlusion;

fn main() -> ascribe_core::Result<()> {
    // Two classes: brightness of the left and of the right half.
    let model = BlackBox::new(|x: &Tensor| {
        let half = |start| x.narrow(3, start, 4)?.mean((1, 2, 3));
        Tensor::stack(&[half(0)?, half(4)?], 1)? * 8.0
    });
    let x = Inputs::single(Tensor::ones((1, 1, 8, 8), DType::F32, &Device::Cpu)?)?;
    let (target, run) = (Target::Class(0), Run::new());
    let right = Occlusion::new(2, 2).explain(&model, &x, &target, &run)?;
    let wrong = Occlusion::new(2, 2).explain(&model, &x, &Target::Class(1), &run)?;
    for (name, attribution) in [("left half", &right), ("right half", &wrong)] {
        let case = Case::new(&model, &x, &target, attribution, &run);
        let insertion = Insertion(PixelCurve::default()).evaluate(&case)?;
        let deletion = Deletion::default().evaluate(&case)?;
        println!(
            "{name}: insertion {:.3}, deletion {:.3}",
            insertion.mean().unwrap_or(0.0),
            deletion.mean().unwrap_or(0.0)
        );
    }
    Ok(())
}
