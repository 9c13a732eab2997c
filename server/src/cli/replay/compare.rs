//! Compares recorded answers with those of the replay.
//!
//! Values that change by nature are compared by type: UUIDs and times anywhere, and the fields of
//! [`changes_by_nature`]. All other values must be equal. If the recording is masked, the answers
//! of the replay are masked in the same way first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::discriminant;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use crate::metrics::trace::{Masker, Policy, names_user};
use crate::service::api::vocabulary;

/// The rules of a comparison, and the ids that correspond.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Removes from answers what was removed from the recording.
    masker: Masker,
    /// Removes texts from the report.
    report: Masker,
    /// The ids that the server of the replay chose, by those of the recording.
    ids: RefCell<HashMap<String, String>>,
}

/// A difference between two answers. The values are masked.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    /// Where the values are in the list of the answer's arguments.
    pub(super) path: String,
    pub(super) recorded: Value,
    pub(super) replayed: Value,
}

impl Comparison {
    /// Returns `None` if the system has no random numbers.
    pub(super) fn new(is_masked: bool) -> Option<Self> {
        let masked = Policy::Masked(vocabulary());
        let policy = if is_masked {
            masked.clone()
        } else {
            Policy::Consented
        };
        Some(Self {
            masker: Masker::new(policy)?,
            report: Masker::new(masked)?,
            ids: RefCell::default(),
        })
    }

    /// Compares the answers to an event, and notes which ids correspond.
    pub(super) fn compare(
        &self,
        event: &str,
        recorded: &RawValue,
        replayed: Vec<Value>,
    ) -> Vec<Difference> {
        let recorded: Vec<Value> = serde_json::from_str(recorded.get()).unwrap_or_default();
        let replayed = self.masker.answer(event, replayed);
        let mut walk = Walk {
            comparison: self,
            path: String::new(),
            differences: Vec::new(),
        };
        walk.list(&recorded, &replayed, None);
        walk.differences
    }

    /// Returns recorded arguments with the ids of the server of the replay.
    pub(super) fn arguments(&self, recorded: &RawValue) -> Vec<Value> {
        let mut args: Vec<Value> = serde_json::from_str(recorded.get()).unwrap_or_default();
        let ids = self.ids.borrow();
        if !ids.is_empty() {
            args.iter_mut().for_each(|value| translate(value, &ids));
        }
        args
    }
}

/// Replaces known ids.
fn translate(value: &mut Value, ids: &HashMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(id) = ids.get(text) {
                text.clone_from(id);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| translate(value, ids)),
        Value::Object(fields) => fields.values_mut().for_each(|value| translate(value, ids)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The comparison of two answers.
struct Walk<'a> {
    comparison: &'a Comparison,
    path: String,
    differences: Vec<Difference>,
}

impl Walk<'_> {
    fn list(&mut self, recorded: &[Value], replayed: &[Value], field: Option<&str>) {
        if recorded.len() != replayed.len() {
            let count = |values: &[Value]| format!("{} values", values.len()).into();
            return self.differ(count(recorded), count(replayed));
        }
        for (index, (recorded, replayed)) in recorded.iter().zip(replayed).enumerate() {
            self.below(&format!("[{index}]"), |walk| {
                walk.values(recorded, replayed, field);
            });
        }
    }

    fn values(&mut self, recorded: &Value, replayed: &Value, field: Option<&str>) {
        match (recorded, replayed) {
            (Value::Object(recorded), Value::Object(replayed)) => {
                for (name, value) in recorded {
                    self.below(&format!(".{name}"), |walk| match replayed.get(name) {
                        Some(other) => walk.values(value, other, Some(name)),
                        None => walk.differ(walk.shown(value, Some(name)), ABSENT.into()),
                    });
                }
                for (name, value) in replayed {
                    if !recorded.contains_key(name) {
                        self.below(&format!(".{name}"), |walk| {
                            walk.differ(ABSENT.into(), walk.shown(value, Some(name)));
                        });
                    }
                }
            }
            (Value::Array(recorded), Value::Array(replayed)) => {
                self.list(recorded, replayed, field);
            }
            (Value::String(recorded), Value::String(replayed))
                if is_id(recorded) && is_id(replayed) =>
            {
                if recorded != replayed {
                    let mut ids = self.comparison.ids.borrow_mut();
                    ids.insert(recorded.clone(), replayed.clone());
                }
            }
            (Value::String(recorded), Value::String(replayed))
                if is_time(recorded) && is_time(replayed) => {}
            (recorded, replayed) => {
                let is_same_type = discriminant(recorded) == discriminant(replayed);
                let is_equal =
                    recorded == replayed || is_same_type && field.is_some_and(changes_by_nature);
                if !is_equal {
                    let recorded = self.shown(recorded, field);
                    let replayed = self.shown(replayed, field);
                    self.differ(recorded, replayed);
                }
            }
        }
    }

    fn below(&mut self, part: &str, compare: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(part);
        compare(self);
        self.path.truncate(length);
    }

    fn shown(&self, value: &Value, field: Option<&str>) -> Value {
        self.comparison.report.field(field, value)
    }

    fn differ(&mut self, recorded: Value, replayed: Value) {
        self.differences.push(Difference {
            path: self.path.clone(),
            recorded,
            replayed,
        });
    }
}

