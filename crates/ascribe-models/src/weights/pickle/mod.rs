//! A reader for Python pickles that never executes code.
//!
//! A pickle is a program for a stack machine, and Python's reader lets it call any function. This reader only records
//! calls as data ([`Node::Call`]); `torch_views` then recognises the calls that describe tensors. candle's reader is
//! not used: a malicious or merely unusual file makes it panic (argument tuples that are too short), overflow the stack
//! (when deeply nested values are dropped) or run out of memory (memoised values are cloned). It also skips tensors
//! that it cannot read, and it does not support the older PyTorch format.
//!
//! Values are stored in one arena and refer to each other by index. So time and memory are linear in the length of the
//! pickle, however values are nested, shared or repeated, and cycles are harmless.

mod machine;

use std::io::BufRead;

use machine::Machine;

/// Index of a value in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// A value.
#[derive(Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Str(String),
    Bytes,
    Tuple(Vec<Id>),
    /// A list or a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or class, by name.
    Global {
        module: String,
        name: String,
    },
    /// The result of a call of `callable` with `args`, which is not executed.
    Call {
        callable: Id,
        args: Id,
    },
    /// A reference to data outside the pickle.
    Persistent(Id),
}

/// All values of one pickle, and which of them is the result.
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
        // Ids are only created for nodes in the arena, and nodes are never removed.
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

    /// Function and arguments, if the value is the result of calling a named function.
    pub(super) fn call(&self, id: Id) -> Option<((&str, &str), &[Id])> {
        match self.get(id) {
            Node::Call { callable, args } => Some((self.global(*callable)?, self.tuple(*args)?)),
            _ => None,
        }
    }

    /// A description of a value, for error messages.
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
        let (nodes, root) = Machine::new(input).run()?;
        Ok(Self { nodes, root })
    }
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
        // A list that contains itself; a million nested tuples; a tuple that is doubled a hundred times.
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
        #![proptest_config(ascribe_proptest::config(256))]

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
