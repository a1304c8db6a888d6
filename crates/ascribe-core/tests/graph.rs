//! Building, running and differentiating graphs.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ascribe_core::ops::{
    Backend, Binary, Embedding, Grads, Kind, Linear, Op, Operator, Pointwise, Reduce, ReduceFn, Vjp,
};
use ascribe_core::{
    DType, Device, Differentiable, Error, GraphBuilder, Inputs, Keep, Predictor, Role, Run, Target, Tensor,
};
use common::{distance, normal, numbers, pictures, residual, same, value};

#[test]
fn names_are_unique() {
    let mut b = GraphBuilder::new();
    let x = b.input("", &[None]);
    let names = ["act", "act", "", "", "act_2"];
    let nodes: Vec<String> = names
        .iter()
        .map(|name| {
            let id = b.op(name, Pointwise::Relu, &[x]).unwrap();
            b.node(id).name().to_string()
        })
        .collect();
    assert_eq!(nodes, ["act", "act_2", "Relu", "Relu_2", "act_2_2"]);
    assert_eq!(b.node(x).name(), "input");
}

#[test]
fn an_unknown_name_brings_the_nearest() {
    let graph = residual(4, DType::F32);
    assert_eq!(graph.node(graph.find("relu1").unwrap()).name(), "relu1");
    let message = graph.find("Relu_1").unwrap_err().to_string();
    assert!(message.contains("'Relu_1'") && message.contains("did you mean 'relu1'"), "{message}");
    assert!(matches!(graph.find("zzz"), Err(Error::UnknownNode { suggestion: None, .. })));
}

#[test]
fn nodes_that_nothing_needs_are_dropped() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[None]);
    let unused = b.input("unused", &[None]);
    let dead = b.op("dead", Pointwise::Exp, &[x]).unwrap();
    b.op("dead too", Pointwise::Relu, &[dead]).unwrap();
    let y = b.op("y", Pointwise::Relu, &[x]).unwrap();
    let graph = b.finish(&[y]).unwrap();
    assert_eq!(graph.len(), 3);
    assert!(graph.find("dead").is_err() && graph.find("unused").is_ok());
    assert_eq!(graph.inputs().len(), 2);
    let _ = unused;
}

#[test]
fn builders_refuse_foreign_nodes() {
    let mut large = GraphBuilder::new();
    let foreign = (0..5).map(|_| large.input("x", &[])).last().unwrap();
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[]);
    assert!(b.op("y", Pointwise::Relu, &[foreign]).unwrap_err().to_string().contains("node 'y'"));
    assert!(b.finish(&[]).unwrap_err().to_string().contains("no output"));
    let mut b = GraphBuilder::new();
    b.input("x", &[]);
    assert!(b.finish(&[foreign]).is_err());
    let _ = x;
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let graph = residual(4, DType::F32);
    let message = |x: Inputs| graph.forward(&x).unwrap_err().to_string();
    let shape = message(Inputs::single(normal(&[1, 4, 8, 8], 1, DType::F32)).unwrap());
    assert!(shape.contains("input 'x': has shape [1, 4, 8, 8]; expected [batch, 3, any, any]"), "{shape}");
    let dtype = message(pictures(1, 8, DType::F64));
    assert!(dtype.contains("input 'x': holds F64; expected F32"), "{dtype}");
    let missing = message(Inputs::named([("y", normal(&[1, 3, 8, 8], 1, DType::F32))]).unwrap());
    assert!(missing.contains("'x' is missing"), "{missing}");
    let image = || normal(&[1, 3, 8, 8], 1, DType::F32);
    let two = message(Inputs::named([("x", image()), ("y", image())]).unwrap());
    assert!(two.contains("2 given; expected 1"), "{two}");
}

#[test]
fn failing_operators_are_named() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[None]);
    let weight = b.constant("w", normal(&[2, 3], 1, DType::F32));
    let y = b.op("head", Linear, &[x, weight]).unwrap();
    let graph = b.finish(&[y]).unwrap();
    let x = Inputs::single(normal(&[1, 4], 1, DType::F32)).unwrap();
    let message = graph.forward(&x).unwrap_err().to_string();
    assert!(message.starts_with("node 'head' (Linear): input: has shape [1, 4]"), "{message}");
}

