//! The wire format of `@socket.io/redis-streams-adapter` 0.3 and 0.2.
//!
//! Every message for all servers is an entry of one stream. All servers see the same order, and
//! resume at their last position after a disconnect. Answers use channels, as in version 0.3.
//! Servers of version 0.2 do not subscribe to channels, and receive answers as entries.
//!
//! Requests are entries as well, although Node sends them over channels from version 0.3 on. So all
//! operations of a server have one order, and servers of version 0.2 receive requests. Heartbeats
//! of `cluster::nodes` are not entries, because they mean nothing when they are read later.

mod data;
mod heartbeats;
mod journal;
mod reader;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use roomcast_protocol::socket::{Nsp, Parser};

pub(crate) use self::{
    data::Data,
    heartbeats::Heartbeats,
    journal::RedisJournal,
    reader::{Event, Info, Reader, notify},
};
use crate::adapter::{
    WireError,
    envelope::{NodeId, Publication},
    node_js::{
        ParsedMessage, Parts, Request, Response, kind, malformed, read_parts, response_parts,
        write_parts,
    },
    operation::Kind,
};

/// A stream and its settings.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    /// The approximate maximum number of entries.
    pub(crate) max_len: usize,
    /// The maximum number of entries per read.
    pub(crate) read_count: usize,
}

/// An outgoing entry.
#[derive(Clone, Debug)]
pub(crate) struct StreamEntry {
    pub(crate) uid: String,
    pub(crate) nsp: Nsp,
    pub(crate) kind: &'static str,
    /// The data. It is empty in heartbeats, which carry the mark of this library instead.
    pub(crate) data: Bytes,
    /// The sealed form of the entry.
    pub(crate) sealed: Option<Bytes>,
    /// Whether the entry contains its plain form.
    pub(crate) is_plain: bool,
}

/// The types of events, joins, leaves and disconnects.
const JOURNALED: [&str; 4] = ["3", "4", "5", "6"];

/// The field that marks heartbeats of servers of this library.
const MARK: &str = "roomcast";

/// The field with the sealed form. Servers that do not seal ignore it as an unknown field.
const SEALED: &str = "sealed";

impl StreamEntry {
    /// Returns the fields in the order in which Node servers write them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let last = match self.data.is_empty() {
            true => (MARK, &b"1"[..]),
            false => ("data", &*self.data),
        };
        let plain = [
            ("uid", self.uid.as_bytes()),
            ("nsp", self.nsp.as_str().as_bytes()),
            ("type", self.kind.as_bytes()),
            last,
        ];
        let plain = self.is_plain.then_some(plain);
        let sealed = self.sealed.as_deref().map(|sealed| (SEALED, sealed));
        plain.into_iter().flatten().chain(sealed)
    }

    /// Adds the sealed form.
    pub(crate) fn seal(&mut self, sealed: Bytes, keeps_plain: bool) {
        self.sealed = Some(sealed);
        self.is_plain = keeps_plain;
    }

    /// Returns the size of the content in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let plain = if self.is_plain { self.data.len() } else { 0 };
        plain + self.sealed.as_ref().map_or(0, Bytes::len)
    }

    /// Returns whether the entry is a heartbeat or a leave message.
    pub(crate) fn is_heartbeat(&self) -> bool {
        self.data.is_empty()
    }

    /// Returns whether the entry has a type that passes through the journal.
    pub(crate) fn is_journaled(&self) -> bool {
        JOURNALED.contains(&self.kind)
    }

    fn of(own: &str, nsp: &Nsp, kind: &'static str, parts: Parts) -> Self {
        let Parts { data, .. } = parts;
        let data = match data.parser == Parser::MessagePack {
            true => BASE64_STANDARD.encode(&data.bytes).into(),
            false => data.bytes,
        };
        Self {
            uid: own.to_owned(),
            nsp: nsp.clone(),
            kind,
            data,
            sealed: None,
            is_plain: true,
        }
    }

    /// Creates a heartbeat or leave message, for servers that count their peers by heartbeats.
    fn bare(own: &str, nsp: &Nsp, kind: &'static str) -> Self {
        Self {
            uid: own.to_owned(),
            nsp: nsp.clone(),
            kind,
            data: Bytes::new(),
            sealed: None,
            is_plain: true,
        }
    }
}

/// Encodes a publication as an entry.
pub(crate) fn write(own: &str, publication: &Publication) -> Result<StreamEntry, WireError> {
    let parts = write_parts(own, publication)?;
    let kind = match &publication.kind {
        // Servers that recover sessions replay entries whose type is exactly "3". Events that
        // request acknowledgements must not be replayed. All servers parse types as numbers.
        Kind::BroadcastWithAck { .. } => "03",
        Kind::Broadcast { .. }
        | Kind::Join(_)
        | Kind::Leave(_)
        | Kind::Disconnect { .. }
        | Kind::FetchSockets
        | Kind::ServerSide { .. }
        | Kind::ServerSideWithAck { .. } => name(parts.kind),
    };
    Ok(StreamEntry::of(own, &publication.namespace, kind, parts))
}

/// Encodes a response as an entry.
pub(crate) fn write_response(
    own: &NodeId,
    nsp: &Nsp,
    request: &Request,
    response: &Response,
) -> Result<StreamEntry, WireError> {
    let parts = response_parts(request, response)?;
    Ok(StreamEntry::of(own.as_str(), nsp, name(parts.kind), parts))
}

/// Returns the type of a message as text.
fn name(kind: u64) -> &'static str {
    const NAMES: [&str; 14] = [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13",
    ];
    let name = usize::try_from(kind).ok().and_then(|kind| NAMES.get(kind));
    // No other types exist.
    name.copied().unwrap_or("0")
}