/// Returns whether two servers give different values to a field although they behave equally: ids,
/// names of users, times, numbers of messages and versions, and cursors.
fn changes_by_nature(field: &str) -> bool {
    names_user(field)
        || FIELDS.contains(&field)
        || ENDS
            .iter()
            .any(|end| field.len() > end.len() && field.ends_with(end))
}

fn is_id(text: &str) -> bool {
    Uuid::try_parse(text).is_ok()
}

fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok()
}

/// What a report shows of a field that one answer does not have.
const ABSENT: &str = "(absent)";
/// Fields that change by nature.
const FIELDS: [&str; 12] = [
    "id",
    "seq",
    "time",
    "timestamp",
    "version",
    "revision",
    "cursor",
    "expiresIn",
    "retryAfter",
    "name",
    "userName",
    "sid",
];
/// Ends of the names of fields that change by nature.
const ENDS: [&str; 4] = ["Id", "Ids", "At", "Seq"];

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn differences(is_masked: bool, recorded: Value, replayed: Value) -> Vec<String> {
        let comparison = Comparison::new(is_masked).unwrap();
        let recorded = to_raw_value(&[recorded]).unwrap();
        let found = comparison.compare("message", &recorded, vec![replayed]);
        let text = |one: &Difference| format!("{} {} {}", one.path, one.recorded, one.replayed);
        found.iter().map(text).collect()
    }

    #[test]
    fn values_that_change_by_nature_are_compared_by_type() {
        let recorded = json!({
            "success": true, "x": "0192f1d0-0000-7000-8000-000000000001", "seq": 7, "name": "ann",
            "createdAt": 1, "userId": "user-1", "times": ["2026-01-02T03:04:05Z"], "count": 3,
        });
        let replayed = json!({
            "success": true, "x": "0192f1d0-0000-7000-8000-000000000002", "seq": 9, "name": "x",
            "createdAt": 2, "userId": "guest:1", "times": ["2027-01-02T03:04:05Z"], "count": 3,
        });
        let none: Vec<String> = Vec::new();
        assert_eq!(differences(false, recorded.clone(), replayed.clone()), none);
        for (field, value) in [
            ("seq", json!("9")),
            ("createdAt", json!(null)),
            ("count", json!(4)),
            ("success", json!(false)),
            ("x", json!("y")),
            ("times", json!([])),
        ] {
            let mut other = replayed.clone();
            other[field] = value;
            let found = differences(false, recorded.clone(), other);
            assert!(
                found.len() == 1 && found[0].contains(field),
                "{field}: {found:?}"
            );
        }
    }

    #[test]
    fn masked_answers_are_compared_in_their_masked_form() {
        let recorded =
            json!({"success": false, "error": {"code": "FORBIDDEN", "message": "Xx xx"}});
        let replayed =
            |text: &str| json!({"success": false, "error": {"code": "FORBIDDEN", "message": text}});
        let none: Vec<String> = Vec::new();
        assert_eq!(differences(true, recorded.clone(), replayed("No go")), none);
        let found = differences(true, recorded, replayed("Never"));
        assert_eq!(found, [r#"[0].error.message "Xx xx" "Xxxxx""#]);
    }

    #[test]
    fn reports_show_fields_of_one_side_and_no_text() {
        let (recorded, replayed) = (json!({"content": "canary"}), json!({"text": "canary"}));
        let found = differences(false, recorded, replayed);
        let expected = [
            r#"[0].content "xxxxxx" "(absent)""#,
            r#"[0].text "(absent)" "xxxxxx""#,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn ids_of_the_recording_become_those_of_the_replay() {
        let comparison = Comparison::new(true).unwrap();
        let [old, new] = [1, 2].map(|n| format!("0192f1d0-0000-7000-8000-00000000000{n}"));
        let recorded = to_raw_value(&[json!({"message": {"id": old}})]).unwrap();
        let replayed = vec![json!({"message": {"id": new}})];
        assert!(
            comparison
                .compare("message", &recorded, replayed)
                .is_empty()
        );
        let args = to_raw_value(&[json!({"messageId": old, "list": [old, "x"]})]).unwrap();
        let expected = [json!({"messageId": new, "list": [new, "x"]})];
        assert_eq!(comparison.arguments(&args), expected);
    }
}
