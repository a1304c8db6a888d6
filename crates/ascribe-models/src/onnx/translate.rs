//! Translates the nodes of a file to nodes of the graph.

use std::collections::{HashMap, HashSet};

use ascribe_core::NodeId;

use super::NodeProblem;
use super::attributes::Attributes;
use super::context::Context;
use super::control::DEPTH;
use super::fold::fold;
use super::ops::{Call, translate};
use super::proto::{self, data_type};
use super::supported::{MICROSOFT, ML, objection, old_objection};
use super::text;
use super::value::{Fault, Res, Value};

/// Most nodes after all functions are inlined and all loops unrolled.
const NODES: usize = 1 << 18;

/// The named values of one graph or function.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    values: HashMap<String, Value>,
    /// Stored tensors, which are read when they are first used.
    stored: HashMap<&'a str, &'a proto::Tensor>,
    /// In a function: the attributes of the node that calls it, which its nodes may refer to.
    arguments: HashMap<String, proto::Attribute>,
    /// Prefix for the names of nodes.
    prefix: String,
    opset: i64,
    /// How deeply functions and branches are nested.
    pub depth: usize,
}

/// What a name refers to outside of a body.
type Hidden<'a> = (&'a str, Option<Value>, Option<&'a proto::Tensor>);

/// Translates nodes and collects those that cannot be translated.
pub(super) struct Translator<'a> {
    pub cx: Context,
    pub problems: Vec<NodeProblem>,
    /// The functions of the file, by domain, name and overload.
    functions: HashMap<(String, String, String), &'a proto::Function>,
    /// Number of nodes so far.
    nodes: usize,
}

/// The version of the default operator set.
pub(super) fn default_opset(imports: &[proto::OperatorSet]) -> Option<i64> {
    imports
        .iter()
        .find(|o| matches!(o.domain.as_deref().unwrap_or_default(), "" | "ai.onnx"))
        .map(|o| o.version.unwrap_or(1))
}

impl<'a> Scope<'a> {
    pub fn new(opset: i64) -> Self {
        Self { opset, ..Self::default() }
    }

    /// Makes stored tensors available.
    pub fn store(&mut self, tensors: &'a [proto::Tensor]) {
        self.stored.extend(tensors.iter().map(|t| (t.name.as_deref().unwrap_or_default(), t)));
    }

    pub fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.into(), value);
    }

    /// The version of the default operator set.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The prefix for the names of nodes.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Sets the prefix for the names of nodes and returns the one before; see [`Scope::leave`].
    pub fn enter(&mut self, prefix: &str) -> String {
        std::mem::replace(&mut self.prefix, prefix.into())
    }

    /// Ends what [`Scope::enter`] began.
    pub fn leave(&mut self, outer: String) {
        self.prefix = outer;
    }

    /// Takes out what the names that a body defines refer to outside of it.
    pub fn hide(&mut self, body: &'a proto::Graph) -> Vec<Hidden<'a>> {
        let own = body.initializer.iter().filter_map(|t| t.name.as_deref());
        let names = defined(body).chain(own);
        names.map(|name| (name, self.values.remove(name), self.stored.remove(name))).collect()
    }

    /// Removes the names that a body defines, and brings back what they refer to outside of it.
    pub fn restore(&mut self, body: &'a proto::Graph, hidden: Vec<Hidden<'a>>) {
        self.hide(body);
        // A name that occurs twice was hidden at its first occurrence.
        for (name, value, stored) in hidden.into_iter().rev() {
            self.values.extend(value.map(|value| (name.to_string(), value)));
            self.stored.extend(stored.map(|tensor| (name, tensor)));
        }
    }

    /// Removes what an iteration of a body defined.
    pub fn forget(&mut self, body: &'a proto::Graph) {
        for name in defined(body) {
            self.values.remove(name);
        }
    }

    /// The names of values that nodes of the graph compute.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.values.iter().filter_map(|(name, value)| match value {
            Value::Node(signal) => Some((name.as_str(), signal.id)),
            _ => None,
        })
    }
}

impl<'a> Translator<'a> {
    pub fn new(cx: Context, functions: &'a [proto::Function]) -> Self {
        let key = |f: &proto::Function| {
            [&f.domain, &f.name, &f.overload].map(|part| part.clone().unwrap_or_default()).into()
        };
        Self {
            cx,
            problems: Vec::new(),
            functions: functions.iter().map(|f| (key(f), f)).collect(),
            nodes: 0,
        }
    }

