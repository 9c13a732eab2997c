//! The table of events: the rows of all features, in both directions.
//!
//! Checks and documentation are derived from this table. [`Command`](super::event::Command)
//! provides the permission of a row, the gateway reads the class, `explain` reads the whole row,
//! and [`documents`](super::documents) publishes it. The schema of a payload is derived from the
//! type that the argument is parsed into.

use crate::auth::is_hidden;
use crate::service::rules::admin;
use crate::service::rules::bounds::EVENT_CHARS;
use crate::service::rules::commands::{
    attendance, channels, conversations, history, identity, invites, members, messages,
    notifications, portfolio, prices, signals, streams, trades,
};
use crate::service::rules::emission::EmissionPolicy;
use crate::service::rules::emissions;
use crate::service::rules::event::EventPolicy;

/// All events that clients send, by feature.
static EVENTS: [&[&EventPolicy]; 15] = [
    messages::EVENTS,
    streams::EVENTS,
    attendance::EVENTS,
    history::EVENTS,
    conversations::EVENTS,
    members::EVENTS,
    invites::EVENTS,
    trades::EVENTS,
    signals::EVENTS,
    portfolio::EVENTS,
    prices::EVENTS,
    notifications::EVENTS,
    channels::EVENTS,
    identity::EVENTS,
    admin::commands::EVENTS,
];

/// All events that the server sends, by feature.
static EMISSIONS: [&[&EmissionPolicy]; 11] = [
    emissions::messages::EMISSIONS,
    emissions::attendance::EMISSIONS,
    emissions::conversations::EMISSIONS,
    emissions::trades::EMISSIONS,
    emissions::signals::EMISSIONS,
    emissions::portfolio::EMISSIONS,
    emissions::prices::EMISSIONS,
    emissions::notifications::EMISSIONS,
    emissions::channels::EMISSIONS,
    emissions::identity::EMISSIONS,
    admin::emissions::EMISSIONS,
];

/// Returns all events that clients send.
pub(crate) fn events() -> impl Iterator<Item = &'static EventPolicy> {
    EVENTS.iter().copied().flatten().copied()
}

/// Returns all events that the server sends.
pub(crate) fn emissions() -> impl Iterator<Item = &'static EmissionPolicy> {
    EMISSIONS.iter().copied().flatten().copied()
}

/// Returns what is wrong with the name of an event that an application defines, to be appended to
/// its field.
pub(in crate::service) fn application_event_fault(event: &str) -> Option<String> {
    if event.is_empty() || event.chars().nth(EVENT_CHARS).is_some() || event.chars().any(is_hidden)
    {
        return Some(format!(
            "must have 1 to {EVENT_CHARS} characters, none of them control or invisible"
        ));
    }
    is_own(event).then(|| "is one of the server's own events".into())
}

/// Returns whether a name is that of an event of the server, or reserved by the protocol.
pub(in crate::service) fn is_own(event: &str) -> bool {
    let is_sent = emissions().any(|row| row.event == event);
    is_sent || find(event).is_some() || RESERVED.contains(&event)
}

