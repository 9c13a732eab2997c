//! The catalogue as JSON Schema 2020-12.

use serde_json::{Map, Value, json};

use super::{Catalogue, refused};

impl Catalogue {
    /// A document whose `$defs` has all types; `clientToServer` and `serverToClient` name those of each event.
    pub(crate) fn json_schema(&self) -> Value {
        let reference = |name: &String| json!({"$ref": format!("#/$defs/{name}")});
        let received: Map<_, _> = self
            .received
            .iter()
            .map(|event| {
                let row = event.row;
                let schemas = json!({
                    "namespace": row.namespace(),
                    "version": row.version(),
                    "deprecated": event.deprecated,
                    "payload": event.argument("#/$defs/"),
                    "answer": event.answer.as_ref().map_or_else(|| json!({}), reference),
                });
                (row.event.to_owned(), schemas)
            })
            .collect();
        let sent: Map<_, _> = self
            .sent
            .iter()
            .map(|event| {
                let row = event.row;
                let schemas = json!({
                    "namespace": row.namespace(),
                    "version": row.version(),
                    "deprecated": event.deprecated,
                    "payload": reference(&event.payload),
                });
                (row.event.to_owned(), schemas)
            })
            .collect();
        let mut types = self.types.clone();
        types.insert("Refused", refused());
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Events of Roomcast",
            "clientToServer": received,
            "serverToClient": sent,
            "$defs": types.0,
        })
    }
}
