//! The catalogue as an OpenAPI 3.1 document with components only, for services that publish.
//!
//! The paths are in the document of the HTTP API, whose bodies have any data.

use serde_json::{Map, Value, json};

use super::declared::Kind;
use super::{Catalogue, refused};

impl Catalogue {
    /// Returns the document: all types, and for each kind the body that publishes one event.
    pub(crate) fn openapi(&self) -> Value {
        let mut types = self.types.clone();
        types.insert("Refused", refused());
        let mut schemas = types.under(SCHEMAS);
        if let Some(schemas) = schemas.as_object_mut() {
            let bodies = self
                .kinds
                .iter()
                .map(|kind| (kind.interface.clone(), body(kind)));
            schemas.extend(bodies);
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Events of Roomcast",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "The types of events. The paths of the HTTP API are in `/api/v1/openapi.json` of a server.",
            },
            "components": {"schemas": schemas},
        })
    }
}

/// Returns the schema of the body that publishes an event to a channel of a kind.
fn body(kind: &Kind) -> Value {
    let bodies = kind.messages(SCHEMAS).into_iter().map(|(event, data)| {
        let event = match event {
            Some(event) => json!({"const": event}),
            None => json!({"$ref": format!("{SCHEMAS}EventName")}),
        };
        json!({
            "type": "object",
            "properties": {"event": event, "data": data, "id": {"$ref": format!("{SCHEMAS}ClientId")}},
            "required": ["event", "data", "id"],
        })
    });
    let mut body = Map::new();
    let pattern = &kind.declared.pattern;
    let words = format!("A body of `POST /api/v1/channels/{{channel}}/events` for `{pattern}`.");
    body.insert("description".to_owned(), words.into());
    body.insert("oneOf".to_owned(), bodies.collect());
    body.into()
}

const SCHEMAS: &str = "#/components/schemas/";