/// A ReLU that counts its forward passes.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Operator for Counted {
    fn name(&self) -> &'static str {
        "Counted"
    }
    fn kind(&self, dynamic: &[bool]) -> Kind {
        Pointwise::Relu.kind(dynamic)
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> ascribe_core::Result<Vec<usize>> {
        Pointwise::Relu.output_shape(inputs)
    }
    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> ascribe_core::Result<Tensor> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Pointwise::Relu.forward(inputs, backend)
    }
    fn vjp(&self, args: &Vjp<'_>) -> ascribe_core::Result<Grads> {
        Pointwise::Relu.vjp(args)
    }
}

#[test]
fn only_descendants_are_recomputed() {
    let counts: Vec<Arc<AtomicUsize>> = (0..4).map(|_| Arc::default()).collect();
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[None]);
    let mut op = |name: &str, i: usize, of| {
        b.op(name, Op::Custom(Arc::new(Counted(Arc::clone(&counts[i])))), &[of]).unwrap()
    };
    let a = op("a", 0, x);
    let c = op("c", 1, a);
    let d = op("d", 2, a);
    let e = op("e", 3, c);
    let y = b.op("y", Binary::Add, &[d, e]).unwrap();
    let graph = b.finish(&[y]).unwrap();
    let seen = || counts.iter().map(|c| c.swap(0, Ordering::Relaxed)).collect::<Vec<_>>();
    let x = Inputs::single(Tensor::new(&[[-1.0_f32, 2.0]], &Device::Cpu).unwrap()).unwrap();
    let trace = graph.trace(&x, Keep::All).unwrap();
    assert_eq!(seen(), [1, 1, 1, 1]);
    let change = Tensor::new(&[[-5.0_f32, 3.0]], &Device::Cpu).unwrap();
    let new = graph.forward_from(&trace, &[(graph.find("c").unwrap(), change.clone())]).unwrap();
    assert_eq!(seen(), [0, 0, 0, 1]);
    assert_eq!(numbers(new.outputs(&graph).unwrap().primary()), [0.0, 5.0]);
    // An overridden descendant of an overridden node keeps its own value.
    let (a, e) = (graph.find("a").unwrap(), graph.find("e").unwrap());
    graph.forward_from(&trace, &[(a, change.clone()), (e, change)]).unwrap();
    assert_eq!(seen(), [0, 1, 1, 0]);
    graph.forward_from(&trace, &[]).unwrap();
    assert_eq!(seen(), [0, 0, 0, 0]);
    // A run that keeps no values gives the same result.
    assert!(same(graph.predict(&x).unwrap().primary(), trace.outputs(&graph).unwrap().primary()));
}

#[test]
fn recomputing_equals_a_full_run() {
    let graph = residual(4, DType::F32);
    let x = pictures(2, 8, DType::F32);
    let trace = graph.trace(&x, Keep::All).unwrap();
    let outputs = |t: &ascribe_core::Trace| t.outputs(&graph).unwrap().primary().clone();

    let weight = graph.find("conv2.weight").unwrap();
    let new = normal(graph.node(weight).constant().unwrap().dims(), 55, DType::F32);
    let partial = graph.forward_from(&trace, &[(weight, new.clone())]).unwrap();
    let changed = graph.map_constants(|id, _| Ok((id == weight).then(|| new.clone()))).unwrap();
    let whole = changed.trace(&x, Keep::Nodes(&[])).unwrap();
    assert!(same(&outputs(&partial), whole.outputs(&changed).unwrap().primary()));
    assert!(!same(&outputs(&partial), &outputs(&trace)));

    let input = graph.inputs()[0];
    let other = normal(&[2, 3, 8, 8], 56, DType::F32);
    let partial = graph.forward_from(&trace, &[(input, other.clone())]).unwrap();
    let full = graph.trace(&Inputs::single(other).unwrap(), Keep::All).unwrap();
    for (id, _) in graph.nodes() {
        assert!(same(partial.value(id).unwrap(), full.value(id).unwrap()));
    }

    let wrong = graph.forward_from(&trace, &[(weight, normal(&[1], 1, DType::F32))]).unwrap_err().to_string();
    assert!(wrong.contains("override of node 'conv2.weight'"), "{wrong}");
}

