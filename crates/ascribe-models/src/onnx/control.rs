//! Control flow (`If`, `Loop`, `Scan`, `SequenceMap`), which is decided or unrolled when a file is loaded.
//!
//! A graph has a fixed number of nodes, so each iteration of a loop becomes nodes of its own, named `loop/3/…`, and of an
//! `If` whose condition is computed from the inputs both branches are computed.

use std::rc::Rc;

use super::array::Array;
use super::attributes::Attributes;
use super::ops::Call;
use super::proto;
use super::translate::{Scope, Translator};
use super::value::{Fault, Res, Value};

/// Deepest nesting of functions and branches.
pub(super) const DEPTH: usize = 32;
/// Most iterations of a loop.
const ITERATIONS: usize = 1 << 14;

/// The graph attribute of this name.
fn graph<'a>(node: &'a proto::Node, name: &str) -> Res<&'a proto::Graph> {
    let found = node.attribute.iter().find(|a| a.name.as_deref() == Some(name)).and_then(|a| a.g.as_ref());
    found.ok_or_else(|| format!("has no {name}").into())
}

/// The names of the outputs of a body.
fn outputs(body: &proto::Graph) -> Vec<&str> {
    body.output.iter().filter_map(|o| o.name.as_deref()).collect()
}

/// The truth value of a constant; `None` if it is computed from the inputs.
fn truth(value: &Value) -> Res<Option<bool>> {
    match value {
        Value::Node(_) => Ok(None),
        _ => match value
            .array("the condition (inputs that decide it can be given as constants)")?
            .as_bools()?
        {
            [holds] => Ok(Some(*holds)),
            _ => Err("its condition is not a single boolean".into()),
        },
    }
}

/// Attributes with one integer.
pub(super) fn integer(name: &str, value: i64) -> Attributes {
    let own = proto::Attribute { name: Some(name.into()), i: Some(value), ..proto::Attribute::default() };
    Attributes::new(vec![own])
}

impl<'a> Translator<'a> {
    /// Applies an operator of the format to values.
    pub fn operator(
        &mut self,
        name: &str,
        op: &str,
        attributes: &Attributes,
        inputs: &[Value],
    ) -> Res<Value> {
        let inputs: Vec<Option<Value>> = inputs.iter().cloned().map(Some).collect();
        // The operators that are used here have had the same inputs and attributes since this version.
        let call = Call {
            name,
            op,
            microsoft: false,
            ml: false,
            opset: 13,
            attributes,
            inputs: &inputs,
            outputs: 1,
        };
        self.compute(&call)?.into_iter().next().ok_or(Fault::Reported)
    }

    /// A constant list of integers, or for `None` a single one.
    fn integers(&self, name: &str, values: Vec<i64>, scalar: bool) -> Res<Value> {
        let array = if scalar { Array::int(values[0]) } else { Array::ints(values) };
        Value::from_array(array, self.cx.dtype, name)
    }

    /// Joins values along an axis that they have, or with `new` along a new one.
    pub fn join(&mut self, name: &str, parts: &[Value], axis: i64, new: bool) -> Res<Value> {
        let mut own = parts.to_vec();
        if new {
            let at = self.integers(&format!("{name}/axis"), vec![axis], false)?;
            for (i, part) in own.iter_mut().enumerate() {
                let inputs = [part.clone(), at.clone()];
                *part =
                    self.operator(&format!("{name}/{i}"), "Unsqueeze", &Attributes::default(), &inputs)?;
            }
        }
        self.operator(name, "Concat", &integer("axis", axis), &own)
    }

    /// Part `i` of a value along an axis, which the result does not have.
    pub fn part(&mut self, name: &str, value: &Value, axis: i64, i: usize) -> Res<Value> {
        let at = self.integers(&format!("{name}/index"), vec![i as i64], true)?;
        self.operator(name, "Gather", &integer("axis", axis), &[value.clone(), at])
    }

