//! Schemas with their references resolved. Each keyword has its places in the document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::service::rules::documents::embedding::{ANNOTATIONS, escaped};

/// A value in a document.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) value: &'a Value,
    /// The JSON pointer to the value.
    pub(super) pointer: String,
}

impl<'a> Place<'a> {
    pub(super) const fn root(value: &'a Value) -> Self {
        let pointer = String::new();
        Self { value, pointer }
    }

    /// Returns the target if this is only a reference, so that each type has one place.
    pub(super) fn followed(mut self, root: &'a Value) -> Self {
        for _ in 0..MAX_REFERENCES {
            let mut keywords = self.value.as_object().into_iter().flatten();
            let is_other =
                |keyword: &String| keyword != "$ref" && !ANNOTATIONS.contains(&keyword.as_str());
            if keywords.any(|(keyword, _)| is_other(keyword)) {
                break;
            }
            let target = self.value["$ref"].as_str();
            match target.and_then(|target| resolve(root, target)) {
                Some(target) => self = target,
                None => break,
            }
        }
        self
    }

    /// Returns a field.
    pub(super) fn get(&self, name: &str) -> Option<Self> {
        Some(Self {
            value: self.value.get(name)?,
            pointer: format!("{}/{}", self.pointer, escaped(name)),
        })
    }

    /// Returns the fields of an object.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a str, Self)> {
        let fields = self.value.as_object().into_iter().flatten();
        fields.map(|(name, value)| {
            let pointer = format!("{}/{}", self.pointer, escaped(name));
            (name.as_str(), Self { value, pointer })
        })
    }

    /// Returns the items of an array.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(|(n, value)| Self {
            value,
            pointer: format!("{}/{n}", self.pointer),
        })
    }
}

/// The keywords that apply to one value.
#[derive(Clone, Debug)]
pub(super) struct Resolved<'a> {
    root: &'a Value,
    /// Where the schema is, for faults of keywords that it does not have.
    pub(super) pointer: String,
    /// The places of each keyword, several if schemas are combined.
    pub(super) keywords: BTreeMap<&'a str, Vec<Place<'a>>>,
    /// Whether no value matches, because of the schema `false`.
    pub(super) is_never: bool,
    /// The places that were added.
    seen: BTreeSet<String>,
}

