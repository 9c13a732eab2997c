//! Bounds the work that validation of one value can cause.
//!
//! The subschemas are the nodes of a graph. A node applies some nodes to the same value (`$ref`,
//! `allOf` and others) and other nodes to the fields and items of the value. A recursive schema is
//! allowed as long as each level of data causes about the same number of checks.

#![expect(
    clippy::indexing_slicing,
    reason = "all indexes are those of nodes in the graph"
)]

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// Checks that a schema refers only to itself, does not recurse without descending into the value,
/// and that a value at any level is checked a limited number of times.
///
/// # Errors
///
/// The place of the fault, as a JSON pointer, and a remedy.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut graph = Graph {
        root: schema,
        nodes: Vec::new(),
        by_pointer: HashMap::new(),
        anchors: HashMap::new(),
        references: Vec::new(),
    };
    graph.visit(schema, "")?;
    graph.resolve()?;
    let order = graph.order()?;
    graph.check_cost(&order)
}

/// The maximum number of levels of data.
pub(super) const MAX_DEPTH: usize = 64;
/// The maximum number of subschemas.
const MAX_NODES: usize = 1000;
/// The maximum number of checks of one path through the data.
const MAX_CHECKS: u64 = 10_000;

struct Graph<'a> {
    root: &'a Value,
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
    anchors: HashMap<&'a str, usize>,
    /// The nodes with a reference, and its text.
    references: Vec<(usize, &'a str)>,
}

struct Node {
    pointer: String,
    /// How often each subschema is evaluated.
    times: u64,
    /// The subschemas for the same value.
    same: Vec<usize>,
    /// The subschemas for parts of the value.
    parts: Vec<(PartKind, usize)>,
}

/// The parts of a value that a subschema is applied to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PartKind {
    Field(String),
    AnyField,
    Item(usize),
    AnyItem,
}

