//! Finds the changes between two documents in the format `json-schema` that break clients.
//!
//! `schemas` compares schemas, `values` their types and bounds, and `same` the other keywords.
//! `resolved` resolves references. This module compares what is above the schemas: events, and the
//! declarations of channels.

mod resolved;
mod same;
mod schemas;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::json_schema::TITLE;
use resolved::Place;
use schemas::{Break, Comparison, Sender};

/// Returns the changes that break clients, as `LINE: PATH: CHANGE` with a line of the earlier
/// document.
///
/// # Errors
///
/// Why the earlier document cannot be compared.
pub(crate) fn breaks(earlier: &str, later: &Value) -> Result<Vec<String>, String> {
    let old: Value =
        serde_json::from_str(earlier).map_err(|error| format!("it is not JSON: {error}"))?;
    let has_title = old.get("title").is_some_and(|title| title == TITLE);
    if !has_title || old.pointer("/properties/clientToServer").is_none() {
        return Err("it is not a catalogue of events in the format `json-schema`".to_owned());
    }
    let mut comparison = Comparison::new(&old, later);
    let part = |document, name| {
        let properties = Place::root(document).get("properties");
        properties.and_then(|properties| properties.get(name)?.get("properties"))
    };
    for (name, compare) in [
        (
            "serverToClient",
            Comparison::compare_emission as Compare<'_>,
        ),
        ("clientToServer", Comparison::compare_request),
        ("channels", Comparison::compare_kind),
    ] {
        let Some(entries) = part(&old, name) else {
            continue;
        };
        let new_entries = part(later, name);
        for (entry, place) in entries.fields() {
            let path = format!("{name}.{entry}");
            match new_entries.as_ref().and_then(|entries| entries.get(entry)) {
                Some(new) => compare(&mut comparison, &place, &new, &path),
                None => comparison.report(&place.pointer, &path, "is removed"),
            }
        }
    }
    // A type can be at several places. The shortest path is the clearest one.
    comparison.breaks.sort_by_key(|found| found.path.len());
    let mut lines = BTreeMap::new();
    for Break {
        pointer,
        path,
        what,
    } in comparison.breaks
    {
        let line = line_of(earlier, &pointer);
        lines.entry((line, pointer, what)).or_insert(path);
    }
    let lines = lines.into_iter();
    Ok(lines
        .map(|((line, _, what), path)| format!("{line}: {path}: {what}"))
        .collect())
}

/// Compares an earlier entry of a part of the document with the later one.
type Compare<'a> = fn(&mut Comparison<'a>, &Place<'a>, &Place<'a>, &str);

