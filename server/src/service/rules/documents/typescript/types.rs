//! TypeScript types of JSON Schemas. A schema that TypeScript cannot express has a wider type.

use std::fmt::Write as _;

use serde_json::Value;

use super::{comment, key};

/// What `null` means in optional fields.
#[derive(Clone, Copy)]
pub(super) enum OptionalNull {
    /// The server omits such a field instead of sending `null`, and accepts both.
    Omitted,
    /// An application may send `null`.
    Kept,
}

impl OptionalNull {
    /// Writes the declaration of a type.
    pub(super) fn declare(self, text: &mut String, name: &str, schema: &Value) {
        let is_interface = match self {
            Self::Omitted => schema.get("properties").is_some(),
            Self::Kept => {
                let mut others = COMBINATIONS.iter();
                schema["type"] == "object"
                    && schema.get("properties").is_some()
                    && !others.any(|keyword| schema.get(*keyword).is_some())
            }
        };
        let _ = match is_interface {
            true => writeln!(text, "export interface {name} {}", self.object(schema)),
            false => writeln!(text, "export type {name} = {};", self.type_of(schema)),
        };
    }

    /// Returns the TypeScript type of a schema.
    fn type_of(self, schema: &Value) -> String {
        if schema == false {
            return "never".to_owned();
        }
        let mut types = Vec::new();
        if let Some(target) = schema["$ref"].as_str() {
            types.push(target.rsplit('/').next().unwrap_or(target).to_owned());
        }
        if let Some(value) = schema.get("const") {
            types.push(value.to_string());
        } else if let Some(values) = schema["enum"].as_array() {
            types.push(union(values.iter().map(Value::to_string)));
        }
        for keyword in ["oneOf", "anyOf"] {
            if let Some(schemas) = schema[keyword].as_array() {
                types.push(union(schemas.iter().map(|schema| self.type_of(schema))));
            }
        }
        let all = schema["allOf"].as_array().into_iter().flatten();
        types.extend(all.map(|schema| self.type_of(schema)));
        let has_parts = PARTS.iter().any(|keyword| schema.get(*keyword).is_some());
        let has_values = schema.get("const").or_else(|| schema.get("enum")).is_some();
        if types.is_empty() || has_parts && !has_values {
            types.push(self.of_kinds(schema));
        }
        types.retain(|one| one != "unknown");
        match types.as_slice() {
            [] => "unknown".to_owned(),
            [only] => only.clone(),
            several => {
                let several = several.iter().map(|one| in_parentheses(one, &[" | "]));
                several.collect::<Vec<_>>().join(" & ")
            }
        }
    }

    /// Returns the TypeScript type of a schema by its `type`, or by the parts that it describes.
    fn of_kinds(self, schema: &Value) -> String {
        let kind = &schema["type"];
        if let Some(kinds) = kind.as_array() {
            return union(kinds.iter().map(|kind| self.of_kind(kind.as_str(), schema)));
        }
        let implied = || {
            let implied = [("properties", "object"), ("prefixItems", "array")];
            let mut implied = implied.iter();
            implied.find_map(|(keyword, kind)| schema.get(*keyword).map(|_| *kind))
        };
        self.of_kind(kind.as_str().or_else(implied), schema)
    }

    /// Returns the TypeScript type of a schema for one JSON type.
    fn of_kind(self, kind: Option<&str>, schema: &Value) -> String {
        match kind {
            Some("integer" | "number") => "number".to_owned(),
            Some("array") => self.array(schema),
            Some("object") if schema.get("properties").is_some() => self.object(schema),
            Some("object") if schema["additionalProperties"].is_object() => {
                // Not `Record`, whose type may not refer to itself.
                let value = self.type_of(&schema["additionalProperties"]);
                format!("{{ [name: string]: {value} }}")
            }
            Some("object") => "Record<string, unknown>".to_owned(),
            Some(same @ ("string" | "boolean" | "null")) => same.to_owned(),
            Some(_) | None => "unknown".to_owned(),
        }
    }

