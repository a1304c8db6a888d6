//! What the axes of values mean.
//!
//! Every axis is a product of parts, each a coordinate (batch, channel, height, …) or a digit of one. A reshape regroups
//! parts, so that height and width merged to tokens, cut into windows, rolled or moved are still known to be height and
//! width, and any value can be made a grid again ([`Roles::grid`]).

mod arrangement;
mod axis;
mod grid;
mod infer;
mod inputs;
mod reach;
mod transfer;

use std::fmt;

pub use arrangement::Arrangement;
pub use grid::GridView;

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::inputs::Inputs;
use axis::{Atom, Axis, length};

/// What an axis of a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AxisRole {
    /// Samples, or parts of samples that are treated as samples (the windows of a Swin).
    Batch,
    /// Channels of a position.
    Channel,
    /// Rows.
    Height,
    /// Columns.
    Width,
    /// Slices of a volume.
    Depth,
    /// Points in time.
    Time,
    /// Positions in a row: height and width merged, with or without further tokens, or words.
    Token,
    /// Features without positions.
    Feature,
    /// Not known: no evidence, or evidence that contradicts itself.
    Unknown,
}

impl AxisRole {
    /// The roles that tell positions apart, in the order of a grid's axes.
    const SPATIAL: [Self; 5] = [Self::Token, Self::Time, Self::Depth, Self::Height, Self::Width];

    /// The roles of the axes of a floating-point input with this many, where nothing else is known: `[N, F]`, `[N, C, T]`,
    /// `[N, C, H, W]`, `[N, C, D, H, W]`.
    pub fn conventional(rank: usize) -> Vec<Self> {
        inputs::image(rank)
    }

    /// Whether such an axis counts positions.
    pub fn is_spatial(self) -> bool {
        Self::SPATIAL.contains(&self)
    }

    fn is_channel(self) -> bool {
        matches!(self, Self::Channel | Self::Feature)
    }
}

/// Reads the letters of a layout, such as `nchw`, `nhwc`, `ntc`: n batch, c channel, f feature, d depth, h height, w width,
/// t time, l token, ? unknown.
///
/// # Errors
/// If a letter is none of these, or the axes cannot be arranged ([`Arrangement::new`]).
pub fn layout(letters: &str) -> Result<Arrangement> {
    let role = |letter: char| match letter.to_ascii_lowercase() {
        'n' | 'b' => Ok(AxisRole::Batch),
        'c' => Ok(AxisRole::Channel),
        'f' => Ok(AxisRole::Feature),
        'd' => Ok(AxisRole::Depth),
        'h' => Ok(AxisRole::Height),
        'w' => Ok(AxisRole::Width),
        't' => Ok(AxisRole::Time),
        'l' => Ok(AxisRole::Token),
        '?' => Ok(AxisRole::Unknown),
        other => Err(Error::invalid(
            "layout",
            format!("'{letters}' contains '{other}'"),
            "letters of axes in the model's order: n batch, c channel, f feature, d depth, h height, w width, t time, \
             l token, ? unknown",
        )),
    };
    Arrangement::new(&letters.chars().map(role).collect::<Result<Vec<_>>>()?)
}

impl fmt::Display for AxisRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch",
            Self::Channel => "channel",
            Self::Height => "height",
            Self::Width => "width",
            Self::Depth => "depth",
            Self::Time => "time",
            Self::Token => "token",
            Self::Feature => "feature",
            Self::Unknown => "unknown",
        })
    }
}

/// What an axis of tokens stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens before the grid: the class token, registers.
    pub before: usize,
    /// The axes that are merged, in row-major order, with their lengths: height and width.
    pub grid: Vec<(AxisRole, usize)>,
    /// Tokens behind the grid.
    pub after: usize,
}

/// What the axes of one value count.
#[derive(Clone, Debug)]
pub struct Roles {
    axes: Vec<Axis>,
    batch: usize,
}

impl Roles {
    /// The role of each axis.
    pub fn axes(&self) -> Vec<AxisRole> {
        self.axes.iter().map(Axis::role).collect()
    }

    /// What an axis of tokens stands for; `None` if it does not merge whole axes, and nothing else.
    pub fn tokens(&self, axis: usize) -> Option<Tokens> {
        let axis = self.axes.get(axis).filter(|axis| axis.role() == AxisRole::Token)?;
        let (before, grid, after) = axis.positions()?;
        let whole = grid.iter().all(|part| part.is_whole());
        whole.then(|| Tokens { before, grid: grid.iter().map(|p| (p.role, p.len)).collect(), after })
    }

    /// How the value is a grid `[N, C, H, W]`; `None` if an axis is unknown, the value has no positions, or does not hold
    /// each position of each channel exactly once (attention's matrices have two positions per value).
    pub fn grid(&self) -> Option<GridView> {
        GridView::of(&self.axes, self.batch)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.axes.iter().map(|a| format!("{} {}", a.role(), a.len())).collect();
        write!(f, "[{}]", names.join(", "))
    }
}

/// What the axes of every value of a graph count, as inferred by [`Graph::roles`].
#[derive(Clone, Debug)]
pub struct GraphRoles {
    values: Vec<Roles>,
    /// Whether the positions of each node's value have an influence on the first output.
    reach: Vec<bool>,
}

