//! Explains a photograph with the model that ships: `cargo run --release -p ascribe --example explain -- photo.jpg`.

use ascribe::prelude::*;

fn main() -> ascribe::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "fixtures/images/cat.png".into());
    let model = Model::open(ascribe::DEFAULT_MODEL, &OpenOptions::default())?;
    let input = model.read(&path)?;
    for prediction in model.predictions(&model.graph.forward(&input.inputs)?, 0, 3)?.unwrap_or_default() {
        println!("{:6.2} % {}", 100.0 * prediction.probability, prediction.label.unwrap_or_default());
    }
    let method = IntegratedGradients::exactly(20);
    let found = method.explain(&model.graph, &input.inputs, &Target::Top1, &Run::new())?;
    println!("score {:?}, gap {:?}", found.provenance.scores, found.provenance.completeness_gap);
    Ok(())
}
