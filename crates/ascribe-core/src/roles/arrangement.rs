//! The order of axes that methods and metrics work with, and the order that a model has.

use candle_core::Tensor;

use super::AxisRole;
use crate::error::{Error, Result};
use crate::graph::{Body, Graph, InputSpec, Names, Node, NodeId};
use crate::ops::{Op, Side, Structure};

/// How a value is brought from a model's own order of axes to the order `[N, C, positions…]`, and back.
///
/// Methods and metrics work with the second order: samples first, then channels (or features), then positions in the order
/// depth, height, width, time or token. A value without channels (a spectrogram `[N, H, W]`) gets an axis of length 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrangement {
    roles: Vec<AxisRole>,
    /// For each axis of the arranged value, the model's axis; `None` for an added axis of channels.
    order: Vec<Option<usize>>,
}

impl Arrangement {
    /// From the roles of the model's axes, batch included.
    ///
    /// # Errors
    /// If there is not exactly one batch axis, more than one axis of channels, or two axes of positions with the same
    /// role. If the role of an axis is unknown, the samples come first, and the other axes keep their order.
    pub fn new(roles: &[AxisRole]) -> Result<Self> {
        let fail = |problem: String, expected: &str| {
            let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
            Err(Error::invalid("layout", format!("[{}] {problem}", names.join(", ")), expected))
        };
        let of = |test: &dyn Fn(AxisRole) -> bool| -> Vec<usize> {
            roles.iter().enumerate().filter(|(_, role)| test(**role)).map(|(axis, _)| axis).collect()
        };
        let batch = of(&|role| role == AxisRole::Batch);
        let channels = of(&AxisRole::is_channel);
        if batch.len() != 1 {
            return fail(format!("has {} batch axes", batch.len()), "one batch axis");
        }
        if channels.len() > 1 {
            return fail(format!("has {} axes of channels", channels.len()), "at most one");
        }
        let mut positions = of(&AxisRole::is_spatial);
        positions.sort_by_key(|&axis| AxisRole::SPATIAL.iter().position(|role| *role == roles[axis]));
        if positions.windows(2).any(|pair| roles[pair[0]] == roles[pair[1]]) {
            return fail("has two axes with the same role".into(), "different roles");
        }
        if roles.contains(&AxisRole::Unknown) {
            let rest = (0..roles.len()).filter(|axis| *axis != batch[0]);
            let order = std::iter::once(batch[0]).chain(rest).map(Some).collect();
            return Ok(Self { roles: roles.to_vec(), order });
        }
        let first = [Some(batch[0]), channels.first().copied()];
        let order = first.into_iter().chain(positions.into_iter().map(Some)).collect();
        Ok(Self { roles: roles.to_vec(), order })
    }

    /// The roles of the model's axes.
    pub fn roles(&self) -> &[AxisRole] {
        &self.roles
    }

    /// The arrangement of the same axes with the samples first.
    ///
    /// # Errors
    /// As [`Arrangement::new`].
    pub fn batch_first(&self) -> Result<Self> {
        let rest = self.roles.iter().copied().filter(|role| *role != AxisRole::Batch);
        Self::new(&std::iter::once(AxisRole::Batch).chain(rest).collect::<Vec<_>>())
    }

    /// Whether the model's order is `[N, C, positions…]` itself.
    pub fn is_plain(&self) -> bool {
        self.order.iter().enumerate().all(|(axis, from)| *from == Some(axis))
    }

    /// Lengths of the arranged axes, from those of the model's, or of either with further knowledge.
    fn arrange<T: Clone>(&self, own: &[T], added: T) -> Vec<T> {
        self.order.iter().map(|from| from.map_or_else(|| added.clone(), |axis| own[axis].clone())).collect()
    }

    /// The permutation of the model's axes that arranges them, without an added axis.
    fn permutation(&self) -> Vec<usize> {
        self.order.iter().flatten().copied().collect()
    }

    /// The permutation that undoes [`Arrangement::permutation`].
    fn inverse(&self) -> Vec<usize> {
        let mut inverse = vec![0; self.roles.len()];
        self.permutation().into_iter().enumerate().for_each(|(to, from)| inverse[from] = to);
        inverse
    }

    /// Where the axis of channels was added, if it was.
    fn added(&self) -> Option<usize> {
        self.order.iter().position(Option::is_none)
    }

    fn check(&self, value: &Tensor, rank: usize) -> Result<()> {
        if value.rank() == rank {
            return Ok(());
        }
        let expected: Vec<String> = self.roles.iter().map(ToString::to_string).collect();
        let problem = format!("has shape {:?}", value.dims());
        Err(Error::invalid(
            "value",
            problem,
            format!("{rank} axes, to be arranged from [{}]", expected.join(", ")),
        ))
    }

