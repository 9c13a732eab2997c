//! The catalogue of events as documents: all rows of both directions, for people and for programs.
//!
//! Every document is derived from the rows and the declared kinds of channels; this module contains
//! nothing about a single event. The schemas use JSON Schema 2020-12. Types that several events use
//! are defined once. `compatibility` compares two documents.

mod asyncapi;
pub(crate) mod compatibility;
mod declared;
mod embedding;
mod json_schema;
mod markdown;
mod openapi;
#[cfg(test)]
mod tests;
mod typescript;

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use schemars::Schema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::bounds::{UUID_PATTERN, bound_integers, leave_out_formats};
use super::emission::EmissionPolicy;
use super::event::{ArgumentForm, EventPolicy};
use super::policy;
use super::versions::Replaces;
use crate::auth::is_hidden;
use declared::Kind;

/// All events of both directions, and the types that their schemas refer to.
#[derive(Debug)]
pub(crate) struct Catalogue {
    received: Vec<Received>,
    sent: Vec<Sent>,
    /// The declared kinds of channels.
    kinds: Vec<Kind>,
    types: Types,
    /// The types that come from the schemas of declared kinds.
    of_applications: BTreeSet<String>,
}

/// An event that clients send.
#[derive(Debug)]
struct Received {
    row: &'static EventPolicy,
    /// The type of the argument.
    payload: String,
    /// The type of the acknowledgement's fields apart from `success`, if there are any.
    answer: Option<String>,
    deprecated: Option<Deprecated>,
}

/// An event that the server sends.
#[derive(Debug)]
struct Sent {
    row: &'static EmissionPolicy,
    /// The type of the argument.
    payload: String,
    deprecated: Option<Deprecated>,
}

/// The replacement of a deprecated event.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Deprecated {
    since: &'static str,
    replaced_by: &'static str,
}

/// Schemas by type name. They refer to each other with `#/$defs/NAME`.
#[derive(Clone, Debug, Default)]
struct Types(Map<String, Value>);

impl Catalogue {
    /// Returns the catalogue of the server's events.
    pub(crate) fn new() -> Self {
        Self::of(
            &policy::events().collect::<Vec<_>>(),
            &policy::emissions().collect::<Vec<_>>(),
        )
    }

    fn of(events: &[&'static EventPolicy], emissions: &[&'static EmissionPolicy]) -> Self {
        let mut types = Types::default();
        let replaced = |row: &&'static EventPolicy| (row.event, row.replaces.as_ref());
        let received = events
            .iter()
            .map(|row| Received {
                row,
                payload: types.add((row.payload)()).unwrap_or_default(),
                answer: types.add((row.answer)()),
                deprecated: Deprecated::of(row.event, events.iter().map(replaced)),
            })
            .collect();
        let replaced = |row: &&'static EmissionPolicy| (row.event, row.replaces.as_ref());
        let sent = emissions
            .iter()
            .map(|row| Sent {
                row,
                payload: types.add((row.payload)()).unwrap_or_default(),
                deprecated: Deprecated::of(row.event, emissions.iter().map(replaced)),
            })
            .collect();
        Self {
            received,
            sent,
            kinds: Vec::new(),
            types,
            of_applications: BTreeSet::new(),
        }
    }
}

impl Received {
    /// Returns a schema for all accepted forms of the argument. `path` is the prefix of references
    /// to types.
    fn argument(&self, path: &str) -> Value {
        let object = json!({"$ref": format!("{path}{}", self.payload)});
        match self.row.argument {
            ArgumentForm::Object => object,
            ArgumentForm::ObjectOrNone => json!({
                "description": "Can be omitted, which is the same as `null`.",
                "anyOf": [object, {"type": "null"}],
            }),
            ArgumentForm::IdOrObject => json!({
                "description": "Only the id of the conversation, or an object.",
                "anyOf": [object, {"type": "string", "pattern": UUID_PATTERN}],
            }),
        }
    }

