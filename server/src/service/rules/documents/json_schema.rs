//! The catalogue as JSON Schema 2020-12.

use serde_json::{Map, Value, json};

use super::{Catalogue, refused};

/// A document whose `$defs` has all types; `clientToServer` and `serverToClient` name those of each event.
pub(crate) fn json_schema() -> Value {
    let catalogue = Catalogue::new();
    let reference = |name: &String| json!({"$ref": format!("#/$defs/{name}")});
    let received: Map<_, _> = catalogue
        .received
        .iter()
        .map(|event| {
            let row = event.row;
            let schemas = json!({
                "version": row.version(),
                "payload": reference(&event.payload),
                "answer": event.answer.as_ref().map_or_else(|| json!({}), reference),
            });
            (row.event.to_owned(), schemas)
        })
        .collect();
    let sent: Map<_, _> = catalogue
        .sent
        .iter()
        .map(|event| {
            let row = event.row;
            let schemas = json!({"version": row.version(), "payload": reference(&event.payload)});
            (row.event.to_owned(), schemas)
        })
        .collect();
    let mut types = catalogue.types;
    types.insert("Refused", refused());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of Roomcast",
        "clientToServer": received,
        "serverToClient": sent,
        "$defs": types.0,
    })
}
