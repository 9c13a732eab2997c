//! Removes texts, users and secrets from recorded values.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::super::packet::{REDACTED, names_secret};
use crate::metrics::hex;

/// Where a value is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Whether all texts are masked in spite of consent.
    is_secret: bool,
    /// Whether the event and all fields around the value are part of the product. Otherwise a UUID
    /// can be the id of a user, and is masked.
    is_known: bool,
}

/// The names that are part of the product, and so are kept in a masked recording.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    /// Names of events and fields.
    names: HashSet<String>,
    /// The texts that a field can have if its values are enumerated.
    words: HashMap<String, HashSet<String>>,
}

/// What is removed from recorded values.
#[derive(Clone, Debug)]
pub(crate) enum Policy {
    /// Texts, users and secrets.
    Masked(Arc<Vocabulary>),
    /// Secrets only, because the recorded users agreed.
    Consented,
}

/// Masks the values of one recording.
#[derive(Debug)]
pub(crate) struct Masker {
    policy: Policy,
    /// The key of the pseudonyms, which ends with the recording.
    key: hmac::Key,
    /// The ids of the recorded users.
    users: RwLock<HashSet<String>>,
}

impl Vocabulary {
    /// Reads the names from a JSON Schema with all types below `$defs`.
    pub(crate) fn of(schema: &Value) -> Self {
        let mut vocabulary = Self::default();
        vocabulary.collect(schema, schema);
        vocabulary
    }

    fn collect(&mut self, value: &Value, schema: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
                    for (name, property) in properties {
                        let words = self.words.entry(name.clone()).or_default();
                        enumerated(property, schema, MAX_REFERENCES, words);
                        self.names.insert(name.clone());
                    }
                }
                fields
                    .values()
                    .for_each(|field| self.collect(field, schema));
            }
            Value::Array(values) => values.iter().for_each(|value| self.collect(value, schema)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn has_word(&self, field: &str, word: &str) -> bool {
        let words = self.words.get(field);
        words.is_some_and(|words| words.contains(word))
    }
}

/// Collects the texts that a schema enumerates.
fn enumerated(schema: &Value, root: &Value, references: usize, words: &mut HashSet<String>) {
    let texts = schema.get("enum").and_then(Value::as_array);
    for text in texts.into_iter().flatten().chain(schema.get("const")) {
        words.extend(text.as_str().map(str::to_owned));
    }
    for combination in ["anyOf", "oneOf", "allOf"] {
        let parts = schema.get(combination).and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            enumerated(part, root, references, words);
        }
    }
    if let Some(items) = schema.get("items") {
        enumerated(items, root, references, words);
    }
    let target = schema.get("$ref").and_then(Value::as_str);
    let target = target.and_then(|path| root.pointer(path.strip_prefix('#')?));
    if let Some(target) = target
        && references > 0
    {
        enumerated(target, root, references - 1, words);
    }
}

