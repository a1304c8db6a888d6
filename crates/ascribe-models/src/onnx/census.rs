//! Counts the protobuf fields of a file before it is decoded, to limit the memory that decoding takes.
//!
//! An empty protobuf message takes two bytes in a file but hundreds of bytes in memory. Real models consist mostly of
//! weights and have few fields for their size. A file with far more fields is rejected, so that memory use stays in
//! proportion to the size of the file.

/// The protobuf messages that can contain many other messages.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Function,
    /// A value's type or shape.
    Type,
}

impl Kind {
    /// The kind of message in field `number`, if it is one of these.
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Graph | Self::Attribute, 5) => Self::Tensor,
            (Self::Graph, 11 | 12) | (Self::Type, 1 | 2) => Self::Type,
            _ => return None,
        })
    }
}

/// Reads a variable-length integer and advances `bytes`.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

/// Checks that the number of fields is in proportion to the size of the file. Malformed input is accepted here; the
/// decoder reports what is wrong with it.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let limit = (1 << 18) + bytes.len() / 16;
    let mut fields = 0_usize;
    let mut stack = vec![(bytes, Kind::Model)];
    while let Some((mut rest, kind)) = stack.pop() {
        while let Some(tag) = varint(&mut rest) {
            let skip = match tag & 7 {
                0 => varint(&mut rest).map(|_| 0),
                1 => Some(8),
                5 => Some(4),
                2 => varint(&mut rest).and_then(|n| usize::try_from(n).ok()),
                _ => None,
            };
            let Some((contents, after)) = skip.and_then(|n| rest.split_at_checked(n)) else { break };
            rest = after;
            if tag & 7 == 2 {
                fields += 1;
                if let Some(inner) = kind.field(tag >> 3) {
                    stack.push((contents, inner));
                }
            }
        }
        if fields > limit {
            return Err(format!(
                "it has {} bytes but more than {limit} protobuf fields, which no real model has",
                bytes.len()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_million_empty_nodes_are_refused() {
        // Field 7 of the model holds the graph, whose field 1 holds nodes.
        let nodes = [0x0a, 0x00].repeat(1 << 20);
        let length = nodes.len() as u64;
        let mut file = vec![0x3a];
        let mut n = length;
        while n >= 128 {
            file.push((n & 127) as u8 | 128);
            n >>= 7;
        }
        file.push(n as u8);
        file.extend(nodes);
        assert!(check(&file).unwrap_err().contains("fields"));
        assert!(check(&file[..1000]).is_ok());
    }
}
