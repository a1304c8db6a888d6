//! Explains a closure, using nothing but its outputs.

use ascribe_core::{BlackBox, DType, Device, Explainer, Inputs, Run, Target, Tensor};
use ascribe_perturb::{Occlusion, Rise};

fn main() -> ascribe_core::Result<()> {
    // The score is the brightness of the lower right quarter.
    let model = BlackBox::new(|x: &Tensor| x.narrow(2, 8, 8)?.narrow(3, 8, 8)?.mean((1, 2, 3))?.unsqueeze(1));
    let x = Inputs::single(Tensor::ones((1, 3, 16, 16), DType::F32, &Device::Cpu)?)?;
    let occlusion = Occlusion::new(4, 4).explain(&model, &x, &Target::Class(0), &Run::new())?;
    let rise =
        Rise::default().masks(500).cells(4).explain(&model, &x, &Target::Class(0), &Run::new().seed(1))?;
    for found in [occlusion, rise] {
        println!("{} ({} evaluations)", found.provenance.method, found.provenance.cost.forward);
        for row in found.values().mean(1)?.squeeze(0)?.to_vec2::<f32>()?.chunks(4) {
            let cells: Vec<String> = row[0].chunks(4).map(|c| format!("{:8.4}", c[0])).collect();
            println!("{}", cells.concat());
        }
    }
    Ok(())
}