    /// The value of a name. If it is a stored tensor that cannot be read, this is reported the first time.
    pub fn resolve(&mut self, scope: &mut Scope<'a>, name: &str) -> Res<Value> {
        if let Some(value) = scope.values.get(name) {
            return Ok(value.clone());
        }
        let Some(tensor) = scope.stored.get(name) else {
            return Err(format!(
                "uses '{name}', which is not an input, an initialiser or an output of an earlier node"
            )
            .into());
        };
        let read = match tensor.data_type {
            Some(data_type::STRING) => text::stored(&mut self.cx, tensor, name),
            _ => self.cx.store.read(tensor, name),
        };
        let value = read.unwrap_or_else(|fault| {
            self.report(name, "initialiser", fault);
            Value::Missing(None)
        });
        scope.set(name, value.clone());
        Ok(value)
    }

    fn report(&mut self, name: &str, op: &str, fault: Fault) {
        if let Fault::Why(why) = fault {
            self.problems.push(NodeProblem { name: name.into(), op: op.into(), why });
        }
    }

    /// Counts a node, or an iteration of a loop.
    pub fn count(&mut self) -> Res<()> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(format!("the graph has more than {NODES} nodes").into());
        }
        Ok(())
    }

    /// Translates nodes in order, without those on which no output depends and those that are done.
    pub fn run(
        &mut self,
        scope: &mut Scope<'a>,
        nodes: &'a [proto::Node],
        outputs: &[&str],
        done: &mut [bool],
    ) {
        let mut needed: HashSet<&str> = outputs.iter().copied().collect();
        let mut wanted = vec![false; nodes.len()];
        for (node, wanted) in nodes.iter().zip(&mut wanted).rev() {
            if node.output.iter().any(|o| !o.is_empty() && needed.contains(o.as_str())) {
                *wanted = true;
                needed.extend(node.input.iter().map(String::as_str));
                node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|g| captured(g, &mut needed));
            }
        }
        for ((node, _), done) in
            nodes.iter().zip(wanted).zip(done).filter(|((_, wanted), done)| *wanted && !**done)
        {
            self.node(scope, node);
            *done = true;
        }
    }

    fn node(&mut self, scope: &mut Scope<'a>, node: &'a proto::Node) {
        let op = node.op_type.as_deref().unwrap_or_default();
        let first = node.output.iter().map(String::as_str).find(|o| !o.is_empty());
        let own = node.name.as_deref().filter(|n| !n.is_empty()).or(first);
        let name = format!("{}{}", scope.prefix, own.unwrap_or(op));
        let values = self.values(scope, node, op, &name).unwrap_or_else(|fault| {
            self.report(&name, op, fault);
            vec![]
        });
        let mut values = values.into_iter();
        let available = values.len();
        for output in &node.output {
            let value = values.next();
            // An empty name leaves an output out.
            if output.is_empty() {
                continue;
            }
            let value = value.unwrap_or_else(|| {
                let why = (available > 0)
                    .then(|| format!("output '{output}' of {op} '{name}' is not supported").into());
                Value::Missing(why)
            });
            if scope.values.contains_key(output) || scope.stored.contains_key(output.as_str()) {
                self.report(&name, op, format!("its output '{output}' has the name of another value").into());
            }
            scope.set(output, value);
        }
    }

    fn values(
        &mut self,
        scope: &mut Scope<'a>,
        node: &'a proto::Node,
        op: &str,
        name: &str,
    ) -> Res<Vec<Value>> {
        self.count()?;
        let domain = node.domain.as_deref().unwrap_or_default();
        let attributes = arguments(&node.attribute, &scope.arguments);
        let key = (domain.to_string(), op.to_string(), node.overload.clone().unwrap_or_default());
        if let Some(function) = self.functions.get(&key).copied() {
            return self.call(scope, node, function, &attributes, name);
        }
        if let Some(why) =
            objection(domain, op, &attributes).or_else(|| old_objection(domain, op, scope.opset))
        {
            return Err(why.into());
        }
        let mut inputs: Vec<Option<Value>> = node
            .input
            .iter()
            .map(|input| (!input.is_empty()).then(|| self.resolve(scope, input)).transpose())
            .collect::<Res<_>>()?;
        while let Some(None) = inputs.last() {
            inputs.pop();
        }
        if inputs.iter().flatten().any(Value::is_missing) {
            // Report why an input is missing, unless that has already been reported.
            return Err(inputs
                .iter()
                .flatten()
                .find_map(|v| v.elem().err().filter(|f| matches!(f, Fault::Why(_))))
                .unwrap_or(Fault::Reported));
        }
        match op {
            "If" => return self.branch(scope, node, &inputs, name),
            "Loop" => return self.repeat(scope, node, &inputs, name),
            "Scan" => return self.scan(scope, node, &attributes, &inputs, name),
            "SequenceMap" => return self.map(scope, node, &inputs, name),
            _ => {}
        }
        let call = Call {
            name,
            op,
            microsoft: domain == MICROSOFT,
            ml: domain == ML,
            opset: scope.opset,
            attributes: &attributes,
            inputs: &inputs,
            outputs: node.output.len(),
        };
        self.compute(&call)
    }

    /// Computes an operator now if it can be, and otherwise adds it to the graph.
    pub fn compute(&mut self, call: &Call<'_>) -> Res<Vec<Value>> {
        if !call.microsoft
            && let Some(values) = self.sequence(call)?
        {
            return Ok(values);
        }
        if let Some(values) = fold(&mut self.cx, call)? {
            return Ok(values);
        }
        translate(&mut self.cx, call)
    }

    /// Inlines a call of a function of the file.
    fn call(
        &mut self,
        scope: &mut Scope<'a>,
        node: &'a proto::Node,
        function: &'a proto::Function,
        attributes: &Attributes,
        name: &str,
    ) -> Res<Vec<Value>> {
        if scope.depth >= DEPTH {
            return Err("calls of functions are nested too deeply".into());
        }
        let mut inner = Scope::new(default_opset(&function.opset_import).unwrap_or(scope.opset));
        inner.depth = scope.depth + 1;
        inner.prefix = format!("{name}/");
        let defaults = function.attribute_proto.iter().chain(attributes.iter());
        inner.arguments = defaults.map(|a| (a.name.clone().unwrap_or_default(), a.clone())).collect();
        if node.input.len() > function.input.len() {
            return Err(format!(
                "passes {} inputs to a function that has {}",
                node.input.len(),
                function.input.len()
            )
            .into());
        }
        for (i, formal) in function.input.iter().enumerate() {
            let value = match node.input.get(i).filter(|n| !n.is_empty()) {
                Some(actual) => self.resolve(scope, actual)?,
                None => Value::Missing(Some(format!("input '{formal}' of the function is not given").into())),
            };
            inner.set(formal, value);
        }
        let outputs: Vec<&str> = function.output.iter().map(String::as_str).collect();
        self.run(&mut inner, &function.node, &outputs, &mut vec![false; function.node.len()]);
        outputs.iter().map(|o| self.resolve(&mut inner, o)).collect()
    }
}

/// The names of the inputs of a body and of what its nodes compute.
fn defined(body: &proto::Graph) -> impl Iterator<Item = &str> {
    let inputs = body.input.iter().filter_map(|i| i.name.as_deref());
    inputs.chain(body.node.iter().flat_map(|n| &n.output).map(String::as_str))
}

/// Adds the names that a branch uses, which may be those of values outside the branch.
fn captured<'a>(graph: &'a proto::Graph, needed: &mut HashSet<&'a str>) {
    needed.extend(graph.output.iter().filter_map(|o| o.name.as_deref()));
    for node in &graph.node {
        needed.extend(node.input.iter().map(String::as_str));
        node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|g| captured(g, needed));
    }
}

/// Attributes of a node, with references to the caller's attributes replaced by their values.
fn arguments(own: &[proto::Attribute], caller: &HashMap<String, proto::Attribute>) -> Attributes {
    let resolved = own.iter().filter_map(|attribute| match attribute.ref_attr_name.as_deref() {
        None | Some("") => Some(attribute.clone()),
        Some(name) => {
            caller.get(name).map(|value| proto::Attribute { name: attribute.name.clone(), ..value.clone() })
        }
    });
    Attributes::new(resolved.collect())
}