#[test]
fn recomputing_needs_the_values_beside() {
    let graph = residual(4, DType::F32);
    let x = pictures(1, 8, DType::F32);
    let id = |name| graph.find(name).unwrap();
    let conv2 = graph.trace(&x, Keep::All).unwrap().value(id("conv2")).unwrap().clone();
    // The sum also needs relu1, which this trace does not have.
    let poor = graph.trace(&x, Keep::Nodes(&[id("conv2")])).unwrap();
    assert!(poor.has(id("conv2")) && poor.has(id("fc")) && !poor.has(id("relu1")));
    let message = graph.forward_from(&poor, &[(id("conv2"), conv2.clone())]).unwrap_err().to_string();
    assert!(message.contains("'relu1'"), "{message}");
    let rich = graph.trace(&x, Keep::Nodes(&[id("conv2"), id("relu1")])).unwrap();
    let again = graph.forward_from(&rich, &[(id("conv2"), conv2)]).unwrap();
    assert!(same(again.value(id("fc")).unwrap(), rich.value(id("fc")).unwrap()));
}

#[test]
fn cuts_agree_with_the_whole() {
    let graph = residual(4, DType::F64);
    let x = pictures(2, 8, DType::F64);
    let trace = graph.trace(&x, Keep::All).unwrap();
    let target = Target::Classes(vec![1, 3]);
    let samples = [0, 1];
    let (_, seeds) = target.seed(&trace.outputs(&graph).unwrap(), &samples).unwrap();
    let seeds = [(graph.outputs()[0], seeds[0].clone())];
    for name in ["conv1", "relu1", "conv2", "add", "relu2", "pool", "fc"] {
        let id = graph.find(name).unwrap();
        let head = graph.until_node(id).unwrap();
        assert!(same(head.predict(&x).unwrap().primary(), trace.value(id).unwrap()), "{name}");

        let (tail, inner) = graph.from_node(id, &trace).unwrap();
        assert!(same(tail.predict(&inner).unwrap().primary(), trace.outputs(&graph).unwrap().primary()));
        let whole =
            graph.backward(&trace, None, &seeds, &[id], &ascribe_core::Composite::gradient()).unwrap();
        let own = tail.gradient(&inner, &target, &samples).unwrap();
        assert_eq!(own.values.len(), 1, "{name}: values beside the cut are not explained");
        assert!(same(whole.get(id).unwrap(), &own.values[0]), "{name}");
    }
}

#[test]
fn the_tail_freezes_what_skips_the_cut() {
    let graph = residual(4, DType::F64);
    let x = pictures(2, 8, DType::F64);
    let trace = graph.trace(&x, Keep::All).unwrap();
    let conv2 = graph.find("conv2").unwrap();
    let (tail, inner) = graph.from_node(conv2, &trace).unwrap();
    let roles: Vec<(&str, Role)> = inner.iter().map(|i| (i.name.as_str(), i.role)).collect();
    assert_eq!(roles, [("conv2", Role::Explained), ("relu1", Role::Fixed)]);
    assert!(tail.find("conv1").is_err() && tail.find("conv1.weight").is_err());

    let moved = (trace.value(conv2).unwrap() + normal(&[2, 4, 8, 8], 3, DType::F64)).unwrap();
    let in_tail = tail.predict(&inner.with_explained(vec![moved.clone()]).unwrap()).unwrap();
    let in_whole = graph.forward_from(&trace, &[(conv2, moved)]).unwrap();
    assert!(same(in_tail.primary(), in_whole.outputs(&graph).unwrap().primary()));
    // The skip connection matters: with relu1 at zero the tail gives a different result.
    let relu1 = trace.value(graph.find("relu1").unwrap()).unwrap();
    let other = Inputs::named([
        ("conv2", trace.value(conv2).unwrap().clone()),
        ("relu1", relu1.zeros_like().unwrap()),
    ]);
    assert!(distance(tail.predict(&other.unwrap()).unwrap().primary(), in_tail.primary()) > 1e-3);
}

