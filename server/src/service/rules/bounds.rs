//! JSON Schema types for the bounds of fields, for use in `#[schemars(with = "…")]`.
//!
//! Services check the bounds. The types in this module only describe them for clients. Lengths
//! count characters (Unicode code points), as JSON Schema does.
//!
//! Patterns are built from the predicates that the services use, so that schema and check cannot
//! differ. They use only syntax that the regular expressions of ECMAScript, Python and Rust share.

use std::borrow::Cow;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::content::{character_class::class, emoji, url};
use crate::auth::is_hidden;
use crate::store::{TIME_PATTERN, WRITTEN_TIME};

/// The maximum number of characters of the name of a channel: eight parts with colons in between.
pub(crate) const CHANNEL_CHARS: usize = 8 * NAME_CHARS + 7;
/// Maximum characters of a user id, and of ids and names that services choose.
pub(crate) const NAME_CHARS: usize = 128;
/// Maximum characters of a user name.
pub(crate) const USER_NAME_CHARS: usize = 256;
/// Maximum characters of a conversation title.
pub(crate) const TITLE_CHARS: usize = 200;
/// Maximum characters of a user's status text.
pub(crate) const STATUS_CHARS: usize = 80;
/// Maximum characters of the id that a client chooses for a message or an order.
pub(crate) const CLIENT_ID_CHARS: usize = 128;
/// Maximum characters of a symbol.
pub(crate) const SYMBOL_CHARS: usize = 32;
/// Maximum characters of a notification title.
pub(crate) const NOTIFICATION_TITLE_CHARS: usize = 200;
/// Maximum characters of a notification text.
pub(crate) const NOTIFICATION_CHARS: usize = 2000;
/// Maximum characters of the URL that a notification links to.
pub(crate) const ACTION_URL_CHARS: usize = 2048;
/// Maximum characters of the reason of a block.
pub(crate) const REASON_CHARS: usize = 200;
/// Maximum characters of a search query.
pub(crate) const QUERY_CHARS: usize = 200;
/// Maximum words in a search query.
pub(crate) const QUERY_WORDS: usize = 16;
/// Maximum users that a message mentions.
pub(crate) const MENTIONS: usize = 20;
/// Maximum symbols in one event.
pub(crate) const SYMBOLS: usize = 100;
/// Maximum prices that one request publishes.
pub(crate) const PRICES: usize = 1000;
/// Maximum positions of a portfolio.
pub(crate) const POSITIONS: usize = 1000;
/// Maximum users that one request notifies.
pub(crate) const NOTIFIED_USERS: usize = 1000;
/// Maximum events that one request publishes to channels.
pub(crate) const CHANNEL_EVENTS: usize = 1000;
/// The largest amount. Up to this value, a double represents every whole number exactly.
pub(crate) const LARGEST_AMOUNT: i64 = 1_000_000_000_000_000;
/// Maximum characters of a revoked value.
pub(crate) const REVOKED_CHARS: usize = 256;
/// Maximum characters of a role name.
pub(crate) const ROLE_CHARS: usize = 64;
/// Maximum roles of a session.
pub(crate) const ROLES: usize = 32;
/// Maximum characters of the name of an event that an application defines.
pub(crate) const EVENT_CHARS: usize = 128;
/// Maximum digits of the revision in a cursor.
pub(crate) const REVISION_DIGITS: usize = 18;