    /// The shape in the model's order of a value with this shape `[N, C, positions…]`.
    pub fn own_shape(&self, arranged: &[usize]) -> Vec<usize> {
        let kept: Vec<usize> =
            self.order.iter().zip(arranged).filter(|(from, _)| from.is_some()).map(|(_, &n)| n).collect();
        self.inverse().into_iter().filter_map(|at| kept.get(at).copied()).collect()
    }

    /// A value in the model's order as `[N, C, positions…]`.
    ///
    /// # Errors
    /// If it has another number of axes.
    pub fn arranged(&self, value: &Tensor) -> Result<Tensor> {
        self.check(value, self.roles.len())?;
        let moved = value.permute(self.permutation())?;
        let whole = self.added().map_or_else(|| Ok(moved.clone()), |axis| moved.unsqueeze(axis))?;
        Ok(whole.contiguous()?)
    }

    /// A value `[N, C, positions…]` in the model's order. Attributions of single positions may have one channel or several
    /// where the model has a number of channels; where it has none, those of all channels are summed.
    ///
    /// # Errors
    /// If it has another number of axes.
    pub fn restored(&self, value: &Tensor) -> Result<Tensor> {
        self.check(value, self.order.len())?;
        let own = self.added().map_or_else(|| Ok(value.clone()), |axis| value.sum(axis))?;
        Ok(own.permute(self.inverse())?.contiguous()?)
    }
}

impl Graph {
    /// The same function with inputs in the order `[N, C, positions…]`, as methods and metrics expect them: operators that
    /// restore the model's own order follow the inputs. Convolutional networks with channels last, which begin with a
    /// transposition, become the same graph in the canonical form as those with channels first.
    ///
    /// ```
    /// use ascribe_core::{Arrangement, AxisRole, Device, GraphBuilder, Inputs, Tensor, ops::Structure};
    /// use AxisRole::{Batch, Channel, Height, Width};
    /// let mut b = GraphBuilder::new();
    /// let x = b.input("x", &[Some(2), Some(3), Some(1)]);
    /// let y = b.op("y", Structure::Flatten { axis: 1 }, &[x])?;
    /// let graph = b.finish(&[y])?;
    ///
    /// let arrangement = Arrangement::new(&[Batch, Height, Width, Channel])?;
    /// let picture = Tensor::arange(0_f32, 6.0, &Device::Cpu)?.reshape((1, 2, 3, 1))?;
    /// let arranged = graph.arranged(&[("x", arrangement.clone())])?;
    /// let x = Inputs::single(arrangement.arranged(&picture)?)?;
    /// assert_eq!(arranged.forward(&x)?.primary().to_vec2::<f32>()?, [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]);
    /// # Ok::<(), ascribe_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a name is not an input's, or an input has another number of axes.
    pub fn arranged(&self, inputs: &[(&str, Arrangement)]) -> Result<Self> {
        let mut changed = std::collections::HashMap::new();
        for (name, arrangement) in inputs.iter().filter(|(_, arrangement)| !arrangement.is_plain()) {
            let id = self.find(name)?;
            let rank = self.input_spec(id).map(|spec| spec.sides.len() + 1);
            if rank != Some(arrangement.roles.len()) {
                let axes = rank.map_or_else(|| "is not an input".into(), |rank| format!("has {rank} axes"));
                let expected = format!("an input with {} axes", arrangement.roles.len());
                return Err(Error::invalid(format!("layout of '{name}'"), axes, expected));
            }
            changed.insert(id, arrangement);
        }
        if changed.is_empty() {
            return Ok(self.clone());
        }
        let mut taken: Names = self.nodes().map(|(_, node)| node.name().to_string()).collect();
        let mut nodes: Vec<Node> = Vec::with_capacity(self.len() + 2 * changed.len());
        // Where each node is, and where its value is in the model's own order.
        let (mut place, mut value) = (Vec::with_capacity(self.len()), Vec::with_capacity(self.len()));
        for (id, node) in self.nodes() {
            let mut node = node.clone();
            node.inputs.iter_mut().for_each(|input| *input = value[input.index()]);
            let (name, Some(arrangement)) = (node.name().to_string(), changed.get(&id)) else {
                place.push(NodeId(nodes.len()));
                value.push(NodeId(nodes.len()));
                nodes.push(node);
                continue;
            };
            if let Body::Input(InputSpec { sides, .. }) = &mut node.body {
                let own: Vec<Option<usize>> = own_sides(arrangement, sides);
                *sides = arrangement.arrange(&own, Some(1)).split_off(1);
            }
            place.push(NodeId(nodes.len()));
            nodes.push(node);
            let mut push = |what: &str, op: Structure| {
                let inputs = vec![NodeId(nodes.len() - 1)];
                nodes.push(Node {
                    name: taken.unique(&format!("{name}/{what}")),
                    body: Body::Op(Op::Structure(op)),
                    inputs,
                });
            };
            if let Some(added) = arrangement.added() {
                let kept = (0..arrangement.order.len()).filter(|axis| *axis != added);
                push("without channels", Structure::Reshape { shape: kept.map(Side::Same).collect() });
            }
            let order = arrangement.inverse();
            if order.iter().enumerate().any(|(to, from)| to != *from) {
                push("in the model's order", Structure::Transpose { order });
            }
            value.push(NodeId(nodes.len() - 1));
        }
        let outputs = self.outputs().iter().map(|id| value[id.index()]).collect();
        self.reassembled(nodes, outputs, |id| value.get(id.index()).copied())
    }
}

