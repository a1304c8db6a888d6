//! What axes of values count, family by family, and grids made of values that were moved around.

mod moved;
mod net;

use ascribe_core::AxisRole::{self, Batch, Channel, Feature, Height, Time, Token, Unknown, Width};
use ascribe_core::ops::{
    Binary, Coordinates, Embedding, Gather, LayerNorm, MatMul, MaxPool, Pad, PadMode, Pointwise, Reduce,
    ReduceFn, Resize, ResizeEdges, ResizeMode, ResizeSize, Softmax, Structure, Window,
};
use ascribe_core::{DType, Device, Graph, GraphBuilder, GraphRoles, Inputs, NodeId, Result, Roles, Tensor};

use crate::net::Net;

#[test]
fn inputs_follow_conventions_or_the_convolution_behind_them() {
    assert_eq!(Net::new(&[2, 3, 4, 5]).axes(), [Batch, Channel, Height, Width]);
    assert_eq!(Net::new(&[2, 3, 4]).axes(), [Batch, Channel, Time]);
    assert_eq!(Net::new(&[2, 3]).axes(), [Batch, Feature]);
    let mut net = Net::new(&[2, 4, 6, 3]);
    let shift = net.constant(&[3]);
    net.op(Binary::Sub, &[net.last, shift]);
    net.transpose(&[0, 3, 1, 2]);
    net.conv([3, 8], 2);
    let (graph, x, last) = net.finish();
    let roles = graph.roles(&x).unwrap();
    assert_eq!(roles.of(graph.inputs()[0]).axes(), [Batch, Height, Width, Channel]);
    assert_eq!(roles.of(last).axes(), [Batch, Channel, Height, Width]);
    assert_eq!(roles.of(last).grid().unwrap().spatial(), [(Height, 2), (Width, 3)]);
}

#[test]
fn the_caller_can_say_what_an_input_is() {
    let (graph, x, last) = Net::new(&[2, 4, 6, 3]).finish();
    let roles = graph.roles_with(&x, &[("x", &[Batch, Height, Width, Channel])]).unwrap();
    assert_eq!(roles.of(last).grid().unwrap().spatial(), [(Height, 4), (Width, 6)]);
    let wrong = |roles: &[(&str, &[AxisRole])]| graph.roles_with(&x, roles).unwrap_err().to_string();
    assert!(wrong(&[("x", &[Batch])]).contains("one role per axis"));
    assert!(wrong(&[("y", &[Batch])]).contains("'y'"));
}

#[test]
fn operators_of_images() {
    let mut net = Net::new(&[2, 3, 8, 8]);
    net.conv([3, 6], 2);
    net.then(Pointwise::Relu);
    net.then(MaxPool { window: Window::new([2, 2]).stride([2, 2]) });
    let resize = ResizeSize::Sides(vec![4, 4]);
    net.then(Resize {
        size: resize,
        mode: ResizeMode::Linear,
        coordinates: Coordinates::HalfPixel,
        edges: ResizeEdges::default(),
    });
    net.then(Pad { before: vec![0, 0, 1, 0], after: vec![0, 0, 1, 0], mode: PadMode::Constant(0.0) });
    let roles = net.roles();
    assert_eq!(roles.axes(), [Batch, Channel, Height, Width]);
    assert_eq!(roles.grid().unwrap().spatial(), [(Height, 6), (Width, 4)]);
    assert!(roles.grid().unwrap().is_identity());

    let mut net = Net::new(&[2, 3, 8, 8]);
    net.then(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true });
    net.reshape(&[2, 3]);
    net.linear([3, 5]);
    assert_eq!(net.axes(), [Batch, Feature]);
    let mut net = Net::new(&[2, 3, 8, 8]);
    net.then(Structure::Flatten { axis: 1 });
    let roles = net.roles();
    assert_eq!(roles.axes(), [Batch, Feature]);
    assert!(roles.grid().is_some(), "nothing is lost yet");
}