/// Defines types that describe strings.
macro_rules! texts {
    ($($(#[doc = $doc:literal])+ $name:ident: $min:literal to $max:expr, $pattern:expr;)+) => {
        $(
            $(#[doc = $doc])+
            pub(crate) enum $name {}

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    // Some patterns need a pass over all of Unicode.
                    static PATTERN: LazyLock<String> = LazyLock::new(|| $pattern.to_string());
                    text(concat!($($doc, "\n"),+).trim(), $min, $max, &PATTERN)
                }
            }
        )+
    };
}

texts! {
    /// The id of a user: 1 to 128 characters, none of them control or invisible, and not only
    /// spaces.
    UserId: 1 to Some(NAME_CHARS), NAME;
    /// The name of a user: 1 to 256 characters, none of them control or invisible, and not only
    /// spaces.
    UserName: 1 to Some(USER_NAME_CHARS), NAME;
    /// An id or a name that a service chooses: 1 to 128 characters, none of them control or
    /// invisible, and not only spaces.
    ServiceName: 1 to Some(NAME_CHARS), NAME;
    /// A revoked value: 1 to 256 characters, none of them control or invisible, and not only
    /// spaces.
    RevokedName: 1 to Some(REVOKED_CHARS), NAME;
    /// The name of a role: 1 to 64 characters, none of them control or invisible, and not only
    /// spaces.
    RoleName: 1 to Some(ROLE_CHARS), NAME;
    /// Text for people: 1 to 200 characters, none of them control or invisible, and not only
    /// spaces.
    Reason: 1 to Some(REASON_CHARS), NAME;
    /// The text of a status: 1 to 80 characters, none of them control or invisible, and not only
    /// spaces.
    StatusText: 1 to Some(STATUS_CHARS), NAME;
    /// The title of a conversation: 1 to 200 characters, none of them control or invisible.
    Title: 1 to Some(TITLE_CHARS), without(is_hidden);
    /// The text of a message: 1 to 10,000 characters (`chat.content_chars`), no control characters
    /// except tabs and line ends.
    MessageText: 1 to Some(10_000), without(is_control_in_text);
    /// The text of a streamed message: 1 to 100,000 characters (`chat.streams.max_chars`), no
    /// control characters except tabs and line ends.
    StreamedText: 1 to Some(100_000), without(is_control_in_text);
    /// Text at the end of a streamed message: at most 100,000 characters
    /// (`chat.streams.max_chars`), no control characters except tabs and line ends.
    MoreText: 0 to Some(100_000), without(is_control_in_text);
    /// An id that a client chooses: 1 to 128 characters, none of them control.
    ClientId: 1 to Some(CLIENT_ID_CHARS), without(char::is_control);
    /// One emoji of at most 16 characters (at most 64 bytes).
    Emoji: 1 to Some(emoji::MAX_CHARS), emoji::pattern();
    /// 1 to 16 words and at most 200 characters.
    SearchQuery: 1 to Some(QUERY_CHARS), words_pattern();
    /// An `http` or `https` URL, or a path that begins with one `/`, of at most 2,048 characters.
    ActionUrl: 1 to Some(ACTION_URL_CHARS), format!(r"^(?:{}|/(?:[!-.0-\[\]-~][!-\[\]-~]*)?)$", url::pattern());
    /// A symbol: 1 to 32 ASCII characters without spaces.
    Symbol: 1 to Some(SYMBOL_CHARS), "^[!-~]+$";
    /// The title of a notification: 1 to 200 characters, no control characters except tabs and line
    /// ends.
    NotificationTitle: 1 to Some(NOTIFICATION_TITLE_CHARS), without(is_control_in_text);
    /// The text of a notification: 1 to 2,000 characters, no control characters except tabs and
    /// line ends.
    NotificationText: 1 to Some(NOTIFICATION_CHARS), without(is_control_in_text);
    /// An IP address or a network, such as `192.0.2.0/24`.
    Network: 1 to None, network_pattern();
    /// The `cursor` of the previous page.
    RevisionCursor: 1 to None, format!("^[0-9]{{1,{REVISION_DIGITS}}}[.][0-9a-f]{{8}}$");
    /// The `cursor` of the previous page.
    ConversationCursor: 1 to None, format!("^{WRITTEN_TIME}_{WRITTEN_TIME}_{}$", written_uuid());
    /// The `cursor` of the previous page.
    BlockCursor: 1 to None, format!("^(?:0|[1-9][0-9]{{0,17}})[.]{}$", written_uuid());
    /// The name of a channel: parts of 1 to 128 characters with colons in between, none of them
    /// control or invisible.
    ChannelName: 1 to Some(CHANNEL_CHARS), without(is_hidden);
    /// A position in a channel. Its text has no meaning for clients.
    ChannelPosition: 1 to None, "^[0-9a-f]{8}[.][0-9]{1,18}(?:[.][0-9a-f]{8}){2}$";
    /// The name of an event: 1 to 128 characters, none of them control or invisible.
    EventName: 1 to Some(EVENT_CHARS), without(is_hidden);
    /// The name of a room: 1 to 256 bytes.
    RoomName: 1 to Some(256), "";
}

/// A UUID with hyphens.
pub(crate) const UUID_PATTERN: &str = "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";

/// Returns the pattern of a lowercase UUID with hyphens, without anchors.
fn written_uuid() -> &'static str {
    "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
}