/// The names that the protocol reserves. Events of clients and of the server are in the tables.
pub(in crate::service) const RESERVED: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];
/// Returns the row of an event that clients send.
pub(crate) fn find(event: &str) -> Option<&'static EventPolicy> {
    events().find(|policy| policy.event == event)
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::socket::{Decoder, Limits};
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::service::rules::event::{RoomRule, TargetKind};

    #[test]
    fn each_event_has_at_most_one_row() {
        let received: Vec<_> = events().map(|policy| policy.event).collect();
        let sent: Vec<_> = emissions().map(|policy| policy.event).collect();
        for mut names in [received, sent] {
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{names:?}");
        }
    }

    /// Returns a schema with all references replaced by their targets.
    fn inlined(schema: &Value, types: &Value) -> Value {
        match schema {
            Value::Object(fields) => match fields.get("$ref").and_then(Value::as_str) {
                Some(target) => inlined(&types[target.rsplit('/').next().unwrap()], types),
                None => fields
                    .iter()
                    .map(|(name, field)| (name.clone(), inlined(field, types)))
                    .collect::<Map<_, _>>()
                    .into(),
            },
            Value::Array(values) => values.iter().map(|value| inlined(value, types)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
        }
    }

    /// Returns a value that matches a schema, and one that does not.
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
            (Some("number"), _) => (json!(7.5), json!("7.5")),
            (Some("object"), _) => (json!({}), Value::Null),
            (Some("array"), _) => (json!(["text"]), json!([7])),
            // The schema allows any value.
            (None, _) => (json!({"any": [1]}), Value::Null),
            (kind, _) => panic!("no example of {kind:?} in {schema}"),
        }
    }

    #[test]
    fn rows_of_moderators_name_the_fields_of_their_target() {
        for policy in events() {
            let is_moderated = match policy.room {
                RoomRule::Author | RoomRule::Owner | RoomRule::OwnerOrOneself => true,
                RoomRule::Anyone | RoomRule::Member | RoomRule::Writer | RoomRule::Oneself => false,
            };
            let schema = (policy.payload)();
            let has = |field| {
                schema
                    .get("properties")
                    .and_then(|all| all.get(field))
                    .is_some()
            };
            let expected = is_moderated.then(|| match (has("messageId"), has("userId")) {
                (true, _) => TargetKind::Message,
                (false, true) => TargetKind::Member,
                (false, false) => TargetKind::Conversation,
            });
            assert_eq!(policy.moderates, expected, "{}", policy.event);
        }
    }

    #[test]
    fn schemas_match_accepted_payloads_and_errors_name_the_path() {
        let mut integers = 0;
        for policy in events() {
            let refuses = |payload: &Value| {
                let packet = format!("2[\"event\",{payload}]");
                let packet = Decoder::new(Limits::default()).text(packet.into());
                (policy.refuses)(&packet.unwrap().unwrap().args)
            };
            let schema = serde_json::to_value((policy.payload)()).unwrap();
            let schema = inlined(&schema, &schema["$defs"]);
            let none = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&none);
            let required: Vec<_> = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .collect();
            let all_optional = [
                "admin:kick",
                "admin:stats",
                "auth:refresh",
                "conversations",
                "notification:ack_all",
                "notifications:history",
                "signals:history",
                "subscribe:signals",
                "trades:history",
                "unsubscribe:signals",
            ];
            if !all_optional.contains(&policy.event) {
                assert_eq!(
                    required.is_empty(),
                    properties.is_empty(),
                    "{}",
                    policy.event
                );
            }
            let minimal: Map<String, Value> = required
                .iter()
                .map(|name| name.as_str().unwrap().to_owned())
                .map(|name| {
                    let value = example(&properties[&name]).0;
                    (name, value)
                })
                .collect();
            assert_eq!(refuses(&minimal.clone().into()), None, "{}", policy.event);
            assert_eq!(refuses(&json!(7)).as_deref(), Some(""), "{}", policy.event);
            let mut decoder = Decoder::new(Limits::default());
            let binary = r#"51-["event",{"_placeholder":true,"num":0}]"#;
            assert!(decoder.text(binary.into()).unwrap().is_none());
            let packet = decoder.binary("{}".into()).unwrap().unwrap();
            let refused = (policy.refuses)(&packet.args);
            assert_eq!(refused.as_deref(), Some(""), "{}: binary", policy.event);
            for (name, property) in properties {
                let is_required = minimal.contains_key(name);
                let mut without = minimal.clone();
                without.remove(name);
                assert_eq!(
                    refuses(&without.into()),
                    is_required.then(|| name.clone()),
                    "{} without {name}",
                    policy.event
                );
                if property.get("type").is_none() {
                    continue;
                }
                let kind = &property["type"];
                let is_list = kind == "array" || kind[0] == "array";
                let (good, bad) = example(property);
                let mut values = vec![(good, true), (bad, false)];
                if kind == "integer" || kind[0] == "integer" {
                    values.extend([(json!(7.0), true), (json!(7.5), false)]);
                    integers += 1;
                }
                for (value, is_good) in values {
                    let mut payload = minimal.clone();
                    payload.insert(name.clone(), value.clone());
                    // A schema for any object does not restrict its content; the service checks it.
                    if value.is_null() && !is_required {
                        continue;
                    }
                    let path = if is_list {
                        format!("{name}[0]")
                    } else {
                        name.clone()
                    };
                    assert_eq!(
                        refuses(&payload.into()),
                        (!is_good).then_some(path),
                        "{} with {name} = {value}",
                        policy.event
                    );
                }
            }
        }
        assert!(integers > 10, "{integers}");
    }
}
