//! The catalogue as JSON Schema 2020-12.

use serde_json::{Map, Value, json};

use super::{Catalogue, Deprecated, refused, sentence};

impl Catalogue {
    /// Returns a document whose `$defs` contain all types.
    ///
    /// Its `properties` are `clientToServer` and `serverToClient`, with the schemas of each event.
    /// It uses only JSON Schema keywords, so that strict validators accept the whole document.
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
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Events of Roomcast",
            "type": "object",
            "properties": {
                "clientToServer": {"type": "object", "properties": received},
                "serverToClient": {"type": "object", "properties": sent},
            },
            "$defs": types.0,
        })
    }
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