impl<'a> Comparison<'a> {
    fn compare_request(&mut self, old: &Place<'a>, new: &Place<'a>, path: &str) {
        self.compare_part(old, new, "payload", path, Sender::Client);
        let needs = |place: &Place<'_>| {
            let required = place.value["required"].as_array();
            required.is_some_and(|names| names.iter().any(|name| name == "payload"))
        };
        if needs(new) && !needs(old) {
            self.report(
                &old.pointer,
                &format!("{path}.payload"),
                "can no longer be omitted",
            );
        }
        let answer = |place: &Place<'a>| place.get("properties")?.get("answer");
        if let (Some(old), Some(new)) = (answer(old), answer(new)) {
            // The schema of an answer without fields is `{}`.
            let has_fields = |place: &Place<'_>| place.value.get("$ref").is_some();
            match (has_fields(&old), has_fields(&new)) {
                (false, _) => {}
                (true, false) => {
                    self.report(
                        &old.pointer,
                        &format!("{path}.answer"),
                        "has no fields any longer",
                    );
                }
                (true, true) => {
                    let path = format!("{path}.answer");
                    self.compare(&[old], &[new], "", &path, Sender::Server);
                }
            }
        }
        self.compare_namespace(old, new, path);
    }

    fn compare_emission(&mut self, old: &Place<'a>, new: &Place<'a>, path: &str) {
        self.compare_part(old, new, "payload", path, Sender::Server);
        self.compare_namespace(old, new, path);
    }

    /// Compares a property of two entries.
    fn compare_part(
        &mut self,
        old: &Place<'a>,
        new: &Place<'a>,
        name: &str,
        path: &str,
        sender: Sender,
    ) {
        let part = |place: &Place<'a>| place.get("properties")?.get(name);
        let path = format!("{path}.{name}");
        match (part(old), part(new)) {
            (Some(old), Some(new)) => self.compare(&[old], &[new], "", &path, sender),
            (Some(old), None) => self.report(&old.pointer, &path, "is removed"),
            (None, _) => {}
        }
    }

    fn compare_namespace(&mut self, old: &Place<'a>, new: &Place<'a>, path: &str) {
        if let Some((old, new)) = constants(old, new, "namespace")
            && old.value != new.value
        {
            let what = format!("the namespace is {} instead of {}", new.value, old.value);
            self.report(&old.pointer, path, what);
        }
    }

    /// Compares a declared kind. Its data is sent by publishers and received by followers.
    fn compare_kind(&mut self, old: &Place<'a>, new: &Place<'a>, path: &str) {
        if let Some((old, new)) = constants(old, new, "pattern")
            && numbered(old.value, old.value) != numbered(new.value, new.value)
        {
            let what = format!("is {} instead of {}", new.value, old.value);
            self.report(&old.pointer, &format!("{path}.pattern"), what);
        }
        if let Some((old, new)) = constants(old, new, "maxBytes")
            && new.value.as_u64() < old.value.as_u64()
        {
            let what = format!("is {} instead of {}", new.value, old.value);
            self.report(&old.pointer, &format!("{path}.maxBytes"), what);
        }
        if let Some((old, new)) = constants(old, new, "presence")
            && (old.value, new.value) == (&Value::Bool(true), &Value::Bool(false))
        {
            self.report(&old.pointer, &format!("{path}.presence"), "is removed");
        }
        if let Some((old, new)) = constants(old, new, "history") {
            self.compare_history(&old, &new, &format!("{path}.history"));
        }
        let pattern = |place: &Place<'a>| constant(place, "pattern").map(|place| place.value);
        let patterns = (
            pattern(old).unwrap_or(&Value::Null),
            pattern(new).unwrap_or(&Value::Null),
        );
        for key in ["follow", "publish"] {
            let Some((rules, new_rules)) = constants(old, new, key) else {
                continue;
            };
            let new_rules: Vec<_> = new_rules.items().collect();
            for rule in rules.items() {
                let is_kept = new_rules.iter().any(|new| {
                    new.value == "anyone"
                        || numbered(new.value, patterns.1) == numbered(rule.value, patterns.0)
                });
                if !is_kept {
                    let what = format!("the rule {} is removed", rule.value);
                    self.report(&rule.pointer, &format!("{path}.{key}"), what);
                }
            }
        }
        let events = |place: &Place<'a>| place.get("properties")?.get("events");
        if let (Some(old), Some(new)) = (events(old), events(new)) {
            self.compare_events(&old, &new, path);
        }
    }

    /// Compares how much of a channel is stored for clients that were absent.
    fn compare_history(&mut self, old: &Place<'a>, new: &Place<'a>, path: &str) {
        let is = |place: &Place<'_>, form: &str| place.value[form] == true;
        if is(old, "none") {
            return;
        }
        if is(new, "none") {
            self.report(
                &old.pointer,
                path,
                "is `none`: no event is stored any longer",
            );
            return;
        }
        let events = |place: &Place<'a>| place.value["events"].as_u64();
        if is(new, "last") && events(old).is_some_and(|events| events > 1) {
            let what = "is `last`: a channel has only its newest event";
            self.report(&old.pointer, path, what);
        }
        let age = |place: &Place<'a>| {
            humantime_serde::deserialize::<Duration, _>(&place.value["age"]).ok()
        };
        let is_fewer = events(new) < events(old) && events(new).is_some();
        for (key, is_less) in [("events", is_fewer), ("age", age(new) < age(old))] {
            if is_less && let Some((old, new)) = old.get(key).zip(new.get(key)) {
                let what = format!("is {} instead of {}", new.value, old.value);
                self.report(&old.pointer, &format!("{path}.{key}"), what);
            }
        }
    }

    fn compare_events(&mut self, old: &Place<'a>, new: &Place<'a>, path: &str) {
        let path = format!("{path}.events");
        let is_open = |place: &Place<'_>| place.value["additionalProperties"].is_object();
        if is_open(old) && !is_open(new) {
            self.report(
                &old.pointer,
                &path,
                "events without a declaration are refused",
            );
        }
        let declared = old.get("properties");
        for (event, place) in declared.iter().flat_map(Place::fields) {
            let path = format!("{path}.{event}");
            match new.get("properties").and_then(|events| events.get(event)) {
                Some(new) => {
                    self.compare_part(&place, &new, "data", &path, Sender::Client);
                    self.compare_part(&place, &new, "data", &path, Sender::Server);
                    self.compare_part(&place, &new, "meta", &path, Sender::Server);
                }
                None => self.report(&place.pointer, &path, "is removed"),
            }
        }
    }
}

/// Returns a constant of an entry.
fn constant<'a>(place: &Place<'a>, name: &str) -> Option<Place<'a>> {
    place.get("properties")?.get(name)?.get("const")
}

/// Returns a constant of two entries.
fn constants<'a>(old: &Place<'a>, new: &Place<'a>, name: &str) -> Option<(Place<'a>, Place<'a>)> {
    constant(old, name).zip(constant(new, name))
}

/// Returns a pattern or a rule with numbers instead of the names of the variable parts, which
/// clients do not see.
fn numbered(text: &Value, pattern: &Value) -> String {
    let parts = pattern.as_str().unwrap_or_default().split(':');
    let variables: BTreeMap<usize, &str> = parts
        .enumerate()
        .filter(|(_, part)| part.starts_with('{'))
        .collect();
    let text = text.as_str().unwrap_or_default().to_owned();
    variables.iter().fold(text, |text, (n, part)| {
        text.replace(part, &format!("{{{n}}}"))
    })
}

/// Returns the line of a value in a text that is JSON.
fn line_of(text: &str, pointer: &str) -> usize {
    let mut value = text;
    for segment in pointer.split('/').skip(1) {
        let name = segment.replace("~1", "/").replace("~0", "~");
        let inner = match serde_json::from_str::<BTreeMap<String, &RawValue>>(value) {
            Ok(fields) => fields.get(&name).copied(),
            Err(_) => {
                let items: Vec<&RawValue> = serde_json::from_str(value).unwrap_or_default();
                name.parse().ok().and_then(|n: usize| items.get(n).copied())
            }
        };
        let Some(inner) = inner else {
            break;
        };
        value = inner.get();
    }
    let before = value.as_ptr().addr() - text.as_ptr().addr();
    text.bytes()
        .take(before)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}
