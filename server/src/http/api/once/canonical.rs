//! Canonical JSON: one text for all JSON texts that differ only in key order, whitespace and
//! escapes.
//!
//! Numbers are not changed: `1`, `1.0` and `1e0` are three different requests, and no digit of a
//! long number is lost.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The canonical form of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Canonical {
    Json(String),
    /// An object has a duplicate field, with its path.
    Duplicate(String),
    NotJson,
}

/// Returns the canonical text of a body.
pub(super) fn of(body: &[u8]) -> Canonical {
    let Ok(value) = serde_json::from_slice::<&RawValue>(body) else {
        return Canonical::NotJson;
    };
    let mut writer = Writer::default();
    match writer.write(value, 0) {
        Ok(()) => Canonical::Json(writer.text),
        Err(Fault::Duplicate) => Canonical::Duplicate(writer.path.join(".")),
        Err(Fault::NotJson) => Canonical::NotJson,
    }
}

enum Fault {
    Duplicate,
    NotJson,
}

impl From<serde_json::Error> for Fault {
    fn from(_: serde_json::Error) -> Self {
        Self::NotJson
    }
}

#[derive(Default)]
struct Writer {
    text: String,
    /// The path to the value that is being written.
    path: Vec<String>,
}

impl Writer {
    fn write(&mut self, value: &RawValue, depth: usize) -> Result<(), Fault> {
        let text = value.get();
        match text.as_bytes().first() {
            // Each level is parsed again for the level above, so the number of levels is limited.
            // Deeper values must be spelled identically.
            _ if depth == MAX_DEPTH => self.text.push_str(text),
            Some(b'{') => {
                let fields: Fields<'_> = serde_json::from_str(text)?;
                if let Some(duplicate) = fields.duplicate {
                    self.path.push(duplicate);
                    return Err(Fault::Duplicate);
                }
                let mut separator = '{';
                for (name, value) in &fields.values {
                    self.text.push(separator);
                    self.text.push_str(&serde_json::to_string(name)?);
                    self.text.push(':');
                    self.path.push(name.clone());
                    self.write(value, depth + 1)?;
                    self.path.pop();
                    separator = ',';
                }
                self.text
                    .push_str(if separator == '{' { "{}" } else { "}" });
            }
            Some(b'[') => {
                let values: Vec<&RawValue> = serde_json::from_str(text)?;
                let mut separator = '[';
                for (place, value) in values.iter().enumerate() {
                    self.text.push(separator);
                    self.path.push(place.to_string());
                    self.write(value, depth + 1)?;
                    self.path.pop();
                    separator = ',';
                }
                self.text
                    .push_str(if separator == '[' { "[]" } else { "]" });
            }
            Some(b'"') => {
                let decoded: String = serde_json::from_str(text)?;
                self.text.push_str(&serde_json::to_string(&decoded)?);
            }
            Some(_) | None => self.text.push_str(text),
        }
        Ok(())
    }
}

/// The fields of an object, sorted by name.
#[derive(Default)]
struct Fields<'a> {
    values: BTreeMap<String, &'a RawValue>,
    /// A duplicate field.
    duplicate: Option<String>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            match fields.values.entry(name) {
                Entry::Occupied(field) => {
                    fields.duplicate.get_or_insert_with(|| field.key().clone());
                }
                Entry::Vacant(field) => {
                    field.insert(value);
                }
            }
        }
        Ok(fields)
    }
}

/// Maximum levels of arrays and objects that are normalized.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn json(body: &str) -> String {
        match of(body.as_bytes()) {
            Canonical::Json(text) => text,
            other @ (Canonical::Duplicate(_) | Canonical::NotJson) => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn canonical_form_ignores_field_order_spaces_and_escapes() {
        for (one, other) in [
            (
                r#"{"a":1,"b":[{"c":"x","d":null}]}"#,
                "{ \"b\": [{\"d\" :null,\"c\":\"x\"}],\n\"a\": 1}",
            ),
            (r#"{"ab":"\u0041/"}"#, r#"{"\u0061b":"A\/"}"#),
            ("[]", " [ ] "),
            ("{}", "{ }"),
        ] {
            assert_eq!(json(one), json(other), "{one}");
        }
        assert_eq!(json(r#"{"b":[1,2],"a":{}}"#), r#"{"a":{},"b":[1,2]}"#);
    }

    #[test]
    fn different_values_have_different_canonical_forms() {
        let bodies = [
            "[1,2]",
            "[2,1]",
            "[1,2,3]",
            "[[1,2]]",
            "[1.0,2]",
            "[1e0,2]",
            "[\"1\",2]",
            "{\"1\":2}",
            "{\"a\":null}",
            "{}",
            "[null]",
            "null",
            "true",
            "\"a\"",
            "9007199254740993",
            "9007199254740992",
            "0.1",
            "0.10",
            "-0",
            "0",
        ];
        let all: std::collections::HashSet<_> = bodies.map(json).into();
        assert_eq!(all.len(), bodies.len());
    }

    #[test]
    fn duplicate_field_is_named_in_the_error() {
        for (body, path) in [
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"a":1,"\u0061":2}"#, "a"),
            (r#"{"a":[0,{"b":{"c":1,"d":2,"c":3}}]}"#, "a.1.b.c"),
        ] {
            assert_eq!(
                of(body.as_bytes()),
                Canonical::Duplicate(path.into()),
                "{body}"
            );
        }
    }

    #[test]
    fn malformed_json_has_no_canonical_form() {
        for body in ["", "{", "{}1", "{\"a\":\"\\ud800\"}", "nul", "[1,]"] {
            assert_eq!(of(body.as_bytes()), Canonical::NotJson, "{body}");
        }
        assert_eq!(of(b"\"\xff\""), Canonical::NotJson);
    }

    #[test]
    fn deeply_nested_body_needs_little_time_and_no_stack() {
        let begin = Instant::now();
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let depth = (256 << 10) / (open.len() + close.len()) - 1;
            let body = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            // The result depends on the recursion limit of serde_json.
            let _ = of(body.as_bytes());
        }
        // A parse of each level would take minutes; this takes a second of a busy processor.
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
