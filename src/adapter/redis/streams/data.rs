//! The data of an entry. The target rooms are found without a full decode, and the rest is decoded
//! if this server has members.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use roomcast_protocol::socket::{Args, Parser};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    adapter::{
        WireError,
        envelope::Envelope,
        node_js::{Opts, kind, malformed},
    },
    names::Room,
};

/// The data of an entry, decoded as far as needed.
#[derive(Debug)]
pub(crate) enum Data {
    /// JSON that is not parsed yet.
    Text(Bytes),
    /// MessagePack, decoded from base64. It is one value, whose content is not parsed yet.
    Packed(Args),
}

/// The fields of the data that determine the targets. Other fields are skipped.
#[derive(Deserialize)]
struct Head {
    opts: Option<Opts>,
    #[serde(rename = "requestId")]
    request_id: Option<IgnoredAny>,
}

impl Data {
    /// Wraps the data of an entry from the stream.
    pub(crate) fn new(data: Bytes) -> Result<Self, WireError> {
        if data.len() / 4 * 3 > Envelope::MAX_BYTES {
            return Err(WireError::TooLarge);
        }
        if data.first() == Some(&b'{') {
            return Ok(Self::Text(data));
        }
        let packed = BASE64_STANDARD.decode(&data);
        let packed = packed.map_err(|_| malformed("data"))?;
        let packed = Args::document(Parser::MessagePack, packed.into());
        Ok(Self::Packed(packed.map_err(|_| malformed("data"))?))
    }

    /// Returns the target rooms of the entry; an empty list means the whole namespace. Returns
    /// `None` if every server must decode the entry: it is a request, an answer, a server-side
    /// event, or malformed.
    pub(crate) fn rooms(&self, kind: u64) -> Option<Vec<Room>> {
        if !kind::is_for_sockets(kind) {
            return None;
        }
        let head: Head = match self {
            Self::Text(text) => serde_json::from_slice(text).ok()?,
            Self::Packed(packed) => packed.get(0).ok()?,
        };
        if head.request_id.is_some() {
            return None;
        }
        Some(head.opts?.into_rooms())
    }

    /// Decodes the data completely.
    pub(crate) fn read(self) -> Result<Args, WireError> {
        match self {
            Self::Text(text) => Args::document(Parser::Json, text).map_err(|_| malformed("data")),
            Self::Packed(packed) => Ok(packed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Returns the data in both formats.
    fn both(data: &Value) -> [Data; 2] {
        let packed = BASE64_STANDARD.encode(rmp_serde::to_vec_named(data).unwrap());
        let forms = [Bytes::from(data.to_string()), packed.into()];
        forms.map(|data| Data::new(data).unwrap())
    }

    fn rooms(kind: u64, data: &Value) -> Option<Vec<String>> {
        let [text, packed] = both(data).map(|data| data.rooms(kind));
        assert_eq!(text, packed, "{data}");
        let names = |rooms: Vec<Room>| rooms.iter().map(|room| room.as_str().into()).collect();
        text.map(names)
    }

    fn event(opts: &Value) -> Value {
        json!({"packet": {"type": 2, "data": ["e", {"opts": {"rooms": ["z"]}, "requestId": 1}]}, "opts": opts})
    }

    #[test]
    fn rooms_of_socket_operations_are_found_in_both_formats() {
        let opts = json!({"rooms": ["a", 7, 1.5], "except": ["b"], "flags": {"volatile": true}});
        for kind in 3..=6 {
            let found = rooms(kind, &event(&opts));
            let expected = ["a", "7", "1.5"].map(String::from).to_vec();
            assert_eq!(found, Some(expected), "{kind}");
        }
        for opts in [json!({"rooms": []}), json!({"rooms": null}), json!({})] {
            assert_eq!(rooms(3, &event(&opts)), Some(Vec::new()), "{opts}");
        }
        let mut without_request = event(&opts);
        without_request["requestId"] = Value::Null;
        assert!(rooms(3, &without_request).is_some());
    }

    #[test]
    fn requests_answers_and_unreadable_entries_are_never_skipped() {
        let opts = json!({"rooms": ["a"]});
        for kind in [0, 7, 8, 9, 10, 11, 12, 99] {
            assert_eq!(rooms(kind, &event(&opts)), None, "{kind}");
        }
        let mut with_request = event(&opts);
        with_request["requestId"] = json!("q");
        assert_eq!(rooms(3, &with_request), None);
        for opts in [
            json!(null),
            json!("a"),
            json!({"rooms": "a"}),
            json!({"rooms": [[]]}),
        ] {
            assert_eq!(rooms(3, &event(&opts)), None, "{opts}");
        }
        let twice = r#"{"opts":{"rooms":["a"]},"opts":{"rooms":["b"]}}"#;
        for text in ["{", "{}", r#"{"opts":{"rooms":["a"]}"#, twice] {
            let data = Data::new(Bytes::from_static(text.as_bytes())).unwrap();
            assert_eq!(data.rooms(3), None, "{text}");
        }
        for text in ["", "[]", "é", "////"] {
            assert!(
                Data::new(Bytes::from_static(text.as_bytes())).is_err(),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn scanned_rooms_of_an_entry_equal_the_decoded_rooms(
            names in proptest::collection::vec(".{0,8}", 0..4),
            text in ".{0,40}",
        ) {
            let data = json!({"opts": {"rooms": names}, "packet": {"type": 2, "data": ["e", text]}});
            for data in both(&data) {
                let found = data.rooms(3).unwrap();
                let read = data.read().unwrap();
                let opts = read.entries(0).unwrap()["opts"].clone();
                let rooms: Vec<Room> = Opts::read(Some(&opts)).unwrap().into_rooms();
                prop_assert_eq!(&found, &rooms);
                prop_assert_eq!(found.len(), names.len());
            }
        }
    }
}
