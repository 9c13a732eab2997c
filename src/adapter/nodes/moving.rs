//! What a server asks the others when a client comes to it that was on one of them, and what that one gives.

use std::time::SystemTime;

use roomcast_protocol::socket::{Args, Nsp, Parser};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{NAMESPACE, TAKE};
use crate::adapter::{
    NodeId, WireError, envelope::Publication, interface::journal::SavedState, operation::Kind,
};

/// Which client is asked for. The secret is in it, so it is never shown.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wanted {
    /// The secret of the client.
    pub(crate) pid: String,
    /// The last event that the client has.
    pub(crate) offset: String,
    pub(crate) namespace: String,
}

/// Which question it was with which a server has asked for a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    /// The server that has asked.
    pub(crate) node: NodeId,
    /// Its number there.
    pub(crate) request: u64,
}

/// What a server gives of a client, which from then on belongs to the server that has asked.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Given {
    pub(crate) saved: SavedState,
    /// What others see of whose client it is.
    pub(crate) name: String,
    /// When that one's identity ends.
    #[serde(default)]
    pub(crate) expires_at: Option<SystemTime>,
    /// What the client has missed, in its order.
    pub(crate) missed: Vec<MissedEvent>,
    /// What the application says at the old server to itself at the new one.
    pub(crate) arrival: Value,
    /// The latest questions by which the client has come to the old server, from server to server.
    #[serde(default)]
    pub(crate) answered: Vec<Question>,
}

/// An event without its offset.
#[derive(Serialize, Deserialize)]
pub(crate) struct MissedEvent {
    pub(crate) event: String,
    /// A list.
    pub(crate) args: Box<RawValue>,
}

impl Wanted {
    /// The question; `None` if it cannot be written.
    pub(crate) fn publication(&self) -> Option<Publication> {
        let (event, args) = (TAKE.into(), write(self)?);
        let kind = Kind::ServerSideWithAck { event, args };
        Some(Publication::new(Nsp::from(NAMESPACE), kind))
    }

    pub(in crate::adapter) fn read(args: &Args) -> Result<Self, WireError> {
        read(args).ok_or(WireError::Malformed("request for a client"))
    }
}

impl Given {
    /// The answer; `None` if it is too large.
    pub(crate) fn answer(&self) -> Option<Args> {
        write(self)
    }

    /// Returns the answer of a server that may have the client and does not give it away now. An asking server of any
    /// version takes it for no client.
    pub(crate) fn withheld() -> Args {
        write(&"withheld").unwrap_or_default()
    }

    /// `None` if it is no answer that this version understands.
    pub(crate) fn read(args: &Args) -> Option<Self> {
        read(args)
    }
}

/// One argument, a text with JSON in it: each transport carries that, whatever its own form is.
fn write(what: &impl Serialize) -> Option<Args> {
    let text = serde_json::to_string(what).ok()?;
    if text.len() > MAX_BYTES {
        return None;
    }
    let bytes = serde_json::to_vec(&[text]).ok()?;
    Args::document(Parser::Json, bytes.into()).ok()?.items(0)
}

fn read<T: DeserializeOwned>(args: &Args) -> Option<T> {
    let text: String = args.get(0).ok()?;
    if text.len() > MAX_BYTES {
        return None;
    }
    serde_json::from_str(&text).ok()
}

/// The longest text: with what the transport adds it is within what all of them carry.
const MAX_BYTES: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn given(bytes: usize) -> Given {
        let saved = serde_json::json!({
            "sid": "AAAAAAAAAAAAAAAAAAAA", "pid": "secret", "rooms": ["lobby"], "data": {"a": 1},
        });
        let args = RawValue::from_string(format!("[1.50,\"{}\"]", "x".repeat(bytes))).unwrap();
        Given {
            saved: serde_json::from_value(saved).unwrap(),
            name: "Ann".into(),
            expires_at: Some(SystemTime::UNIX_EPOCH),
            missed: vec![MissedEvent {
                event: "news".into(),
                args,
            }],
            arrival: serde_json::json!([7]),
            answered: Vec::new(),
        }
    }

    #[test]
    fn what_is_given_arrives_as_it_was() {
        let sent = given(3);
        let read = Given::read(&sent.answer().unwrap()).unwrap();
        assert_eq!(read.saved.pid, "secret");
        assert_eq!(read.saved.rooms, sent.saved.rooms);
        assert_eq!(read.missed[0].event, "news");
        assert_eq!(read.missed[0].args.get(), "[1.50,\"xxx\"]");
        assert_eq!(read.arrival, sent.arrival);
        assert_eq!((read.name, read.expires_at), (sent.name, sent.expires_at));
    }

    #[test]
    fn what_is_too_large_or_no_answer_is_none() {
        assert!(given(MAX_BYTES).answer().is_none());
        assert!(Given::read(&Args::default()).is_none());
        let other = write(&"a text").unwrap();
        assert!(Given::read(&other).is_none());
        assert!(Wanted::read(&other).is_err());
    }

    #[test]
    fn a_question_names_the_client() {
        let wanted = Wanted {
            pid: "p".into(),
            offset: "B.aaaaaa".into(),
            namespace: "/".into(),
        };
        let Kind::ServerSideWithAck { event, args } = wanted.publication().unwrap().kind else {
            panic!("no question");
        };
        assert_eq!(&*event, TAKE);
        let read = Wanted::read(&args).unwrap();
        assert_eq!(
            (&*read.pid, &*read.offset, &*read.namespace),
            ("p", "B.aaaaaa", "/")
        );
    }
}
