//! Packets, arguments and targets in messages of Node's adapters.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use roomcast_protocol::socket::{
    Args, Arguments, EncodeError, Encoder, Parser, RESERVED_EVENTS, Value,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value as Json};

use super::{Tree, malformed};
use crate::{
    adapter::{
        WireError,
        envelope::{Envelope, NodeId, Publication},
        operation::Delivery,
    },
    names::Room,
};

/// Reads a document. It is JSON if it begins with a brace, as in Node's adapters.
pub(crate) fn parse(payload: Bytes) -> Result<Args, WireError> {
    if payload.len() > Envelope::MAX_BYTES {
        return Err(WireError::TooLarge);
    }
    // A MessagePack map never begins with the byte of a brace, so the first byte decides.
    let parser = match payload.first() {
        Some(b'{') => Parser::Json,
        Some(_) | None => Parser::MessagePack,
    };
    Args::document(parser, payload).map_err(|_| malformed("document"))
}

/// A string or a number. Names of rooms and events may be either in JavaScript.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Whole(i64),
    Number(f64),
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        match name {
            Name::Text(text) => text,
            Name::Whole(number) => number.to_string(),
            Name::Number(number) => number.to_string(),
        }
    }
}

/// Returns an entry as a string, or `None` if it is missing or invalid.
pub(crate) fn text(value: Option<&Args>) -> Option<String> {
    value?.get::<Option<Name>>(0).ok()?.map(Into::into)
}

/// Returns the request id of another server, if the message is a request. The id is limited in
/// length, because it is stored until the request is answered.
pub(crate) fn request_name(value: Option<&Args>) -> Result<Option<String>, WireError> {
    match text(value) {
        Some(name) if name.len() > MAX_REQUEST => Err(WireError::TooLarge),
        name => Ok(name),
    }
}

/// Returns the name of the sending server. Senders that are not servers have no name.
pub(crate) fn node(uid: Option<&str>) -> Result<NodeId, WireError> {
    NodeId::new(uid.unwrap_or("emitter")).ok_or(malformed("uid"))
}

/// Reads a list of rooms.
pub(crate) fn names(value: Option<&Args>) -> Result<Vec<Room>, WireError> {
    let names = value.and_then(|value| value.get::<Vec<Name>>(0).ok());
    let names = names.ok_or(malformed("rooms"))?;
    Ok(names
        .into_iter()
        .map(|name| Room::from(String::from(name)))
        .collect())
}

/// The target of a message and the flags of its event.
#[derive(Default, Deserialize)]
pub(crate) struct Opts {
    rooms: Option<Vec<Name>>,
    except: Option<Vec<Name>>,
    flags: Option<Flags>,
}

#[derive(Default, Deserialize)]
struct Flags {
    volatile: Option<bool>,
    compress: Option<bool>,
    /// Milliseconds.
    timeout: Option<f64>,
    /// The name of the stream. Only servers of this library write it.
    stream: Option<String>,
    keep: Option<u16>,
}

impl Opts {
    pub(crate) fn read(value: Option<&Args>) -> Result<Self, WireError> {
        let opts = value.and_then(|value| value.get::<Self>(0).ok());
        opts.ok_or(malformed("opts"))
    }

    /// Returns the rooms. An empty list means the whole namespace.
    #[cfg(feature = "redis")]
    pub(crate) fn into_rooms(self) -> Vec<Room> {
        rooms(self.rooms)
    }

    pub(crate) fn apply(self, publication: &mut Publication) {
        // Node writes an empty list for the whole namespace.
        publication.rooms = Some(rooms(self.rooms)).filter(|rooms| !rooms.is_empty());
        publication.except = rooms(self.except);
        let flags = self.flags.unwrap_or_default();
        publication.compress = flags.compress != Some(false);
        // JavaScript has one type of number. A negative value or NaN counts as no time limit.
        let millis = flags.timeout.filter(|millis| *millis >= 0.0);
        publication.timeout = millis.map(|millis| Duration::from_millis(millis as u64));
        publication.delivery = match (flags.stream, flags.keep) {
            (Some(stream), Some(keep @ 1..)) => Delivery::Last(stream.into(), keep),
            (Some(stream), _) => Delivery::Newest(stream.into()),
            (None, _) if flags.volatile == Some(true) => Delivery::Volatile,
            (None, _) => Delivery::Reliable,
        };
    }
}

fn rooms(names: Option<Vec<Name>>) -> Vec<Room> {
    let names = names.unwrap_or_default().into_iter();
    names.map(|name| String::from(name).into()).collect()
}