#[test]
fn the_gradient_of_a_neuron_is_that_of_the_head() {
    let graph = residual(3, DType::F64);
    let x = pictures(1, 6, DType::F64);
    let head = graph.until_node(graph.find("add").unwrap()).unwrap();
    let neuron = Target::Neuron(vec![2, 1, 4]);
    let gradient = head.gradient(&x, &neuron, &[0]).unwrap();
    let direction = normal(&[1, 3, 6, 6], 9, DType::F64);
    let step = 1e-6;
    let at = |sign: f64| {
        let moved = (value(&x) + (&direction * (sign * step)).unwrap()).unwrap();
        let outputs = head.predict(&Inputs::single(moved).unwrap()).unwrap();
        numbers(&neuron.score(&outputs, &[0]).unwrap())[0]
    };
    let numeric = (at(1.0) - at(-1.0)) / (2.0 * step);
    let analytic = numbers(&(&gradient.values[0] * direction).unwrap()).iter().sum::<f64>();
    assert!((numeric - analytic).abs() < 1e-6, "{numeric} {analytic}");
    // A neuron of a 3×3 convolution after a 3×3 convolution depends on 5×5 pixels.
    let seen = numbers(&gradient.values[0]).iter().filter(|v| **v != 0.0).count();
    assert!(seen > 0 && seen <= 3 * 5 * 5);
}

#[test]
fn cuts_that_make_no_sense_are_errors() {
    let graph = residual(4, DType::F32);
    let trace = graph.trace(&pictures(1, 8, DType::F32), Keep::All).unwrap();
    let weight = graph.find("conv1.weight").unwrap();
    assert!(graph.until_node(weight).unwrap_err().to_string().contains("'conv1.weight'"));
    assert!(graph.from_node(weight, &trace).unwrap_err().to_string().contains("'conv1.weight'"));
    let poor = graph.trace(&pictures(1, 8, DType::F32), Keep::Nodes(&[])).unwrap();
    assert!(graph.from_node(graph.find("conv2").unwrap(), &poor).is_err());
}

/// `mean(embedding(tokens)) · Wᵀ + picture · Vᵀ`.
fn two_inputs() -> ascribe_core::Graph {
    let mut b = GraphBuilder::new();
    let tokens = b.integer_input("tokens", &[None]);
    let picture = b.input("picture", &[Some(6)]);
    let table = b.constant("table", normal(&[11, 4], 1, DType::F64));
    let embedded = b.op("embedded", Embedding, &[table, tokens]).unwrap();
    let mean = Reduce { function: ReduceFn::Mean, axes: vec![1], keep: false };
    let text = b.op("text", mean, &[embedded]).unwrap();
    let weights = [normal(&[3, 4], 2, DType::F64), normal(&[3, 6], 3, DType::F64)];
    let [w, v] = weights.map(|w| b.constant("w", w));
    let text = b.op("left", Linear, &[text, w]).unwrap();
    let picture = b.op("right", Linear, &[picture, v]).unwrap();
    let y = b.op("y", Binary::Mul, &[text, picture]).unwrap();
    b.finish(&[y]).unwrap()
}

#[test]
fn several_inputs_in_any_order() {
    let graph = two_inputs();
    let tokens = Tensor::new(&[[0_i64, 3, 3], [10, 1, 2]], &Device::Cpu).unwrap();
    let picture = normal(&[2, 6], 4, DType::F64);
    let x = Inputs::named([("picture", picture.clone()), ("tokens", tokens.clone())]).unwrap();
    let target = Target::Class(2);
    let gradient = graph.gradient(&x, &target, &[0, 1]).unwrap();
    assert_eq!(gradient.values.len(), 1);
    assert_eq!(gradient.values[0].dims(), [2, 6]);

    // The score is linear in the image.
    let total = (&gradient.values[0] * &picture).unwrap().sum(1).unwrap();
    assert!(distance(&total, &gradient.scores) < 1e-12);

    let message =
        graph.gradient(&x.clone().fix("picture").unwrap(), &target, &[0, 1]).unwrap_err().to_string();
    assert!(message.contains("embedded"), "the cut is suggested: {message}");
    let floats = Inputs::named([("tokens", picture.clone()), ("picture", picture)]).unwrap();
    assert!(graph.predict(&floats).unwrap_err().to_string().contains("input 'tokens'"));
    let trace = graph.trace(&x, Keep::All).unwrap();
    let (tail, inner) = graph.from_node(graph.find("embedded").unwrap(), &trace).unwrap();
    let at_tokens = tail.gradient(&inner, &target, &[0, 1]).unwrap();
    assert_eq!(at_tokens.values[0].dims(), [2, 3, 4]);
}

#[test]
fn a_token_out_of_range_names_node_and_index() {
    let tokens = Tensor::new(&[[0_i64, 11]], &Device::Cpu).unwrap();
    let x = Inputs::named([("picture", normal(&[1, 6], 4, DType::F64)), ("tokens", tokens)]).unwrap();
    let message = two_inputs().predict(&x).unwrap_err().to_string();
    assert!(message.contains("node 'embedded'") && message.contains("index: 11"), "{message}");
}

