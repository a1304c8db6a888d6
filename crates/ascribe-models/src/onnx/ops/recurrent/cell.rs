//! The equations of one step of a recurrent layer.

use ascribe_core::Tensor;
use ascribe_core::ops::{Binary, Linear, Pointwise, Structure};

use super::super::Call;
use super::super::dynamic::rounded;
use super::activation::Activation;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Known, Res, Value};

/// The parameters of one direction, as ONNX orders them.
pub(super) struct Parameters {
    /// Prefix for the names of nodes.
    pub prefix: String,
    /// H, the number of hidden values.
    pub hidden: usize,
    /// `W [G·H, I]`.
    pub w: Tensor,
    /// `R [G·H, H]`.
    pub r: Tensor,
    /// `B [2·G·H]`: the biases of the input, then those of the hidden state.
    pub b: Option<Tensor>,
    /// The peepholes `P [3·H]` of an LSTM.
    pub p: Option<Tensor>,
    pub functions: Vec<Activation>,
}

/// The parameters as constants for the graph.
pub(super) struct Weights {
    pub input: Value,
    pub input_bias: Option<Value>,
    /// For the gates that use `h` as it is.
    hidden: Value,
    /// `Rbh` of a GRU with `linear_before_reset`.
    hidden_bias: Option<Value>,
    /// `Rh` of a GRU without it.
    candidate: Option<Value>,
    /// For the input, output and forget gate.
    peepholes: Option<[Value; 3]>,
}

/// The hidden and the cell state `[N, H]`; `None` is zero.
pub(super) struct State {
    pub h: Option<Value>,
    pub c: Option<Value>,
}

enum Kind {
    Rnn,
    Gru { linear_before_reset: bool },
    Lstm { input_forget: bool },
}

/// The kind of a layer and its settings.
pub(super) struct Cell {
    kind: Kind,
    /// Bound of the operands of activations (attribute `clip`).
    clip: Option<f64>,
    /// Whether what is multiplied by weights is rounded to levels.
    rounds: bool,
}

/// Applies an operator; names are complete.
fn add(cx: &mut Context, name: &str, a: &Value, b: &Value) -> Res<Value> {
    cx.apply(name, Binary::Add, &[a, b], Elem::Float)
}

fn multiply(cx: &mut Context, name: &str, a: &Value, b: &Value) -> Res<Value> {
    cx.apply(name, Binary::Mul, &[a, b], Elem::Float)
}

/// Part `number` of values `[N, G·H]`.
fn part(cx: &mut Context, name: &str, x: &Value, number: usize, hidden: usize) -> Res<Value> {
    let op = Structure::Slice { axis: 1, start: number * hidden, len: hidden, step: 1 };
    cx.apply(name, op, &[x], Elem::Float)
}

impl Cell {
    pub fn new(call: &Call<'_>, rounds: bool) -> Res<Self> {
        let attributes = call.attributes;
        let clip = attributes.float("clip")?.filter(|&c| c > 0.0);
        let kind = match call.op {
            "RNN" => Kind::Rnn,
            "GRU" => Kind::Gru { linear_before_reset: attributes.flag("linear_before_reset", false)? },
            _ => Kind::Lstm { input_forget: attributes.flag("input_forget", false)? },
        };
        Ok(Self { kind, clip, rounds })
    }

    /// Number of blocks of rows in `W` and `R`.
    pub fn gates(op: &str) -> usize {
        match op {
            "RNN" => 1,
            "GRU" => 3,
            _ => 4,
        }
    }

    /// Makes constants of the parameters. Both biases of a sum are added.
    pub fn weights(&self, cx: &mut Context, parameters: &Parameters) -> Res<Weights> {
        let Parameters { prefix, hidden, w, r, b, p, .. } = parameters;
        let (hidden, rows) = (*hidden, w.dim(0)?);
        cx.spend(&[rows, w.dim(1)? + hidden])?;
        let constant = |part: &str, tensor: &Tensor| -> Res<Value> {
            Ok(Known::value(tensor.contiguous()?, Elem::Float, &format!("{prefix}/{part}")))
        };
        let mut weights = Weights {
            input: constant("W", w)?,
            input_bias: None,
            hidden: constant("R", r)?,
            hidden_bias: None,
            candidate: None,
            peepholes: None,
        };
        let after_reset = matches!(self.kind, Kind::Gru { linear_before_reset: false });
        let before_reset = matches!(self.kind, Kind::Gru { linear_before_reset: true });
        if after_reset {
            weights.hidden = constant("R", &r.narrow(0, 0, 2 * hidden)?)?;
            weights.candidate = Some(constant("Rh", &r.narrow(0, 2 * hidden, hidden)?)?);
        }
        if let Some(b) = b {
            let (own, other) = (b.narrow(0, 0, rows)?, b.narrow(0, rows, rows)?);
            if before_reset {
                // The reset gate multiplies the last part, so it cannot be added to the input's.
                let both = (own.narrow(0, 0, 2 * hidden)? + other.narrow(0, 0, 2 * hidden)?)?;
                let all = Tensor::cat(&[&both, &own.narrow(0, 2 * hidden, hidden)?], 0)?;
                weights.input_bias = Some(constant("B", &all)?);
                weights.hidden_bias = Some(constant("Rbh", &other.narrow(0, 2 * hidden, hidden)?)?);
            } else {
                weights.input_bias = Some(constant("B", &(own + other)?)?);
            }
        }
        if let Some(p) = p {
            let gate = |i: usize, name: &str| constant(name, &p.narrow(0, i * hidden, hidden)?);
            weights.peepholes =
                Some([gate(0, "input peephole")?, gate(1, "output peephole")?, gate(2, "forget peephole")?]);
        }
        Ok(weights)
    }