/// Returns the flags of an event. Node servers ignore unknown flags.
pub(crate) fn flags(publication: &Publication) -> Tree<'_> {
    let mut flags = Vec::new();
    match &publication.delivery {
        Delivery::Reliable => {}
        Delivery::Volatile => flags.push(("volatile", Tree::Bool(true))),
        Delivery::Newest(stream) => flags.push(("stream", Tree::Text(stream))),
        Delivery::Last(stream, keep) => {
            flags.push(("stream", Tree::Text(stream)));
            flags.push(("keep", Tree::Number(u64::from(*keep))));
        }
    }
    if !publication.compress {
        flags.push(("compress", Tree::Bool(false)));
    }
    if let Some(timeout) = publication.timeout {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        flags.push(("timeout", Tree::Number(millis)));
    }
    Tree::Map(flags)
}

/// Splits a list into the name and the arguments of a client event.
pub(crate) fn event(data: Option<&Args>) -> Result<(Arc<str>, Args), WireError> {
    let (name, args) = server_event(data)?;
    // Clients interpret reserved names as their own events, so other servers must not send them.
    match RESERVED_EVENTS.contains(&&*name) {
        true => Err(malformed("reserved event")),
        false => Ok((name, args)),
    }
}

/// Splits a list into the name and the arguments of a server event.
pub(crate) fn server_event(data: Option<&Args>) -> Result<(Arc<str>, Args), WireError> {
    let data = data
        .and_then(|data| data.items(0))
        .ok_or(malformed("data"))?;
    let name: String = match data.is_empty() {
        true => return Err(malformed("event")),
        false => data.get::<Name>(0).map_err(|_| malformed("event"))?.into(),
    };
    Ok((name.into(), data.skip(1)))
}

/// An encoded value: JSON if it contains no binary, and MessagePack otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) parser: Parser,
    pub(crate) bytes: Bytes,
}

/// Encodes a list of arguments, preceded by the name of an event if there is one.
pub(crate) fn body(event: Option<&str>, args: &Args) -> Result<Body, WireError> {
    if let Some(body) = encoded(Parser::Json, event, args) {
        return Ok(body);
    }
    let (parser, list) = (
        Parser::Json,
        Listed {
            event,
            args,
            all: true,
        },
    );
    match list_of(parser, &list) {
        Ok(Some(bytes)) => Ok(Body { parser, bytes }),
        // Binary requires MessagePack. So do more attachments than a JSON packet may have.
        Ok(None) | Err(EncodeError::TooManyAttachments) => packed(event, args),
        Err(error) => Err(WireError::Encode(error)),
    }
}

/// Encodes a list of arguments in MessagePack, preceded by the name of an event if there is one.
pub(crate) fn packed(event: Option<&str>, args: &Args) -> Result<Body, WireError> {
    if let Some(body) = encoded(Parser::MessagePack, event, args) {
        return Ok(body);
    }
    let (parser, list) = (
        Parser::MessagePack,
        Listed {
            event,
            args,
            all: true,
        },
    );
    let bytes = list_of(parser, &list).map_err(WireError::Encode)?;
    let bytes = bytes.unwrap_or_default();
    Ok(Body { parser, bytes })
}

/// Returns the list of an event as the clients of this server receive it, if it has this format.
/// The event is then not serialised again for other servers.
fn encoded(parser: Parser, event: Option<&str>, args: &Args) -> Option<Body> {
    if args.parser() != parser {
        return None;
    }
    let bytes = args.event_list(event?)?;
    Some(Body { parser, bytes })
}

/// Encodes arguments of an application like those of clients.
pub(crate) fn arguments(args: &impl Arguments) -> Result<Args, WireError> {
    let parser = Parser::MessagePack;
    let list = list_of(parser, args).map_err(WireError::Encode)?;
    let document = Args::document(parser, list.unwrap_or_default()).ok();
    let args = document.and_then(|document| document.items(0));
    args.ok_or(malformed("arguments"))
}

/// Encodes the first argument only. Without a `parser`, it uses JSON, or MessagePack if the
/// argument contains binary.
pub(crate) fn first(args: Option<&Args>, parser: Option<Parser>) -> Result<Body, WireError> {
    let Some(args) = args.filter(|args| !args.is_empty()) else {
        let parser = parser.unwrap_or_default();
        let bytes = Tree::Nil.write(parser);
        return Ok(Body { parser, bytes });
    };
    let list = Listed {
        event: None,
        args,
        all: false,
    };
    let parsers = [Parser::Json, Parser::MessagePack].into_iter();
    for parser in parsers.filter(|one| parser.is_none_or(|parser| parser == *one)) {
        match list_of(parser, &list) {
            Ok(Some(list)) => {
                // Removes the brackets of JSON, or the byte with which MessagePack begins a list of
                // one item.
                let end = list.len() - usize::from(parser == Parser::Json);
                let bytes = list.slice(1..end);
                return Ok(Body { parser, bytes });
            }
            Ok(None) | Err(EncodeError::TooManyAttachments) => {}
            Err(error) => return Err(WireError::Encode(error)),
        }
    }
    Err(malformed("binary in JSON"))
}

/// Arguments as a list.
struct Listed<'a> {
    event: Option<&'a str>,
    args: &'a Args,
    /// Whether to write all arguments or only the first.
    all: bool,
}