    /// Calls `run` while the names of a body hide those of the same name outside.
    fn within<T>(
        &mut self,
        scope: &mut Scope<'a>,
        body: &'a proto::Graph,
        run: impl FnOnce(&mut Self, &mut Scope<'a>) -> Res<T>,
    ) -> Res<T> {
        if scope.depth >= DEPTH {
            return Err("is nested too deeply".into());
        }
        let hidden = scope.hide(body);
        scope.depth += 1;
        scope.store(&body.initializer);
        let result = run(self, scope);
        scope.depth -= 1;
        scope.restore(body, hidden);
        result
    }

    /// The outputs of a body for these inputs; called in [`Translator::within`], once for each iteration.
    fn iteration(
        &mut self,
        scope: &mut Scope<'a>,
        body: &'a proto::Graph,
        prefix: &str,
        inputs: Vec<Value>,
    ) -> Res<Vec<Value>> {
        self.count()?;
        if inputs.len() != body.input.len() {
            return Err(
                format!("has a body with {} inputs; expected {}", body.input.len(), inputs.len()).into()
            );
        }
        scope.forget(body);
        for (formal, value) in body.input.iter().zip(inputs) {
            scope.set(formal.name.as_deref().unwrap_or_default(), value);
        }
        let outer = scope.enter(prefix);
        let problems = self.problems.len();
        let names = outputs(body);
        self.run(scope, &body.node, &names, &mut vec![false; body.node.len()]);
        scope.leave(outer);
        let values = names.iter().map(|name| self.resolve(scope, name)).collect::<Res<Vec<Value>>>()?;
        // What cannot be loaded is reported once, not for each iteration.
        if self.problems.len() > problems || values.iter().any(Value::is_missing) {
            let why = values.iter().find_map(|v| v.elem().err().filter(|f| matches!(f, Fault::Why(_))));
            return Err(why.filter(|_| self.problems.len() == problems).unwrap_or(Fault::Reported));
        }
        Ok(values)
    }

    /// `If`: the branch that a constant condition selects; if the condition is computed, a choice between the results of
    /// both branches.
    pub fn branch(
        &mut self,
        scope: &mut Scope<'a>,
        node: &'a proto::Node,
        inputs: &[Option<Value>],
        name: &str,
    ) -> Res<Vec<Value>> {
        let condition = inputs.first().and_then(Option::as_ref).ok_or("has no condition")?;
        if let Some(holds) = truth(condition)? {
            let branch = graph(node, if holds { "then_branch" } else { "else_branch" })?;
            if scope.depth > 0 {
                // In a body that runs more than once, a branch computes its names anew each time.
                let prefix = scope.prefix().to_string();
                return self
                    .within(scope, branch, |this, scope| this.iteration(scope, branch, &prefix, vec![]));
            }
            // The names in a branch are those of the graph around it.
            scope.depth += 1;
            scope.store(&branch.initializer);
            let names = outputs(branch);
            self.run(scope, &branch.node, &names, &mut vec![false; branch.node.len()]);
            scope.depth -= 1;
            return names.iter().map(|o| self.resolve(scope, o)).collect();
        }
        if condition.shapes()?.iter().any(|shape| shape.iter().product::<usize>() != 1) {
            return Err("its condition, which is computed from the inputs, is not a single boolean".into());
        }
        let mut sides = Vec::new();
        for (which, part) in [("then_branch", "then"), ("else_branch", "else")] {
            let body = graph(node, which)?;
            let prefix = format!("{name}/{part}/");
            sides.push(self.within(scope, body, |this, scope| this.iteration(scope, body, &prefix, vec![]))?);
        }
        if sides[0].len() != sides[1].len() {
            return Err("its branches have different numbers of outputs".into());
        }
        let mut values = Vec::new();
        for (i, (yes, no)) in sides[0].iter().zip(&sides[1]).enumerate() {
            let (a, b) = (yes.shapes()?, no.shapes()?);
            if a != b || yes.elem()? != no.elem()? {
                return Err(format!(
                    "its condition is computed from the inputs, and output {i} has shape {:?} in one branch and {:?} in \
                     the other; expected the same shape and type in both, between which values can be chosen",
                    a[0], b[0]
                )
                .into());
            }
            let own = if i == 0 { name.to_string() } else { format!("{name}/{i}") };
            let inputs = [condition.clone(), yes.clone(), no.clone()];
            values.push(self.operator(&own, "Where", &Attributes::default(), &inputs)?);
        }
        Ok(values)
    }

    /// `Loop`, unrolled: the number of iterations has to follow from constants and shapes.
    pub fn repeat(
        &mut self,
        scope: &mut Scope<'a>,
        node: &'a proto::Node,
        inputs: &[Option<Value>],
        name: &str,
    ) -> Res<Vec<Value>> {
        let body = graph(node, "body")?;
        let carried = body.input.len().checked_sub(2).ok_or("has a body with fewer than two inputs")?;
        let collected =
            (body.output.len().checked_sub(1 + carried)).ok_or("has a body with too few outputs")?;
        let most = match inputs.first().and_then(Option::as_ref) {
            Some(value) => {
                let what = "its number of iterations (inputs that decide it can be given as constants)";
                usize::try_from(value.array(what)?.scalar_int()?.max(0)).unwrap_or(usize::MAX)
            }
            None => usize::MAX,
        };
        let flag = |holds: bool| Array { shape: vec![], data: super::array::Data::Bool(vec![holds]) };
        let mut condition = match inputs.get(1).and_then(Option::as_ref) {
            Some(value) => value.clone(),
            None => Value::from_array(flag(true), self.cx.dtype, &format!("{name}/condition"))?,
        };
        let mut state = (0..carried)
            .map(|i| {
                inputs
                    .get(i + 2)
                    .cloned()
                    .flatten()
                    .ok_or_else(|| format!("input {} is missing", i + 2).into())
            })
            .collect::<Res<Vec<Value>>>()?;
        let mut rows: Vec<Vec<Value>> = vec![Vec::new(); collected];
        self.within(scope, body, |this, scope| {
            for i in 0..most {
                let goes_on = truth(&condition)?
                    .ok_or("whether its loop goes on is computed from the inputs; expected a constant")?;
                if !goes_on {
                    break;
                }
                if i == ITERATIONS {
                    return Err(format!("has more than {ITERATIONS} iterations").into());
                }
                let number = Value::from_array(Array::int(i as i64), this.cx.dtype, &format!("{name}/{i}"))?;
                let own = [number, condition.clone()].into_iter().chain(state.drain(..)).collect();
                let mut results = this.iteration(scope, body, &format!("{name}/{i}/"), own)?.into_iter();
                condition = results.next().ok_or("has a body without outputs")?;
                state = results.by_ref().take(carried).collect();
                rows.iter_mut().zip(results).for_each(|(list, value)| list.push(value));
            }
            Ok(())
        })?;
        for (i, rows) in rows.iter().enumerate() {
            if rows.is_empty() {
                return Err("has no iterations, so that what it collects is empty".into());
            }
            state.push(self.join(&format!("{name}/collected{i}"), rows, 0, true)?);
        }
        Ok(state)
    }

    /// `Scan`, unrolled over the length of its inputs.
    pub fn scan(
        &mut self,
        scope: &mut Scope<'a>,
        node: &'a proto::Node,
        attributes: &Attributes,
        inputs: &[Option<Value>],
        name: &str,
    ) -> Res<Vec<Value>> {
        if scope.opset() < 9 {
            return Err("is supported from operator set 9 on; before, it had an axis of samples".into());
        }
        let body = graph(node, "body")?;
        let scanned = usize::try_from(attributes.int_or("num_scan_inputs", 0)?).unwrap_or(0);
        let values = inputs.iter().cloned().collect::<Option<Vec<Value>>>().ok_or("an input is missing")?;
        let carried = values.len().checked_sub(scanned).filter(|_| scanned > 0);
        let carried = carried.ok_or("has a num_scan_inputs that does not fit its inputs")?;
        let collected = body.output.len().checked_sub(carried).ok_or("has a body with too few outputs")?;
        let setting = |list: &str, i: usize| {
            attributes
                .ints(list)
                .map_or(Some(0), |l| l.get(i).copied())
                .ok_or_else(|| format!("{list} is too short"))
        };
        let mut steps = None;
        for (i, value) in values[carried..].iter().enumerate() {
            let [shape, other] = value.shapes()?;
            let at = super::array::axis(setting("scan_input_axes", i)?, shape.len())?;
            if shape[at] != other[at] {
                return Err("scans the batch, which would mix samples".into());
            }
            if *steps.get_or_insert(shape[at]) != shape[at] {
                return Err("scans inputs of different lengths".into());
            }
        }
        let steps = steps.filter(|steps| (1..=ITERATIONS).contains(steps));
        let steps = steps.ok_or_else(|| format!("scans an empty input, or more than {ITERATIONS} steps"))?;
        let mut state = values[..carried].to_vec();
        let mut rows: Vec<Vec<Value>> = vec![Vec::new(); collected];
        self.within(scope, body, |this, scope| {
            for step in 0..steps {
                let mut own = std::mem::take(&mut state);
                for (i, value) in values[carried..].iter().enumerate() {
                    let backwards = setting("scan_input_directions", i)? == 1;
                    let at = if backwards { steps - 1 - step } else { step };
                    let part = format!("{name}/{step}/input{i}");
                    own.push(this.part(&part, value, setting("scan_input_axes", i)?, at)?);
                }
                let results = this.iteration(scope, body, &format!("{name}/{step}/"), own)?;
                state = results[..carried].to_vec();
                rows.iter_mut().zip(&results[carried..]).for_each(|(list, value)| list.push(value.clone()));
            }
            Ok(())
        })?;
        for (i, rows) in rows.iter_mut().enumerate() {
            if setting("scan_output_directions", i)? == 1 {
                rows.reverse();
            }
            let axis = setting("scan_output_axes", i)?;
            state.push(self.join(&format!("{name}/collected{i}"), rows, axis, true)?);
        }
        Ok(state)
    }

    /// `SequenceMap`: the results of a body for each value of a sequence, as sequences.
    pub fn map(
        &mut self,
        scope: &mut Scope<'a>,
        node: &'a proto::Node,
        inputs: &[Option<Value>],
        name: &str,
    ) -> Res<Vec<Value>> {
        let body = graph(node, "body")?;
        let values = inputs.iter().cloned().collect::<Option<Vec<Value>>>().ok_or("an input is missing")?;
        let length = values.first().ok_or("has no inputs")?.items()?.len();
        let mut lists: Vec<Vec<Value>> = vec![Vec::new(); body.output.len()];
        self.within(scope, body, |this, scope| {
            for i in 0..length {
                let own = values
                    .iter()
                    .map(|value| match value {
                        Value::List(items) => {
                            items.get(i).cloned().ok_or_else(|| "has sequences of different lengths".into())
                        }
                        other => Ok(other.clone()),
                    })
                    .collect::<Res<Vec<Value>>>()?;
                let results = this.iteration(scope, body, &format!("{name}/{i}/"), own)?;
                lists.iter_mut().zip(results).for_each(|(list, value)| list.push(value));
            }
            Ok(())
        })?;
        Ok(lists.into_iter().map(|list| Value::List(Rc::new(list))).collect())
    }
}