impl<'a> Graph<'a> {
    /// Adds a subschema and all subschemas within it. Returns its node.
    fn visit(&mut self, schema: &'a Value, pointer: &str) -> Result<usize, String> {
        if let Some(known) = self.by_pointer.get(pointer) {
            return Ok(*known);
        }
        if self.nodes.len() == MAX_NODES {
            return Err(format!("it has more than {MAX_NODES} subschemas"));
        }
        let node = self.nodes.len();
        self.by_pointer.insert(pointer.to_owned(), node);
        self.nodes.push(Node {
            pointer: pointer.to_owned(),
            times: 1,
            same: Vec::new(),
            parts: Vec::new(),
        });
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(_) => return Ok(node),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(format!("there is no schema at `{}`", shown(pointer)));
            }
        };
        for (keyword, value) in keywords {
            let pointer = format!("{pointer}/{}", escaped(keyword));
            self.visit_keyword(node, keyword, value, &pointer)?;
        }
        // Which fields or items were evaluated is found by another validation of the subschemas.
        let mut unevaluated = ["unevaluatedProperties", "unevaluatedItems"].iter();
        if unevaluated.any(|keyword| keywords.contains_key(*keyword)) {
            self.nodes[node].times = 2;
        }
        Ok(node)
    }

    fn visit_keyword(
        &mut self,
        node: usize,
        keyword: &str,
        value: &'a Value,
        pointer: &str,
    ) -> Result<(), String> {
        let within = |name: &str| format!("{pointer}/{}", escaped(name));
        match (keyword, value) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) => {
                self.references.push((node, target));
            }
            ("$anchor" | "$dynamicAnchor", Value::String(name)) => {
                self.anchors.insert(name, node);
            }
            ("$id" | "id", Value::String(_)) if node != 0 => {
                return Err(format!(
                    "`{pointer}` changes what references mean: remove it"
                ));
            }
            ("$schema", Value::String(draft)) if !DRAFTS.contains(&draft.trim_end_matches('#')) => {
                return Err(format!(
                    "`{pointer}` is no draft of JSON Schema: use `{NEWEST_DRAFT}`"
                ));
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                for (n, schema) in schemas.iter().enumerate() {
                    self.apply(node, None, schema, &format!("{pointer}/{n}"))?;
                }
            }
            ("not" | "if" | "then" | "else", schema) => self.apply(node, None, schema, pointer)?,
            ("dependentSchemas" | "dependencies", Value::Object(schemas)) => {
                for (name, schema) in schemas.iter().filter(|(_, one)| !one.is_array()) {
                    self.apply(node, None, schema, &within(name))?;
                }
            }
            ("$defs" | "definitions", Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    self.visit(schema, &within(name))?;
                }
            }
            ("properties", Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    let part = PartKind::Field(name.clone());
                    self.apply(node, Some(part), schema, &within(name))?;
                }
            }
            ("patternProperties", Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    self.apply(node, Some(PartKind::AnyField), schema, &within(name))?;
                }
            }
            ("additionalProperties" | "unevaluatedProperties" | "propertyNames", schema) => {
                self.apply(node, Some(PartKind::AnyField), schema, pointer)?;
            }
            ("prefixItems" | "items", Value::Array(schemas)) => {
                for (n, schema) in schemas.iter().enumerate() {
                    let part = Some(PartKind::Item(n));
                    self.apply(node, part, schema, &format!("{pointer}/{n}"))?;
                }
            }
            ("items" | "additionalItems" | "unevaluatedItems" | "contains", schema) => {
                self.apply(node, Some(PartKind::AnyItem), schema, pointer)?;
            }
            // Other keywords have no subschemas, or the compiler refuses their values.
            _ => {}
        }
        Ok(())
    }

    /// Adds a subschema that a node applies to a part of the value, or to the value itself.
    fn apply(
        &mut self,
        node: usize,
        part: Option<PartKind>,
        schema: &'a Value,
        pointer: &str,
    ) -> Result<(), String> {
        let inner = self.visit(schema, pointer)?;
        let node = &mut self.nodes[node];
        match part {
            Some(part) => node.parts.push((part, inner)),
            None => node.same.push(inner),
        }
        Ok(())
    }

    /// Connects the nodes that refer to others. References can lead to further subschemas.
    fn resolve(&mut self) -> Result<(), String> {
        while let Some((node, target)) = self.references.pop() {
            let place = format!("{}/$ref", self.nodes[node].pointer);
            let Some(fragment) = target.strip_prefix('#') else {
                return Err(format!(
                    "`{place}` leads out of the file: copy the schema into `$defs` and refer to \
                     `#/$defs/…`"
                ));
            };
            let found = match self.anchors.get(fragment) {
                Some(anchored) => Some(*anchored),
                None if fragment.is_empty() || fragment.starts_with('/') => {
                    let root = self.root;
                    let schema = root.pointer(fragment);
                    schema
                        .map(|schema| self.visit(schema, fragment))
                        .transpose()?
                }
                None => None,
            };
            let Some(found) = found else {
                return Err(format!(
                    "`{place}` refers to `{target}`, which does not exist"
                ));
            };
            self.nodes[node].same.push(found);
        }
        Ok(())
    }

    /// Returns the nodes in an order in which each follows those that it applies to the same value.
    fn order(&self) -> Result<Vec<usize>, String> {
        /// Whether a node is on the current path, or complete.
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        for start in 0..self.nodes.len() {
            let mut path = vec![(start, 0)];
            while let Some((node, next)) = path.pop() {
                if next == 0 {
                    match marks[node] {
                        Mark::Done => continue,
                        Mark::Open => {
                            return Err(format!(
                                "it recurses without bound at `{}`: a reference leads back to it \
                                 without a field or an item in between",
                                shown(&self.nodes[node].pointer)
                            ));
                        }
                        Mark::New => marks[node] = Mark::Open,
                    }
                }
                match self.nodes[node].same.get(next) {
                    Some(inner) => path.extend([(node, next + 1), (*inner, 0)]),
                    None => {
                        marks[node] = Mark::Done;
                        order.push(node);
                    }
                }
            }
        }
        Ok(order)
    }

    /// Checks how often a value at each level can be checked.
    fn check_cost(&self, order: &[usize]) -> Result<(), String> {
        let mut reach: Vec<Reach> = vec![Reach::default(); self.nodes.len()];
        for at in order {
            let node = &self.nodes[*at];
            let mut own = Reach {
                checks: 1,
                parts: BTreeMap::new(),
            };
            for (kind, inner) in &node.parts {
                own.add(kind, *inner, node.times);
            }
            for inner in node.same.iter().map(|inner| &reach[*inner]) {
                let checks = inner.checks.saturating_mul(node.times);
                own.checks = own.checks.saturating_add(checks);
                for (kind, targets) in &inner.parts {
                    for (target, times) in targets {
                        own.add(kind, *target, times.saturating_mul(node.times));
                    }
                }
            }
            if own.checks > MAX_CHECKS {
                return Err(self.too_many(*at));
            }
            reach[*at] = own;
        }
        let mut below = vec![0; self.nodes.len()];
        for _ in 0..=MAX_DEPTH {
            let costs = reach
                .iter()
                .map(|reach| reach.cost(&below))
                .collect::<Vec<_>>();
            // A node that no value of the event reaches does not count.
            if costs.first().is_some_and(|cost| *cost > MAX_CHECKS) {
                let worst = costs.iter().enumerate().max_by_key(|(_, cost)| **cost);
                return Err(self.too_many(worst.map_or(0, |(node, _)| node)));
            }
            below = costs;
        }
        Ok(())
    }

    fn too_many(&self, node: usize) -> String {
        format!(
            "validation could take exponential time at `{}`: a nested value would be checked more \
             than {MAX_CHECKS} times, because several subschemas for the same value recurse",
            shown(&self.nodes[node].pointer)
        )
    }
}

