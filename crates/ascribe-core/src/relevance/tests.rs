use candle_core::{Device, Tensor};
use serde_json::json;

use super::*;
use crate::error::{Error, Result};
use crate::graph::{Graph, GraphBuilder};
use crate::inputs::Inputs;
use crate::ops::{Linear, Pointwise};
use crate::rule::Selector;
use crate::{Composite, Walk, config};

/// Contributions 2, 2, −3 and the bias 1: z = 2.
fn layer() -> Result<(Graph, Inputs)> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let w = b.constant("w", Tensor::new(&[[2_f64, -1.0, -1.0]], &Device::Cpu)?);
    let c = b.constant("b", Tensor::new(&[1_f64], &Device::Cpu)?);
    let y = b.op("fc", Linear, &[x, w, c])?;
    Ok((b.finish(&[y])?, Inputs::single(Tensor::new(&[[1_f64, -2.0, 3.0]], &Device::Cpu)?)?))
}

/// The relevance of the inputs.
fn relevance(composite: &Composite, graph: &Graph, x: &Inputs) -> Result<Vec<f64>> {
    let wanted = graph.explained_nodes(x)?;
    let start = |outputs: &crate::Outputs| Ok(((), vec![outputs.primary().clone()]));
    let ((), walked) = Walk::new(graph, composite, &wanted).run(x, start)?;
    Ok(walked.signals[0].flatten_all()?.to_vec1()?)
}

fn of_rule(rule: AffineRule) -> Result<Vec<f64>> {
    let (graph, x) = layer()?;
    relevance(&Composite::gradient().with(Selector::Name("fc".into()), rule), &graph, &x)
}

fn close(found: &[f64], expected: &[f64]) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(near),
        "{found:?} instead of {expected:?}"
    );
}

#[test]
fn the_rules_of_the_family_by_hand() -> Result<()> {
    close(&of_rule(AffineRule::epsilon(0.0))?, &[2.0, 2.0, -3.0]);
    close(&of_rule(AffineRule::z_plus(0.0))?, &[0.8, 0.8, 0.0]);
    // Positive contributions 2, 2 and the bias 1; negative ones −3 alone.
    close(&of_rule(AffineRule::alpha_beta(2.0, 1.0, 0.0))?, &[1.6, 1.6, -2.0]);
    close(&of_rule(AffineRule::alpha_beta(1.0, 0.0, 0.0))?, &[0.8, 0.8, 0.0]);
    // Squares 4, 1, 1 and 1 of the bias.
    close(&of_rule(AffineRule::w_square(0.0))?, &[8.0 / 7.0, 2.0 / 7.0, 2.0 / 7.0]);
    close(&of_rule(AffineRule::w_square(0.0).absorb(false))?, &[8.0 / 6.0, 2.0 / 6.0, 2.0 / 6.0]);
    close(&of_rule(AffineRule::flat(0.0))?, &[2.0 / 3.0; 3]);
    // Between −3 and 4: 2 + 6, 2 + 4 and −3 + 4; the bias cancels.
    let bounds =
        AffineRule { low: Some(Bound::Value(-3.0)), high: Some(Bound::Value(4.0)), ..AffineRule::z_box(0.0) };
    close(&of_rule(bounds)?, &[16.0 / 15.0, 12.0 / 15.0, 2.0 / 15.0]);
    let bounds = AffineRule {
        low: Some(Bound::Channels(vec![0.0, -3.0, 0.0])),
        high: Some(Bound::Channels(vec![1.0, 0.0, 4.0])),
        ..AffineRule::z_box(0.0)
    };
    // 2 − 0, 2 + 0 and −3 + 4: the bounds of each channel.
    close(&of_rule(bounds)?, &[0.8, 0.8, 0.4]);
    assert!(of_rule(AffineRule::z_box(0.0)).unwrap_err().to_string().contains("low"));
    let (low, high) = (Some(Bound::Channels(vec![0.0])), Some(Bound::Value(1.0)));
    let wrong = AffineRule { low, high, ..AffineRule::z_box(0.0) };
    assert!(of_rule(wrong).unwrap_err().to_string().contains("1 channels"));
    Ok(())
}

#[test]
fn a_rule_written_out_is_the_rule() -> Result<()> {
    let z_plus: AffineRule = serde_json::from_value(json!({
        "name": "own",
        "epsilon": 0.0,
        "shares": [{ "terms": [
            { "input": "positive", "weights": "positive", "bias": "positive" },
            { "input": "negative", "weights": "negative" },
        ] }],
    }))
    .unwrap();
    assert_eq!(z_plus.shares, AffineRule::z_plus(0.0).shares);
    close(&of_rule(z_plus)?, &[0.8, 0.8, 0.0]);
    let written = serde_json::to_value(AffineRule::z_box(1e-9)).unwrap();
    assert_eq!(serde_json::from_value::<AffineRule>(written).unwrap(), AffineRule::z_box(1e-9));
    Ok(())
}

