//! The lines of a recording: what `roomcast record` stores and `roomcast replay` reads.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A line: an object with one field, whose name is the kind of the line. Times are milliseconds
/// since the start of the recording.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RecordLine {
    /// The first line.
    Recording(Header),
    Open(Opened),
    Event(SentEvent),
    Answer(Answered),
    Skipped(Skipped),
    Close(Closed),
    Dropped(Dropped),
    /// The last line.
    End(Ended),
}

/// What was recorded, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Header {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// When the recording started.
    pub(crate) started_at: String,
    /// The version of the server.
    pub(crate) server: String,
    /// The id of the server.
    pub(crate) node: String,
    /// `user`, `socket` or `everyone`.
    pub(crate) selection: String,
    /// Whether texts and ids of users are replaced.
    pub(crate) masked: bool,
    /// Why the recorded users agreed. Required if the recording is not masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) consent: Option<String>,
}

/// A socket in one namespace connected, or was connected when the recording started.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Opened {
    pub(crate) at_ms: f64,
    /// The number of the connection in this recording.
    pub(crate) connection: u32,
    pub(crate) namespace: String,
    /// `polling` or `websocket`, at this time.
    pub(crate) transport: String,
    pub(crate) user: String,
    /// Whether the socket connected before the recording started.
    pub(crate) before: bool,
}

/// An event that a client sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SentEvent {
    pub(crate) at_ms: f64,
    pub(crate) connection: u32,
    pub(crate) event: String,
    /// A list.
    pub(crate) args: Box<RawValue>,
    /// The id of the requested acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ack: Option<u64>,
}

/// The server's answer to an event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Answered {
    pub(crate) at_ms: f64,
    pub(crate) connection: u32,
    pub(crate) ack: u64,
    /// From the arrival of the event until the answer was queued.
    pub(crate) latency_ms: f64,
    /// A list.
    pub(crate) args: Box<RawValue>,
}

/// An event or an answer that is not in the recording.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Skipped {
    pub(crate) at_ms: f64,
    pub(crate) connection: u32,
    pub(crate) reason: String,
}

/// A socket disconnected.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Closed {
    pub(crate) at_ms: f64,
    pub(crate) connection: u32,
    pub(crate) reason: String,
}

/// Lines or connections that found no place, so that the recording is incomplete.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Dropped {
    pub(crate) lines: u64,
}

/// The end of the recording.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Ended {
    pub(crate) at_ms: f64,
    pub(crate) reason: String,
}

impl RecordLine {
    /// Returns the line as JSON, without a line end.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The version of the format. A reader refuses other versions.
pub(crate) const VERSION: u32 = 1;
