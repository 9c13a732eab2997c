//! The declared kinds of channels in the catalogue.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Catalogue;
use super::embedding::{embed, pascal_case};
use crate::config::ChannelKind;
use crate::service::rules::emission::schema_of;
use crate::service::rules::emissions::channels::EventMeta;

/// A declared kind of channels.
#[derive(Debug)]
pub(super) struct Kind {
    /// The name in the configuration.
    pub(super) name: String,
    pub(super) declared: ChannelKind,
    /// The types of the data of its events, by event. If empty, every event is allowed.
    pub(super) events: BTreeMap<String, String>,
    /// The TypeScript type with all its events.
    pub(super) interface: String,
}

impl Catalogue {
    /// Adds a declared kind. `schemas` has the JSON Schema of the data of each event.
    ///
    /// # Errors
    ///
    /// The key and the event of a schema that cannot be in the catalogue.
    pub(crate) fn add_kind(
        &mut self,
        name: &str,
        declared: &ChannelKind,
        schemas: &BTreeMap<String, Value>,
    ) -> Result<(), String> {
        self.types.add(schema_of::<EventMeta<'_>>());
        let prefix = pascal_case(name);
        // The name of a kind may begin with a digit or have no letters, that of a type may not.
        let prefix = match prefix.starts_with(|c: char| c.is_ascii_alphabetic()) {
            true => prefix,
            false => format!("Kind{prefix}"),
        };
        let mut kind = Kind {
            name: name.to_owned(),
            declared: declared.clone(),
            events: BTreeMap::new(),
            interface: self.choose(&BTreeSet::new(), format!("{prefix}Events")),
        };
        for (event, schema) in schemas {
            let mut names = BTreeSet::from([kind.interface.clone()]);
            let mut choose = |wanted| {
                let name = self.choose(&names, wanted);
                names.insert(name.clone());
                name
            };
            let first = choose(format!("{prefix}{}", pascal_case(event)));
            let embedded = embed(schema, first.clone(), choose);
            let embedded = embedded
                .map_err(|fault| format!("channels.{name}.events has `{event}`: {fault}"))?;
            for (name, schema) in embedded {
                self.types.insert(&name, schema);
                self.of_applications.insert(name);
            }
            kind.events.insert(event.clone(), first);
        }
        self.kinds.push(kind);
        Ok(())
    }

    /// Returns a name that no type has: the wanted one, if possible.
    fn choose(&self, names: &BTreeSet<String>, wanted: String) -> String {
        let is_used = |name: &String| {
            self.types.0.contains_key(name)
                || names.contains(name)
                || self.kinds.iter().any(|kind| kind.interface == *name)
                || RESERVED.contains(&name.trim_start_matches("Admin"))
        };
        let mut numbered = (2..).map(|n| format!("{wanted}{n}"));
        match is_used(&wanted) {
            true => numbered.find(|name| !is_used(name)).unwrap_or_default(),
            false => wanted,
        }
    }
}

impl Kind {
    /// Returns the names of the events with the schemas of their data. The name is `None` if every
    /// event is allowed.
    pub(super) fn messages(&self, path: &str) -> Vec<(Option<&str>, Value)> {
        if self.events.is_empty() {
            return vec![(None, json!({}))];
        }
        let events = self.events.iter();
        events
            .map(|(event, name)| {
                (
                    Some(event.as_str()),
                    json!({"$ref": format!("{path}{name}")}),
                )
            })
            .collect()
    }

    /// Returns the variable parts of the pattern.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let parts = self.declared.pattern.split(':');
        parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Returns rules as text.
    pub(super) fn rules(rules: &[String]) -> String {
        let rules = rules.iter().map(|rule| format!("`{rule}`"));
        rules.collect::<Vec<_>>().join(", ")
    }

    /// Returns the keys of the history that have an effect.
    pub(super) fn history(&self) -> Value {
        let mut history = json!(self.declared.history);
        let unused: &[&str] = match &self.declared.history {
            history if history.none => &["events", "age", "last"],
            history if history.last => &["events", "none"],
            _ => &["last", "none"],
        };
        if let Some(keys) = history.as_object_mut() {
            keys.retain(|key, _| !unused.contains(&key.as_str()));
        }
        history
    }

    /// Returns the history as text.
    pub(super) fn shown_history(&self) -> String {
        let history = self.history();
        let age = history.get("age").and_then(Value::as_str);
        let age = age.unwrap_or_default();
        match history.get("events") {
            Some(events) => format!("{events} events, {age}"),
            None if self.declared.history.none => "none".to_owned(),
            None => format!("the newest event, {age}"),
        }
    }

    /// Returns the bounds as text, without those that set no limit.
    pub(super) fn shown_bounds(&self) -> String {
        let ChannelKind {
            max_bytes,
            max_followers,
            publishes_per_second,
            max_stored_events,
            max_stored_bytes,
            ..
        } = &self.declared;
        let mut bounds = vec![
            format!("{max_bytes} bytes of data"),
            format!("{max_followers} followers of a channel at a server"),
        ];
        if *publishes_per_second > 0 {
            bounds.push(format!(
                "{publishes_per_second} events a second at a server"
            ));
        }
        if !self.declared.history.none {
            let stored = [(max_stored_events, "events"), (max_stored_bytes, "bytes")];
            let stored = stored.into_iter().filter(|(most, _)| **most > 0);
            bounds.extend(stored.map(|(most, what)| format!("{most} {what} stored")));
        }
        bounds.join(", ")
    }
}

/// Names in the TypeScript module and in documents that are not those of types of events.
const RESERVED: [&str; 11] = [
    "Acknowledgement",
    "AcknowledgedEvents",
    "ClientToServerEvents",
    "EventArguments",
    "Exclude",
    "Failure",
    "Record",
    "Refused",
    "Requests",
    "ServerToClientEvents",
    "UnacknowledgedEmit",
];