#[test]
fn merged_axes_remember_the_grid() {
    let mut net = Net::new(&[2, 6, 4, 5]);
    net.reshape(&[2, 6, 20]);
    net.transpose(&[0, 2, 1]);
    let norm = net.constant(&[6]);
    net.op(LayerNorm { axis: 2, epsilon: 1e-6 }, &[net.last, norm]);
    net.linear([6, 8]);
    net.then(Softmax { axis: 2, log: false });
    let tokens = net.last;
    let positions = net.constant(&[1, 20, 8]);
    net.op(Binary::Add, &[tokens, positions]);
    net.transpose(&[0, 2, 1]);
    net.reshape(&[2, 8, 4, 5]);
    let (graph, x, last) = net.finish();
    let roles = graph.roles(&x).unwrap();
    let row = roles.of(tokens);
    assert_eq!(row.axes(), [Batch, Token, Channel]);
    let grid = row.tokens(1).unwrap();
    assert_eq!((grid.before, grid.grid, grid.after), (0, vec![(Height, 4), (Width, 5)], 0));
    assert_eq!(row.to_string(), "[batch 2, token 20, channel 8]");
    assert_eq!(roles.of(last).axes(), [Batch, Channel, Height, Width]);
}

/// Tokens `[N, 1 + 6, 4]` of a grid of 2 × 3.
fn with_class_token() -> Net {
    let mut net = Net::new(&[2, 4, 2, 3]);
    net.reshape(&[2, 4, 6]);
    net.transpose(&[0, 2, 1]);
    net.class_token(4);
    net
}

#[test]
fn further_tokens_come_and_go() {
    let around = |net: Net| net.roles().tokens(1).map(|t| (t.before, t.after));
    let mut net = with_class_token();
    let registers = net.constant(&[1, 3, 4]);
    net.op(Structure::Concat { axis: 1 }, &[net.last, registers]);
    assert_eq!(around(net), Some((1, 3)));
    let mut net = with_class_token();
    net.then(Pad { before: vec![0, 2, 0], after: vec![0, 1, 0], mode: PadMode::Constant(0.0) });
    assert_eq!(around(net), Some((3, 1)));
    let slice = |start, len| Structure::Slice { axis: 1, start, len, step: 1 };
    let mut net = with_class_token();
    net.then(slice(1, 6));
    assert_eq!(around(net), Some((0, 0)));
    let mut net = with_class_token();
    net.then(slice(0, 1));
    assert_eq!(net.axes(), [Batch, Token, Channel]);
    let mut net = with_class_token();
    net.then(slice(0, 3));
    assert_eq!(net.axes(), [Batch, Unknown, Channel], "a part of the grid is no grid");
    let mut net = with_class_token();
    let index = net.b.constant("index", Tensor::new(0_i64, &Device::Cpu).unwrap());
    net.op(Gather { axis: 1 }, &[net.last, index]);
    assert_eq!(net.axes(), [Batch, Channel]);
}

#[test]
fn positions_reach_the_output_unless_only_further_tokens_are_read() {
    let reaches = |read: fn(&mut Net) -> NodeId| {
        let mut net = with_class_token();
        let all = net.then(Pointwise::Tanh);
        read(&mut net);
        let (graph, x, _) = net.finish();
        graph.roles(&x).unwrap().positions_reach_output(all)
    };
    let class = |net: &mut Net| {
        net.then(Structure::Slice { axis: 1, start: 0, len: 1, step: 1 });
        net.reshape(&[2, 4]);
        net.linear([4, 3])
    };
    assert!(!reaches(class));
    assert!(!reaches(|net| {
        let index = net.b.constant("index", Tensor::new(-7_i64, &Device::Cpu).unwrap());
        net.op(Gather { axis: 1 }, &[net.last, index])
    }));
    assert!(reaches(|net| {
        let index = net.b.constant("index", Tensor::new(1_i64, &Device::Cpu).unwrap());
        net.op(Gather { axis: 1 }, &[net.last, index])
    }));
    assert!(reaches(|net| net.then(Structure::Slice { axis: 1, start: 1, len: 6, step: 1 })));
    assert!(reaches(|net| net.then(Reduce { function: ReduceFn::Mean, axes: vec![1], keep: false })));
    // Attention mixes tokens before the class token is read.
    assert!(reaches(|net| {
        let x = net.last;
        let keys = net.transpose(&[0, 2, 1]);
        let scores = net.op(MatMul, &[x, keys]);
        let share = net.op(Softmax { axis: 2, log: false }, &[scores]);
        net.op(MatMul, &[share, x]);
        net.then(Structure::Slice { axis: 1, start: 0, len: 1, step: 1 })
    }));
}