    fn array(self, schema: &Value) -> String {
        // `[]` binds more tightly than the operators.
        let list = || in_parentheses(&self.type_of(&schema["items"]), &[" | ", " & "]) + "[]";
        let Some(first) = schema["prefixItems"].as_array() else {
            return list();
        };
        let least = schema["minItems"].as_u64().unwrap_or_default();
        let mut items: Vec<_> = (0..)
            .zip(first)
            .map(|(n, item)| match self.type_of(item) {
                required if n < least => required,
                optional => in_parentheses(&optional, &[" | ", " & "]) + "?",
            })
            .collect();
        if schema["items"] != false {
            items.push(format!("...{}", list()));
        }
        format!("[{}]", items.join(", "))
    }

    /// Returns the fields of an object. An optional field is marked with `?`.
    fn object(self, schema: &Value) -> String {
        let mut text = String::from("{\n");
        let fields = schema["properties"].as_object();
        let required = schema["required"].as_array();
        for (name, field) in fields.into_iter().flatten() {
            comment(&mut text, "  ", field["description"].as_str());
            let is_required = required.is_some_and(|names| names.iter().any(|it| it == name));
            let mark = if is_required { "" } else { "?" };
            let type_of = self.type_of(field).replace('\n', "\n  ");
            let type_of = match self {
                Self::Omitted if !is_required => type_of.trim_end_matches(" | null"),
                Self::Omitted | Self::Kept => &type_of,
            };
            let _ = writeln!(text, "  {}{mark}: {type_of};", key(name));
        }
        let others = &schema["additionalProperties"];
        if *others == true || others.is_object() {
            text.push_str("  [name: string]: unknown;\n");
        }
        text.push('}');
        text
    }
}

fn union(types: impl Iterator<Item = String>) -> String {
    types.collect::<Vec<_>>().join(" | ")
}

fn in_parentheses(type_of: &str, operators: &[&str]) -> String {
    match operators.iter().any(|operator| type_of.contains(operator)) {
        true => format!("({type_of})"),
        false => type_of.to_owned(),
    }
}

/// Keywords with which a type is more than its fields.
const COMBINATIONS: [&str; 6] = ["$ref", "allOf", "anyOf", "const", "enum", "oneOf"];
/// Keywords that describe parts of a value.
const PARTS: [&str; 4] = ["additionalProperties", "items", "prefixItems", "properties"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schema_has_the_narrowest_type_that_includes_it() {
        for (schema, expected) in [
            (json!(true), "unknown"),
            (json!(false), "never"),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                "string[]",
            ),
            (
                json!({"type": "array", "items": {"enum": ["buy", "sell"]}}),
                "(\"buy\" | \"sell\")[]",
            ),
            (json!({"type": ["array", "null"]}), "unknown[] | null"),
            (
                json!({"prefixItems": [{"type": "string"}, {"type": "null"}], "minItems": 1}),
                "[string, null?, ...unknown[]]",
            ),
            (
                json!({"type": "array", "prefixItems": [{}], "items": false}),
                "[unknown?]",
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "number"}}),
                "{ [name: string]: number }",
            ),
            (
                json!({"allOf": [{"$ref": "#/$defs/A"}, {"oneOf": [{"const": 1}, {"const": "b"}]}]}),
                "A & (1 | \"b\")",
            ),
            (
                json!({"type": "object", "$ref": "#/$defs/A", "minProperties": 1}),
                "A",
            ),
            (
                json!({"properties": {"a-b": {"type": ["string", "null"], "description": "*/"}}}),
                "{\n  /** *\\/ */\n  \"a-b\"?: string | null;\n}",
            ),
            (json!({"not": {"type": "null"}}), "unknown"),
        ] {
            assert_eq!(OptionalNull::Kept.type_of(&schema), expected, "{schema}");
        }
        let optional = json!({"properties": {"a": {"type": ["string", "null"]}}});
        let found = OptionalNull::Omitted.type_of(&optional);
        assert_eq!(found, "{\n  a?: string;\n}");
    }
}
