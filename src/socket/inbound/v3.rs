//! Clients of Engine.IO v3: what Socket.IO 2 does differently.
//!
//! The server admits them to `/` without a request. They pass the payload of `CONNECT` as the query
//! of the namespace. The packets that answer a `CONNECT` have other payloads.

use std::time::Instant;

use roomcast_protocol::{
    DecodeError, Frame,
    engine::{CloseReason, Message, Revision},
    socket::{Args, Decoder, EncodeError, Kind, Limits, Nsp, Parser},
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::connection::Connection;
use crate::{Config, socket::types::Refusal};

/// Creates the decoder for the packets of a client.
pub(super) fn decoder(config: &Config, revision: Revision) -> Decoder {
    let limits = Limits {
        max_attachments: config.sockets.max_attachments,
        // A packet may consist of all its parts at their maximum size.
        max_bytes: config
            .session
            .max_payload
            .saturating_mul(config.sockets.max_attachments.max(1)),
        // The payload of `CONNECT` is limited when the requested namespace is known.
        max_connect_payload: config.session.max_payload,
        ..Limits::default()
    };
    let parser = config.sockets.parser;
    match revision {
        Revision::V4 => Decoder::with_parser(parser, limits),
        Revision::V3 | Revision::V3Base64 => {
            let limits = Limits {
                // The name includes the query, which is the payload.
                max_nsp: limits.max_nsp + Limits::default().max_connect_payload,
                ..limits
            };
            let decoder = Decoder::with_parser(parser, limits);
            #[cfg(feature = "msgpack")]
            let decoder = decoder.with_version2_types();
            decoder
        }
    }
}

impl Connection {
    /// Admits the client to `/`. It has no payload there; the query of the request that opened the
    /// connection is part of the handshake.
    pub(super) fn connect_root(&mut self, now: Instant) {
        if let Err(reason) = self.connect(&Nsp::ROOT, &Args::default(), now) {
            self.shared.outbox.close(reason);
        }
    }

    /// Handles a message of a client of revision 3.
    pub(super) fn receive_v3(&mut self, message: Message, now: Instant) -> Result<(), CloseReason> {
        let packet = match message {
            Message::Text(text) if self.io.config().sockets.parser.is_binary() => {
                return self.text_beside_messagepack(&text, now);
            }
            Message::Text(text) => self.decoder.text(text),
            Message::Binary(data) => self.decoder.binary(data),
        };
        let Some(mut packet) = self.complete(packet, now)? else {
            return Ok(());
        };
        if packet.kind == Kind::Connect {
            return self.connect_v3(packet.nsp.as_str(), now);
        }
        // As in the official server, a query after the name is ignored in other packets.
        if let Some((name, _)) = packet.nsp.as_str().split_once('?') {
            packet.nsp = Nsp::from(name);
        }
        self.packet(packet, now)
    }

    /// Handles a request to join `/name?query`.
    fn connect_v3(&mut self, requested: &str, now: Instant) -> Result<(), CloseReason> {
        let (name, query) = requested.split_once('?').unwrap_or((requested, ""));
        if name.len() > Limits::default().max_nsp {
            return Err(self.undecodable(DecodeError::NamespaceTooLong));
        }
        let args = match payload(query) {
            Ok(args) => args,
            Err(error) => return Err(self.undecodable(error)),
        };
        self.connect(&Nsp::from(name), &args, now)
    }

    /// Handles a packet that `socket.io-msgpack-parser` 2 sends as JSON: the requests to join and
    /// to leave a namespace.
    fn text_beside_messagepack(&mut self, text: &[u8], now: Instant) -> Result<(), CloseReason> {
        #[derive(Deserialize)]
        struct TextPacket {
            r#type: u8,
            nsp: String,
        }
        let Ok(packet) = serde_json::from_slice::<TextPacket>(text) else {
            return Err(self.undecodable(DecodeError::UnexpectedText));
        };
        match Kind::from_code(packet.r#type) {
            Some(Kind::Connect) => self.connect_v3(&packet.nsp, now),
            Some(Kind::Disconnect) => {
                let name = packet.nsp.split('?').next().unwrap_or_default();
                self.disconnect(&Nsp::from(name))
            }
            Some(Kind::Event | Kind::Ack | Kind::ConnectError) | None => {
                Err(self.undecodable(DecodeError::UnexpectedText))
            }
        }
    }

    /// Encodes the refusal of a client, in the revision of its connection.
    pub(super) fn encode_refusal(
        &self,
        nsp: &Nsp,
        refusal: &Refusal,
    ) -> Result<Frame, EncodeError> {
        let parser = self.io.config().sockets.parser;
        let data = refusal.connect_data();
        if self.shared.outbox.revision().is_v3() {
            return refusal_v3(parser, nsp, refusal, data);
        }
        let data = data.and_then(|data| serde_json::value::to_raw_value(&data).ok());
        parser.connect_error(nsp.as_str(), refusal.message(), data.as_deref())
    }
}

/// Encodes a refusal: only its data, or its message if there is none.
fn refusal_v3(
    parser: Parser,
    nsp: &Nsp,
    refusal: &Refusal,
    data: Option<Value>,
) -> Result<Frame, EncodeError> {
    if refusal.is_invalid_namespace() {
        // The official server sends this refusal to all clients in the same form.
        let none: Option<&RawValue> = None;
        return parser.connect_error(nsp.as_str(), refusal.message(), none);
    }
    let data = data.unwrap_or_else(|| refusal.message().into());
    parser.connect_error_v3(nsp.as_str(), &data)
}

/// Returns the payload that a query stands for: an object of texts. As in Node, the values of a
/// repeated name are a list.
fn payload(query: &str) -> Result<Args, DecodeError> {
    if query.is_empty() {
        return Ok(Args::default());
    }
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        // The parser puts this character in place of what is not UTF-8.
        if [&name, &value]
            .iter()
            .any(|text| text.contains(char::REPLACEMENT_CHARACTER))
        {
            return Err(DecodeError::InvalidUtf8);
        }
        match fields.get_mut(&*name) {
            None => drop(fields.insert(name.into_owned(), value.into())),
            Some(Value::Array(known)) => known.push(value.into()),
            Some(known) => *known = Value::Array(vec![known.take(), value.into()]),
        }
    }
    let document = Value::Object(fields).to_string();
    Args::document(Parser::Json, document.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn query_is_an_object_of_texts() {
        for (query, expected) in [
            ("token=good", json!({"token": "good"})),
            ("a=1&a=2&a=3&b", json!({"a": ["1", "2", "3"], "b": ""})),
            (
                "a=%C3%A9+x%2C&__proto__=1",
                json!({"a": "\u{e9} x,", "__proto__": "1"}),
            ),
        ] {
            let args = payload(query).unwrap();
            assert_eq!(args.get::<Value>(0).unwrap(), expected, "{query}");
        }
        assert_eq!(payload("").unwrap().len(), 0);
        for query in ["token=%FF", "%C3=1", "a=1&b=%ED%A0%80"] {
            assert_eq!(
                payload(query).err(),
                Some(DecodeError::InvalidUtf8),
                "{query}"
            );
        }
    }
}
