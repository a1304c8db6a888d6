//! Grids of values that were moved around at random.

use ascribe_core::ops::Structure;
use ascribe_core::{GridView, Inputs, NodeId, Tensor};
use proptest::prelude::*;

use crate::net::Net;

/// One random move of a value whose axes are products of these factors, which a reshape keeps apart.
///
/// With `splits`, the border of a reshape may go through a factor, and between them else.
fn moved(net: &mut Net, axes: &mut Vec<Vec<usize>>, pick: (u8, u8, u8), splits: bool) {
    let axis = usize::from(pick.1) % axes.len();
    match pick.0 % 4 {
        0 => {
            let mut order: Vec<usize> = (0..axes.len()).collect();
            order.rotate_left(axis);
            order.swap(0, usize::from(pick.2) % axes.len());
            net.transpose(&order);
            *axes = order.iter().map(|&i| axes[i].clone()).collect();
            return;
        }
        1 if !axes[axis].is_empty() => {
            let mut left = axes[axis].clone();
            let mut right = left.split_off(usize::from(pick.2) % left.len());
            let inner = (2..=right[0])
                .rev()
                .filter(|f| right[0].is_multiple_of(*f))
                .nth(usize::from(pick.2 / 16) % 2);
            let inner = inner.filter(|_| splits).unwrap_or(right[0]);
            left.push(right[0] / inner);
            right[0] = inner;
            axes.splice(axis..=axis, [left, right]);
        }
        2 if axis + 1 < axes.len() => {
            let second = axes.remove(axis + 1);
            axes[axis].extend(second);
        }
        _ => axes.insert(axis, Vec::new()),
    }
    net.reshape(&axes.iter().map(|factors| factors.iter().product()).collect::<Vec<_>>());
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.flatten_all().and_then(|t| t.to_vec1()).unwrap()
}

/// The grid of a value, which is the image that the value was made of, and what that gives on the way back.
fn there_and_back(view: &GridView, value: &Tensor, x: &Inputs) -> Result<[Tensor; 2], TestCaseError> {
    let image = &x.iter().next().unwrap().value;
    let grid = view.to_grid(value)?;
    prop_assert_eq!(grid.dims(), image.dims());
    prop_assert_eq!(numbers(&grid), numbers(image));
    let back = view.from_grid(&grid)?;
    prop_assert_eq!(back.dims(), value.dims());
    Ok([grid, back])
}

proptest! {
    #![proptest_config(ascribe_proptest::config(256))]

    /// Whatever way the values of an image are moved, the grid is the image, and the way back is the value.
    #[test]
    fn the_grid_of_a_moved_image_is_the_image(
        samples in 1_usize..4,
        sides in prop::collection::vec(prop::sample::select(vec![1_usize, 2, 3, 4, 6, 8]), 3),
        shifts in any::<[u8; 2]>(),
        picks in prop::collection::vec(any::<(u8, u8, u8)>(), 0..9),
    ) {
        let shape = [samples, sides[0], sides[1], sides[2]];
        let mut axes: Vec<Vec<usize>> = shape.iter().map(|&side| vec![side]).collect();
        let mut net = Net::new(&shape);
        for (axis, shift) in shifts.into_iter().enumerate().map(|(i, s)| (i + 2, usize::from(s))) {
            let start = shift % shape[axis];
            if start > 0 {
                net.roll(axis, start, shape[axis]);
            }
        }
        for pick in picks {
            moved(&mut net, &mut axes, pick, true);
        }
        let (graph, x, last) = net.finish();
        let value = graph.forward(&x)?.primary().clone();
        let view = graph.roles(&x)?.of(last).grid();
        let view = view.ok_or_else(|| TestCaseError::fail("no grid was found"))?;
        let [_, back] = there_and_back(&view, &value, &x)?;
        prop_assert_eq!(numbers(&back), numbers(&value));
    }

    /// The same for tokens of an image between further tokens, of which the way back leaves zeros.
    #[test]
    fn the_grid_of_moved_tokens_is_the_image(
        samples in 1_usize..4,
        sides in prop::collection::vec(1_usize..5, 3),
        around in (0_usize..3, 0_usize..3),
        picks in prop::collection::vec(any::<(u8, u8, u8)>(), 0..9),
    ) {
        let [channels, height, width] = [sides[0], sides[1], sides[2]];
        let mut net = Net::new(&[samples, channels, height, width]);
        net.reshape(&[samples, channels, height * width]);
        net.transpose(&[0, 2, 1]);
        let further = [around.0, around.1].map(|count| (count > 0).then(|| net.constant(&[1, count, channels])));
        let parts: Vec<NodeId> = [further[0], Some(net.last), further[1]].into_iter().flatten().collect();
        net.op(Structure::Concat { axis: 1 }, &parts);
        let tokens = around.0 + height * width + around.1;
        let mut axes = vec![vec![samples], vec![tokens], vec![channels]];
        for pick in picks {
            moved(&mut net, &mut axes, pick, false);
        }
        let (graph, x, last) = net.finish();
        let value = graph.forward(&x)?.primary().clone();
        let view = graph.roles(&x)?.of(last).grid();
        // Tokens that share an axis with samples or channels are not cut out.
        let shared = around != (0, 0) && axes.iter().any(|axis| {
            axis.contains(&tokens) && axis.iter().filter(|side| **side > 1).count() > 1
        });
        prop_assume!(!shared && height * width > 1);
        let view = view.ok_or_else(|| TestCaseError::fail("no grid was found"))?;
        let [grid, back] = there_and_back(&view, &value, &x)?;
        prop_assert_eq!(numbers(&view.to_grid(&back)?), numbers(&grid));
        prop_assert_eq!(numbers(&back).iter().sum::<f64>(), numbers(&grid).iter().sum::<f64>());
    }
}
