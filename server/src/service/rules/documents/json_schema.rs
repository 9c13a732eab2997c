//! The catalogue as JSON Schema 2020-12.

use serde_json::{Map, Value, json};

use super::declared::Kind;
use super::{Catalogue, Deprecated, refused, sentence};

impl Catalogue {
    /// Returns a document whose `$defs` contain all types.
    ///
    /// Its `properties` are `clientToServer` and `serverToClient`, with the schemas of each event,
    /// and `channels`, with the declared kinds, if there are any. It uses only JSON Schema keywords,
    /// so that strict validators accept the whole document.
    pub(crate) fn json_schema(&self) -> Value {
        let reference = |name: &String| json!({"$ref": format!("#/$defs/{name}")});
        let received: Map<_, _> = self
            .received
            .iter()
            .map(|event| {
                let row = event.row;
                let mut parts = Map::new();
                parts.insert("payload".to_owned(), event.argument("#/$defs/"));
                let answer = event.answer.as_ref().map_or_else(|| json!({}), reference);
                parts.insert("answer".to_owned(), answer);
                let needed: &[&str] = if event.is_optional() {
                    &[]
                } else {
                    &["payload"]
                };
                let of = (row.namespace(), row.version());
                let schema = schema_of(row.does, event.deprecated, of, parts, needed);
                (row.event.to_owned(), schema)
            })
            .collect();
        let sent: Map<_, _> = self
            .sent
            .iter()
            .map(|event| {
                let row = event.row;
                let parts = Map::from_iter([("payload".to_owned(), reference(&event.payload))]);
                let of = (row.namespace(), row.version());
                let schema = schema_of(row.summary, event.deprecated, of, parts, &["payload"]);
                (row.event.to_owned(), schema)
            })
            .collect();
        let mut types = self.types.clone();
        types.insert("Refused", refused());
        let mut properties = Map::new();
        let mut add = |name: &str, entries: Map<_, _>| {
            let schema = json!({"type": "object", "properties": entries});
            properties.insert(name.to_owned(), schema);
        };
        add("clientToServer", received);
        add("serverToClient", sent);
        if !self.kinds.is_empty() {
            let kinds = self.kinds.iter();
            let kinds = kinds.map(|kind| (kind.name.clone(), schema_of_kind(kind)));
            add("channels", kinds.collect());
        }
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": TITLE,
            "type": "object",
            "properties": properties,
            "$defs": types.0,
        })
    }
}

/// The title of the document.
pub(super) const TITLE: &str = "Events of Roomcast";

/// Returns the schema of a declared kind: what its configuration has, and its events with the data
/// and [`EventMeta`](crate::service::rules::emissions::channels::EventMeta) as properties.
fn schema_of_kind(kind: &Kind) -> Value {
    let (mut events, mut others) = (Map::new(), json!(false));
    for (event, data) in kind.messages("#/$defs/") {
        let arguments = json!({
            "type": "object",
            "properties": {"data": data, "meta": {"$ref": "#/$defs/EventMeta"}},
            "required": ["data", "meta"],
        });
        match event {
            Some(event) => drop(events.insert(event.to_owned(), arguments)),
            None => others = arguments,
        }
    }
    let declared = &kind.declared;
    json!({"type": "object", "properties": {
        "pattern": {"const": declared.pattern},
        "follow": {"const": declared.follow},
        "publish": {"const": declared.publish},
        "history": {"const": kind.history()},
        "presence": {"const": declared.presence},
        "maxBytes": {"const": declared.max_bytes},
        "maxFollowers": {"const": declared.max_followers},
        "publishesPerSecond": {"const": declared.publishes_per_second},
        "maxStoredEvents": {"const": declared.max_stored_events},
        "maxStoredBytes": {"const": declared.max_stored_bytes},
        "events": {"type": "object", "properties": events, "additionalProperties": others},
    }})
}

/// Returns the schema of an event, with the given parts, the namespace and the version as
/// properties.
fn schema_of(
    words: &str,
    deprecated: Option<Deprecated>,
    (namespace, version): (&str, u32),
    mut parts: Map<String, Value>,
    needed: &[&str],
) -> Value {
    let notice = deprecated.map(|notice| format!(" {notice}"));
    parts.insert("namespace".to_owned(), json!({"const": namespace}));
    parts.insert("version".to_owned(), json!({"const": version}));
    json!({
        "description": sentence(words) + &notice.unwrap_or_default(),
        "deprecated": deprecated.is_some(),
        "type": "object",
        "properties": parts,
        "required": needed,
    })
}