#[test]
fn attention_has_two_positions_and_then_one() {
    let mut net = with_class_token();
    net.linear([4, 12]);
    net.reshape(&[2, 7, 3, 2, 2]);
    net.transpose(&[2, 0, 3, 1, 4]);
    let all = net.last;
    let mut part = |i: i64| {
        let index = net.b.constant("index", Tensor::new(i, &Device::Cpu).unwrap());
        net.op(Gather { axis: 0 }, &[all, index])
    };
    let [q, k, v] = [part(0), part(1), part(2)];
    let keys = net.op(Structure::Transpose { order: vec![0, 1, 3, 2] }, &[k]);
    let scores = net.op(MatMul, &[q, keys]);
    let share = net.op(Softmax { axis: 3, log: false }, &[scores]);
    let mixed = net.op(MatMul, &[share, v]);
    net.transpose(&[0, 2, 1, 3]);
    net.reshape(&[2, 7, 4]);
    let (graph, x, last) = net.finish();
    let roles = graph.roles(&x).unwrap();
    assert_eq!(roles.of(q).axes(), [Batch, Channel, Token, Channel]);
    assert_eq!(roles.of(scores).axes(), [Batch, Channel, Token, Token]);
    assert!(roles.of(scores).grid().is_none());
    assert_eq!(roles.of(mixed).grid().unwrap().spatial(), [(Height, 2), (Width, 3)]);
    assert_eq!(roles.of(last).tokens(1).map(|t| t.before), Some(1));
}

#[test]
fn axes_of_length_one_come_and_go() {
    // The three parts of attention, as PyTorch's own attention layer is exported.
    let mut net = with_class_token();
    net.transpose(&[1, 0, 2]);
    net.linear([4, 12]);
    net.reshape(&[7, 2, 3, 4]);
    net.reshape(&[1, 7, 2, 3, 4]);
    net.transpose(&[3, 1, 2, 0, 4]);
    net.reshape(&[3, 7, 2, 4]);
    net.then(Structure::Slice { axis: 0, start: 1, len: 1, step: 1 });
    net.reshape(&[7, 2, 4]);
    net.reshape(&[7, 4, 2]);
    net.transpose(&[1, 0, 2]);
    net.reshape(&[2, 2, 7, 2]);
    let roles = net.roles();
    assert_eq!(roles.axes(), [Batch, Channel, Token, Channel]);
    assert_eq!(roles.grid().unwrap().spatial(), [(Height, 2), (Width, 3)]);
}

#[test]
fn a_product_over_positions_is_unknown() {
    let mut net = Net::new(&[2, 4, 2, 3]);
    net.reshape(&[2, 4, 6]);
    let before = net.last;
    net.linear([6, 6]);
    let (graph, x, last) = {
        let mixed = net.last;
        net.op(Binary::Add, &[before, mixed]);
        let (graph, x, last) = net.finish();
        assert_eq!(graph.roles(&x).unwrap().of(mixed).axes(), [Batch, Channel, Unknown]);
        (graph, x, last)
    };
    // The residual connection says which position is which.
    assert_eq!(graph.roles(&x).unwrap().of(last).axes(), [Batch, Channel, Token]);
}

#[test]
fn contradictions_are_unknown() {
    let mut net = Net::new(&[2, 3, 4, 4]);
    let x = net.last;
    let turned = net.transpose(&[0, 1, 3, 2]);
    net.op(Binary::Add, &[x, turned]);
    let roles = net.roles();
    assert_eq!(roles.axes(), [Batch, Channel, Unknown, Unknown]);
    assert!(roles.grid().is_none());
    let mut net = Net::new(&[2, 6, 4, 4]);
    net.reshape(&[2, 4, 6, 4]);
    assert_eq!(net.axes(), [Batch, Unknown, Unknown, Width], "the border cuts through channels and rows");
    let mut net = Net::new(&[2, 3, 4, 4]);
    let x = net.last;
    let rolled = net.roll(2, 1, 4);
    net.op(Binary::Add, &[x, rolled]);
    assert_eq!(net.axes(), [Batch, Channel, Unknown, Width]);
}

#[test]
fn coarser_grids_count_their_own_rows() {
    // Patches of 2 × 2 by a reshape and a linear layer.
    let mut net = Net::new(&[2, 3, 4, 6]);
    net.reshape(&[2, 3, 2, 2, 3, 2]);
    net.transpose(&[0, 2, 4, 3, 5, 1]);
    net.reshape(&[2, 6, 12]);
    let patches = net.last;
    net.linear([12, 8]);
    let (graph, x, last) = net.finish();
    let roles = graph.roles(&x).unwrap();
    assert!(roles.of(patches).tokens(1).is_none(), "rows of patches are no whole rows yet");
    assert_eq!(roles.of(last).grid().unwrap().spatial(), [(Height, 2), (Width, 3)]);
    assert_eq!(roles.of(last).tokens(1).unwrap().grid, [(Height, 2), (Width, 3)]);
    // Every second row and column, four times, as channels.
    let mut net = Net::new(&[2, 3, 4, 6]);
    let x = net.last;
    let mut parts = Vec::new();
    for (row, column) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        net.op(Structure::Slice { axis: 2, start: row, len: 2, step: 2 }, &[x]);
        parts.push(net.then(Structure::Slice { axis: 3, start: column, len: 3, step: 2 }));
    }
    net.op(Structure::Concat { axis: 1 }, &parts);
    let roles = net.roles();
    assert_eq!(roles.axes(), [Batch, Channel, Height, Width]);
    assert_eq!(roles.grid().unwrap().channels(), 12);
}