/// The lengths of all axes in the model's order, the batch as `None`.
fn own_sides(arrangement: &Arrangement, sides: &[Option<usize>]) -> Vec<Option<usize>> {
    // The batch is the first axis of the graph's input, whatever its place in the layout.
    let mut rest = sides.iter().copied();
    let batch = arrangement.roles.iter().position(|role| *role == AxisRole::Batch);
    (0..arrangement.roles.len())
        .map(|axis| if Some(axis) == batch { None } else { rest.next().flatten() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, GraphBuilder, Inputs};
    use AxisRole::{Batch, Channel, Height, Time, Unknown, Width};

    #[test]
    fn values_go_there_and_back() -> Result<()> {
        let value = Tensor::arange(0_f64, 120.0, &Device::Cpu)?.reshape((2, 3, 4, 5))?;
        let last = Arrangement::new(&[Batch, Height, Width, Channel])?;
        let arranged = last.arranged(&value)?;
        assert_eq!(arranged.dims(), [2, 5, 3, 4]);
        assert_eq!(arranged.get(1)?.get(4)?.get(2)?.get(3)?.to_scalar::<f64>()?, 119.0);
        assert_eq!(
            last.restored(&arranged)?.flatten_all()?.to_vec1::<f64>()?,
            value.flatten_all()?.to_vec1::<f64>()?
        );
        let batch = Arrangement::new(&[Unknown, Batch, Unknown, Unknown])?;
        assert_eq!(batch.arranged(&value)?.dims(), [3, 2, 4, 5]);
        let planes = value.narrow(3, 0, 1)?.squeeze(3)?.contiguous()?;
        // [N, W, H]: no channels, and columns before rows.
        let bare = Arrangement::new(&[Batch, Width, Height])?;
        let arranged = bare.arranged(&planes)?;
        assert_eq!(arranged.dims(), [2, 1, 4, 3]);
        assert_eq!(bare.restored(&arranged)?.to_vec3::<f64>()?, planes.to_vec3::<f64>()?);
        Ok(())
    }

    #[test]
    fn wrong_layouts_are_named() {
        for (roles, word) in [
            (vec![Height, Width], "batch"),
            (vec![Batch, Channel, Channel], "channels"),
            (vec![Batch, Time, Time], "same role"),
        ] {
            let error = Arrangement::new(&roles).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_arranged_graph_computes_the_same() -> Result<()> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(3), Some(4)]);
        let y = b.op("y", Structure::Flatten { axis: 1 }, &[x])?;
        let graph = b.finish(&[y])?;
        let value = Tensor::arange(0_f32, 24.0, &Device::Cpu)?.reshape((2, 3, 4))?;
        for roles in [[Batch, Width, Height], [Batch, Height, Channel], [Batch, Channel, Time]] {
            let arrangement = Arrangement::new(&roles)?;
            let arranged = graph.arranged(&[("x", arrangement.clone())])?;
            let spec = arranged.input_spec(arranged.inputs()[0]).map(|spec| spec.sides.clone());
            let x = arrangement.arranged(&value)?;
            assert_eq!(spec, Some(x.dims()[1..].iter().map(|&side| Some(side)).collect()));
            let found = arranged.forward(&Inputs::single(x)?)?;
            let expected = graph.forward(&Inputs::single(value.clone())?)?;
            assert_eq!(found.primary().to_vec2::<f32>()?, expected.primary().to_vec2::<f32>()?);
            assert_eq!(found.iter().next().map(|(name, _)| name.to_string()), Some("y".into()));
        }
        let wrong = graph.arranged(&[("x", Arrangement::new(&[Batch, Height, Width, Channel])?)]);
        assert!(wrong.unwrap_err().to_string().contains("3 axes"));
        Ok(())
    }
}
