//! Rules that a plan implements, and rules that it calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::ops::{Grads, Kind};
use crate::rule::{Contributions, Planned, Rule, Selector, Site};
use crate::walk::Walk;

/// A rule that only a plan can execute.
#[derive(Debug)]
struct PlannedOnly(Planned);

impl Rule for PlannedOnly {
    fn name(&self) -> String {
        "planned".into()
    }

    fn apply(&self, site: &Site<'_>, _: &Tensor) -> Result<Grads> {
        Err(site.undefined(self, "the walk visits the node"))
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Planned {
        self.0
    }
}

/// A network with an operator of each kind that plans have an instruction for.
fn network() -> Graph {
    let mut net =
        Net { builder: GraphBuilder::new(), draw: random::stream(8, random::Domain::DATA, 0), names: 0 };
    let x = net.builder.input("x", &[Some(32), Some(8), Some(8)]);
    let a = net.conv(x, [32, 32, 1], Window::new([3, 3]).padding([1, 1]));
    let a = net.op(Pointwise::Relu, &[a]);
    let b = net.conv(a, [32, 32, 1], Window::new([1, 1]));
    let sum = net.op(Binary::Add, &[b, a]);
    let sum = net.op(Pointwise::Relu, &[sum]);
    let y = net.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true }, &[sum]);
    let y = net.op(Structure::Flatten { axis: 1 }, &[y]);
    net.builder.finish(&[y]).unwrap()
}

#[test]
fn rules_that_a_plan_knows_run_in_it() {
    let graph = network();
    let picture = picture(9, 832, 2);
    let x = Inputs::single(picture.clone()).unwrap();
    let affine = Planned::Affine { contributions: Contributions::Positive, epsilon: 1e-3, absorb: false };
    let composites = [
        Composite::gradient().on(Kind::Activation, PlannedOnly(Planned::Guided)),
        Composite::gradient().on(Kind::Activation, PlannedOnly(Planned::Rectified)),
        Composite::gradient()
            .on(Kind::Affine, PlannedOnly(affine))
            .on(Kind::Sum, PlannedOnly(Planned::Norm { epsilon: 1e-3 }))
            .on(Kind::Average, PlannedOnly(Planned::Norm { epsilon: 1e-3 }))
            .on(Kind::Activation, PlannedOnly(Planned::Pass)),
    ];
    for composite in composites {
        let found = graph.propagate(&x, &Target::Class(3), &[0, 1], &composite).unwrap();
        assert!(numbers(&found.values[0]).iter().any(|v| *v != 0.0));
        let double = graph.to_dtype(DType::F64).unwrap();
        let x = Inputs::single(picture.to_dtype(DType::F64).unwrap());
        assert!(double.propagate(&x.unwrap(), &Target::Class(3), &[0, 1], &composite).is_err());
    }
}

/// Half of the true gradient, as a rule that plans do not implement.
#[derive(Clone, Debug, Default)]
struct Called(Arc<AtomicUsize>);

impl Rule for Called {
    fn name(&self) -> String {
        "called".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        self.0.fetch_add(1, Ordering::Relaxed);
        site.vjp(&(signal * 0.5)?)
    }
}