/// An entry that was read from a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// The id in Redis.
    pub(crate) id: String,
    pub(crate) uid: Option<String>,
    pub(crate) nsp: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) data: Bytes,
    /// The total size of all field names and values in bytes.
    pub(crate) bytes: usize,
    /// Whether it has the mark of this library.
    pub(crate) is_marked: bool,
    /// The sealed form.
    pub(crate) sealed: Option<Bytes>,
}

impl Read {
    /// Sets a field. Ignores unknown fields.
    pub(crate) fn set(&mut self, name: &[u8], value: Vec<u8>) {
        let text = |value| String::from_utf8(value).ok();
        match name {
            b"uid" => self.uid = text(value),
            b"nsp" => self.nsp = text(value),
            b"type" => self.kind = text(value),
            b"data" => self.data = value.into(),
            _ if name == SEALED.as_bytes() => self.sealed = Some(value.into()),
            _ if name == MARK.as_bytes() => self.is_marked = true,
            _ => {}
        }
    }

    /// See [`StreamEntry::is_journaled`].
    pub(crate) fn is_journaled(&self) -> bool {
        let kind = self.kind.as_deref();
        kind.is_some_and(|kind| JOURNALED.contains(&kind))
    }

    pub(crate) fn kind(&self) -> Result<u64, WireError> {
        let kind = self.kind.as_deref().ok_or(malformed("type"))?;
        kind.trim().parse().map_err(|_| malformed("type"))
    }

    /// Decodes the message of another server.
    pub(crate) fn message(self, own: &NodeId, nsp: &Nsp) -> Result<ParsedMessage, WireError> {
        let data = Data::new(self.data.clone())?;
        self.message_of(data, own, nsp)
    }

    /// Decodes the message, given its partly decoded data.
    pub(crate) fn message_of(
        self,
        data: Data,
        own: &NodeId,
        nsp: &Nsp,
    ) -> Result<ParsedMessage, WireError> {
        let kind = self.kind()?;
        read_parts(own, nsp, self.uid, kind, Some(&data.read()?))
    }
}

/// Returns whether servers of version 0.2 use this type to count each other.
pub(crate) const fn is_heartbeat(kind: u64) -> bool {
    matches!(
        kind,
        kind::FIRST_HEARTBEAT | kind::HEARTBEAT | kind::SERVER_LEAVE
    )
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::socket::Args;
    use serde_json::json;

    use super::*;
    use crate::adapter::wire::floats;

    fn kind(args: &serde_json::Value, is_request: bool) -> Kind {
        let args = Args::document(Parser::Json, args.to_string().into()).unwrap();
        let (event, args) = ("e".into(), args.items(0).unwrap());
        match is_request {
            true => Kind::BroadcastWithAck { event, args },
            false => Kind::Broadcast { event, args },
        }
    }

    fn fields(entry: &StreamEntry) -> Vec<(&str, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = entry.fields();
        fields.map(|(name, value)| (name, text(value))).collect()
    }

    #[test]
    fn entries_have_the_fields_that_node_servers_write() {
        let mut publication = Publication::new(Nsp::ROOT, kind(&json!([1]), false));
        publication.rooms = Some(vec!["room".into()]);
        let entry = write("me", &publication).unwrap();
        let data = r#"{"packet":{"type":2,"data":["e",1]},"opts":{"rooms":["room"],"except":[],"flags":{}}}"#;
        let expected = [("uid", "me"), ("nsp", "/"), ("type", "3"), ("data", data)];
        assert_eq!(
            fields(&entry),
            expected.map(|(name, value)| (name, value.to_owned()))
        );
        // As a number, it is the same type.
        let request = Publication::new(Nsp::ROOT, kind(&json!([1]), true));
        assert_eq!(write("me", &request).unwrap().kind, "03");
    }

    #[test]
    fn entry_with_binary_data_round_trips() {
        let packed = rmp_serde::to_vec(&(serde_bytes(b"\x00\xff"),)).unwrap();
        let args = Args::document(Parser::MessagePack, packed.into()).unwrap();
        let (event, args) = ("e".into(), args.items(0).unwrap());
        let publication = Publication::new(Nsp::ROOT, Kind::Broadcast { event, args });
        let entry = write("other", &publication).unwrap();
        assert!(!entry.data.starts_with(b"{"));
        let mut read = Read::default();
        for (name, value) in entry.fields() {
            read.set(name.as_bytes(), value.to_vec());
        }
        let own = NodeId::new("me").unwrap();
        let Ok(ParsedMessage::Publication(node, parsed, None)) = read.message(&own, &Nsp::ROOT)
        else {
            panic!("no publication");
        };
        assert_eq!(node.as_str(), "other");
        let Kind::Broadcast { args, .. } = &parsed.kind else {
            panic!("no event");
        };
        assert_eq!(args.get::<Bytes>(0).unwrap(), &b"\x00\xff"[..]);
    }

    fn serde_bytes(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn a_million_numbers_of_entries_keep_their_value() {
        let own = NodeId::new("me").unwrap();
        floats::pass_a_million(|args| {
            let entry = write("other", &floats::broadcast(args)).unwrap();
            let mut read = Read::default();
            for (name, value) in entry.fields() {
                read.set(name.as_bytes(), value.to_vec());
            }
            let Ok(ParsedMessage::Publication(_, parsed, None)) = read.message(&own, &Nsp::ROOT)
            else {
                panic!("no publication");
            };
            floats::broadcast_args(&parsed)
        });
    }
}