/// Two layers with an activation between them.
fn two_layers() -> Result<Graph> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let v = b.constant("v", Tensor::new(&[[2_f64, -1.0, -1.0], [1.0, 1.0, 1.0]], &Device::Cpu)?);
    let h = b.op("block.0.fc", Linear, &[x, v])?;
    let a = b.op("act", Pointwise::Relu, &[h])?;
    let w = b.constant("w", Tensor::new(&[[1_f64, 3.0]], &Device::Cpu)?);
    let y = b.op("block.1.fc", Linear, &[a, w])?;
    b.finish(&[y])
}

fn rules(spec: &serde_json::Value) -> Result<Vec<String>> {
    let graph = two_layers()?;
    let spec: CompositeSpec =
        serde_json::from_value(spec.clone()).map_err(|e| Error::invalid("spec", e.to_string(), "a table"))?;
    let composite = spec.composite(&[], &graph, &Numbers::default())?;
    let name = |name: &str| Ok(composite.rule_for(&graph, graph.find(name)?).name());
    ["block.0.fc", "block.1.fc"].into_iter().map(name).collect()
}

#[test]
fn tables_are_data() -> Result<()> {
    assert_eq!(rules(&json!("epsilon-plus-flat"))?, ["lrp-flat", "lrp-epsilon"]);
    assert_eq!(rules(&json!("epsilon-gamma-box"))?, ["lrp-z-box", "lrp-epsilon"]);
    assert_eq!(rules(&json!("epsilon-alpha2-beta1"))?, ["lrp-epsilon"; 2]);
    let by = |at: serde_json::Value| json!([{ "at": at, "rule": "gamma", "gamma": 0.5 }, { "at": "all", "rule": "zero" }]);
    assert_eq!(rules(&by(json!("first")))?, ["lrp-gamma", "lrp-epsilon"]);
    assert_eq!(rules(&by(json!({ "name": "block.1.*" })))?, ["lrp-epsilon", "lrp-gamma"]);
    assert_eq!(rules(&by(json!({ "name": "block.0.fc" })))?, ["lrp-gamma", "lrp-epsilon"]);
    assert_eq!(rules(&by(json!({ "layers": { "from": 1 } })))?, ["lrp-epsilon", "lrp-gamma"]);
    assert_eq!(rules(&by(json!({ "layers": { "from": 0, "to": 2 } })))?, ["lrp-gamma"; 2]);
    assert_eq!(rules(&by(json!("convolution")))?, ["lrp-epsilon"; 2]);
    assert_eq!(rules(&by(json!("linear")))?, ["lrp-gamma"; 2]);
    assert_eq!(
        rules(
            &json!([{ "at": "all", "rule": { "terms": { "name": "own", "shares": [{ "terms": [{}] }] } } }])
        )?,
        ["own"; 2]
    );
    Ok(())
}

#[test]
fn wrong_tables_are_errors() {
    let fail = |spec: serde_json::Value| rules(&spec).unwrap_err().to_string();
    assert!(fail(json!("epsilon-minus")).contains("unknown variant `epsilon-minus`"));
    assert!(fail(json!(3)).contains("name of a table of rules"));
    assert!(fail(json!([{ "at": "all", "rule": "epsilon", "gama": 1 }])).contains("unknown field `gama`"));
    assert!(fail(json!([{ "at": "first" }])).contains("missing field `rule`"));
    assert!(fail(json!([{ "at": { "name": "nothing*" }, "rule": "flat" }])).contains("nothing*"));
    assert!(fail(json!([{ "at": { "name": "act" }, "rule": "flat" }])).contains("no affine node"));
    assert!(
        fail(json!([{ "at": { "layers": { "from": 1, "to": 3 } }, "rule": "flat" }])).contains("2 layers")
    );
    assert!(fail(json!([{ "at": "all", "rule": "epsilon", "epsilon": -1 }])).contains("epsilon"));
    assert!(fail(json!([{ "at": "all", "rule": { "terms": {} } }])).contains("no share"));
    // Omitted fields of an entry stay omitted when it is serialised and read again.
    let entries = CompositeSpec::from(Preset::EpsilonGammaBox.entries());
    let written = config::write(&entries);
    assert_eq!(written[0], json!({ "at": "first", "rule": "box" }));
    assert_eq!(serde_json::from_value::<CompositeSpec>(written).unwrap(), entries);
}
