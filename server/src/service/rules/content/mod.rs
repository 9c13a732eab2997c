//! Checks the content of messages: texts, titles, user ids, metadata, image URLs and emoji.
//!
//! Services call these checks before they store or send a value. Errors name the field and the
//! reason; nothing is trimmed or replaced. The functions work on values and take limits as
//! arguments. They must not depend on the configuration or the store.

mod beginning;
pub(in crate::service) mod character_class;
pub(in crate::service) mod emoji;
pub(in crate::service) mod url;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::bounds::{
    CLIENT_ID_CHARS as MAX_CLIENT_ID, NAME_CHARS as MAX_USER_ID, REASON_CHARS,
    STATUS_CHARS as MAX_STATUS_TEXT, TITLE_CHARS as MAX_TITLE, is_control_in_text,
};
use crate::auth::{is_hidden, is_name};
use crate::service::fault::ServiceError;
use crate::store::is_rfc3339;
pub(in crate::service) use beginning::Beginning;
pub(in crate::service) use url::is_http_url;

/// Checks the text of a message: at most `max_chars` characters and no control characters.
///
/// # Errors
///
/// Returns an error for the field `content` if the text is empty, too long or contains control
/// characters.
pub(in crate::service) fn check_content(
    content: &str,
    max_chars: usize,
) -> Result<(), ServiceError> {
    if content.is_empty() {
        return Err(ServiceError::invalid("content", "is empty"));
    }
    // Counts at most `max_chars` characters, however long the text is.
    if content.chars().nth(max_chars).is_some() {
        return Err(ServiceError::invalid(
            "content",
            format!("has more than {max_chars} characters"),
        ));
    }
    if content.chars().any(is_control_in_text) {
        return Err(ServiceError::invalid("content", "has control characters"));
    }
    Ok(())
}

/// Checks the title of a conversation: 1 to [`MAX_TITLE`] characters, none of them hidden.
pub(in crate::service) fn check_title(title: &str) -> Result<(), ServiceError> {
    if title.is_empty() || title.chars().nth(MAX_TITLE).is_some() {
        return Err(ServiceError::invalid(
            "title",
            format!("must have 1 to {MAX_TITLE} characters"),
        ));
    }
    if title.chars().any(is_hidden) {
        let problem = "has control or invisible characters";
        return Err(ServiceError::invalid("title", problem));
    }
    Ok(())
}

/// Checks the status text that a user sets.
pub(in crate::service) fn check_status_text(text: &str) -> Result<(), ServiceError> {
    if !is_name(text, MAX_STATUS_TEXT) {
        return Err(ServiceError::invalid(
            "text",
            format!(
                "must have 1 to {MAX_STATUS_TEXT} characters, none of them control or invisible"
            ),
        ));
    }
    Ok(())
}

/// Checks that an id in a body is the one in the path of the request. The schema of the body allows
/// every id, so that another one is a conflict.
pub(in crate::service) fn check_same_id(
    field: &'static str,
    provided: Option<&str>,
    path: &str,
) -> Result<(), ServiceError> {
    if provided.is_some_and(|provided| provided != path) {
        return Err(ServiceError::Unfit {
            field: field.into(),
            problem: "differs from the id in the path",
        });
    }
    Ok(())
}

/// Checks the id of a user that a client or service sent.
pub(in crate::service) fn check_user_id(
    field: impl fmt::Display,
    id: &str,
) -> Result<(), ServiceError> {
    if !is_name(id, MAX_USER_ID) {
        return Err(ServiceError::invalid(
            field.to_string(),
            format!("must have 1 to {MAX_USER_ID} characters, none of them control or invisible"),
        ));
    }
    Ok(())
}

/// Checks an id or a name that a service chose. It has the bounds of a user id.
pub(in crate::service) use self::check_user_id as check_name;

/// Returns the page size of a list: `requested` or [`DEFAULT_PAGE`], at most [`MAX_PAGE`].
pub(in crate::service) fn page_limit(requested: Option<usize>) -> Result<usize, ServiceError> {
    let limit = requested.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let problem = format!("must be from 1 to {MAX_PAGE}");
        return Err(ServiceError::invalid("limit", problem));
    }
    Ok(limit)
}

