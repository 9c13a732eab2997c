//! The table of the events that clients may send: the rows of all features.
//!
//! Checks and documentation come from this table: the permission is that of the row's
//! [`Command`](super::event::Command), the gateway reads the class, `explain` all of it, and
//! `docs/events.md` is what [`markdown`] writes. The payload's schema is the one of the type that it is
//! parsed into.

#[cfg(test)]
use std::fmt::Write as _;

use crate::service::rules::commands::{
    attendance, conversations, history, invites, members, messages, session,
};
use crate::service::rules::event::EventPolicy;

/// All of them, by feature.
static EVENTS: [&[&EventPolicy]; 7] = [
    messages::EVENTS,
    attendance::EVENTS,
    history::EVENTS,
    conversations::EVENTS,
    members::EVENTS,
    invites::EVENTS,
    session::EVENTS,
];

/// All events that clients may send.
pub(crate) fn events() -> impl Iterator<Item = &'static EventPolicy> {
    EVENTS.iter().copied().flatten().copied()
}

/// The row of an event.
pub(crate) fn find(event: &str) -> Option<&'static EventPolicy> {
    events().find(|policy| policy.event == event)
}

/// The table for people.
#[cfg(test)]
pub(crate) fn markdown() -> String {
    let mut text = String::from(
        "# Events that clients send\n\n\
         Written by a test from the rows in `server/src/service/rules/commands`, which are also what is checked.\n\n\
         | event | does | permission | limit | who else |\n|---|---|---|---|---|\n",
    );
    for policy in events() {
        let EventPolicy {
            event, does, room, ..
        } = policy;
        let _ = writeln!(
            text,
            "| `{event}` | {does} | {} | {} | {} |",
            policy
                .permission
                .map_or_else(|| "–".to_owned(), |needed| format!("`{}`", needed.as_str())),
            policy.class.as_str(),
            room.as_str(),
        );
    }
    for policy in events() {
        let schema = serde_json::to_string_pretty(&(policy.payload)()).unwrap_or_default();
        let _ = write!(text, "\n## `{}`\n\n```json\n{schema}\n```\n", policy.event);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::{Map, Value, json};

    use super::*;

    #[test]
    fn the_documentation_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
        let written = fs::read_to_string(&path).unwrap_or_default();
        if written != markdown() {
            fs::write(&path, markdown()).unwrap();
            panic!("docs/events.md was not what the table says; it is now");
        }
    }

    #[test]
    fn no_two_rows_are_about_the_same_event() {
        let mut names: Vec<_> = events().map(|policy| policy.event).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "{names:?}");
    }

    /// A value that fits a schema, and one that does not.
    fn example(schema: &Value) -> (Value, Value) {
        if let Some(any) = schema["anyOf"].as_array() {
            return example(&any[0]);
        }
        if let Some(values) = schema["enum"].as_array() {
            return (values[0].clone(), json!("none of them"));
        }
        let kind = &schema["type"];
        let kind = kind.as_array().map_or(kind, |kinds| &kinds[0]).as_str();
        match (kind, schema["format"].as_str()) {
            (Some("string"), Some("uuid")) => (
                json!("0f8fad5b-d9cb-469f-a165-70867728950e"),
                json!("not an id"),
            ),
            (Some("string"), _) => (json!("text"), json!(7)),
            (Some("boolean"), _) => (json!(true), json!("yes")),
            (Some("integer"), _) => (json!(7), json!(-1)),
            (Some("object"), _) => (json!({}), Value::Null),
            (Some("array"), _) => (json!(["text"]), json!([7])),
            (kind, _) => panic!("no example of {kind:?} in {schema}"),
        }
    }

    #[test]
    fn what_a_schema_says_is_what_is_accepted() {
        for policy in events() {
            let accepts = |payload: &Value| (policy.accepts)(&payload.to_string());
            let schema = serde_json::to_value((policy.payload)()).unwrap();
            let none = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&none);
            let required: Vec<_> = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .collect();
            if !["auth:refresh", "conversations"].contains(&policy.event) {
                assert_eq!(
                    required.is_empty(),
                    properties.is_empty(),
                    "{}",
                    policy.event
                );
            }
            let resolve = |schema: &Value| match schema["$ref"].as_str() {
                Some(_) => None,
                None => Some(schema.clone()),
            };
            let minimal: Map<String, Value> = required
                .iter()
                .map(|name| name.as_str().unwrap().to_owned())
                .map(|name| {
                    let value = example(&properties[&name]).0;
                    (name, value)
                })
                .collect();
            assert!(accepts(&minimal.clone().into()), "{}", policy.event);
            for (name, property) in properties {
                let is_required = minimal.contains_key(name);
                let mut without = minimal.clone();
                without.remove(name);
                assert_eq!(
                    accepts(&without.into()),
                    !is_required,
                    "{} without {name}",
                    policy.event
                );
                let Some(property) = resolve(property).filter(|p| p.get("type").is_some()) else {
                    continue;
                };
                let (good, bad) = example(&property);
                for (value, is_good) in [(good, true), (bad, false)] {
                    let mut payload = minimal.clone();
                    payload.insert(name.clone(), value.clone());
                    // An object of anything says no more than that; the service looks into it.
                    if value.is_null() && !is_required {
                        continue;
                    }
                    assert_eq!(
                        accepts(&payload.into()),
                        is_good,
                        "{} with {name} = {value}",
                        policy.event
                    );
                }
            }
        }
    }
}
