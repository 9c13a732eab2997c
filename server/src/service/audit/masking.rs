//! Masks requests, answers and states, so that an entry has neither secrets nor texts of users.
//!
//! Only listed fields are recorded: a field that is added later is masked until it is listed.

use serde_json::{Map, Value};

/// The fields whose values are recorded: ids, names, numbers, times and reasons of operators.
const SHOWN: &str = "
    accepted acknowledged answers authorId category channelId cidr configured conversationId
    createdAt deletedAt editedAt error event except expiresAt id jti kind level memberIds
    messageId messages notificationId ownerId pinnedAt pinnedBy price priority published quantity
    reason role roles room rooms side signalId socketId source state status symbol timestamp
    tradeId type until update updatedAt userId userIds users withdrawn";
/// Numbers and switches: a text in such a field is a mistake of the caller, and can be anything.
const NUMBERS: &str = "
    ackTimeout answered connections disconnected everyone expected invites isDeleted isOpen
    lastSeq memberCount missing queued revision seconds seq success timedOut ttlSeconds unmasked
    version volatile";
/// Fields that are titles of conversations in some operations and texts for users in others.
const TITLES: &str = "title";

/// Returns a copy in which the values of unlisted fields are replaced.
pub(super) fn masked(value: &Value, shows_titles: bool) -> Value {
    copy(value, shows_titles, 0)
}

fn copy(value: &Value, shows_titles: bool, depth: usize) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => Value::String(shortened(text)),
        Value::Array(_) | Value::Object(_) if depth == MAX_DEPTH => MASK.into(),
        Value::Array(items) => {
            let shown = items.iter().take(MAX_ITEMS);
            let mut shown: Vec<Value> = shown
                .map(|item| copy(item, shows_titles, depth + 1))
                .collect();
            if items.len() > MAX_ITEMS {
                shown.push(format!("({} more)", items.len() - MAX_ITEMS).into());
            }
            Value::Array(shown)
        }
        Value::Object(fields) => {
            let shown = fields.iter().take(MAX_ITEMS).map(|(name, value)| {
                let is_in = |names: &str| names.split_whitespace().any(|known| known == name);
                let is_shown = is_in(SHOWN)
                    || (is_in(NUMBERS) && (value.is_number() || value.is_boolean()))
                    || (shows_titles && is_in(TITLES));
                let value = match is_shown || value.is_null() {
                    true => copy(value, shows_titles, depth + 1),
                    false => MASK.into(),
                };
                (shortened(name), value)
            });
            Value::Object(shown.collect::<Map<_, _>>())
        }
    }
}

/// Truncates a text that contains caller data of any length.
pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// Replaces a value.
const MASK: &str = "(masked)";
/// Maximum bytes of a recorded text.
const MAX_TEXT: usize = 256;
/// Maximum number of recorded items of an array or an object.
const MAX_ITEMS: usize = 100;
/// Maximum depth of recorded arrays and objects.
const MAX_DEPTH: usize = 4;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_listed_fields_are_recorded() {
        let request = json!({
            "userId": "ann", "roles": ["user"], "ttlSeconds": 60, "data": {"secret": "s"},
            "sessionId": "s", "content": "s", "args": ["s"], "title": "s", "text": null,
            "seconds": "s",
        });
        let expected = json!({
            "userId": "ann", "roles": ["user"], "ttlSeconds": 60, "data": "(masked)",
            "sessionId": "(masked)", "content": "(masked)", "args": "(masked)",
            "title": "(masked)", "text": null, "seconds": "(masked)",
        });
        assert_eq!(masked(&request, false), expected);
        assert_eq!(masked(&request, true)["title"], "s");
    }

    #[test]
    fn recorded_values_are_limited() {
        let many: Vec<String> = (0..150).map(|n| n.to_string()).collect();
        let shown = masked(&json!({"users": many, "reason": "ü".repeat(500)}), false);
        assert_eq!(shown["users"].as_array().unwrap().len(), 101);
        assert_eq!(shown["users"][100], "(50 more)");
        assert_eq!(shown["reason"].as_str().unwrap().len(), MAX_TEXT);
        let deep = json!([[[[[1]]]]]);
        assert_eq!(masked(&deep, false), json!([[[["(masked)"]]]]));
    }
}
