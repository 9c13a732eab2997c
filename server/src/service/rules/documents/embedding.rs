//! Embeds the schema of a file in the types of the catalogue.
//!
//! References in a file lead to the file itself, so they would lead elsewhere in the catalogue.
//! Every target of a reference becomes a type of its own, and references name these types.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The types of a file.
struct Embedding<'a> {
    file: &'a Value,
    draft: &'a str,
    /// The names of types by the places of their schemas, which are JSON pointers.
    names: BTreeMap<String, String>,
    /// The places whose schemas are not types yet.
    pending: Vec<String>,
}

/// Returns the types of a file, the first of which is `name`. `choose` returns an unused name that
/// begins with the given one.
///
/// # Errors
///
/// The place of a keyword whose meaning differs in the language of the catalogue.
pub(super) fn embed(
    file: &Value,
    name: String,
    mut choose: impl FnMut(String) -> String,
) -> Result<Vec<(String, Value)>, String> {
    let mut embedding = Embedding {
        file,
        draft: file["$schema"].as_str().unwrap_or(NEWEST),
        names: BTreeMap::from([(String::new(), name)]),
        pending: vec![String::new()],
    };
    let mut types = Vec::new();
    while let Some(place) = embedding.pending.pop() {
        let mut schema = file.pointer(&place).cloned().unwrap_or_default();
        embedding.rewrite(&mut schema, &place, &mut choose)?;
        if schema == true {
            // The same schema, for readers of AsyncAPI, whose payloads are objects.
            schema = json!({});
        }
        let name = embedding.names.get(&place).cloned();
        types.push((name.unwrap_or_default(), schema));
    }
    Ok(types)
}

impl Embedding<'_> {
    /// Rewrites the references of a schema, and removes keywords that only references need.
    fn rewrite(
        &mut self,
        schema: &mut Value,
        place: &str,
        choose: &mut impl FnMut(String) -> String,
    ) -> Result<(), String> {
        if let Some(keyword) = differing(schema, self.draft) {
            return Err(format!(
                "`{place}/{keyword}` has another meaning in JSON Schema 2020-12, the language of \
                 the catalogue: write the schema in 2020-12"
            ));
        }
        for inner in subschemas(schema) {
            if let Some(inner_schema) = schema.pointer_mut(&inner) {
                self.rewrite(inner_schema, &format!("{place}{inner}"), choose)?;
            }
        }
        let Some(keywords) = schema.as_object_mut() else {
            return Ok(());
        };
        keywords.retain(|keyword, _| !OF_REFERENCES.contains(&keyword.as_str()));
        let targets = REFERENCES.map(|keyword| keywords.remove(keyword));
        for target in targets.iter().flatten().filter_map(Value::as_str) {
            let target = format!("#/$defs/{}", self.name_of(target, choose));
            if let Some(other) = keywords.insert("$ref".to_owned(), target.into()) {
                let all = keywords.entry("allOf").or_insert_with(|| json!([]));
                if let Some(all) = all.as_array_mut() {
                    all.push(json!({"$ref": other}));
                }
            }
        }
        Ok(())
    }

    /// Returns the name of the type that a reference leads to.
    fn name_of(&mut self, target: &str, choose: &mut impl FnMut(String) -> String) -> String {
        let fragment = target.strip_prefix('#').unwrap_or(target);
        let is_place = fragment.is_empty() || fragment.starts_with('/');
        let place = match anchored(self.file, fragment) {
            Some(place) if !is_place => place,
            Some(_) | None => fragment.to_owned(),
        };
        if let Some(name) = self.names.get(&place) {
            return name.clone();
        }
        let file = self.names.get("").map_or("", String::as_str);
        let last = place.rsplit('/').next().unwrap_or_default();
        let name = choose(format!("{file}{}", pascal_case(last)));
        self.names.insert(place.clone(), name.clone());
        self.pending.push(place);
        name
    }
}

/// Returns the place of the schema with an anchor.
fn anchored(schema: &Value, anchor: &str) -> Option<String> {
    let mut anchors = ["$anchor", "$dynamicAnchor"].iter();
    if anchors.any(|keyword| schema[*keyword] == anchor) {
        return Some(String::new());
    }
    subschemas(schema).into_iter().find_map(|inner| {
        let found = anchored(schema.pointer(&inner)?, anchor)?;
        Some(inner + &found)
    })
}

/// Returns the keyword of a schema that has another meaning, or none, in 2020-12 than in its draft.
fn differing<'a>(schema: &'a Value, draft: &str) -> Option<&'a str> {
    let draft = draft.trim_end_matches('#');
    let earlier = match draft
        .rsplit_once("//json-schema.org/")
        .map_or("", |(_, path)| path)
    {
        "draft-04/schema" | "draft-06/schema" => LATER.as_slice(),
        "draft-07/schema" | "draft/2019-09/schema" => LATER.get(4..)?,
        _ => return None,
    };
    let keywords = schema.as_object()?;
    // Before 2019-09, a reference replaces the keywords beside it.
    let is_replaced = keywords.contains_key("$ref") && !draft.contains("2019-09");
    let differs = |keyword: &str, value: &Value| match keyword {
        "items" if value.is_array() => true,
        "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => true,
        "$ref" => false,
        other if OF_REFERENCES.contains(&other) || ANNOTATIONS.contains(&other) => false,
        other => is_replaced || earlier.contains(&other),
    };
    let mut keywords = keywords.iter();
    let found = keywords.find(|(keyword, value)| differs(keyword, value));
    found.map(|(keyword, _)| keyword.as_str())
}

