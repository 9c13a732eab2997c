//! Recognizes messages of this server, which it receives because it subscribes to the same
//! channels.
//!
//! They are recognized by their first or last bytes, before they are decoded. Messages that are not
//! recognized here are recognized after decoding, by the name of their sender.

use std::sync::Arc;

use roomcast_protocol::socket::Parser;

use super::sealing::Sealers;
use crate::adapter::node_js::Tree;

/// The byte patterns of the messages of this server.
#[derive(Debug)]
pub(crate) struct OwnMessages {
    /// The first bytes of an event in the classic format: a list of three items, of which the first
    /// is the name of the sender.
    event: Box<[u8]>,
    /// The first bytes of a request in the classic format.
    request: Box<[u8]>,
    /// The bytes after the data of a JSON message in the sharded format: the name of the sender,
    /// and the key of the namespace.
    end: Box<[u8]>,
    sealers: Option<Arc<Sealers>>,
}

impl OwnMessages {
    pub(super) fn new(name: &str, sealers: Option<Arc<Sealers>>) -> Self {
        let name = |parser| Tree::Text(name).write(parser);
        let (packed, json) = (name(Parser::MessagePack), name(Parser::Json));
        Self {
            event: [b"\x93", &*packed].concat().into(),
            request: [b"{\"uid\":", &*json, b","].concat().into(),
            end: [b",\"uid\":", &*json, b",\"nsp\":\""].concat().into(),
            sealers,
        }
    }

    /// Returns whether this is certainly a message of this server.
    ///
    /// The end of a JSON document is unambiguous. After `","nsp":"` comes a string up to the last
    /// quotation mark. If the keys before it were part of a string, their quotation marks would be
    /// escaped.
    pub(crate) fn has_sent(&self, payload: &[u8]) -> bool {
        let sealers = self.sealers.as_ref();
        if sealers.is_some_and(|sealers| sealers.have_sealed(payload)) {
            return true;
        }
        if payload.starts_with(&self.event) || payload.starts_with(&self.request) {
            return true;
        }
        let Some(rest) = payload.strip_suffix(b"\"}") else {
            return false;
        };
        // Names of namespaces with escaped characters are not checked here.
        let name = rest.iter().rposition(|byte| *byte == b'"');
        let name = name.and_then(|quote| rest.split_at_checked(quote + 1));
        name.is_some_and(|(head, name)| {
            payload.starts_with(b"{\"type\":")
                && !name.contains(&b'\\')
                && head.ends_with(&self.end)
        })
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::socket::{Args, Nsp};
    use serde_json::json;

    use super::*;
    use crate::adapter::{
        envelope::Publication,
        node_js::{Pulse, write_message, write_pulse},
        operation::Kind,
        redis::classic,
    };

    fn event() -> Publication {
        let args = json!([1, "\",\"uid\":\"me\",\"nsp\":\"/\"}"]);
        let args = Args::document(Parser::Json, args.to_string().into()).unwrap();
        let (event, args) = ("e".into(), args.items(0).unwrap());
        let mut event = Publication::new(Nsp::from("/a"), Kind::Broadcast { event, args });
        event.rooms = Some(vec!["room".into()]);
        event
    }

    #[test]
    fn own_messages_are_recognized_by_their_first_or_last_bytes() {
        let mut leaving = event();
        leaving.kind = Kind::Leave(vec!["other".into()]);
        for name in ["me", "m\"e", &"n".repeat(64)] {
            let own = OwnMessages::new(name, None);
            for other in ["me", "m\"e", &"n".repeat(64), "n", "\u{e9}"] {
                for publication in [event(), leaving.clone()] {
                    let payload = classic::write("key", other, &publication).unwrap().1;
                    assert_eq!(own.has_sent(&payload), other == name, "{payload:?}");
                    let payload = write_message(other, &publication).unwrap();
                    assert_eq!(own.has_sent(&payload), other == name, "{payload:?}");
                }
                let pulse = write_pulse(other, &Nsp::ROOT, Pulse::Alive);
                assert_eq!(own.has_sent(&pulse), other == name);
            }
        }
        let own = OwnMessages::new("me", None);
        for payload in [
            "",
            "\"}",
            r#","uid":"me","nsp":"/"}"#,
            r#"{"type":3,"data":{"x":1,"uid":"me","nsp":"/"}}"#,
            r#"{"type":3,"uid":"you","nsp":"/,\"uid\":\"me\",\"nsp\":\"/"}"#,
            r#"{"type":3,"uid":"me","nsp":"/","x":"y"}"#,
        ] {
            assert!(!own.has_sent(payload.as_bytes()), "{payload}");
        }
    }
}