/// What a node applies to a value and its parts, together with all nodes for the same value.
#[derive(Clone, Default)]
struct Reach {
    /// The number of checks of the value itself.
    checks: u64,
    /// How often each node is applied to a part of the value.
    parts: BTreeMap<PartKind, BTreeMap<usize, u64>>,
}

impl Reach {
    fn add(&mut self, kind: &PartKind, node: usize, times: u64) {
        let targets = self.parts.entry(kind.clone()).or_default();
        let count = targets.entry(node).or_default();
        *count = count.saturating_add(times);
    }

    /// Returns the maximum number of checks on one path through a value, given those of the nodes
    /// on the level below.
    fn cost(&self, below: &[u64]) -> u64 {
        let sum = |kind: &PartKind| -> u64 {
            let targets = self.parts.get(kind).into_iter().flatten();
            targets.fold(0, |sum, (node, times)| {
                let cost = below.get(*node).copied().unwrap_or_default();
                sum.saturating_add(times.saturating_mul(cost))
            })
        };
        let (any_field, any_item) = (sum(&PartKind::AnyField), sum(&PartKind::AnyItem));
        let worst = self.parts.keys().map(|kind| match kind {
            PartKind::Field(_) => sum(kind).saturating_add(any_field),
            PartKind::Item(_) => sum(kind).saturating_add(any_item),
            PartKind::AnyField => any_field,
            PartKind::AnyItem => any_item,
        });
        self.checks.saturating_add(worst.max().unwrap_or_default())
    }
}

/// Escapes a name in a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "/" } else { pointer }
}

/// The draft that applies without `$schema`.
const NEWEST_DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The drafts that a schema can name.
const DRAFTS: [&str; 5] = [
    NEWEST_DRAFT,
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
];

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn recursion_that_descends_once_per_level_is_allowed() {
        for schema in [
            json!(true),
            json!({"items": {"$ref": "#"}}),
            json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}),
            json!({"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}),
            json!({"$dynamicAnchor": "n", "items": {"$dynamicRef": "#n"}}),
            json!({"anyOf": [
                {"properties": {"and": {"items": {"$ref": "#"}}}},
                {"properties": {"not": {"$ref": "#"}}},
            ]}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}}),
            json!({"$ref": "#/components/order", "components": {"order": {"type": "object"}}}),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn recursion_without_descent_is_refused() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$ref": "#/$defs/a", "$defs": {
                "a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/b"}]},
                "b": {"not": {"$ref": "#/$defs/a"}},
            }}),
            json!({"$anchor": "me", "if": {"$ref": "#me"}}),
        ] {
            let fault = check(&schema).unwrap_err();
            assert!(
                fault.contains("recurses without bound"),
                "{schema}: {fault}"
            );
        }
    }

    #[test]
    fn exponential_validation_is_refused() {
        // Each definition applies the next one twice.
        let mut doubling = Map::new();
        for n in 0..30 {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            doubling.insert(format!("d{n}"), json!({"allOf": [next, next]}));
        }
        doubling.insert("d30".into(), json!({}));
        for schema in [
            json!({"anyOf": [
                {"properties": {"a": {"$ref": "#"}}},
                {"properties": {"a": {"$ref": "#"}}},
            ]}),
            json!({"properties": {"a": {"$ref": "#"}}, "patternProperties": {"^a": {"$ref": "#"}}}),
            json!({"items": {"$ref": "#"}, "contains": {"$ref": "#"}}),
            json!({"$ref": "#/$defs/d0", "$defs": doubling}),
        ] {
            let fault = check(&schema).unwrap_err();
            assert!(fault.contains("exponential time"), "{schema}: {fault}");
        }
    }

    #[test]
    fn schema_with_too_many_subschemas_or_another_base_is_refused() {
        let fields = (0..MAX_NODES).map(|n| (n.to_string(), json!(true)));
        let schema = json!({"properties": fields.collect::<Map<_, _>>()});
        let fault = check(&schema).unwrap_err();
        assert!(fault.contains("more than 1000 subschemas"), "{fault}");
        let schema = json!({"properties": {"a": {"$id": "https://example.com/a"}}});
        let fault = check(&schema).unwrap_err();
        assert!(fault.starts_with("`/properties/a/$id`"), "{fault}");
        assert_eq!(check(&json!({"$id": "https://example.com/a"})), Ok(()));
    }
}
