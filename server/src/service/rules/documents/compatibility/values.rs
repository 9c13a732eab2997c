//! Compares what limits single values: types, listed values, bounds and forms.

use serde_json::Number;

use super::resolved::{Place, Resolved};
use super::schemas::{Comparison, Sender};

impl<'a> Comparison<'a> {
    /// Returns whether types or listed values break.
    pub(super) fn compare_types(
        &mut self,
        old: &Resolved<'a>,
        new: &Resolved<'a>,
        path: &str,
        sender: Sender,
    ) -> bool {
        let before = self.breaks.len();
        let (needed, given) = match sender {
            Sender::Client => (old, new),
            Sender::Server => (new, old),
        };
        let ends = match sender {
            Sender::Client => "is no longer accepted",
            Sender::Server => "is new",
        };
        let of_values = ["const", "enum"].map(|keyword| old.pointer_of(keyword));
        let of_values = of_values
            .into_iter()
            .find(|pointer| *pointer != old.pointer);
        let of_values = of_values.unwrap_or_else(|| old.pointer.clone());
        match (needed.values(), given.values()) {
            (Some(needed), Some(given)) => {
                for place in needed {
                    if !given.iter().any(|other| other.value == place.value) {
                        let pointer = match sender {
                            Sender::Client => &place.pointer,
                            Sender::Server => &of_values,
                        };
                        self.report(pointer, path, format!("the value `{}` {ends}", place.value));
                    }
                }
            }
            (needed_values, given_values) => {
                let types = needed.types();
                for lost in types.difference(&given.types()) {
                    let pointer = old.pointer_of("type");
                    self.report(&pointer, path, format!("the type `{lost}` {ends}"));
                }
                if before == self.breaks.len() && needed_values.is_none() && given_values.is_some()
                {
                    let what = match sender {
                        Sender::Client => "only listed values are accepted",
                        Sender::Server => "other values than the listed ones are new",
                    };
                    self.report(&of_values, path, what);
                }
            }
        }
        before != self.breaks.len()
    }

    /// Compares what limits values within their types.
    pub(super) fn compare_bounds(&mut self, old: &Resolved<'a>, new: &Resolved<'a>, path: &str) {
        for (keywords, is_narrower) in [
            (MAXIMA.as_slice(), is_less as fn(&Number, &Number) -> bool),
            (MINIMA.as_slice(), |one, other| is_less(other, one)),
        ] {
            for keyword in keywords {
                let (bound, new_bound) = (
                    tightest(old.all(keyword), is_narrower),
                    tightest(new.all(keyword), is_narrower),
                );
                let what = match (bound, new_bound) {
                    (Some(bound), Some(new)) if is_narrower(new, bound) => {
                        format!("`{keyword}` is {new} instead of {bound}")
                    }
                    (None, Some(new)) if !(is_size(keyword) && new.as_u64() == Some(0)) => {
                        format!("`{keyword}` is {new}, and there was none")
                    }
                    _ => continue,
                };
                self.report(&old.pointer_of(keyword), path, what);
            }
        }
        for keyword in FORMS {
            let (forms, new_forms) = (old.all(keyword), new.all(keyword));
            let is_new = |place: &&Place<'_>| {
                *place.value != false && !forms.iter().any(|form| form.value == place.value)
            };
            if let Some(new) = new_forms.iter().find(is_new) {
                let what = match forms.first() {
                    Some(form) => format!("`{keyword}` is {} instead of {}", new.value, form.value),
                    None => format!("`{keyword}` is {}, and there was none", new.value),
                };
                self.report(&old.pointer_of(keyword), path, what);
            }
        }
    }
}

/// Returns the bound that excludes the most values.
fn tightest<'a>(
    places: &[Place<'a>],
    is_narrower: fn(&Number, &Number) -> bool,
) -> Option<&'a Number> {
    let bounds = places.iter().filter_map(|place| place.value.as_number());
    bounds.reduce(|one, other| if is_narrower(other, one) { other } else { one })
}

fn is_less(one: &Number, other: &Number) -> bool {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one < other,
        _ => one.as_f64() < other.as_f64(),
    }
}

/// Returns whether a keyword bounds a size, which is never negative.
fn is_size(keyword: &str) -> bool {
    keyword.starts_with("min") && keyword != "minimum"
}

pub(super) const MAXIMA: [&str; 5] = [
    "exclusiveMaximum",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
];
pub(super) const MINIMA: [&str; 5] = [
    "exclusiveMinimum",
    "minimum",
    "minItems",
    "minLength",
    "minProperties",
];
/// Keywords of which only equal values are known to accept the same values.
pub(super) const FORMS: [&str; 4] = ["format", "multipleOf", "pattern", "uniqueItems"];