/// Defines types that describe names without a reserved prefix.
macro_rules! names_without {
    ($($(#[doc = $doc:literal])+ $name:ident: $prefix:expr;)+) => {
        $(
            $(#[doc = $doc])+
            pub(crate) enum $name {}

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    let description = concat!($($doc, "\n"),+).trim();
                    let mut schema = text(description, 1, Some(NAME_CHARS), &NAME);
                    let other = json!({"type": "string", "pattern": concat!("^", $prefix)});
                    schema.insert("not".to_owned(), other);
                    schema
                }
            }
        )+
    };
}

names_without! {
    /// The id of a notification that a service chooses: 1 to 128 characters, none of them control
    /// or invisible, not only spaces, and not beginning with `mention:`, which is reserved for
    /// mentions.
    NotificationId: "mention:";
    /// The id of a user who is not a guest: 1 to 128 characters, none of them control or invisible,
    /// not only spaces, and not beginning with `guest:`.
    RegisteredUserId: "guest:";
}

/// The name of a room that does not belong to a conversation: 1 to 256 bytes.
pub(crate) enum ApplicationRoom {}

impl JsonSchema for ApplicationRoom {
    fn schema_name() -> Cow<'static, str> {
        "ApplicationRoom".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let description = "The name of a room that is not of a conversation: 1 to 256 bytes.";
        let mut schema = text(description, 1, Some(256), "");
        let other = json!({"type": "string", "pattern": "^conversation:"});
        schema.insert("not".to_owned(), other);
        schema
    }
}

/// The pattern of a name: the check of [`is_name`](crate::auth::is_name) without the length.
static NAME: LazyLock<String> = LazyLock::new(|| {
    let hidden = class(&is_hidden);
    let spaces = class(&|c: char| c.is_whitespace() && !is_hidden(c));
    format!("^[^{hidden}]*[^{hidden}{spaces}][^{hidden}]*$")
});

/// Returns whether a character is forbidden in text that can have several lines.
pub(in crate::service) fn is_control_in_text(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

fn text(description: &str, min: usize, max: Option<usize>, pattern: &str) -> Schema {
    let mut schema = json_schema!({
        "description": description.replace('\n', " ").replace("  ", " "),
        "type": "string",
        "minLength": min,
    });
    if !pattern.is_empty() {
        schema.insert("pattern".to_owned(), pattern.into());
    }
    if let Some(max) = max {
        schema.insert("maxLength".to_owned(), max.into());
    }
    schema
}

/// Returns a pattern for strings without any character that matches the predicate.
fn without(is: fn(char) -> bool) -> String {
    format!("^[^{}]*$", class(&is))
}

fn words_pattern() -> String {
    // All Unicode-aware regular expression engines support these properties. Together they equal
    // `char::is_alphanumeric`.
    let word = r"\p{Alphabetic}\p{N}";
    let more = QUERY_WORDS - 1;
    format!("^[^{word}]*[{word}]+(?:[^{word}]+[{word}]+){{0,{more}}}[^{word}]*$")
}

fn network_pattern() -> String {
    let (v4, v6) = (url::IPV4, url::IPV6);
    format!(
        "^(?:{v4}(?:/0*(?:3[0-2]|[12]?[0-9]))?|{v6}(?:/0*(?:12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)$"
    )
}

/// Defines types that describe numbers.
macro_rules! numbers {
    ($($(#[doc = $doc:literal])+ $name:ident: $schema:tt;)+) => {
        $(
            $(#[doc = $doc])+
            pub(crate) enum $name {}

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    let mut schema = json_schema!($schema);
                    let description = concat!($($doc, "\n"),+).trim().replace('\n', " ").replace("  ", " ");
                    schema.insert("description".to_owned(), description.into());
                    schema
                }
            }
        )+
    };
}

numbers! {
    /// More than 0 and at most 1e15.
    Positive: {"type": "number", "exclusiveMinimum": 0, "maximum": LARGEST_AMOUNT};
    /// From -1e15 to 1e15.
    Amount: {"type": "number", "minimum": -LARGEST_AMOUNT, "maximum": LARGEST_AMOUNT};
    /// In percent: 0, or 1 to 100. A number between 0 and 1 is refused because it is probably a
    /// fraction.
    Percent: {
        "type": "number",
        "minimum": 0,
        "maximum": 100,
        "not": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    };
}

/// The metadata of a message that a client sends.
pub(crate) enum GivenMetadata {}

impl JsonSchema for GivenMetadata {
    fn schema_name() -> Cow<'static, str> {
        "GivenMetadata".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Kept as it is sent: at most 4,096 bytes of JSON (`chat.metadata_bytes`).",
            "type": "object",
            "properties": {
                "imageUrl": {
                    "description": "An absolute `http` or `https` URL.",
                    "type": ["string", "null"],
                    "pattern": format!("^{}$", url::pattern()),
                },
                "timestamp": {
                    "description": "An RFC 3339 time.",
                    "type": ["string", "null"],
                    "pattern": TIME_PATTERN.replace("{1,9}", "+"),
                },
            },
            "additionalProperties": true,
        })
    }
}

