//! Compares two schemas for clients that send or receive the values.

use std::collections::HashSet;

use serde_json::Value;

use super::resolved::{Place, Resolved};
use super::values::{FORMS, MAXIMA, MINIMA};
use crate::service::rules::documents::embedding::ANNOTATIONS;

/// Who sends the values of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sender {
    /// A value that was accepted must be accepted.
    Client,
    /// A value that is sent must be one that could be sent before.
    Server,
}

/// A change that breaks clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Break {
    /// The place of the declaration in the earlier document.
    pub(super) pointer: String,
    /// The event and the field.
    pub(super) path: String,
    /// What was changed.
    pub(super) what: String,
}

/// The comparison of an earlier document with a later one.
pub(super) struct Comparison<'a> {
    pub(super) old: &'a Value,
    pub(super) new: &'a Value,
    pub(super) breaks: Vec<Break>,
    /// The places that were compared already, also those that are being compared.
    compared: HashSet<(String, String, Sender)>,
    steps: usize,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(old: &'a Value, new: &'a Value) -> Self {
        Self {
            old,
            new,
            breaks: Vec::new(),
            compared: HashSet::new(),
            steps: 0,
        }
    }

    pub(super) fn report(&mut self, pointer: &str, path: &str, what: impl Into<String>) {
        self.breaks.push(Break {
            pointer: pointer.to_owned(),
            path: path.to_owned(),
            what: what.into(),
        });
    }

    /// Compares schemas, each a list of which all apply. `around` is the pointer to what contains
    /// the earlier ones.
    pub(super) fn compare(
        &mut self,
        old: &[Place<'a>],
        new: &[Place<'a>],
        around: &str,
        path: &str,
        sender: Sender,
    ) {
        let followed = |places: &[Place<'a>], root| -> Vec<_> {
            places
                .iter()
                .map(|place| place.clone().followed(root))
                .collect()
        };
        let (old, new) = (&followed(old, self.old), &followed(new, self.new));
        let key = |places: &[Place<'_>]| {
            let pointers = places.iter().map(|place| place.pointer.as_str());
            pointers.collect::<Vec<_>>().join(" ")
        };
        if !self.compared.insert((key(old), key(new), sender)) {
            return;
        }
        self.steps += 1;
        if self.steps > MAX_STEPS {
            if self.steps == MAX_STEPS + 1 {
                self.report(
                    around,
                    path,
                    "has too many alternatives, cannot be compared",
                );
            }
            return;
        }
        let old = Resolved::new(self.old, old, around);
        let new = Resolved::new(self.new, new, "");
        let (olds, news) = (old.alternatives(), new.alternatives());
        match (olds.as_slice(), news.as_slice()) {
            ([old], [new]) => self.compare_one(old, new, path, sender),
            _ => self.compare_alternatives(&old, &olds, &news, path, sender),
        }
    }

    /// Each alternative that clients send or receive must be part of another one.
    fn compare_alternatives(
        &mut self,
        old: &Resolved<'a>,
        olds: &[Resolved<'a>],
        news: &[Resolved<'a>],
        path: &str,
        sender: Sender,
    ) {
        let (needed, given) = match sender {
            Sender::Client => (olds, news),
            Sender::Server => (news, olds),
        };
        for one in needed {
            let mut fewest: Option<Vec<Break>> = None;
            for other in given {
                let (old, new) = match sender {
                    Sender::Client => (one, other),
                    Sender::Server => (other, one),
                };
                let found = self.attempt(old, new, path, sender);
                if fewest
                    .as_ref()
                    .is_none_or(|fewest| found.len() < fewest.len())
                {
                    fewest = Some(found);
                }
                if fewest.as_ref().is_some_and(Vec::is_empty) {
                    break;
                }
            }
            match (fewest, sender) {
                (Some(breaks), _) if breaks.is_empty() || olds.len() == news.len() => {
                    self.breaks.extend(breaks);
                }
                (_, Sender::Client) => {
                    let what = format!("the alternative {} is no longer accepted", one.describe());
                    self.report(&one.pointer, path, what);
                }
                (_, Sender::Server) => {
                    let what = format!("the alternative {} is new", one.describe());
                    self.report(&old.pointer, path, what);
                }
            }
        }
    }

    /// Returns the breaks between two alternatives without reporting them.
    fn attempt(
        &mut self,
        old: &Resolved<'a>,
        new: &Resolved<'a>,
        path: &str,
        sender: Sender,
    ) -> Vec<Break> {
        let compared = self.compared.clone();
        let breaks = std::mem::take(&mut self.breaks);
        self.compare_one(old, new, path, sender);
        let found = std::mem::replace(&mut self.breaks, breaks);
        if !found.is_empty() {
            self.compared = compared;
        }
        found
    }

    fn compare_one(&mut self, old: &Resolved<'a>, new: &Resolved<'a>, path: &str, sender: Sender) {
        let (needed, given) = match sender {
            Sender::Client => (old, new),
            Sender::Server => (new, old),
        };
        if needed.is_never || given.is_never {
            if !needed.is_never {
                let what = match sender {
                    Sender::Client => "no value is accepted any longer",
                    Sender::Server => "has a value, which it never had",
                };
                self.report(&old.pointer, path, what);
            }
            return;
        }
        if self.compare_types(old, new, path, sender) {
            return;
        }
        self.compare_fields(old, new, path, sender);
        self.compare_items(old, new, path, sender);
        if sender == Sender::Client {
            self.compare_bounds(old, new, path);
        }
        let keywords = old.keywords.keys().chain(new.keywords.keys());
        let mut others: Vec<_> = keywords.filter(|keyword| !is_compared(keyword)).collect();
        others.sort_unstable();
        others.dedup();
        if old.has_no_other_unions() && new.has_no_other_unions() {
            others.retain(|keyword| !["anyOf", "oneOf"].contains(*keyword));
        }
        for keyword in others {
            if !self.is_same(old.all(keyword), new.all(keyword)) {
                self.report_unknown(old, keyword, path);
            }
        }
    }

    pub(super) fn report_unknown(&mut self, old: &Resolved<'a>, keyword: &str, path: &str) {
        let what = format!("`{keyword}` changed, cannot be compared");
        self.report(&old.pointer_of(keyword), path, what);
    }

    fn compare_fields(
        &mut self,
        old: &Resolved<'a>,
        new: &Resolved<'a>,
        path: &str,
        sender: Sender,
    ) {
        let (fields, new_fields) = (old.fields(), new.fields());
        let (required, new_required) = (old.required(), new.required());
        for (name, places) in &fields {
            let path = format!("{path}.{name}");
            let pointer = places.first().map_or("", |place| place.pointer.as_str());
            match new_fields.get(name) {
                Some(field) => self.compare(places, field, pointer, &path, sender),
                None => self.report(pointer, &path, "the field is removed"),
            }
        }
        let is_in = |name: &str| fields.contains_key(name);
        match sender {
            Sender::Client => {
                for name in new_required
                    .keys()
                    .filter(|name| !required.contains_key(*name))
                {
                    let field = fields.get(name).and_then(|places| places.first());
                    let around = || old.pointer_of("required");
                    let pointer = field.map_or_else(around, |place| place.pointer.clone());
                    self.report(&pointer, &format!("{path}.{name}"), "the field is required");
                }
            }
            Sender::Server => {
                for (name, pointer) in &required {
                    let is_removed = is_in(name) && !new_fields.contains_key(name);
                    if !new_required.contains_key(name) && !is_removed {
                        let path = format!("{path}.{name}");
                        self.report(pointer, &path, "the field is no longer always there");
                    }
                }
            }
        }
        self.compare_other_fields(old, new, path, sender);
    }

    /// Compares the fields without a name. Clients ignore fields that they do not know.
    fn compare_other_fields(
        &mut self,
        old: &Resolved<'a>,
        new: &Resolved<'a>,
        path: &str,
        sender: Sender,
    ) {
        const OTHERS: &str = "additionalProperties";
        let (others, new_others) = (old.all(OTHERS), new.all(OTHERS));
        let is_closed = |places: &[Place<'_>]| places.iter().any(|place| *place.value == false);
        let pointer = old.pointer_of(OTHERS);
        let inner = format!("{path}.*");
        match sender {
            Sender::Client if is_closed(others) => {}
            Sender::Client if is_closed(new_others) => {
                self.report(&pointer, path, "fields without a declaration are refused");
            }
            Sender::Client if new_others.is_empty() => {}
            Sender::Client => self.compare(others, new_others, &pointer, &inner, sender),
            Sender::Server if others.is_empty() || is_closed(others) || is_closed(new_others) => {}
            Sender::Server => self.compare(others, new_others, &pointer, &inner, sender),
        }
        const PATTERNS: &str = "patternProperties";
        let of = |schema: &Resolved<'a>| -> Vec<_> {
            schema
                .all(PATTERNS)
                .iter()
                .flat_map(Place::fields)
                .collect()
        };
        let (patterns, new_patterns) = (of(old), of(new));
        let names = |patterns: &[(&'a str, _)]| -> Vec<&str> {
            patterns.iter().map(|(name, _)| *name).collect()
        };
        if names(&patterns) != names(&new_patterns) {
            self.report_unknown(old, PATTERNS, path);
            return;
        }
        for ((name, old), (_, new)) in patterns.into_iter().zip(new_patterns) {
            self.compare(&[old], &[new], "", &format!("{path}.{name}"), sender);
        }
    }

    fn compare_items(
        &mut self,
        old: &Resolved<'a>,
        new: &Resolved<'a>,
        path: &str,
        sender: Sender,
    ) {
        let of = |schema: &Resolved<'a>| -> Vec<_> {
            schema
                .all("prefixItems")
                .iter()
                .flat_map(Place::items)
                .collect()
        };
        let (first, new_first) = (of(old), of(new));
        if first.len() != new_first.len() {
            self.report_unknown(old, "prefixItems", path);
            return;
        }
        for (n, (old, new)) in first.into_iter().zip(new_first).enumerate() {
            self.compare(&[old], &[new], "", &format!("{path}[{n}]"), sender);
        }
        let (items, new_items) = (old.all("items"), new.all("items"));
        let is_open = match sender {
            Sender::Client => new_items.is_empty(),
            Sender::Server => items.is_empty(),
        };
        if !is_open {
            let around = &old.pointer_of("items");
            self.compare(items, new_items, around, &format!("{path}[]"), sender);
        }
    }
}

/// Returns whether the comparison understands a keyword, or may ignore it.
fn is_compared(keyword: &str) -> bool {
    let mut compared = MAXIMA.iter().chain(&MINIMA).chain(&FORMS).chain(&SHAPES);
    ANNOTATIONS.contains(&keyword) || compared.any(|compared| *compared == keyword)
}

/// Keywords that are compared in their own ways.
const SHAPES: [&str; 10] = [
    "$defs",
    "additionalProperties",
    "const",
    "enum",
    "items",
    "patternProperties",
    "prefixItems",
    "properties",
    "required",
    "type",
];
/// The maximum number of compared places.
const MAX_STEPS: usize = 100_000;
