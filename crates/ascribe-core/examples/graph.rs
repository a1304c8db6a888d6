//! Builds a small network, looks inside a run of it, takes a gradient and cuts it in two.
//!
//! `cargo run -p ascribe-core --example graph`

use ascribe_core::ops::{Conv, Linear, Pointwise, Reduce, ReduceFn, Window};
use ascribe_core::{
    DType, Device, Differentiable, GraphBuilder, Inputs, Keep, Predictor, Result, Target, Tensor, random,
};

fn main() -> Result<()> {
    let mut rng = random::stream(1, random::Domain::DATA, 0);
    let mut draw = |shape: &[usize]| random::normal(&mut rng, shape, DType::F32, &Device::Cpu);

    // Every use of an operator is a node with a name; weights are constants.
    let mut b = GraphBuilder::new();
    let image = b.input("image", &[Some(3), None, None]);
    let weight = b.constant("conv.weight", draw(&[8, 3, 3, 3])?);
    let conv = Conv { window: Window::new([3, 3]).padding([1, 1]), groups: 1 };
    let conv = b.op("conv", conv, &[image, weight])?;
    let relu = b.op("relu", Pointwise::Relu, &[conv])?;
    let mean = Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: false };
    let pooled = b.op("pool", mean, &[relu])?;
    let weight = b.constant("head.weight", draw(&[4, 8])?);
    let scores = b.op("head", Linear, &[pooled, weight])?;
    let graph = b.finish(&[scores])?;

    let x = Inputs::single(draw(&[1, 3, 16, 16])?)?;
    let trace = graph.trace(&x, Keep::All)?;
    for (id, node) in graph.nodes() {
        let (kind, shape) = (graph.kind(id), trace.value(id)?.dims());
        println!("{:<12} {:<10} {kind:?} {shape:?}", node.name(), node.op_name());
    }

    let top = Target::Top1.resolve(&trace.outputs(&graph)?)?;
    let gradient = graph.gradient(&x, &top, &[0])?;
    let size = |t: &Tensor| -> Result<f32> { Ok(t.sqr()?.sum_all()?.sqrt()?.to_scalar()?) };
    println!("class {} has score {}", top.describe_sample(0), gradient.scores);
    println!("its gradient at the image has norm {}", size(&gradient.values[0])?);

    // The same at an inner node: the tail of the graph is a model of its own.
    let (tail, inner) = graph.from_node(graph.find("relu")?, &trace)?;
    println!("and at the activations {}", size(&tail.gradient(&inner, &top, &[0])?.values[0])?);

    // What if the strongest feature were missing? Only the head is computed again.
    let pool = graph.find("pool")?;
    let features = trace.value(pool)?;
    let strongest = features.argmax(1)?.to_vec1::<u32>()?[0] as usize;
    let mask: Vec<f32> = (0..8).map(|i| if i == strongest { 0.0 } else { 1.0 }).collect();
    let without = features.broadcast_mul(&Tensor::from_vec(mask, (1, 8), &Device::Cpu)?)?;
    let changed = graph.forward_from(&trace, &[(pool, without)])?;
    println!("scores {}", graph.predict(&x)?.primary());
    println!("without feature {strongest} {}", changed.outputs(&graph)?.primary());
    Ok(())
}
