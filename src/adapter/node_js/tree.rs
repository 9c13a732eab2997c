//! Documents in JSON or MessagePack, with their keys in a fixed order.

use bytes::Bytes;
use roomcast_protocol::socket::Parser;

/// A value of a document.
#[derive(Clone, Debug)]
pub(crate) enum Tree<'a> {
    Nil,
    Bool(bool),
    Number(u64),
    Text(&'a str),
    List(Vec<Self>),
    Map(Vec<(&'static str, Self)>),
    /// A value that is already encoded in the format of the document.
    Raw(Bytes),
}

impl<'a> Tree<'a> {
    pub(crate) fn texts(
        texts: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>,
    ) -> Self {
        let text = |text: &'a _| Tree::Text(AsRef::<str>::as_ref(text));
        Self::List(texts.into_iter().map(text).collect())
    }

    pub(crate) fn write(&self, parser: Parser) -> Bytes {
        let mut out = Vec::with_capacity(self.size_hint());
        if parser == Parser::MessagePack {
            self.pack(&mut out);
        } else {
            self.json(&mut out);
        }
        out.into()
    }

    /// Returns the size of the document in bytes, unless texts contain characters that JSON
    /// escapes. Heads and numbers count with their largest usual size. A buffer that grows is
    /// copied several times.
    fn size_hint(&self) -> usize {
        match self {
            Self::Nil | Self::Bool(_) => 5,
            Self::Number(_) => 9,
            Self::Text(text) => text.len() + 3,
            Self::Raw(raw) => raw.len(),
            Self::List(values) => {
                values
                    .iter()
                    .map(|value| value.size_hint() + 1)
                    .sum::<usize>()
                    + 2
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(&str, Self)| key.len() + 4 + value.size_hint();
                entries.iter().map(entry).sum::<usize>() + 2
            }
        }
    }

    fn json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.extend_from_slice(b"null"),
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Number(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Text(text) => quote(out, text),
            Self::Raw(raw) => out.extend_from_slice(raw),
            Self::List(values) => {
                out.push(b'[');
                for (i, value) in values.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    value.json(out);
                }
                out.push(b']');
            }
            Self::Map(entries) => {
                out.push(b'{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    // Keys are names in this program, none of which JSON escapes.
                    out.push(b'"');
                    out.extend_from_slice(key.as_bytes());
                    out.extend_from_slice(b"\":");
                    value.json(out);
                }
                out.push(b'}');
            }
        }
    }

    fn pack(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.push(0xc0),
            Self::Bool(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
            Self::Number(value) => number(out, *value),
            Self::Text(text) => head(
                out,
                text.len(),
                (0xa0, 31),
                [Some(0xd9), Some(0xda), Some(0xdb)],
                text.as_bytes(),
            ),
            Self::Raw(raw) => out.extend_from_slice(raw),
            Self::List(values) => {
                head(
                    out,
                    values.len(),
                    (0x90, 15),
                    [None, Some(0xdc), Some(0xdd)],
                    b"",
                );
                values.iter().for_each(|value| value.pack(out));
            }
            Self::Map(entries) => {
                head(
                    out,
                    entries.len(),
                    (0x80, 15),
                    [None, Some(0xde), Some(0xdf)],
                    b"",
                );
                for (key, value) in entries {
                    Tree::Text(key).pack(out);
                    value.pack(out);
                }
            }
        }
    }
}

fn quote(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Writes the head of a value with a length, in its shortest form, followed by `rest`. A document
/// of 4 GiB is refused before it is sent.
fn head(
    out: &mut Vec<u8>,
    length: usize,
    (fix, most): (u8, usize),
    marks: [Option<u8>; 3],
    rest: &[u8],
) {
    let [one, two, four] = marks;
    match (u8::try_from(length), u16::try_from(length), one) {
        (Ok(short), ..) if length <= most => out.push(fix | short),
        (Ok(length), _, Some(mark)) => out.extend_from_slice(&[mark, length]),
        (_, Ok(length), _) => {
            out.extend(two);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.extend(four);
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(rest);
}

fn number(out: &mut Vec<u8>, value: u64) {
    match (
        u8::try_from(value),
        u16::try_from(value),
        u32::try_from(value),
    ) {
        (Ok(small @ ..=0x7f), ..) => out.push(small),
        (Ok(value), ..) => out.extend_from_slice(&[0xcc, value]),
        (_, Ok(value), _) => {
            out.push(0xcd);
            out.extend_from_slice(&value.to_be_bytes());
        }
        (_, _, Ok(value)) => {
            out.push(0xce);
            out.extend_from_slice(&value.to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_encode_the_same_value() {
        let long = "x".repeat(300);
        let longest = "é".repeat(40_000);
        let tree = Tree::Map(vec![
            ("a", Tree::List((0..20).map(Tree::Number).collect())),
            ("b", Tree::texts(["", "é\"\n", &long, &longest])),
            (
                "c",
                Tree::List(
                    [127, 128, 255, 256, 65_536, 1 << 40]
                        .map(Tree::Number)
                        .to_vec(),
                ),
            ),
            (
                "d",
                Tree::Map(vec![("e", Tree::Nil), ("f", Tree::Bool(true))]),
            ),
        ]);
        let json: serde_json::Value = serde_json::from_slice(&tree.write(Parser::Json)).unwrap();
        let packed: serde_json::Value =
            rmp_serde::from_slice(&tree.write(Parser::MessagePack)).unwrap();
        assert_eq!(json, packed);
        assert_eq!(json["b"][3], longest);
        assert_eq!(
            tree.write(Parser::MessagePack),
            rmp_serde::to_vec(&json).unwrap()
        );
    }
}