/// Returns the places of the schemas directly within a schema.
fn subschemas(schema: &Value) -> Vec<String> {
    let mut places = Vec::new();
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), value) {
            (
                "properties" | "patternProperties" | "dependentSchemas" | "dependencies" | "$defs"
                | "definitions",
                Value::Object(schemas),
            ) => places.extend(
                schemas
                    .keys()
                    .map(|name| format!("/{keyword}/{}", escaped(name))),
            ),
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(schemas)) => {
                places.extend((0..schemas.len()).map(|n| format!("/{keyword}/{n}")));
            }
            (
                "not"
                | "if"
                | "then"
                | "else"
                | "items"
                | "additionalItems"
                | "contains"
                | "additionalProperties"
                | "propertyNames"
                | "unevaluatedProperties"
                | "unevaluatedItems"
                | "contentSchema",
                _,
            ) => places.push(format!("/{keyword}")),
            _ => {}
        }
    }
    places
}

/// Returns a text as a segment of a JSON pointer.
pub(super) fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// Returns a text as a part of the name of a type: `order:updated` is `OrderUpdated`.
pub(super) fn pascal_case(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.flat_map(|word| {
        let mut rest = word.chars();
        let first = rest.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(rest)
    });
    words.collect()
}

const NEWEST: &str = "https://json-schema.org/draft/2020-12/schema";
const REFERENCES: [&str; 3] = ["$dynamicRef", "$recursiveRef", "$ref"];
/// Keywords that only have a meaning for references.
const OF_REFERENCES: [&str; 9] = [
    "$anchor",
    "$defs",
    "$dynamicAnchor",
    "$id",
    "$recursiveAnchor",
    "$schema",
    "$vocabulary",
    "definitions",
    "id",
];
/// Keywords that check nothing.
pub(super) const ANNOTATIONS: [&str; 11] = [
    "$comment",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
/// Keywords that some earlier drafts do not have, or 2020-12 does not have. Draft 7 has the first
/// four.
const LATER: [&str; 13] = [
    "const",
    "contains",
    "if",
    "propertyNames",
    "additionalItems",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "maxContains",
    "minContains",
    "prefixItems",
    "unevaluatedItems",
    "unevaluatedProperties",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(file: &Value) -> Result<Value, String> {
        let mut names = vec!["Order".to_owned()];
        let types = embed(file, "Order".into(), |mut name| {
            while names.contains(&name) {
                name.push('2');
            }
            names.push(name.clone());
            name
        });
        types.map(|types| types.into_iter().collect())
    }

    #[test]
    fn each_target_of_a_reference_becomes_a_type() {
        let file = json!({
            "$schema": NEWEST,
            "$id": "https://example.com/order",
            "properties": {
                "item": {"$ref": "#/$defs/item"},
                "other": {"$ref": "#/$defs/a~1b/properties/item"},
                "next": {"$ref": "#"},
                "price": {"$ref": "#price", "description": "Before tax."},
                "$ref": {"const": {"$ref": "#/data"}},
            },
            "$defs": {
                "item": {"$dynamicRef": "#price", "$ref": "#/properties/price"},
                "a/b": {"properties": {"item": {"type": "null"}}},
                "price": {"$dynamicAnchor": "price", "type": "number"},
                "unused": {},
            },
        });
        let reference = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
        let expected = json!({
            "Order": {"properties": {
                "item": reference("OrderItem"),
                "other": reference("OrderItem2"),
                "next": reference("Order"),
                "price": {"$ref": "#/$defs/OrderPrice", "description": "Before tax."},
                "$ref": {"const": {"$ref": "#/data"}},
            }},
            "OrderItem": {
                "$ref": "#/$defs/OrderPrice2",
                "allOf": [reference("OrderPrice")],
            },
            "OrderItem2": {"type": "null"},
            "OrderPrice": {"type": "number"},
            "OrderPrice2": {"$ref": "#/$defs/OrderPrice", "description": "Before tax."},
        });
        let found = embedded(&file).unwrap();
        assert_eq!(found, expected, "{found:#}");
    }

    #[test]
    fn keyword_with_another_meaning_in_an_earlier_draft_is_refused() {
        let draft = |draft: &str| format!("http://json-schema.org/{draft}/schema#");
        for (earlier, schema, expected) in [
            ("draft-07", json!({"items": [{}]}), Some("`/a/items`")),
            (
                "draft-07",
                json!({"dependencies": {}}),
                Some("`/a/dependencies`"),
            ),
            (
                "draft-07",
                json!({"$ref": "#", "type": "object"}),
                Some("`/a/type`"),
            ),
            ("draft-07", json!({"$ref": "#", "title": "An order"}), None),
            ("draft-07", json!({"const": 1, "items": {}}), None),
            ("draft-04", json!({"const": 1}), Some("`/a/const`")),
            (
                "draft-04",
                json!({"exclusiveMinimum": true}),
                Some("`/a/exclusiveMinimum`"),
            ),
            (
                "draft/2019-09",
                json!({"$ref": "#", "type": "object"}),
                None,
            ),
            (
                "draft/2019-09",
                json!({"dependentRequired": {}}),
                Some("2020-12"),
            ),
        ] {
            let mut file = json!({"$schema": draft(earlier), "properties": {}});
            file["not"] = schema.clone();
            let found = embedded(&file).err();
            let expected = expected.map(|expected| expected.replace("/a/", "/not/"));
            let is_expected = match (&found, &expected) {
                (Some(found), Some(expected)) => found.contains(expected.as_str()),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            assert!(is_expected, "{earlier} {schema}: {found:?}");
        }
    }
}
