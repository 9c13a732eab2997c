//! Compares keywords that the comparison does not understand.

use std::collections::HashSet;

use serde_json::Value;

use super::resolved::{Place, resolve};
use super::schemas::Comparison;

impl Comparison<'_> {
    /// Returns whether a keyword has the same meaning in both documents.
    pub(super) fn is_same(&self, old: &[Place<'_>], new: &[Place<'_>]) -> bool {
        let mut pairs = old.iter().zip(new);
        let mut seen = HashSet::new();
        old.len() == new.len()
            && pairs.all(|(old, new)| self.is_same_value(old.value, new.value, &mut seen))
    }

    fn is_same_value(
        &self,
        old: &Value,
        new: &Value,
        seen: &mut HashSet<(String, String)>,
    ) -> bool {
        match (old, new) {
            (Value::Object(fields), Value::Object(new_fields)) => {
                let target = |value: &Value| value["$ref"].as_str().map(str::to_owned);
                if let (Some(one), Some(other)) = (target(old), target(new))
                    && let Some(place) = resolve(self.old, &one)
                    && let Some(new_place) = resolve(self.new, &other)
                    && seen.insert((one, other))
                    && !self.is_same_value(place.value, new_place.value, seen)
                {
                    return false;
                }
                let is_same = |(name, field): (&String, &Value)| {
                    let new_field = new_fields.get(name);
                    name == "$ref" && new_field.is_some()
                        || new_field.is_some_and(|new| self.is_same_value(field, new, seen))
                };
                fields.len() == new_fields.len() && fields.iter().all(is_same)
            }
            (Value::Array(items), Value::Array(new_items)) => {
                let mut pairs = items.iter().zip(new_items);
                items.len() == new_items.len()
                    && pairs.all(|(old, new)| self.is_same_value(old, new, seen))
            }
            (old, new) => old == new,
        }
    }
}