impl GraphRoles {
    /// The roles of a node's value.
    ///
    /// # Panics
    /// If the position is of another, larger graph.
    pub fn of(&self, id: NodeId) -> &Roles {
        &self.values[id.index()]
    }

    /// Whether the positions of a node's value can have an influence on the first output. Behind a vision transformer's
    /// last attention they have none, if the class token alone is read: their gradient is zero there.
    ///
    /// # Panics
    /// If the position is of another, larger graph.
    pub fn positions_reach_output(&self, id: NodeId) -> bool {
        self.reach[id.index()]
    }
}

impl Graph {
    /// The roles of an input's axes, where the operators behind it say which axis is that of the channels: a convolution, or a
    /// linear layer along the last of three axes; `None` if they do not.
    ///
    /// # Errors
    /// If the name is not a node's.
    pub fn evident_roles(&self, input: &str) -> Result<Option<Vec<AxisRole>>> {
        let id = self.find(input)?;
        Ok(self.input_spec(id).and_then(|spec| inputs::evidence(self, id, spec.sides.len() + 1)))
    }

    /// The role of each axis of each value, for inputs of these shapes. Nothing is computed.
    ///
    /// Inputs are taken as `[N, C, H, W]`, `[N, C, D, H, W]`, `[N, C, time]` and `[N, feature]`, integers as `[N, token]`;
    /// an input that is transposed before a convolution as what the convolution makes it. Roles of other inputs are given
    /// by [`Graph::roles_with`].
    ///
    /// ```
    /// use ascribe_core::{AxisRole, DType, Device, GraphBuilder, Inputs, Tensor};
    /// use ascribe_core::ops::{Side, Structure};
    /// // Patches of an image as a row of tokens behind a class token.
    /// let mut b = GraphBuilder::new();
    /// let x = b.input("x", &[Some(8), Some(2), Some(3)]);
    /// let flat = Structure::Reshape { shape: vec![Side::Same(0), Side::Same(1), Side::Infer] };
    /// let flat = b.op("flat", flat, &[x])?;
    /// let tokens = b.op("tokens", Structure::Transpose { order: vec![0, 2, 1] }, &[flat])?;
    /// let class = b.constant("class", Tensor::zeros((1, 1, 8), DType::F32, &Device::Cpu)?);
    /// let all = b.op("all", Structure::Concat { axis: 1 }, &[class, tokens])?;
    /// let graph = b.finish(&[all])?;
    ///
    /// let x = Inputs::single(Tensor::rand(0_f32, 1.0, (5, 8, 2, 3), &Device::Cpu)?)?;
    /// let roles = graph.roles(&x)?;
    /// let all = roles.of(graph.find("all")?);
    /// assert_eq!(all.axes(), [AxisRole::Batch, AxisRole::Token, AxisRole::Channel]);
    /// assert_eq!(all.tokens(1).map(|t| (t.before, t.after)), Some((1, 0)));
    ///
    /// let outputs = graph.forward(&x)?;
    /// let grid = all.grid().unwrap().to_grid(outputs.get("all").unwrap())?;
    /// let image = &x.iter().next().unwrap().value;
    /// assert_eq!((grid - image)?.abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
    /// # Ok::<(), ascribe_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the inputs do not fit the graph, or an operator does not accept its operands' shapes.
    pub fn roles(&self, x: &Inputs) -> Result<GraphRoles> {
        self.roles_with(x, &[])
    }

    /// As [`Graph::roles`], with the roles of the axes of some inputs given by their names: `[N, H, W, C]`, for example.
    ///
    /// # Errors
    /// As [`Graph::roles`]; if a name is not an input's, or the number of roles is not that of its axes.
    pub fn roles_with(&self, x: &Inputs, given: &[(&str, &[AxisRole])]) -> Result<GraphRoles> {
        let shapes = self.shapes(x)?;
        let mut sources = inputs::conventions(self, &shapes);
        for (name, roles) in given {
            let id = self.find(name)?;
            let shape = &shapes[id.index()];
            if !self.inputs().contains(&id) || roles.len() != shape.len() {
                return Err(Error::invalid(
                    format!("roles of '{name}'"),
                    format!("{} are given for a value of shape {shape:?}", roles.len()),
                    "the name of an input, with one role per axis",
                ));
            }
            sources[id.index()] = roles.iter().zip(shape).map(|(&r, &n)| Axis::whole(r, n)).collect();
        }
        let values = infer::infer(self, &shapes, sources);
        let reach = reach::reach(self, &values);
        let batch = self.fixed_batch().map_or_else(|| x.batch(), Ok)?;
        let values = values.into_iter().map(|value| Roles { axes: value.axes, batch }).collect();
        Ok(GraphRoles { values, reach })
    }
}

/// Number of positions of an axis's grid, and of further tokens around it.
fn counts(axis: &Axis) -> (usize, usize) {
    match axis.sole() {
        Some(Atom::Sequence { before, grid, after }) => (length(grid), before + after),
        _ => (axis.len(), 0),
    }
}