    /// Returns whether the argument may be absent.
    fn is_optional(&self) -> bool {
        self.row.argument == ArgumentForm::ObjectOrNone
    }
}

impl Deprecated {
    /// Returns the replacement of an event, if a row replaces it.
    fn of(
        event: &str,
        rows: impl Iterator<Item = (&'static str, Option<&'static Replaces>)>,
    ) -> Option<Self> {
        let mut rows = rows.filter_map(|(replaced_by, replaces)| Some((replaced_by, replaces?)));
        let (replaced_by, replaces) = rows.find(|(_, replaces)| replaces.event == event)?;
        Some(Self {
            since: replaces.since,
            replaced_by,
        })
    }
}

impl fmt::Display for Deprecated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since, replaced_by } = self;
        write!(
            f,
            "Deprecated since {since}, when `{replaced_by}` replaced it; served for `server.deprecated_events` after that."
        )
    }
}

impl Types {
    /// Adds a type and the types that it refers to. Returns its name, or `None` for the unit type.
    fn add(&mut self, schema: Schema) -> Option<String> {
        let Value::Object(mut schema) = schema.to_value() else {
            return None;
        };
        if schema.get("type") == Some(&json!("null")) {
            return None;
        }
        schema.remove("$schema");
        let mut schema = Value::Object(schema);
        bound_integers(&mut schema);
        leave_out_formats(&mut schema);
        let Value::Object(mut schema) = schema else {
            return None;
        };
        let parts = schema.remove("$defs");
        let Some(Value::String(name)) = schema.remove("title") else {
            return None;
        };
        let parts = parts.as_ref().and_then(Value::as_object);
        for (name, part) in parts.into_iter().flatten() {
            self.insert(name, part.clone());
        }
        self.insert(&name, schema.into());
        Some(name)
    }

    /// Inserts a type. A name must always stand for the same schema; a test checks this by building
    /// the catalogue.
    fn insert(&mut self, name: &str, schema: Value) {
        if let Some(known) = self.0.get(name) {
            debug_assert_eq!(known, &schema, "two types are called {name}");
            return;
        }
        self.0.insert(name.to_owned(), schema);
    }

    /// Returns the types with references that begin with another path.
    fn under(&self, path: &str) -> Value {
        fn redirect(value: &mut Value, path: &str) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(target)) = fields.get_mut("$ref")
                        && let Some(name) = target.strip_prefix("#/$defs/")
                    {
                        *target = format!("{path}{name}");
                    }
                    fields.values_mut().for_each(|field| redirect(field, path));
                }
                Value::Array(values) => values.iter_mut().for_each(|value| redirect(value, path)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut types = Value::Object(self.0.clone());
        redirect(&mut types, path);
        types
    }
}

/// Returns the schema of the acknowledgement of a refused event.
fn refused() -> Value {
    json!({
        "description": "The acknowledgement of an event that was refused.",
        "type": "object",
        "properties": {
            "success": {"const": false},
            "error": {
                "type": "object",
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "retryAfter": {
                        "description": "Milliseconds after which another attempt makes sense.",
                        "type": "integer",
                        "minimum": 1,
                    },
                    "details": {
                        "type": "object",
                        "properties": {
                            "field": {
                                "description": "The path of the invalid field, such as `metadata.imageUrl`.",
                                "type": "string",
                            },
                        },
                    },
                },
                "required": ["code", "message"],
            },
        },
        "required": ["success", "error"],
    })
}

/// Formats JSON with hidden characters escaped: patterns contain characters that no editor shows.
pub(crate) fn printed(json: &Value) -> String {
    let mut text = String::new();
    for c in format!("{json:#}").chars() {
        if c != '\n' && is_hidden(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// Returns the words of a row as a sentence.
fn sentence(words: &str) -> String {
    let mut rest = words.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(rest).chain(['.']).collect()
}
