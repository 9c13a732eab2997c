//! What a message may consist of.
//!
//! Services check here what they store or tell: texts, titles, ids of users, metadata, addresses of images, emoji. What
//! is wrong is refused with the field and the reason, and nothing is trimmed or replaced. These are functions of
//! values: they take limits as arguments, and must know neither the settings nor the store.

pub(in crate::service) mod emoji;

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::auth::{is_hidden, is_invisible, is_name};
use crate::service::fault::ServiceError;

/// Checks the text of a message: its length in characters, and no control characters.
///
/// Nothing is trimmed, replaced or interpreted.
pub(in crate::service) fn check_content(
    content: &str,
    max_chars: usize,
) -> Result<(), ServiceError> {
    if content.is_empty() {
        return Err(ServiceError::invalid("content", "is empty"));
    }
    // Only as many characters are counted as there may be, however long the text is.
    if content.chars().nth(max_chars).is_some() {
        return Err(ServiceError::invalid(
            "content",
            format!("has more than {max_chars} characters"),
        ));
    }
    if content
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(ServiceError::invalid("content", "has control characters"));
    }
    Ok(())
}

/// Checks the title of a conversation.
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

/// Checks what a user says of itself.
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

/// Checks the id of a user that somebody names.
pub(in crate::service) fn check_user_id(
    field: impl fmt::Display,
    id: &str,
) -> Result<(), ServiceError> {
    if !is_name(id, MAX_USER_ID) {
        return Err(ServiceError::invalid(
            field.to_string(),
            format!("must be of 1 to {MAX_USER_ID} characters, none of them control or invisible"),
        ));
    }
    Ok(())
}

/// How many items a page of a list may have.
pub(in crate::service) fn page_limit(asked: Option<usize>) -> Result<usize, ServiceError> {
    let limit = asked.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let problem = format!("must be from 1 to {MAX_PAGE}");
        return Err(ServiceError::invalid("limit", problem));
    }
    Ok(limit)
}

/// Items of a page if nobody says how many.
const DEFAULT_PAGE: usize = 50;

/// Items of a page at most.
pub(in crate::service) const MAX_PAGE: usize = 200;

/// Characters of a conversation's title.
const MAX_TITLE: usize = 200;

/// Characters of what a user says of itself.
const MAX_STATUS_TEXT: usize = 80;

/// Characters of a user's id.
const MAX_USER_ID: usize = 128;

/// Checks the id a client gave to its message or its order, under which that is done once.
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

/// Checks that metadata is an object, not too long as it was sent, and right in what is known of it.
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
    // Halves of surrogate pairs and numbers that no double holds keep some clients from reading the
    // message at all.
    let Ok(value) = serde_json::from_str::<Value>(metadata.get()) else {
        return Err(ServiceError::invalid(
            "metadata",
            "has numbers or characters that not every client can read",
        ));
    };
    if has_placeholder(&value) {
        return Err(ServiceError::invalid(
            "metadata",
            "has binary data, or what stands for it in a packet",
        ));
    }
    // The text is parsed again into its known fields, because a duplicate of one of them disappears
    // in a value.
    let mut json = serde_json::Deserializer::from_str(metadata.get());
    let known: KnownMetadata<'_> =
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = match error.path().to_string().as_str() {
                "imageUrl" => "metadata.imageUrl",
                "timestamp" => "metadata.timestamp",
                _ => "metadata",
            };
            ServiceError::invalid(field, "is not one string")
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

/// Whether something in a value is what Socket.IO puts where an attachment belongs. The metadata is sent
/// as JSON without the attachment; and next to one, it would be taken for it.
fn has_placeholder(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.get("_placeholder") == Some(&Value::Bool(true))
                || fields.values().any(has_placeholder)
        }
        Value::Array(values) => values.iter().any(has_placeholder),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether a text is an absolute `http` or `https` URL (RFC 3986): a scheme, a host, perhaps a port, and
/// nothing that has to be escaped in a URL. International domain names and paths may be plain.
pub(in crate::service) fn is_http_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return false;
    }
    if rest.chars().any(|c| {
        c.is_control() || c.is_whitespace() || is_invisible(c) || "\"<>\\^`{|}".contains(c)
    }) {
        return false;
    }
    if !escapes_are_right(rest) {
        return false;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Credentials in an address that others will open are a trap or a leak.
    if authority.contains('@') {
        return false;
    }
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, _)) if address.parse::<Ipv6Addr>().is_err() => return false,
        Some((_, "")) => return true,
        Some((_, port)) => return port.strip_prefix(':').is_some_and(is_port),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    is_host(host) && port.is_none_or(is_port)
}

/// Whether every `%` begins an escape (RFC 3986, 2.1).
fn escapes_are_right(text: &str) -> bool {
    let is_digit = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let mut escapes = text.split('%').skip(1).map(str::as_bytes);
    escapes.all(|rest| is_digit(rest.first()) && is_digit(rest.get(1)))
}

/// Whether a text is a port (RFC 3986, 3.2.3), which may be empty.
fn is_port(port: &str) -> bool {
    port.bytes().all(|digit| digit.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Whether a text is a domain name or an IPv4 address. What ends in a number is an address for
/// browsers, or none at all. Escapes in names are of no use but to hide which name it is.
fn is_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.split('.').any(str::is_empty) || host.contains(['[', ']', '%']) {
        return false;
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|digit| digit.is_ascii_digit())
        || last
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    !is_number || name.parse::<Ipv4Addr>().is_ok()
}

/// Whether a text is a time as RFC 3339 writes it, which is stricter than ISO 8601.
fn is_rfc3339(text: &str) -> bool {
    let shape = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text
                .bytes()
                .zip(pattern.bytes())
                .all(|(byte, expected)| match expected {
                    b'0' => byte.is_ascii_digit(),
                    expected => byte.eq_ignore_ascii_case(&expected),
                })
    };
    let Some((seconds, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else {
        return false;
    };
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let offset = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if offset.len() == fraction.len() {
                return false;
            }
            offset
        }
        None => rest,
    };
    let offset_is_right = shape(offset, "Z")
        || (shape(offset, "+00:00") || shape(offset, "-00:00"))
            && offset.get(1..3).is_some_and(|hours| hours < "24")
            && offset.get(4..6).is_some_and(|minutes| minutes < "60");
    // Any number of digits may follow the seconds; they make no time right or wrong.
    shape(seconds, "0000-00-00T00:00:00")
        && offset_is_right
        && format!("{seconds}{offset}").parse::<Timestamp>().is_ok()
}

/// The longest id that a client may give to a message, in characters.
const MAX_CLIENT_ID: usize = 128;

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
    fn metadata_is_an_object_whose_known_fields_are_right() {
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
    fn metadata_that_not_every_client_can_read_is_refused() {
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
    fn metadata_has_nothing_binary_and_nothing_that_looks_so() {
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
    fn what_is_wrong_with_metadata_is_told_with_the_field() {
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