#[test]
fn a_batch_gives_the_bits_of_its_samples() {
    for dtype in [DType::F32, DType::F64] {
        let graph = residual(9, dtype);
        let x = pictures(5, 11, dtype);
        let target = Target::Classes(vec![0, 4, 2, 2, 1]);
        let all = graph.gradient(&x, &target, &[0, 1, 2, 3, 4]).unwrap();
        let outputs = graph.predict(&x).unwrap();
        for sample in 0..5 {
            let one = x.select(&[sample]).unwrap();
            let row = |t: &Tensor| t.narrow(0, sample, 1).unwrap();
            assert!(same(&row(outputs.primary()), graph.predict(&one).unwrap().primary()));
            let own = graph.gradient(&one, &target, &[sample]).unwrap();
            assert!(same(&row(&all.values[0]), &own.values[0]), "{dtype:?} sample {sample}");
            assert!(same(&row(&all.scores), &own.scores));
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for dtype in [DType::F32, DType::F64] {
        let graph = residual(24, dtype);
        let x = pictures(2, 40, dtype);
        let gradient = |threads| {
            let run = Run::new().threads(threads);
            run.install(|| graph.gradient(&x, &Target::Class(1), &[0, 1])).unwrap()
        };
        let one = gradient(1);
        for threads in [2, 3, 8] {
            let many = gradient(threads);
            assert!(same(&one.scores, &many.scores) && same(&one.values[0], &many.values[0]), "{threads}");
        }
    }
    assert!(Run::new().threads(0).install(|| Ok(())).is_err());
}

#[test]
fn single_and_double_precision_agree() {
    let double = residual(8, DType::F64);
    let single = double.to_dtype(DType::F32).unwrap();
    let x = pictures(2, 12, DType::F64);
    let rounded = Inputs::single(value(&x).to_dtype(DType::F32).unwrap()).unwrap();
    let target = Target::Class(3);
    let exact = double.gradient(&x, &target, &[0, 1]).unwrap();
    let near = single.gradient(&rounded, &target, &[0, 1]).unwrap();
    assert_eq!(near.values[0].dtype(), DType::F32);
    assert!(distance(&exact.scores, &near.scores) < 1e-5);
    assert!(distance(&exact.values[0], &near.values[0]) < 1e-5);
    assert_eq!(single.dtype(), DType::F32);
    assert!(single.to_dtype(DType::I64).is_err());
}

#[test]
fn casts_follow_the_precision_of_the_graph() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[None]);
    let cast = b.op("cast", ascribe_core::ops::Cast { to: DType::F32 }, &[x]).unwrap();
    let one = b.constant("one", Tensor::new(&[1.0_f32], &Device::Cpu).unwrap());
    let y = b.op("y", Binary::Add, &[cast, one]).unwrap();
    let graph = b.finish(&[y]).unwrap().to_dtype(DType::F64).unwrap();
    let x = Inputs::single(Tensor::new(&[[0.1]], &Device::Cpu).unwrap()).unwrap();
    assert_eq!(numbers(graph.predict(&x).unwrap().primary()), [1.1]);
}

#[test]
fn both_backends_agree() {
    for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-13)] {
        let graph = residual(8, dtype);
        let portable = graph.with_backend(Backend::Portable);
        let x = pictures(2, 12, dtype);
        let target = Target::Class(0);
        let (a, b) = (graph.gradient(&x, &target, &[0, 1]), portable.gradient(&x, &target, &[0, 1]));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(distance(&a.scores, &b.scores) < tolerance * 10.0);
        assert!(distance(&a.values[0], &b.values[0]) < tolerance);
    }
}

#[test]
fn parameters_are_listed_once_with_their_users() {
    let graph = residual(4, DType::F32);
    let names: Vec<(&str, &str)> = graph
        .parameters()
        .iter()
        .map(|p| (graph.node(p.constant).name(), graph.node(p.user).name()))
        .collect();
    assert_eq!(
        names,
        [
            ("conv1.weight", "conv1"),
            ("conv1.bias", "conv1"),
            ("conv2.weight", "conv2"),
            ("conv2.bias", "conv2"),
            ("fc.weight", "fc"),
            ("fc.bias", "fc"),
        ]
    );
}
