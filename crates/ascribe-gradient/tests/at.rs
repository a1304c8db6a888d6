//! Explanations at layers and of neurons.

use ascribe_core::ops::{Binary, Pointwise};
use ascribe_core::{
    Attribution, Device, Graph, GraphBuilder, Inputs, Location, Result, Run, Target, Tensor, explain_at,
};
use ascribe_gradient::{InputXGradient, IntegratedGradients, Saliency};

/// y = exp(x) · x².
fn graph() -> Result<Graph> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(1)]);
    let side = b.op("side", Pointwise::Exp, &[x])?;
    let main = b.op("main", Pointwise::Pow { exponent: 2.0 }, &[x])?;
    let y = b.op("y", Binary::Mul, &[side, main])?;
    let one = b.constant("one", Tensor::new(&[1_f64], &Device::Cpu)?);
    let out = b.op("out", Binary::Mul, &[y, one])?;
    b.finish(&[out])
}

fn at(location: &Location) -> Result<(f64, Attribution)> {
    let x = Inputs::single(Tensor::new(&[[3_f64]], &Device::Cpu)?)?;
    let found =
        explain_at(&InputXGradient::default(), &graph()?, &x, &Target::Class(0), location, &Run::new())?;
    Ok((found.values().to_vec2::<f64>()?[0][0], found))
}

#[test]
fn layers_keep_what_skips_around_them() -> Result<()> {
    let (value, found) = at(&Location::Layer("main".into()))?;
    assert!((value - 9.0 * 3_f64.exp()).abs() < 1e-10);
    assert!(found.provenance.notes[0].contains("\"side\""), "{:?}", found.provenance.notes);
    assert_eq!(found.provenance.cost.forward, 2);
    let (value, _) = at(&Location::Neuron("main".into(), vec![0]))?;
    assert_eq!(value, 18.0);
    let x = Inputs::single(Tensor::new(&[[3_f64]], &Device::Cpu)?)?;
    let method = IntegratedGradients::default();
    let layer = Location::Layer("side".into());
    let found = explain_at(&method, &graph()?, &x, &Target::Class(0), &layer, &Run::new())?;
    assert!((found.totals()?[0] - 9.0 * 3_f64.exp()).abs() < 1e-10, "linear in the layer");
    Ok(())
}

#[test]
fn unknown_places_are_an_error() -> Result<()> {
    assert!(at(&Location::Layer("mian".into())).is_err_and(|e| e.to_string().contains("'main'")));
    assert!(at(&Location::Neuron("main".into(), vec![1])).is_err());
    assert!(at(&Location::Neuron("main".into(), vec![0, 0])).is_err());
    let x = Inputs::single(Tensor::new(&[[3_f64]], &Device::Cpu)?)?;
    let same =
        explain_at(&Saliency::default(), &graph()?, &x, &Target::Class(0), &Location::Input, &Run::new())?;
    assert!((same.values().to_vec2::<f64>()?[0][0] - 3_f64.exp() * 15.0).abs() < 1e-9);
    assert_eq!(Location::parse_neuron("a:b:1, 2")?, Location::Neuron("a:b".into(), vec![1, 2]));
    assert!(Location::parse_neuron("a").is_err() && Location::parse_neuron("a:x").is_err());
    Ok(())
}

#[test]
fn a_neuron_is_explained_at_a_layer() -> Result<()> {
    // y = side · main; input × gradient of y at `main`, and of `main` at itself.
    let between = |node: &str| Location::Neuron(node.into(), vec![0]).at_layer("main");
    let (value, found) = at(&between("y"))?;
    assert!((value - 9.0 * 3_f64.exp()).abs() < 1e-10);
    assert_eq!(found.provenance.targets, ["neuron:[0]"]);
    // The node `out` is no part of it.
    assert!(at(&Location::Between { layer: "out".into(), node: "y".into(), index: vec![0] }).is_err());
    assert_eq!(between("y").layer(), Some("main"));
    assert_eq!(between("y").neuron(), Some(("y", &[0][..])));
    assert_eq!(Location::Input.at_layer("y"), Location::Layer("y".into()));
    Ok(())
}
