//! Four methods on a function that is flat at the input: `cargo run -p ascribe-gradient --example flat`.

use ascribe_core::ops::{Linear, Pointwise};
use ascribe_core::{Device, Explainer, GraphBuilder, Inputs, Result, Run, Target, Tensor};
use ascribe_gradient::{IntegratedGradients, Lrp, NoiseTunnel, Saliency};

fn main() -> Result<()> {
    // f(x) = 1 − ReLU(1 − x): flat at x = 2, though it rose from 0 to 1 on the way.
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(1)]);
    let minus = b.constant("minus", Tensor::new(&[[-1_f64]], &Device::Cpu)?);
    let one = b.constant("one", Tensor::new(&[1_f64], &Device::Cpu)?);
    let inner = b.op("1 - x", Linear, &[x, minus, one])?;
    let relu = b.op("relu", Pointwise::Relu, &[inner])?;
    let output = b.op("f", Linear, &[relu, minus, one])?;
    let f = b.finish(&[output])?;

    let x = Inputs::single(Tensor::new(&[[2_f64]], &Device::Cpu)?)?;
    let (target, run) = (Target::Class(0), Run::new());
    let gradient = Saliency::default().explain(&f, &x, &target, &run)?;
    let integrated = IntegratedGradients::default().tolerance(0.01).explain(&f, &x, &target, &run)?;
    let smooth =
        NoiseTunnel::smooth_grad(Saliency::default()).absolute_sigma(1.0).explain(&f, &x, &target, &run)?;
    let relevance = Lrp::default().explain(&f, &x, &target, &run)?;

    assert_eq!(gradient.totals()?, [0.0]);
    assert!((integrated.totals()?[0] - 1.0).abs() < 0.01);
    assert!(smooth.totals()?[0] > 0.0);
    println!("{:?}", relevance.provenance.notes);
    Ok(())
}