impl<'a> Resolved<'a> {
    /// Resolves schemas that all apply to the value. `pointer` is for the case that there is none.
    pub(super) fn new(root: &'a Value, schemas: &[Place<'a>], pointer: &str) -> Self {
        let first = schemas.first().map(|first| first.pointer.as_str());
        let mut resolved = Self {
            root,
            pointer: first.unwrap_or(pointer).to_owned(),
            keywords: BTreeMap::new(),
            is_never: false,
            seen: BTreeSet::new(),
        };
        for schema in schemas {
            resolved.add(schema);
        }
        resolved
    }

    fn add(&mut self, schema: &Place<'a>) {
        if !self.seen.insert(schema.pointer.clone()) {
            return;
        }
        self.is_never |= *schema.value == false;
        for (keyword, place) in schema.fields() {
            let target = match (keyword, place.value.as_str()) {
                ("$ref", Some(target)) => resolve(self.root, target),
                _ => None,
            };
            match (keyword, target) {
                (_, Some(target)) => self.add(&target),
                ("allOf", None) => place.items().for_each(|schema| self.add(&schema)),
                (keyword, None) => self.keywords.entry(keyword).or_default().push(place),
            }
        }
    }

    /// Returns the places of a keyword.
    pub(super) fn all(&self, keyword: &str) -> &[Place<'a>] {
        self.keywords.get(keyword).map_or(&[], Vec::as_slice)
    }

    /// Returns the pointer to a keyword, or to the schema if it lacks the keyword.
    pub(super) fn pointer_of(&self, keyword: &str) -> String {
        let place = self.all(keyword).first();
        place.map_or_else(|| self.pointer.clone(), |place| place.pointer.clone())
    }

    /// Returns the fields that the schema describes.
    pub(super) fn fields(&self) -> BTreeMap<&'a str, Vec<Place<'a>>> {
        let mut fields = BTreeMap::<_, Vec<_>>::new();
        for (name, field) in self.all("properties").iter().flat_map(Place::fields) {
            fields.entry(name).or_default().push(field);
        }
        fields
    }

    /// Returns the names of required fields with their places.
    pub(super) fn required(&self) -> BTreeMap<&'a str, String> {
        let items = self.all("required").iter().flat_map(Place::items);
        let names = items.filter_map(|item| Some((item.value.as_str()?, item.pointer)));
        names.collect()
    }

    /// Returns the allowed values with their places if the schema lists them, also as alternatives.
    pub(super) fn values(&self) -> Option<Vec<Place<'a>>> {
        self.listed_values().or_else(|| self.alternative_values())
    }

    fn listed_values(&self) -> Option<Vec<Place<'a>>> {
        let constants = self.all("const").iter().map(|value| vec![value.clone()]);
        let lists = self.all("enum").iter();
        let lists = lists.map(|list| list.items().collect::<Vec<_>>());
        let nulls = self.all("type").iter().filter(|kind| kind.value == "null");
        let nulls = nulls.map(|kind| {
            let (value, pointer) = (&Value::Null, kind.pointer.clone());
            vec![Place { value, pointer }]
        });
        let lists = constants.chain(lists).chain(nulls);
        lists.reduce(|mut values, list| {
            values.retain(|one| list.iter().any(|other| other.value == one.value));
            values
        })
    }

    /// Returns the values if each alternative lists its values.
    fn alternative_values(&self) -> Option<Vec<Place<'a>>> {
        let [union] = self.unions()[..] else {
            return None;
        };
        let schemas = union.items();
        let values = schemas.map(|schema| Self::new(self.root, &[schema], "").listed_values());
        let values: Option<Vec<_>> = values.collect();
        Some(values?.concat())
    }

    /// Returns whether all alternatives were understood as alternatives or as values.
    pub(super) fn has_no_other_unions(&self) -> bool {
        let lists_values = || self.listed_values().is_none() && self.values().is_some();
        self.unions().is_empty() || lists_values()
    }

    /// Returns the lists of alternatives.
    fn unions(&self) -> Vec<&Place<'a>> {
        let unions = self.all("anyOf").iter().chain(self.all("oneOf"));
        unions.collect()
    }

    /// Returns the types of JSON that the schema allows. `integer` is part of `number`.
    pub(super) fn types(&self) -> BTreeSet<&'a str> {
        let mut types = BTreeSet::from(TYPES);
        for place in self.all("type") {
            let named = place.value.as_str().into_iter();
            let listed = place.value.as_array().into_iter().flatten();
            let mut allowed: BTreeSet<&str> =
                named.chain(listed.filter_map(Value::as_str)).collect();
            if allowed.contains("number") {
                allowed.insert("integer");
            }
            types.retain(|one| allowed.contains(one));
        }
        if let Some(values) = self.values() {
            let of_values: BTreeSet<_> = values.iter().map(|value| type_of(value.value)).collect();
            types.retain(|one| of_values.contains(one));
        }
        types
    }

    /// Returns the alternatives, each with all other keywords: the schema itself if it has none.
    pub(super) fn alternatives(&self) -> Vec<Self> {
        let mut complete = Vec::new();
        let mut open = vec![self.clone()];
        while let Some(schema) = open.pop() {
            let unions = schema.unions();
            let is_last = unions.len() != 1 || schema.values().is_some();
            if is_last || open.len() + complete.len() > MAX_ALTERNATIVES {
                complete.push(schema);
                continue;
            }
            let inner: Vec<_> = unions.iter().flat_map(|union| union.items()).collect();
            for alternative in inner.into_iter().rev() {
                let alternative = alternative.followed(self.root);
                let mut one = schema.clone();
                one.keywords
                    .retain(|keyword, _| !["anyOf", "oneOf"].contains(keyword));
                one.pointer.clone_from(&alternative.pointer);
                one.add(&alternative);
                open.push(one);
            }
        }
        complete
    }

    /// Describes the schema by its values or types.
    pub(super) fn describe(&self) -> String {
        let list = match self.values() {
            Some(values) => values
                .iter()
                .map(|place| format!("`{}`", place.value))
                .collect(),
            None => self
                .types()
                .iter()
                .map(|one| format!("`{one}`"))
                .collect::<Vec<_>>(),
        };
        match list.len() == TYPES.len() {
            true => "any value".to_owned(),
            false => list.join(" or "),
        }
    }
}

/// Returns the target of a reference.
pub(super) fn resolve<'a>(root: &'a Value, target: &str) -> Option<Place<'a>> {
    let pointer = target.strip_prefix('#')?;
    let value = root.pointer(pointer)?;
    let pointer = pointer.to_owned();
    Some(Place { value, pointer })
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];
/// The maximum number of references that are followed one after another.
const MAX_REFERENCES: usize = 64;
/// The maximum number of alternatives that are combined. Further ones are compared as they are.
const MAX_ALTERNATIVES: usize = 256;