    /// The state after a step. `x` is `W x + b`, and nodes get names that begin with `name`.
    pub fn step(
        &self,
        cx: &mut Context,
        name: &str,
        parameters: &Parameters,
        weights: &Weights,
        x: &Value,
        state: &State,
    ) -> Res<State> {
        match self.kind {
            Kind::Rnn => {
                let total = self.sum(cx, name, weights, x, state)?;
                let h = self.activate(cx, &format!("{name}/hidden"), parameters.functions[0], &total)?;
                Ok(State { h: Some(h), c: None })
            }
            Kind::Gru { .. } => self.gru(cx, name, parameters, weights, x, state),
            Kind::Lstm { input_forget } => self.lstm(cx, name, parameters, weights, x, state, input_forget),
        }
    }

    /// A value as it is multiplied by weights.
    pub fn read(&self, cx: &mut Context, name: &str, x: &Value) -> Res<Value> {
        if self.rounds { rounded(cx, name, x) } else { Ok(x.clone()) }
    }

    /// `R h`; `None` if the state is zero.
    fn recurrent(
        &self,
        cx: &mut Context,
        name: &str,
        weights: &Weights,
        state: &State,
    ) -> Res<Option<Value>> {
        let Some(h) = &state.h else { return Ok(None) };
        let h = self.read(cx, &format!("{name}/levels"), h)?;
        Ok(Some(cx.apply(&format!("{name}/recurrent"), Linear, &[&h, &weights.hidden], Elem::Float)?))
    }

    /// `x + R h`.
    fn sum(&self, cx: &mut Context, name: &str, weights: &Weights, x: &Value, state: &State) -> Res<Value> {
        match self.recurrent(cx, name, weights, state)? {
            Some(hidden) => add(cx, &format!("{name}/sum"), x, &hidden),
            None => Ok(x.clone()),
        }
    }

    /// Applies an activation to a value clipped to the bounds.
    fn activate(&self, cx: &mut Context, name: &str, function: Activation, x: &Value) -> Res<Value> {
        let Some(bound) = self.clip else { return function.apply(cx, name, x) };
        let op = Pointwise::Clip { low: Some(-bound), high: Some(bound) };
        let x = cx.apply(&format!("{name}/clip"), op, &[x], Elem::Float)?;
        function.apply(cx, name, &x)
    }

