//! A reader for Python pickles that builds data and runs nothing.
//!
//! A pickle is a program for a stack machine, and Python's own reader lets it call any function.
//! This one records calls as data ([`Node::Call`]); [`super::torch`] then recognises those that
//! describe tensors. candle's reader is not used because a hostile or merely unusual file makes it
//! panic (argument tuples too short), overflow the stack (deep nesting, when dropped) or exhaust
//! memory (memoised values are cloned), because it skips tensors that it cannot read, and because
//! it has no notion of the older PyTorch format.
//!
//! Values live in one arena and refer to each other by index. Hence time and memory are linear in
//! the length of the pickle, whatever it nests, shares or repeats, and cycles are harmless.

use std::collections::HashMap;
use std::io::{BufRead, Read};

/// Longest pickle that is read: a thousand times what the largest state dicts need.
const MAX_BYTES: u64 = 128 << 20;
/// Most values in one pickle.
const MAX_NODES: usize = 8 << 20;

/// Index of a value in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

#[derive(Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Str(String),
    Bytes,
    Tuple(Vec<Id>),
    /// Also sets.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global {
        module: String,
        name: String,
    },
    /// What a call of `callable` with `args` would have made.
    Call {
        callable: Id,
        args: Id,
    },
    /// A reference to data outside the pickle.
    Persistent(Id),
}

/// The values of one pickle, and which of them is the result.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    root: Id,
}

impl Pickle {
    pub(super) fn root(&self) -> &Node {
        self.get(self.root)
    }

