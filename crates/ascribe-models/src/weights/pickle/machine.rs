//! The stack machine that interprets pickles.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use super::{Id, Node};

/// Largest pickle that is accepted, a thousand times what the largest state dicts need.
const MAX_BYTES: u64 = 128 << 20;
/// Most values in one pickle.
const MAX_NODES: usize = 8 << 20;

/// The stack machine, whose program is read from `R`.
pub(super) struct Machine<R> {
    input: std::io::Take<R>,
    /// The arena with all values.
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks that begin groups of values.
    marks: Vec<usize>,
    /// Values that the program can refer to again.
    memo: HashMap<u64, Id>,
}

impl<R: BufRead> Machine<R> {
    pub(super) fn new(input: R) -> Self {
        let (nodes, stack, marks, memo) = Default::default();
        Self { input: input.take(MAX_BYTES), nodes, stack, marks, memo }
    }

    /// Interprets one pickle; returns all values, and which of them is the result.
    pub(super) fn run(mut self) -> Result<(Vec<Node>, Id), String> {
        while !self.step()? {}
        let root = self.pop()?;
        Ok((self.nodes, root))
    }

    /// Interprets one instruction; returns whether it was the last one.
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

    /// Interprets instructions that work on the stack, not those that read values.
    fn step_structure(&mut self, op: u8) -> Result<(), String> {
        match op {
            b'(' => self.marks.push(self.stack.len()),
            // `b` sets attributes of an object (such as the `_metadata` of a state dict), which are not needed.
            b'0' | b'b' => drop(self.pop()?),
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

    /// Records a call. Calls that create dictionaries give a dictionary.
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

    /// The initial items of a dictionary, which Python 2 passes to `OrderedDict` as a list of pairs.
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
        // The vector grows with the bytes that are really there, so that a false length does not allocate memory.
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

    /// Reads a line of text.
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
            // Names of classes are short. Copying long strings many times would take more than linear time.
            Node::Str(text) if text.len() <= 4096 => Ok(text.clone()),
            _ => Err("the pickle names a class by something that is not a short string".into()),
        }
    }

    /// Reads an integer of `length` bytes.
    fn long(&mut self, length: u64) -> Result<(), String> {
        let bytes = self.bytes(length)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let fill = if negative { 0xff } else { 0 };
        let mut value = [fill; 8];
        let kept = bytes.len().min(8);
        value[..kept].copy_from_slice(&bytes[..kept]);
        let value = i64::from_le_bytes(value);
        let fits = bytes.iter().skip(8).all(|b| *b == fill) && (value < 0) == negative;
        // The only larger number in checkpoints is the magic number, which the caller checks by its bytes.
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
