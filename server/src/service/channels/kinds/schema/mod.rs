//! JSON Schemas of the data of events, from files.
//!
//! A schema is refused if validation could fetch anything or take exponential time. `cost` bounds
//! the checks that a value can cause. The regular expressions of a schema run in linear time.
//!
//! This module must not know channels or users.

mod cost;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::service::fault::ServiceError;
use cost::MAX_DEPTH;

/// The schema of an event's data.
pub(super) struct DataSchema(Validator);

impl fmt::Debug for DataSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataSchema").finish_non_exhaustive()
    }
}

impl DataSchema {
    /// Reads and compiles a schema. The error states what is wrong with the file.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let schema = parse(path)?;
        let compiled = Self::compile(&schema);
        compiled.map_err(|fault| format!("{} cannot be used: {fault}", path.display()))
    }

    fn compile(schema: &Value) -> Result<Self, String> {
        cost::check(schema)?;
        let patterns = PatternOptions::regex()
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES);
        let options = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(patterns);
        let compiled = options.build(schema).map_err(|error| {
            let place = error.instance_path();
            let place = if place.as_str().is_empty() {
                "/"
            } else {
                place.as_str()
            };
            format!("at `{place}`: {error}")
        })?;
        Ok(Self(compiled))
    }

    /// Checks data. The error names the field, below `data`, and never contains its value.
    pub(super) fn check(&self, data: &Value) -> Result<(), ServiceError> {
        if is_deeper_than(data, MAX_DEPTH) {
            let problem = format!("is nested more than {MAX_DEPTH} levels deep");
            return Err(ServiceError::invalid("data", problem));
        }
        // The first check is cheaper, because it collects no errors.
        if self.0.is_valid(data) {
            return Ok(());
        }
        let error = self.0.iter_errors(data).next();
        Err(error.map_or_else(
            || ServiceError::invalid("data", "does not match the schema"),
            |error| refusal(&error),
        ))
    }
}

/// Reads a schema without compiling it. The error states what is wrong with the file.
pub(super) fn parse(path: &Path) -> Result<Value, String> {
    let shown = path.display();
    let text = read(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{shown} is not JSON: {error}"))
}

/// Reads a file of limited size.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::other(format!(
            "it has more than {MAX_BYTES} bytes"
        )));
    }
    Ok(text)
}

/// Returns the refusal of data that does not match.
fn refusal(error: &ValidationError<'_>) -> ServiceError {
    let mut field = field_of(error.instance_path());
    if let ValidationErrorKind::Required { property } = error.kind()
        && let Some(property) = property.as_str()
    {
        field = format!("{field}.{property}");
        return ServiceError::invalid(shortened(field), "is missing");
    }
    let reason = error.masked_with("the value").to_string();
    let problem = format!("does not match the schema: {}", shortened(reason));
    ServiceError::invalid(shortened(field), problem)
}

/// Returns the path of a field: `data.items[0].price`.
fn field_of(location: &Location) -> String {
    let mut field = String::from("data");
    for segment in location {
        match segment {
            LocationSegment::Property(name) => {
                field.push('.');
                field.push_str(&name);
            }
            LocationSegment::Index(index) => field.push_str(&format!("[{index}]")),
        }
    }
    field
}

/// Cuts a text that contains names of the data.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Returns whether a value has objects and arrays within each other on more levels.
fn is_deeper_than(value: &Value, levels: usize) -> bool {
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        if level > levels {
            return true;
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|field| (field, level + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    false
}

/// The maximum size of a schema file in bytes.
const MAX_BYTES: u64 = 128 << 10;
/// The maximum size of a compiled regular expression in bytes.
const PATTERN_BYTES: usize = 1 << 20;
/// The maximum number of shown characters of a field or of a reason.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn compile(schema: &Value) -> DataSchema {
        DataSchema::compile(schema).unwrap()
    }

    #[test]
    fn data_is_refused_with_its_field_and_without_its_value() {
        let schema = compile(&json!({
            "type": "object",
            "properties": {
                "status": {"enum": ["open", "shipped"]},
                "id": {"type": "string", "format": "uuid"},
                "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
            },
            "required": ["status"],
            "additionalProperties": false,
            "$defs": {"item": {
                "type": "object",
                "properties": {"price": {"type": "number", "minimum": 0}},
                "required": ["price"],
            }},
        }));
        schema
            .check(&json!({"status": "open", "items": [{"price": 0}]}))
            .unwrap();
        for (data, field) in [
            (json!({"status": "canary"}), "data.status"),
            (
                json!({"status": "open", "items": [{"price": 1}, {"price": -77}]}),
                "data.items[1].price",
            ),
            (
                json!({"status": "open", "items": [{}]}),
                "data.items[0].price",
            ),
            (json!({}), "data.status"),
            (json!({"status": "open", "id": "canary"}), "data.id"),
            (json!({"status": "open", "more": 1}), "data"),
            (json!("canary"), "data"),
        ] {
            let error = schema.check(&data).unwrap_err();
            let ServiceError::Invalid { field: found, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(found, field, "{error}");
            let text = error.to_string();
            assert!(!text.contains("canary") && !text.contains("77"), "{text}");
        }
        let long = json!({"status": "open", "x".repeat(10_000): 1});
        let text = schema.check(&long).unwrap_err().to_string();
        assert!(text.chars().count() < 500, "{text}");
    }

    #[test]
    fn schema_that_fetches_or_does_not_compile_is_refused_with_the_place() {
        for (schema, expected) in [
            (json!({"$ref": "https://example.com/order.json"}), "`/$ref`"),
            (json!({"$ref": "other.json#/x"}), "`/$ref`"),
            (
                json!({"properties": {"a": {"$ref": "#/$defs/missing"}}}),
                "`/properties/a/$ref`",
            ),
            (json!({"$schema": "https://example.com/mine"}), "`/$schema`"),
            (json!({"type": "text"}), "/type"),
            (
                json!({"properties": {"a": {"minLength": "x"}}}),
                "/properties/a/minLength",
            ),
            (json!({"pattern": "(a"}), "/pattern"),
            (json!({"pattern": "^(?!a)b"}), "/pattern"),
            (json!({"pattern": "((a{1000}){1000}){1000}"}), "/pattern"),
            (json!(7), "no schema"),
        ] {
            let fault = DataSchema::compile(&schema).unwrap_err();
            assert!(fault.contains(expected), "{schema}: {fault}");
        }
    }

    #[test]
    fn pattern_that_backtracks_elsewhere_takes_linear_time() {
        let schema = compile(&json!({"pattern": "^(a+)+$"}));
        let text = json!("a".repeat(100_000) + "!");
        let begin = Instant::now();
        schema.check(&text).unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn data_below_the_allowed_depth_is_refused_before_validation() {
        let tree = compile(&json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}));
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!({"left": inner}));
        tree.check(&nested(MAX_DEPTH)).unwrap();
        let error = tree.check(&nested(MAX_DEPTH + 1)).unwrap_err().to_string();
        assert!(error.contains("nested more than"), "{error}");
    }

    #[test]
    fn files_are_read_up_to_a_size_and_named_in_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("order.json");
        let fault = || DataSchema::open(&path).unwrap_err();
        assert!(fault().contains("order.json cannot be read"), "{}", fault());
        std::fs::write(&path, "{").unwrap();
        assert!(fault().contains("order.json is not JSON"), "{}", fault());
        std::fs::write(&path, " ".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(fault().contains("more than 131072 bytes"), "{}", fault());
        std::fs::write(&path, "{\"type\": \"object\"}").unwrap();
        DataSchema::open(&path).unwrap();
    }
}