    pub(super) fn get(&self, id: Id) -> &Node {
        // Ids are only made for nodes that were pushed, and nodes are never removed.
        &self.nodes[id.0 as usize]
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.get(id) {
            Node::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// Callee and arguments, when the value is what a call of a named function returns.
    pub(super) fn call(&self, id: Id) -> Option<((&str, &str), &[Id])> {
        match self.get(id) {
            Node::Call { callable, args } => Some((self.global(*callable)?, self.tuple(*args)?)),
            _ => None,
        }
    }

    /// What a value is, for messages.
    pub(super) fn describe(&self, node: &Node) -> String {
        match node {
            Node::None => "None".into(),
            Node::Bool(_) => "a boolean".into(),
            Node::Int(_) | Node::Float => "a number".into(),
            Node::Str(_) => "a string".into(),
            Node::Bytes => "bytes".into(),
            Node::Tuple(_) => "a tuple".into(),
            Node::List(_) => "a list".into(),
            Node::Dict(_) => "a dictionary".into(),
            Node::Global { module, name } => format!("the class {module}.{name}"),
            Node::Call { callable, .. } => match self.global(*callable) {
                Some((module, name)) => format!("an object of {module}.{name}"),
                None => "an object".into(),
            },
            Node::Persistent(_) => "a storage".into(),
        }
    }

    /// Reads one pickle and leaves `input` at the byte after it.
    pub(super) fn read(input: &mut impl BufRead) -> Result<Self, String> {
        let mut machine = Machine {
            input: input.take(MAX_BYTES),
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while !machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { nodes: machine.nodes, root })
    }
}

struct Machine<R> {
    input: std::io::Take<R>,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<R: BufRead> Machine<R> {
    /// Executes one instruction; true when it was the last one.
    fn step(&mut self) -> Result<bool, String> {
        match self.byte()? {
            0x80 => {
                let version = self.byte()?;
                if version > 5 {
                    return Err(format!("pickle protocol {version} is not known (0 to 5 are)"));
                }
            }
            0x95 => drop(self.array::<8>()?), // frame: only a hint for buffering
            b'.' => return Ok(true),
            b'N' => self.push(Node::None)?,
            op @ (0x88 | 0x89) => self.push(Node::Bool(op == 0x88))?,
            b'K' => {
                let value = self.byte()?;
                self.push(Node::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))?;
            }
            0x8a => {
                let length = self.byte()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = self.length4()?;
                self.long(length)?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Node::Float)?;
            }
            b'U' | 0x8c => {
                let length = self.byte()?;
                self.text(length.into())?;
            }
            b'T' | b'X' => {
                let length = self.length4()?;
                self.text(length)?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(length)?;
            }
            b'C' => {
                let length = self.byte()?;
                self.opaque_bytes(length.into())?;
            }
            b'B' => {
                let length = self.length4()?;
                self.opaque_bytes(length)?;
            }
            0x8e => {
                let length = u64::from_le_bytes(self.array()?);
                self.opaque_bytes(length)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global { module, name })?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.owned_text(module)?, self.owned_text(name)?);
                self.push(Node::Global { module, name })?;
            }
            op => self.step_structure(op)?,
        }
        Ok(false)
    }

    /// Instructions that work on the stack rather than read values.
    fn step_structure(&mut self, op: u8) -> Result<(), String> {
        match op {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.top()?),
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b']' | 0x8f => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items))?;
            }
            b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Node::List(items))?;
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Dict(pairs(&items)?))?;
            }
            0x85..=0x87 => {
                let count = usize::from(op - 0x84);
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                self.push(Node::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.extend_list(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(pairs(&items)?)?;
            }
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                self.call(callable, args)?;
            }
            0x92 => {
                let (_keywords, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(class, args)?;
            }
            // Attributes of an object (the `_metadata` of a state dict): nothing of use.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))?;
            }
            b'q' => {
                let slot = self.byte()?;
                self.memoise(slot.into())?;
            }
            b'r' => {
                let slot = self.length4()?;
                self.memoise(slot)?;
            }
            0x94 => self.memoise(self.memo.len() as u64)?,
            b'h' => {
                let slot = self.byte()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = self.length4()?;
                self.recall(slot)?;
            }
            other => return Err(format!("pickle instruction 0x{other:02x} is not one that PyTorch writes")),
        }
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<(), String> {
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("the pickle holds more than {MAX_NODES} values"));
        }
        self.stack.push(Id(self.nodes.len() as u32));
        self.nodes.push(node);
        Ok(())
    }

    fn top(&self) -> Result<Id, String> {
        match self.stack.last() {
            Some(id) if self.marks.last().is_none_or(|mark| self.stack.len() > *mark) => Ok(*id),
            _ => Err("the pickle takes a value from an empty stack".into()),
        }
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("the pickle closes a group that it has not opened")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn top_node(&mut self) -> Result<&mut Node, String> {
        let top = self.top()?;
        Ok(&mut self.nodes[top.0 as usize])
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<(), String> {
        match self.top_node()? {
            Node::List(list) => list.extend(items),
            Node::Call { .. } => {} // an object that behaves like a list
            _ => return Err("the pickle appends to something that is not a list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<(Id, Id)>) -> Result<(), String> {
        match self.top_node()? {
            Node::Dict(dict) => dict.extend(items),
            Node::Call { .. } => {} // an object that behaves like a dictionary
            _ => return Err("the pickle sets an item of something that is not a dictionary".into()),
        }
        Ok(())
    }

    fn call(&mut self, callable: Id, args: Id) -> Result<(), String> {
        let is_dict = matches!(
            &self.nodes[callable.0 as usize],
            Node::Global { module, name } if module == "collections" && (name == "OrderedDict" || name == "defaultdict")
        );
        if !is_dict {
            return self.push(Node::Call { callable, args });
        }
        let items = self.initial_items(args);
        self.push(Node::Dict(items))
    }

    /// Python 2 passes the items of an `OrderedDict` as a list of pairs.
    fn initial_items(&self, args: Id) -> Vec<(Id, Id)> {
        let node = |id: Id| &self.nodes[id.0 as usize];
        let Node::Tuple(args) = node(args) else { return Vec::new() };
        let Some(Node::List(items)) = args.first().map(|id| node(*id)) else { return Vec::new() };
        items
            .iter()
            .filter_map(|item| match node(*item) {
                Node::List(pair) | Node::Tuple(pair) => Some((*pair.first()?, *pair.get(1)?)),
                _ => None,
            })
            .collect()
    }

    fn memoise(&mut self, slot: u64) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u64) -> Result<(), String> {
        let id = *self
            .memo
            .get(&slot)
            .ok_or_else(|| format!("the pickle refers to slot {slot}, which is empty"))?;
        self.stack.push(id);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|_| ended())?;
        Ok(bytes)
    }

    fn length4(&mut self) -> Result<u64, String> {
        Ok(u32::from_le_bytes(self.array()?).into())
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        // Grows with what is really there, so that a false length costs nothing.
        let read = self.input.by_ref().take(length).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if read as u64 == length { Ok(bytes) } else { Err(ended()) }
    }

    fn opaque_bytes(&mut self, length: u64) -> Result<(), String> {
        self.bytes(length)?;
        self.push(Node::Bytes)
    }

    fn text(&mut self, length: u64) -> Result<(), String> {
        let bytes = self.bytes(length)?;
        let text = String::from_utf8(bytes).map_err(|_| "a string in the pickle is not UTF-8")?;
        self.push(Node::Str(text))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(4096).read_until(b'\n', &mut bytes).map_err(|e| e.to_string())?;
        if bytes.pop() != Some(b'\n') {
            return Err(ended());
        }
        String::from_utf8(bytes).map_err(|_| "a name in the pickle is not UTF-8".into())
    }

    fn owned_text(&self, id: Id) -> Result<String, String> {
        match &self.nodes[id.0 as usize] {
            // Class names are short; copying long strings again and again would not be linear.
            Node::Str(text) if text.len() <= 4096 => Ok(text.clone()),
            _ => Err("the pickle names a class by something that is not a short string".into()),
        }
    }

    fn long(&mut self, length: u64) -> Result<(), String> {
        let bytes = self.bytes(length)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let fill = if negative { 0xff } else { 0 };
        let mut value = [fill; 8];
        let kept = bytes.len().min(8);
        value[..kept].copy_from_slice(&bytes[..kept]);
        let value = i64::from_le_bytes(value);
        let fits = bytes.iter().skip(8).all(|b| *b == fill) && (value < 0) == negative;
        // Larger numbers occur only as the magic number, which the caller checks by its bytes.
        self.push(if fits { Node::Int(value) } else { Node::Float })
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    } else {
        Err("the pickle gives a dictionary a key without a value".into())
    }
}

fn ended() -> String {
    "it ends in the middle of a pickle; it is truncated or corrupt".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Pickle, String> {
        Pickle::read(&mut &bytes[..])
    }

    #[test]
    fn dictionaries_and_integers() {
        // {'a': 1, 'b': -2}
        let pickle =
            read(b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00bJ\xfe\xff\xff\xffu.").unwrap();
        let Node::Dict(items) = pickle.root() else { panic!("{pickle:?}") };
        let items: Vec<_> =
            items.iter().map(|(k, v)| (pickle.text(*k).unwrap(), pickle.integer(*v).unwrap())).collect();
        assert_eq!(items, [("a", 1), ("b", -2)]);
    }

    #[test]
    fn long_integers() {
        for (bytes, value) in [
            (&b"\x8a\x00."[..], 0i64),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x02\xff\x00.", 255),
            (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", i64::MAX),
            (b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\xff.", i64::MIN),
        ] {
            let pickle = read(bytes).unwrap();
            assert!(matches!(pickle.root(), Node::Int(v) if *v == value), "{pickle:?}");
        }
        assert!(matches!(
            read(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00.").unwrap().root(),
            Node::Float
        ));
    }

    #[test]
    fn hostile_programs_are_errors_or_harmless() {
        for bytes in [
            &b""[..],
            b".",
            b"t.",
            b"(0.",
            b"(R.",
            b"h\x07.",
            b"X\xff\xff\xff\xffabc.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
            b"}(K\x01u.",
            b"K\x01K\x02a.",
            b"cos\nsystem",
            b"\xff.",
            b"\x80\x09.",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        // A list that contains itself; a million nested tuples; 2^100 leaves by doubling.
        assert!(read(b"]q\x00h\x00a.").is_ok());
        let mut nested = vec![b')'];
        nested.extend(std::iter::repeat_n(0x85, 1_000_000));
        nested.push(b'.');
        assert!(read(&nested).is_ok());
        let mut doubled = vec![b')'];
        doubled.extend([b'2', 0x86].repeat(100));
        doubled.push(b'.');
        assert!(read(&doubled).is_ok());
    }

    #[test]
    fn calls_are_recorded_not_made() {
        let pickle = read(b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap();
        assert_eq!(pickle.describe(pickle.root()), "an object of os.system");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn any_program_of_known_instructions_ends_without_a_panic(
            bytes in proptest::collection::vec(
                proptest::sample::select(&b"(.01)2}]tldaesuRbQqrhjKNU\x81\x85\x86\x87\x8a\x8c\x90\x91\x92\x93\x94\x00\x01"[..]), 0..200)
        ) {
            let _ = read(&bytes);
        }
    }
}
