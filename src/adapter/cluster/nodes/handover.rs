//! The handover protocol: how a server requests a client from its previous server, and the reply.

use std::time::SystemTime;

use roomcast_protocol::socket::{Args, Nsp, Parser};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{NAMESPACE, TAKE};
use crate::adapter::{
    NodeId, WireError, envelope::Publication, interface::journal::SavedState, operation::Kind,
};

/// A request for a client. It contains the secret of the client, so it must never be logged.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HandoverRequest {
    /// The secret of the client.
    pub(crate) pid: String,
    /// The last event that the client has received; empty if there is none.
    pub(crate) offset: String,
    pub(crate) namespace: String,
}

/// Identifies a handover request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandoverId {
    /// The server that sent the request.
    pub(crate) node: NodeId,
    /// The number of the request at that server.
    pub(crate) request: u64,
}

/// The state of a client that is handed over. From then on, the client belongs to the requesting
/// server.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HandoverState {
    pub(crate) saved: SavedState,
    /// The display name of the client's principal.
    pub(crate) name: String,
    /// When the identity of the principal expires.
    pub(crate) expires_at: Option<SystemTime>,
    /// The events that the client has missed, in order.
    pub(crate) missed: Vec<MissedEvent>,
    /// Data that the application on the old server passes to the application on the new server.
    pub(crate) arrival: Value,
    /// The latest requests with which the client was handed over, from server to server, until it
    /// reached the old server.
    pub(crate) answered: Vec<HandoverId>,
}

/// An event without its recovery offset.
#[derive(Serialize, Deserialize)]
pub(crate) struct MissedEvent {
    pub(crate) event: String,
    /// The arguments, as a list.
    pub(crate) args: Box<RawValue>,
}

impl HandoverRequest {
    pub(crate) fn offset(&self) -> Option<&str> {
        (!self.offset.is_empty()).then_some(&self.offset)
    }

    /// Returns the event with the request, or `None` if it cannot be encoded.
    pub(crate) fn publication(&self) -> Option<Publication> {
        let (event, args) = (TAKE.into(), write(self)?);
        let kind = Kind::ServerSideWithAck { event, args };
        Some(Publication::new(Nsp::from(NAMESPACE), kind))
    }

    pub(in crate::adapter) fn read(args: &Args) -> Result<Self, WireError> {
        read(args).ok_or(WireError::Malformed("request for a client"))
    }
}

impl HandoverState {
    /// Returns the reply, or `None` if it is too large.
    pub(crate) fn answer(&self) -> Option<Args> {
        write(self)
    }

    /// Returns the reply of a server that may have the client, but does not hand it over now.
    /// Servers of all versions interpret it as having no client.
    pub(crate) fn withheld() -> Args {
        write(&"withheld").unwrap_or_default()
    }

    /// Decodes a reply. Returns `None` if this version does not understand it.
    pub(crate) fn read(args: &Args) -> Option<Self> {
        read(args)
    }
}

/// Encodes a value as one string argument that contains JSON, which all transports support.
fn write(message: &impl Serialize) -> Option<Args> {
    let text = serde_json::to_string(message).ok()?;
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

/// The maximum length of the string in bytes. Including the overhead of the transport, all
/// transports can carry it.
const MAX_BYTES: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn state(bytes: usize) -> HandoverState {
        let saved = serde_json::json!({
            "sid": "AAAAAAAAAAAAAAAAAAAA", "pid": "secret", "rooms": ["lobby"], "data": {"a": 1},
        });
        let args = RawValue::from_string(format!("[1.50,\"{}\"]", "x".repeat(bytes))).unwrap();
        HandoverState {
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
    fn handover_state_round_trips() {
        let sent = state(3);
        let read = HandoverState::read(&sent.answer().unwrap()).unwrap();
        assert_eq!(read.saved.pid, "secret");
        assert_eq!(read.saved.rooms, sent.saved.rooms);
        assert_eq!(read.missed[0].event, "news");
        assert_eq!(read.missed[0].args.get(), "[1.50,\"xxx\"]");
        assert_eq!(read.arrival, sent.arrival);
        assert_eq!((read.name, read.expires_at), (sent.name, sent.expires_at));
    }

    #[test]
    fn too_large_state_and_invalid_answer_are_none() {
        assert!(state(MAX_BYTES).answer().is_none());
        assert!(HandoverState::read(&Args::default()).is_none());
        let other = write(&"a text").unwrap();
        assert!(HandoverState::read(&other).is_none());
        assert!(HandoverRequest::read(&other).is_err());
    }

    #[test]
    fn request_names_the_client() {
        let request = HandoverRequest {
            pid: "p".into(),
            offset: "B.aaaaaa".into(),
            namespace: "/".into(),
        };
        let Kind::ServerSideWithAck { event, args } = request.publication().unwrap().kind else {
            panic!("no question");
        };
        assert_eq!(&*event, TAKE);
        let read = HandoverRequest::read(&args).unwrap();
        assert_eq!(
            (&*read.pid, &*read.offset, &*read.namespace),
            ("p", "B.aaaaaa", "/")
        );
    }
}