impl Masker {
    /// Creates a masker with new pseudonyms, or `None` if the system has no random numbers.
    pub(crate) fn new(policy: Policy) -> Option<Self> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).ok()?;
        Some(Self {
            policy,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            users: RwLock::default(),
        })
    }

    /// Returns whether texts and users are removed.
    pub(crate) const fn is_masked(&self) -> bool {
        matches!(self.policy, Policy::Masked(_))
    }

    /// Returns the name of a recorded user, whose id is replaced from now on.
    pub(super) fn user(&self, id: &str) -> String {
        match self.policy {
            Policy::Consented => id.to_owned(),
            Policy::Masked(_) => {
                if !self.users.read().contains(id) {
                    self.users.write().insert(id.to_owned());
                }
                self.pseudonym(id)
            }
        }
    }

    /// Returns the name of an event. A name that the server does not know is a text of the client.
    pub(crate) fn event(&self, name: &str) -> String {
        match &self.policy {
            Policy::Masked(known) if !known.names.contains(name) => shape(name),
            Policy::Masked(_) | Policy::Consented => name.to_owned(),
        }
    }

    /// Masks the arguments of an event.
    pub(crate) fn arguments(&self, event: &str, mut args: Vec<Value>) -> Vec<Value> {
        for value in &mut args {
            self.value(value, None, self.place(event));
        }
        args
    }

    /// Masks the answer to an event. The codes of errors are kept.
    pub(crate) fn answer(&self, event: &str, mut args: Vec<Value>) -> Vec<Value> {
        let code = args
            .first()
            .and_then(|answer| answer.pointer("/error/code"));
        let code = code
            .filter(|code| code.as_str().is_some_and(is_code))
            .cloned();
        for value in &mut args {
            self.value(value, None, self.place(event));
        }
        let place = args
            .first_mut()
            .and_then(|answer| answer.pointer_mut("/error/code"));
        if let (Some(place), Some(code)) = (place, code) {
            *place = code;
        }
        args
    }

    /// Returns a masked value of a field.
    pub(crate) fn field(&self, field: Option<&str>, value: &Value) -> Value {
        if field.is_some_and(names_secret) {
            return REDACTED.into();
        }
        let place = Place {
            is_secret: false,
            is_known: field.is_none_or(|field| self.knows(field)),
        };
        let mut value = value.clone();
        self.value(&mut value, field, place);
        value
    }

    /// Returns the place of the arguments and the answer of an event.
    fn place(&self, event: &str) -> Place {
        Place {
            is_secret: is_secret_event(event),
            is_known: self.knows(event),
        }
    }

    /// Returns whether the name of an event or a field is part of the product.
    fn knows(&self, name: &str) -> bool {
        match &self.policy {
            Policy::Masked(known) => known.names.contains(name),
            Policy::Consented => true,
        }
    }

    /// Masks a value of a field.
    fn value(&self, value: &mut Value, field: Option<&str>, place: Place) {
        match value {
            Value::String(text) => *text = self.text(text, field, place),
            Value::Array(values) => {
                for value in values {
                    self.value(value, field, place);
                }
            }
            Value::Object(fields) => {
                for (name, mut value) in std::mem::take(fields) {
                    if names_secret(&name) {
                        value = REDACTED.into();
                    } else {
                        // What is below an unknown field can be about users as well.
                        let is_known = place.is_known && self.knows(&name);
                        let below = Place { is_known, ..place };
                        self.value(&mut value, Some(&name), below);
                    }
                    let name = self.unused_name(&name, fields, place);
                    fields.insert(name, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&self, text: &str, field: Option<&str>, place: Place) -> String {
        // Tokens do not have to be in a field whose name says so.
        if text.starts_with(JWT) && text.len() > MIN_JWT {
            return REDACTED.to_owned();
        }
        match &self.policy {
            Policy::Consented if place.is_secret => shape(text),
            Policy::Consented => text.to_owned(),
            Policy::Masked(known) => {
                let is_user = field.is_some_and(names_user) || self.users.read().contains(text);
                // A UUID elsewhere can be the id of a user.
                let is_unknown_id = is_id(text) && !place.is_known;
                if is_user || is_unknown_id {
                    self.pseudonym(text)
                } else if is_id(text)
                    || is_time(text)
                    || field.is_some_and(|field| known.has_word(field, text))
                {
                    text.to_owned()
                } else {
                    shape(text)
                }
            }
        }
    }

    /// Returns the masked name of a field. Names that the server does not know can be texts.
    fn unused_name(&self, name: &str, used: &Map<String, Value>, place: Place) -> String {
        if matches!(self.policy, Policy::Consented) {
            return name.to_owned();
        }
        let masked = if self.knows(name) {
            name.to_owned()
        } else if self.users.read().contains(name) || (is_id(name) && !place.is_known) {
            self.pseudonym(name)
        } else if is_id(name) {
            name.to_owned()
        } else {
            shape(name)
        };
        if used.contains_key(&masked) {
            format!("{masked}#{}", used.len())
        } else {
            masked
        }
    }

    fn pseudonym(&self, id: &str) -> String {
        let tag = hmac::sign(&self.key, id.as_bytes());
        let tag = tag.as_ref();
        let digits = hex(tag.get(..PSEUDONYM_BYTES).unwrap_or(tag));
        format!("{PSEUDONYM}{digits}")
    }
}

/// Returns whether the values of a field are the ids of users.
pub(crate) fn names_user(field: &str) -> bool {
    USERS.contains(&field) || (field.len() > BY.len() && field.ends_with(BY))
}

/// Returns whether the arguments and the answer of an event can be secrets as a whole.
fn is_secret_event(event: &str) -> bool {
    event.starts_with("auth") || names_secret(event)
}

fn is_id(text: &str) -> bool {
    text.len() == UUID_CHARS && Uuid::try_parse(text).is_ok()
}

fn is_time(text: &str) -> bool {
    text.len() <= MAX_TIME && text.parse::<Timestamp>().is_ok()
}

/// Returns whether a text is the code of an error, such as `RATE_LIMITED`.
fn is_code(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    (1..=MAX_CODE).contains(&text.len()) && text.bytes().all(is_part)
}

/// Returns a text of the same length and form without its content.
fn shape(text: &str) -> String {
    let masked = |c: char| match c {
        _ if c.is_uppercase() => 'X',
        _ if c.is_numeric() => '0',
        _ if c.is_ascii_punctuation() || c.is_ascii_whitespace() => c,
        _ => 'x',
    };
    text.chars().map(masked).collect()
}

/// Fields whose values are ids of users.
const USERS: [&str; 5] = ["userId", "userIds", "ownerId", "memberIds", "mentions"];
/// The end of the names of fields with the id of the user who did something: `deletedBy`.
const BY: &str = "By";
/// The beginning of a pseudonym.
const PSEUDONYM: &str = "user-";
/// Bytes of a pseudonym, of which each has two characters.
const PSEUDONYM_BYTES: usize = 6;
/// The beginning of a signed token.
const JWT: &str = "eyJ";
/// Texts of at most this length are no signed tokens.
const MIN_JWT: usize = 40;
/// Characters of a UUID with hyphens.
const UUID_CHARS: usize = 36;
/// Maximum bytes of a time.
const MAX_TIME: usize = 40;
/// Maximum bytes of the code of an error.
const MAX_CODE: usize = 64;
/// Maximum references of a schema that are followed, because types can contain themselves.
const MAX_REFERENCES: usize = 4;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vocabulary() -> Arc<Vocabulary> {
        Arc::new(Vocabulary::of(&json!({
            "properties": {"message": {"properties": {
                "content": {"type": "string"}, "type": {"$ref": "#/$defs/Kind"},
                "userId": {}, "token": {}, "success": {}, "error": {}, "code": {}, "conversationId": {},
            }}},
            "$defs": {"Kind": {"oneOf": [{"const": "user"}, {"const": "ai"}]}},
        })))
    }

    fn masker(policy: Policy) -> Masker {
        Masker::new(policy).unwrap()
    }

    #[test]
    fn masked_values_keep_their_shape_and_no_text() {
        let masker = masker(Policy::Masked(vocabulary()));
        let ann = masker.user("ann");
        assert_eq!(masker.user("ann"), ann);
        let id = "0192f1d0-0000-7000-8000-000000000001";
        let given = json!({
            "content": "Call Ann, 555-12 äß!", "type": "ai", "conversationId": id,
            "userId": "bob", "n": 7, "ok": true, "none": null, "at": "2026-01-02T03:04:05Z",
            "token": "canary", "list": ["ann", "secret"], "ann": 1, "canary": {"canarx": "ai"},
        });
        let masked = masker.arguments("message", vec![given]).remove(0);
        assert_eq!(masked["content"], "Xxxx Xxx, 000-00 xx!");
        assert_eq!(masked["type"], "ai");
        assert_eq!(masked["conversationId"], id);
        assert_eq!(masked["xx"], "2026-01-02T03:04:05Z");
        assert_eq!(masked["token"], "***");
        assert_eq!(masked["xxxx"], json!([ann, "xxxxxx"]));
        assert_eq!(masked[&ann], 1);
        // A word is only kept in its own field.
        assert_eq!(masked["xxxxxx"], json!({"xxxxxx": "xx"}));
        let bob = masked["userId"].as_str().unwrap();
        assert!(bob.starts_with("user-") && bob != ann, "{bob}");
        assert!(!masked.to_string().contains("canar"));
        assert_eq!(masker.event("message"), "message");
        assert_eq!(masker.event("my secret"), "xx xxxxxx");
    }

    #[test]
    fn uuids_outside_of_the_catalogue_become_pseudonyms() {
        let [masker, other] = [(); 2].map(|()| masker(Policy::Masked(vocabulary())));
        let user = "0192f1d0-0000-7000-8000-000000000001";
        let given = json!({
            "conversationId": user, "assignee": user, "content": {"to": [user]},
            "custom": {"conversationId": user}, user: 1,
        });
        let known = masker
            .arguments("message", vec![given.clone(), user.into()])
            .remove(0);
        let pseudonym = masker.user(user);
        // From here on the id is that of a recorded user.
        assert_eq!(known["conversationId"], user);
        assert_eq!(known["xxxxxxxx"], pseudonym);
        assert_eq!(known["content"], json!({"xx": [pseudonym]}));
        assert_eq!(known["xxxxxx"], json!({"conversationId": pseudonym}));
        assert_eq!(known[user], 1);
        // No field of an event of others is part of the product.
        let unknown = other.arguments("assign", vec![given, user.into()]);
        assert!(!unknown[0].to_string().contains(user), "{unknown:?}");
        assert_eq!(unknown[1], other.user(user));
        // Recorded users are masked everywhere.
        let later = masker.arguments("message", vec![json!({"conversationId": user, user: 1})]);
        assert_eq!(later[0], json!({"conversationId": pseudonym, pseudonym: 1}));
    }

    #[test]
    fn fields_whose_masked_names_are_equal_are_all_kept() {
        let masker = masker(Policy::Masked(vocabulary()));
        let args = vec![json!({"ab": 1, "cd": 2, "ef": 3})];
        let masked = masker.arguments("message", args).remove(0);
        assert_eq!(masked, json!({"xx": 1, "xx#1": 2, "xx#2": 3}));
    }

    #[test]
    fn answers_keep_the_codes_of_errors_only() {
        let masker = masker(Policy::Masked(vocabulary()));
        let refused = json!({"success": false, "error": {"code": "FORBIDDEN", "message": "No"}});
        let masked = masker.answer("message", vec![refused]).remove(0);
        assert_eq!(masked["error"]["code"], "FORBIDDEN");
        assert_eq!(masked["error"]["message"], "Xx");
        let other = json!({"error": {"code": "my text"}, "code": "FORBIDDEN"});
        let masked = masker.answer("message", vec![other]).remove(0);
        assert_eq!(
            masked,
            json!({"error": {"code": "xx xxxx"}, "code": "XXXXXXXXX"})
        );
    }

    #[test]
    fn consent_keeps_texts_but_no_secrets() {
        let masker = masker(Policy::Consented);
        let jwt = format!("eyJ{}", "a".repeat(60));
        let args = vec![json!({"content": "hello", "password": "canary", "a": [jwt]})];
        let kept = masker.arguments("message", args);
        assert_eq!(
            kept,
            [json!({"content": "hello", "password": "***", "a": ["***"]})]
        );
        for event in ["auth:refresh", "set_token"] {
            assert_eq!(masker.arguments(event, vec!["canary".into()]), ["xxxxxx"]);
            assert_eq!(masker.answer(event, vec!["canary".into()]), ["xxxxxx"]);
        }
    }
}