impl Arguments for Listed<'_> {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        if let Some(event) = self.event {
            encoder.value(event)?;
        }
        if self.all || self.args.len() == 1 {
            return self.args.encode(encoder);
        }
        // `Args` can only be encoded as a whole, so a single argument is read as a value.
        let first: Value = self
            .args
            .get(0)
            .map_err(|_| EncodeError::InvalidArguments)?;
        encoder.value(&first)
    }
}

/// Encodes a list. Returns `None` if it contains binary that the format cannot represent.
fn list_of(parser: Parser, args: &impl Arguments) -> Result<Option<Bytes>, EncodeError> {
    // Encoders only write packets, so the list is cut out of an acknowledgement. The bytes before
    // the list are constant for this namespace and this id.
    let head = match parser == Parser::MessagePack {
        true => b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x00\xa4data".len(),
        false => "430".len(),
    };
    let frame = parser.ack("/", 0, args)?;
    let mut messages = frame.messages();
    let list = messages.next().and_then(|(_, message)| message.get(head..));
    let list = list.filter(|_| messages.next().is_none());
    Ok(list.map(|list| frame.websocket().slice_ref(list)))
}

/// Merges lists of sockets into the form of Node servers: one list, in which each socket has the
/// room of its own id and data.
pub(crate) fn sockets(lists: &[Args], ids_only: bool) -> Result<Bytes, WireError> {
    let mut sockets: Vec<Json> = Vec::new();
    for list in lists {
        let list = list.get::<Vec<BTreeMap<String, Value>>>(0);
        for socket in list.map_err(|_| malformed("sockets"))? {
            let fields = socket.iter();
            let fields = fields.map(|(name, value)| (name.clone(), value.to_json_with_buffers()));
            let mut socket: Map<String, Json> = fields.collect();
            let id = socket.get("id").cloned().unwrap_or_default();
            if ids_only {
                sockets.push(id);
                continue;
            }
            if let Some(Json::Array(rooms)) = socket.get_mut("rooms") {
                rooms.insert(0, id);
            }
            if let Some(data @ Json::Null) = socket.get_mut("data") {
                *data = Json::Object(Map::new());
            }
            sockets.push(socket.into());
        }
    }
    serde_json::to_vec(&sockets)
        .map(Into::into)
        .map_err(|_| malformed("sockets"))
}

/// Returns an entry, or `None` if it is missing or invalid.
pub(crate) fn get<T: DeserializeOwned>(value: Option<&Args>) -> Option<T> {
    value?.get::<Option<T>>(0).ok()?
}

/// The maximum length of a request id in bytes: more than twice the maximum of this library's own
/// ids.
const MAX_REQUEST: usize = 256;

#[cfg(test)]
mod tests {
    use roomcast_protocol::socket::Decoder;
    use serde_json::json;

    use super::*;

    /// Returns the message of an event and its arguments, as a client's packet contains them.
    fn received(parser: Parser, args: &impl Arguments) -> (Bytes, Args) {
        let frame = parser.event("/", None, "e", args).unwrap();
        let (_, message) = frame.messages().next().unwrap();
        let from = usize::from(!parser.is_binary());
        let message = frame.websocket().slice_ref(message).slice(from..);
        let mut decoder = Decoder::with_parser(parser, Default::default());
        let packet = match parser.is_binary() {
            true => decoder.binary(message.clone()),
            false => decoder.text(message.clone()),
        };
        (message, packet.unwrap().unwrap().args)
    }

    #[test]
    fn event_in_the_same_format_is_part_of_the_packet_of_clients() {
        let value = json!({"a": [1, "é", null], "b": 1.5});
        for parser in [Parser::Json, Parser::MessagePack] {
            let (message, args) = received(parser, &(&value, "x"));
            let write = match parser.is_binary() {
                true => packed,
                false => body,
            };
            let shared = write(Some("e"), &args).unwrap();
            assert_eq!(shared.parser, parser);
            let range = message.as_ptr_range();
            assert!(range.contains(&shared.bytes.as_ptr()), "it is a copy");
            // Arguments that were built in another way give the same bytes.
            let built = arguments(&(&value, "x")).unwrap();
            let other = write(Some("e"), &built).unwrap();
            assert_eq!(shared.bytes, other.bytes);
        }
    }

    #[test]
    fn event_with_binary_or_another_name_is_encoded_again() {
        let (_, args) = received(Parser::Json, &1);
        assert_eq!(body(Some("other"), &args).unwrap().bytes, r#"["other",1]"#);
        let packed = packed(Some("e"), &args).unwrap();
        assert_eq!(packed.bytes, &b"\x92\xa1e\x01"[..]);
        let (_, binary) = received(Parser::MessagePack, &Bytes::from_static(b"\0"));
        let body = body(Some("e"), &binary).unwrap();
        assert_eq!(body.parser, Parser::MessagePack);
        assert_eq!(body.bytes, &b"\x92\xa1e\xc4\x01\0"[..]);
    }
}