#[test]
fn windows_of_another_resolution_are_the_same_windows() {
    // Queries are pooled to half of the points, keys are not.
    let mut net = Net::new(&[2, 3, 8]);
    net.reshape(&[2, 3, 2, 4]);
    net.transpose(&[0, 2, 3, 1]);
    let keys = net.transpose(&[0, 1, 3, 2]);
    net.transpose(&[0, 1, 3, 2]);
    net.reshape(&[2, 2, 2, 2, 3]);
    let queries = net.then(Reduce { function: ReduceFn::Max, axes: vec![3], keep: false });
    net.op(MatMul, &[queries, keys]);
    let scores = net.last;
    let values = net.op(Structure::Transpose { order: vec![0, 1, 3, 2] }, &[keys]);
    net.op(MatMul, &[scores, values]);
    let grid = net.roles().grid().unwrap();
    assert_eq!((grid.spatial(), grid.channels()), ([(Time, 4)].as_slice(), 3));
}

#[test]
fn tables_of_indices_cut_patches() {
    let table = |rows: usize, index: &[i64]| {
        let mut net = Net::new(&[2, 3, 4, 6]);
        let index =
            net.b.constant("index", Tensor::new(index, &Device::Cpu).unwrap().reshape((rows, 2)).unwrap());
        net.op(Gather { axis: 2 }, &[net.last, index]);
        net.roles()
    };
    let patches = table(2, &[0, 2, 1, 3]);
    assert_eq!(patches.axes(), [Batch, Channel, Height, Height, Width]);
    assert_eq!(patches.grid().unwrap().spatial(), [(Height, 4), (Width, 6)]);
    assert!(table(3, &[0, 1, 1, 2, 2, 3]).grid().is_none(), "patches that overlap");
}

#[test]
fn words_are_tokens() {
    let mut b = GraphBuilder::new();
    let x = b.integer_input("x", &[Some(5)]);
    let table = b.constant("table", Tensor::ones((9, 4), DType::F64, &Device::Cpu).unwrap());
    let y = b.op("y", Embedding, &[table, x]).unwrap();
    let graph = b.finish(&[y]).unwrap();
    let x = Inputs::single(Tensor::zeros((2, 5), DType::I64, &Device::Cpu).unwrap()).unwrap();
    let roles = graph.roles(&x).unwrap();
    assert_eq!(roles.of(graph.outputs()[0]).axes(), [Batch, Token, Channel]);
    assert_eq!(roles.of(graph.outputs()[0]).grid().unwrap().spatial(), [(Token, 5)]);
}

fn first(roles: &GraphRoles, graph: &Graph) -> Roles {
    roles.of(graph.outputs()[0]).clone()
}

#[test]
fn other_batches_and_wrong_shapes() -> Result<()> {
    let (graph, x, _) = with_class_token().finish();
    let view = first(&graph.roles(&x)?, &graph).grid().unwrap();
    let other = Tensor::zeros((5, 7, 4), DType::F64, &Device::Cpu)?;
    assert_eq!(view.to_grid(&other)?.dims(), [5, 4, 2, 3]);
    assert_eq!(view.from_grid(&Tensor::ones((5, 1, 2, 3), DType::F64, &Device::Cpu)?)?.dims(), [5, 7, 1]);
    let back = view.from_grid(&Tensor::ones((5, 4, 2, 3), DType::F64, &Device::Cpu)?)?;
    assert_eq!(back.dims(), [5, 7, 4]);
    assert_eq!(back.sum_all()?.to_scalar::<f64>()?, 120.0, "zero at the class token");
    let wrong = Tensor::zeros((5, 6, 4), DType::F64, &Device::Cpu)?;
    assert!(view.to_grid(&wrong).unwrap_err().to_string().contains("any batch"));
    assert!(view.from_grid(&wrong).unwrap_err().to_string().contains("grid"));
    Ok(())
}