/// Returns the `oneOf` schemas that require exactly one of two fields to be present and not null.
pub(crate) fn one_of(fields: [&str; 2], type_of: [&str; 2]) -> Value {
    let [first, second] = fields;
    let [of_first, of_second] = type_of;
    json!([
        {
            "type": "object",
            "properties": {first: {"type": of_first}, second: {"type": "null"}},
            "required": [first],
        },
        {
            "type": "object",
            "properties": {first: {"type": "null"}, second: {"type": of_second}},
            "required": [second],
        },
    ])
}

/// Returns the `oneOf` schemas that require exactly one of several strings to be present and not
/// null.
pub(crate) fn only_one<const N: usize>(fields: [&str; N]) -> Value {
    let one = fields.iter().map(|only| {
        let type_of = |field: &&str| {
            let kind = if field == only { "string" } else { "null" };
            ((*field).to_owned(), json!({"type": kind}))
        };
        let properties: Map<_, _> = fields.iter().map(type_of).collect();
        json!({"type": "object", "properties": properties, "required": [only]})
    });
    one.collect()
}

/// The data of a new session.
pub(crate) enum SessionData {}

impl JsonSchema for SessionData {
    fn schema_name() -> Cow<'static, str> {
        "SessionData".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "At most 4,096 bytes of JSON.",
            "type": "object",
            "properties": {"name": generator.subschema_for::<Option<UserName>>()},
            "additionalProperties": true,
        })
    }
}

/// Returns the `not` schema that forbids two fields to be present together.
pub(crate) fn not_both(fields: [&str; 2], type_of: &str) -> Value {
    let [first, second] = fields;
    json!({
        "type": "object",
        "properties": {first: {"type": type_of}, second: {"type": type_of}},
        "required": [first, second],
    })
}

/// Gives each integer schema an explicit `maximum`. Schemars emits only a format, which validators
/// do not know.
pub(crate) fn bound_integers(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let format = fields.get("format").and_then(Value::as_str);
            let bound = match format {
                Some("uint64" | "uint") => Some(json!(u64::MAX)),
                Some("uint32") => Some(json!(u32::MAX)),
                Some("uint16") => Some(json!(u16::MAX)),
                _ => None,
            };
            if let Some(bound) = bound {
                fields.remove("format");
                fields.entry("maximum").or_insert(bound);
            }
            fields.values_mut().for_each(bound_integers);
        }
        Value::Array(values) => values.iter_mut().for_each(bound_integers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Removes all formats and adds equivalent patterns. Validators reject or ignore formats that they
/// do not know.
pub(super) fn leave_out_formats(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_format = fields.get("format").is_some_and(Value::is_string);
            if is_format && let Some(Value::String(format)) = fields.remove("format") {
                let known = match format.as_str() {
                    "uuid" => Some(UUID_PATTERN),
                    "date-time" => Some(TIME_PATTERN),
                    _ => None,
                };
                if let Some(pattern) = known {
                    fields.entry("pattern").or_insert_with(|| pattern.into());
                }
            }
            // JavaScript rounds the largest `u64` to 2^64, which is not a `u64`.
            if fields.get("maximum") == Some(&json!(u64::MAX)) {
                fields.remove("maximum");
                let limit = json!(18_446_744_073_709_551_616_f64);
                fields.insert("exclusiveMaximum".to_owned(), limit);
            }
            fields.values_mut().for_each(leave_out_formats);
        }
        Value::Array(values) => values.iter_mut().for_each(leave_out_formats),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