/// Default number of items on a page.
const DEFAULT_PAGE: usize = 50;

/// Maximum number of items on a page.
pub(in crate::service) const MAX_PAGE: usize = 200;

/// Checks the id that a client chose for its message or order, which makes the request idempotent.
pub(in crate::service) fn check_client_id(
    field: &'static str,
    id: &str,
) -> Result<(), ServiceError> {
    if id.is_empty() || id.chars().nth(MAX_CLIENT_ID).is_some() {
        let problem = format!("must have 1 to {MAX_CLIENT_ID} characters");
        return Err(ServiceError::invalid(field, problem));
    }
    if id.chars().any(char::is_control) {
        return Err(ServiceError::invalid(field, "has control characters"));
    }
    Ok(())
}

/// Checks a reason that people read.
pub(in crate::service) fn check_reason(reason: &str) -> Result<(), ServiceError> {
    if is_name(reason, REASON_CHARS) {
        return Ok(());
    }
    let problem = "must have 1 to 200 characters, none of them control or invisible";
    Err(ServiceError::invalid("reason", problem))
}

/// Checks that metadata is an object, is at most `max_bytes` long, and has valid known fields.
pub(in crate::service) fn check_metadata(
    metadata: &RawValue,
    max_bytes: usize,
) -> Result<(), ServiceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct KnownMetadata<'a> {
        #[serde(borrow)]
        image_url: Option<Cow<'a, str>>,
        #[serde(borrow)]
        timestamp: Option<Cow<'a, str>>,
    }
    if !metadata.get().starts_with('{') {
        return Err(ServiceError::invalid("metadata", "is not an object"));
    }
    if metadata.get().len() > max_bytes {
        return Err(ServiceError::invalid(
            "metadata",
            format!("is longer than {max_bytes} bytes"),
        ));
    }
    // Lone surrogates and numbers beyond the range of a double make some clients fail to parse the
    // whole message.
    let Ok(value) = serde_json::from_str::<Value>(metadata.get()) else {
        return Err(ServiceError::invalid(
            "metadata",
            "has numbers or characters that some clients cannot read",
        ));
    };
    if has_placeholder(&value) {
        return Err(ServiceError::invalid(
            "metadata",
            "has binary data, or a placeholder of binary data",
        ));
    }
    // The text is parsed again into its known fields, because a `Value` drops duplicate keys.
    let known: KnownMetadata<'_> = serde_json::from_str(metadata.get()).map_err(|_| {
        // Tracking the path allocates, so it is done only after an error.
        let mut json = serde_json::Deserializer::from_str(metadata.get());
        let located = serde_path_to_error::deserialize::<_, KnownMetadata<'_>>(&mut json);
        let path = located.err().map(|error| error.path().to_string());
        let field = match path.as_deref() {
            Some("imageUrl") => "metadata.imageUrl",
            Some("timestamp") => "metadata.timestamp",
            Some(_) | None => "metadata",
        };
        ServiceError::invalid(field, "is not a single string")
    })?;
    if known.image_url.is_some_and(|url| !is_http_url(&url)) {
        return Err(ServiceError::invalid(
            "metadata.imageUrl",
            "is not an http or https URL",
        ));
    }
    if known.timestamp.is_some_and(|time| !is_rfc3339(&time)) {
        return Err(ServiceError::invalid(
            "metadata.timestamp",
            "is not an RFC 3339 time",
        ));
    }
    Ok(())
}