    /// `z = f(Wz x + Rz h)`, `r = f(Wr x + Rr h)`, `h̃ = g(Wh x + Rh (r ⊙ h))` or, with `linear_before_reset`,
    /// `h̃ = g(Wh x + r ⊙ (Rh h + Rbh))`; `h′ = (1 − z) ⊙ h̃ + z ⊙ h`.
    fn gru(
        &self,
        cx: &mut Context,
        name: &str,
        parameters: &Parameters,
        weights: &Weights,
        x: &Value,
        state: &State,
    ) -> Res<State> {
        let (hidden, f, g) = (parameters.hidden, parameters.functions[0], parameters.functions[1]);
        let recurrent = self.recurrent(cx, name, weights, state)?;
        let gate = |cx: &mut Context, number: usize, gate: &str| {
            let gate = format!("{name}/{gate}");
            let mut sum = part(cx, &format!("{gate}/input"), x, number, hidden)?;
            if let Some(recurrent) = &recurrent {
                let own = part(cx, &format!("{gate}/recurrent"), recurrent, number, hidden)?;
                sum = add(cx, &format!("{gate}/sum"), &sum, &own)?;
            }
            self.activate(cx, &gate, f, &sum)
        };
        let update = gate(cx, 0, "update gate")?;
        let reset = gate(cx, 1, "reset gate")?;
        let candidate = format!("{name}/candidate");
        let own = part(cx, &format!("{candidate}/input"), x, 2, hidden)?;
        let other = match (&weights.candidate, &state.h, &recurrent) {
            (Some(weight), Some(h), _) => {
                let left = multiply(cx, &format!("{candidate}/reset"), &reset, h)?;
                Some(cx.apply(&format!("{candidate}/recurrent"), Linear, &[&left, weight], Elem::Float)?)
            }
            (None, _, Some(recurrent)) => {
                let mut right = part(cx, &format!("{candidate}/recurrent"), recurrent, 2, hidden)?;
                if let Some(bias) = &weights.hidden_bias {
                    right = add(cx, &format!("{candidate}/bias"), &right, bias)?;
                }
                Some(multiply(cx, &format!("{candidate}/reset"), &reset, &right)?)
            }
            // The state is zero, so that only the bias is left.
            (None, ..) => match &weights.hidden_bias {
                Some(bias) => Some(multiply(cx, &format!("{candidate}/reset"), &reset, bias)?),
                None => None,
            },
            _ => None,
        };
        let sum = match other {
            Some(other) => add(cx, &format!("{candidate}/sum"), &own, &other)?,
            None => own,
        };
        let new = self.activate(cx, &candidate, g, &sum)?;
        let one = cx.number(&format!("{name}/one"), 1.0)?;
        let share = cx.apply(&format!("{name}/share"), Binary::Sub, &[&one, &update], Elem::Float)?;
        let total = format!("{name}/hidden");
        let Some(h) = &state.h else {
            return Ok(State { h: Some(multiply(cx, &total, &share, &new)?), c: None });
        };
        let new = multiply(cx, &format!("{total}/new"), &share, &new)?;
        let kept = multiply(cx, &format!("{total}/kept"), &update, h)?;
        Ok(State { h: Some(add(cx, &total, &new, &kept)?), c: None })
    }

    /// `i = f(Wi x + Ri h + Pi ⊙ c)`, `f = f(Wf x + Rf h + Pf ⊙ c)` (or `1 − i` with `input_forget`),
    /// `c̃ = g(Wc x + Rc h)`, `c′ = f ⊙ c + i ⊙ c̃`, `o = f(Wo x + Ro h + Po ⊙ c′)`, `h′ = o ⊙ h(c′)`.
    #[allow(clippy::too_many_arguments)]
    fn lstm(
        &self,
        cx: &mut Context,
        name: &str,
        parameters: &Parameters,
        weights: &Weights,
        x: &Value,
        state: &State,
        input_forget: bool,
    ) -> Res<State> {
        let hidden = parameters.hidden;
        let (f, g, h) = (parameters.functions[0], parameters.functions[1], parameters.functions[2]);
        let total = self.sum(cx, name, weights, x, state)?;
        // Order of the blocks: input, output, forget, candidate.
        let gate = |cx: &mut Context, number: usize, gate: &str, function: Activation, c: Option<&Value>| {
            let gate = format!("{name}/{gate}");
            let mut own = part(cx, &format!("{gate}/sum"), &total, number, hidden)?;
            if let (Some(peepholes), Some(c)) = (&weights.peepholes, c) {
                let seen = multiply(cx, &format!("{gate}/peephole"), c, &peepholes[number])?;
                own = add(cx, &format!("{gate}/total"), &own, &seen)?;
            }
            self.activate(cx, &gate, function, &own)
        };
        let old = state.c.as_ref();
        let input = gate(cx, 0, "input gate", f, old)?;
        let candidate = gate(cx, 3, "candidate", g, None)?;
        let cell = format!("{name}/cell");
        let c = match old {
            None => multiply(cx, &cell, &input, &candidate)?,
            Some(c) => {
                let forget = if input_forget {
                    let one = cx.number(&format!("{name}/one"), 1.0)?;
                    cx.apply(&format!("{name}/forget gate"), Binary::Sub, &[&one, &input], Elem::Float)?
                } else {
                    gate(cx, 2, "forget gate", f, old)?
                };
                let new = multiply(cx, &format!("{cell}/new"), &input, &candidate)?;
                let kept = multiply(cx, &format!("{cell}/kept"), &forget, c)?;
                add(cx, &cell, &new, &kept)?
            }
        };
        let output = gate(cx, 1, "output gate", f, Some(&c))?;
        let shown = h.apply(cx, &format!("{name}/shown"), &c)?;
        let h = multiply(cx, &format!("{name}/hidden"), &output, &shown)?;
        Ok(State { h: Some(h), c: Some(c) })
    }
}
