//! What this server has published itself, and hears again because it listens to the same channels.
//!
//! It is told by how its messages begin or end, before anything of them is read. What is not recognized here is recognized by
//! its name once it was read.

use std::sync::Arc;

use roomcast_protocol::socket::Parser;

use super::sealing::Sealers;
use crate::adapter::message::Tree;

/// How messages of this server look.
#[derive(Debug)]
pub(crate) struct Own {
    /// The beginning of an event on the classic wire: a list of three, of which the name of its sender is the first.
    event: Box<[u8]>,
    /// The beginning of a request on that wire.
    request: Box<[u8]>,
    /// What stands behind the data of a message in JSON on the sharded wire, and begins its end: the name of its sender and
    /// then that of the namespace.
    end: Box<[u8]>,
    sealers: Option<Arc<Sealers>>,
}

impl Own {
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

    /// Whether this is certainly a message of this server.
    ///
    /// The end of a document in JSON cannot be taken for something else: behind `","nsp":"` comes a text up to the last
    /// quotation mark, and whatever begins as a key in front of it would have to be escaped inside of a text.
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
        // Names of namespaces in which something is escaped are not looked at here.
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
        message::{Pulse, write_message, write_pulse},
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
    fn what_a_server_has_sent_is_known_by_its_beginning_or_its_end_and_nothing_else_is() {
        let mut leaving = event();
        leaving.kind = Kind::Leave(vec!["other".into()]);
        for name in ["me", "m\"e", &"n".repeat(64)] {
            let own = Own::new(name, None);
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
        let own = Own::new("me", None);
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