#[test]
fn an_unknown_rule_costs_its_node_alone() {
    let mut called = 0;
    for seed in 0..30 {
        let (graph, code) = super::network(seed);
        let x = picture(seed, code, 2);
        let double = graph.to_dtype(DType::F64).unwrap();
        let walk = |graph: &Graph, dtype: DType, kind: Kind| {
            let (x, rule) = (Inputs::single(x.to_dtype(dtype).unwrap()).unwrap(), Called::default());
            let composite = Composite::gradient().on(kind, rule.clone());
            let found = graph.propagate(&x, &Target::Class(1), &[0, 1], &composite).unwrap();
            (found.values[0].clone(), rule.0.load(Ordering::Relaxed))
        };
        for kind in
            [Kind::Affine, Kind::Activation, Kind::Sum, Kind::Average, Kind::MaxPool, Kind::Structural]
        {
            let ((found, calls), (exact, expected)) =
                (walk(&graph, DType::F32, kind), walk(&double, DType::F64, kind));
            let gap = distance(&found, &exact);
            assert!(gap < 2e-5, "network {seed}, {kind:?}: {gap:.1e}");
            assert_eq!(calls, expected, "network {seed}, {kind:?}");
            called += calls;
        }
    }
    assert!(called > 300, "{called} calls");
    // All other rules can be executed only by a plan.
    let graph = network();
    let x = Inputs::single(picture(9, 832, 2)).unwrap();
    let called = Called::default();
    let first = graph.nodes().find(|(id, _)| graph.kind(*id) == Kind::Affine).unwrap().1.name().to_string();
    let composite = Composite::gradient()
        .with(Selector::Name(first), called.clone())
        .on(Kind::Activation, PlannedOnly(Planned::Guided));
    assert!(graph.propagate(&x, &Target::Class(3), &[0, 1], &composite).is_ok());
    assert_eq!(called.0.load(Ordering::Relaxed), 1);
}

/// The slope of the secant between the run and the reference, for activations.
#[derive(Debug)]
struct Secant;

impl Rule for Secant {
    fn name(&self) -> String {
        "secant".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        let (inputs, output) = site.reference()?;
        let (dx, dy) = ((site.inputs()[0] - inputs[0])?, (site.output() - output)?);
        Ok(vec![Some((signal * (dy / dx)?)?)])
    }

    fn compares(&self) -> bool {
        true
    }
}

#[test]
fn rules_that_compare_run_in_plans_too() {
    let graph = network();
    let (value, other) = (picture(1, 832, 2), picture(2, 832, 2));
    let composite = Composite::gradient().on(Kind::Activation, Secant);
    let run = |graph: &Graph, dtype: DType| {
        let inputs = |value: &Tensor| Inputs::single(value.to_dtype(dtype).unwrap()).unwrap();
        let (x, reference) = (inputs(&value), inputs(&other));
        let wanted = graph.explained_nodes(&x).unwrap();
        let target = Target::Class(3);
        let walk = Walk::new(graph, &composite, &wanted).against(&reference);
        let (scores, walked) = walk.run(&x, |outputs| target.seed(outputs, &[0, 1])).unwrap();
        let before = target.score(&walked.reference.unwrap(), &[0, 1]).unwrap();
        let difference = (value.to_dtype(dtype).unwrap() - other.to_dtype(dtype).unwrap()).unwrap();
        let shares = (difference * &walked.signals[0]).unwrap().sum((1, 2, 3)).unwrap();
        (walked.signals[0].clone(), numbers(&shares), numbers(&(scores - before).unwrap()))
    };
    let (found, shares, changes) = run(&graph, DType::F32);
    let (exact, exact_shares, exact_changes) = run(&graph.to_dtype(DType::F64).unwrap(), DType::F64);
    assert!(distance(&found, &exact) < 1e-3, "{:.1e}", distance(&found, &exact));
    for (shares, changes, allowed) in [(shares, changes, 1e-3), (exact_shares, exact_changes, 1e-9)] {
        for (share, change) in shares.iter().zip(&changes) {
            assert!((share - change).abs() < allowed, "{share} instead of {change}");
        }
    }
    // Without a reference, and with one that has a different number of rows.
    let x = Inputs::single(value.clone()).unwrap();
    let error = graph.propagate(&x, &Target::Class(3), &[0, 1], &composite).unwrap_err();
    assert!(error.to_string().contains("no reference trace"), "{error}");
    let wanted = graph.explained_nodes(&x).unwrap();
    let one = Inputs::single(other.narrow(0, 0, 1).unwrap()).unwrap();
    let walk = Walk::new(&graph, &composite, &wanted).against(&one);
    let error = walk.run(&x, |outputs| Target::Class(3).seed(outputs, &[0, 1])).unwrap_err();
    assert!(error.to_string().contains("1 rows"), "{error}");
}