/// Returns whether a value contains an attachment placeholder of Socket.IO. Metadata is sent as
/// JSON without attachments. In a packet with an attachment, a client would replace the placeholder
/// with it.
pub(in crate::service) fn has_placeholder(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.get("_placeholder") == Some(&Value::Bool(true))
                || fields.values().any(has_placeholder)
        }
        Value::Array(values) => values.iter().any(has_placeholder),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_counted_in_characters_and_nothing_is_trimmed() {
        for content in [
            "x",
            " ",
            "\n",
            "\u{1f600}\u{1f600}\u{1f600}",
            "e\u{301}e",
            "\u{200b}",
        ] {
            assert!(check_content(content, 3).is_ok(), "{content:?}");
        }
        for content in [
            "",
            "xxxx",
            "e\u{301}e\u{301}",
            "\u{1f600}\u{1f600}\u{1f600}\u{1f600}",
        ] {
            assert!(check_content(content, 3).is_err(), "{content:?}");
        }
    }

    #[test]
    fn control_characters_are_refused_but_for_line_breaks_and_tabs() {
        for code in (0..0x20).chain(0x7f..0xa0) {
            let c = char::from_u32(code).unwrap();
            let allowed = matches!(c, '\n' | '\r' | '\t');
            assert_eq!(
                check_content(&format!("a{c}b"), 10).is_ok(),
                allowed,
                "{code:#x}"
            );
        }
        assert!(check_content("\u{a0}\u{ad}\u{2028}\u{feff}\u{202e}", 10).is_ok());
    }

    #[test]
    fn a_client_message_id_is_short_and_plain() {
        assert!(check_client_id("id", "0f8fad5b-d9cb-469f-a165-70867728950e").is_ok());
        assert!(check_client_id("id", &"ä".repeat(128)).is_ok());
        for id in ["", "a\nb", "\0", &"ä".repeat(129)] {
            assert!(check_client_id("id", id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn metadata_is_an_object_with_valid_known_fields() {
        for metadata in [
            "{}",
            r#"{"a":[1,{"b":null}],"imageurl":7}"#,
            r#"{"imageUrl":"https://example.org/a.png?b=c#d"}"#,
            r#"{"imageUrl":"https:\/\/example.org\/a.png"}"#,
            r#"{"imageUrl":null,"timestamp":null}"#,
            r#"{"timestamp":"2025-01-31T12:00:00.5+01:00"}"#,
        ] {
            assert!(metadata_is_right(metadata), "{metadata}");
        }
        for metadata in [
            "null",
            "[]",
            "\"x\"",
            "7",
            r#"{"imageUrl":7}"#,
            r#"{"imageUrl":"javascript:alert(1)"}"#,
            r#"{"imageUrl":"https://a.org","imageUrl":"javascript:alert(1)"}"#,
            r#"{"timestamp":1738324800}"#,
            r#"{"timestamp":"yesterday"}"#,
        ] {
            assert!(!metadata_is_right(metadata), "{metadata}");
        }
    }

    #[test]
    fn metadata_unreadable_for_some_clients_is_refused() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(metadata_is_right(&nested(100)));
        assert!(!metadata_is_right(&nested(1000)));
        for metadata in [r#"{"a":"\ud800"}"#, r#"{"a":1e999}"#, r#"{"\udc00":1}"#] {
            assert!(!metadata_is_right(metadata), "{metadata}");
        }
        assert!(metadata_is_right(
            r#"{"a":"\ud83d\ude00","b":1.50,"c":1e99}"#
        ));
    }

    #[test]
    fn metadata_with_binary_placeholders_is_refused() {
        for metadata in [
            r#"{"_placeholder":true,"num":0}"#,
            r#"{"a":[{"b":{"num":7,"_placeholder":true}}]}"#,
            r#"{"a":{"\u005fplaceholder":true}}"#,
        ] {
            assert!(!metadata_is_right(metadata), "{metadata}");
        }
        assert!(metadata_is_right(
            r#"{"_placeholder":"text","a":{"_placeholder":false,"num":0}}"#
        ));
    }

    #[test]
    fn metadata_errors_name_the_field() {
        for (metadata, expected) in [
            ("[]", "metadata"),
            (r#"{"a":"\ud800"}"#, "metadata"),
            (r#"{"imageUrl":7}"#, "metadata.imageUrl"),
            (r#"{"imageUrl":"x"}"#, "metadata.imageUrl"),
            (r#"{"timestamp":[]}"#, "metadata.timestamp"),
            (r#"{"timestamp":"x"}"#, "metadata.timestamp"),
        ] {
            let metadata = RawValue::from_string(metadata.into()).unwrap();
            let Err(ServiceError::Invalid { field, .. }) = check_metadata(&metadata, 4096) else {
                panic!("{metadata} is right");
            };
            assert_eq!(field, expected, "{metadata}");
        }
    }

    #[test]
    fn metadata_is_measured_as_it_was_sent() {
        let of_length = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        assert_eq!(of_length(4096).len(), 4096);
        assert!(metadata_is_right(&of_length(4096)));
        assert!(!metadata_is_right(&of_length(4097)));
        assert!(!metadata_is_right(&format!("{{{}}}", " ".repeat(4095))));
    }

    #[test]
    fn only_absolute_http_urls_are_images() {
        for url in [
            "http://a",
            "HTTPS://example.org",
            "https://example.org:8443/a/b?c=d#e",
            "https://[::1]:80/a",
            "https://[::1]",
            "http://127.0.0.1:3000/a%20b.png",
            "https://münchen.example/ä.png",
            "https://example.org./%E2%82%ac",
            "https://example.org:/",
            "https://0x.example.org",
            "https://1.example",
        ] {
            assert!(is_http_url(url), "{url}");
        }
        for url in [
            "",
            "http",
            "http:",
            "http://",
            "https:///a",
            "https://?a",
            "https://:80/",
            "//example.org/a",
            "/a.png",
            "example.org/a.png",
            "ftp://example.org/a",
            "javascript://example.org/%0aalert(1)",
            "data:image/png;base64,AAAA",
            " https://example.org",
            "https://example.org/a b",
            "https://example.org/\u{7}",
            "https://example.org/\"onerror=x",
            "https://example.org:port/",
            "https://example.org:99999/",
            "https://user:secret@example.org/",
            "https://example.org\\a",
            "https://example.org/\u{202e}gnp.a",
            "https://exa\u{200b}mple.org/",
            "https://[::1",
            "https://[::1]x/",
            "https://[::1]:x/",
            "https://[1.2.3.4]/",
            "https://[]/",
            "http://%zz/",
            "http://%/",
            "http://a%2/",
            "http://%41/",
            "http://example.org/%zz",
            "http://example.org/?q=100%",
            "http://example.org:+80/",
            "http://example..org/",
            "http://./",
            "http://256.1.1.1/",
            "http://1.2.3.4.5/",
            "http://127.1/",
            "http://0x7f000001/",
        ] {
            assert!(!is_http_url(url), "{url}");
        }
    }

    #[test]
    fn only_rfc_3339_times_are_timestamps() {
        for time in [
            "2025-01-31T12:00:00Z",
            "2025-01-31t12:00:00z",
            "2025-01-31T12:00:00.123456789Z",
            "2025-01-31T12:00:00+05:30",
            "2025-01-31T12:00:00.0-00:00",
            "2024-02-29T23:59:59Z",
            "2025-01-31T12:00:00+23:59",
            "2025-01-31T12:00:00.1234567890123Z",
        ] {
            assert!(is_rfc3339(time), "{time}");
        }
        for time in [
            "",
            "2025-01-31",
            "2025-01-31T12:00Z",
            "2025-01-31T12:00:00",
            "2025-01-31 12:00:00Z",
            "2025-01-31T12:00:00.Z",
            "2025-01-31T12:00:00+0530",
            "2025-01-31T12:00:00Z[UTC]",
            "2025-02-30T12:00:00Z",
            "2025-01-31T25:00:00Z",
            "20250131T120000Z",
            "+002025-01-31T12:00:00Z",
            "2025-01-31T12:00:0äZ",
            "2025-01-31T12:00:00+24:00",
            "2025-01-31T12:00:00-25:00",
            "2025-01-31T12:00:00+99:99",
            "2025-01-31T12:00:00+12:60",
            "2025-01-31T24:00:00Z",
            "2025-13-31T12:00:00Z",
        ] {
            assert!(!is_rfc3339(time), "{time}");
        }
    }

    fn metadata_is_right(metadata: &str) -> bool {
        check_metadata(&RawValue::from_string(metadata.into()).unwrap(), 4096).is_ok()
    }
}
