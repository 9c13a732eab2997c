//! What a message may consist of.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

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

/// Checks the id of a user that somebody names.
pub(in crate::service) fn check_user_id(field: &'static str, id: &str) -> Result<(), ServiceError> {
    if !is_name(id, MAX_USER_ID) {
        return Err(ServiceError::invalid(
            field,
            format!("must be of 1 to {MAX_USER_ID} characters, none of them control or invisible"),
        ));
    }
    Ok(())
}

/// Characters of a conversation's title.
const MAX_TITLE: usize = 200;

/// Characters of a user's id.
const MAX_USER_ID: usize = 128;

/// Checks the id a client gave to its message.
pub(in crate::service) fn check_client_message_id(id: &str) -> Result<(), ServiceError> {
    if id.is_empty() || id.chars().nth(MAX_CLIENT_MESSAGE_ID).is_some() {
        return Err(ServiceError::invalid(
            "clientMessageId",
            format!("must have 1 to {MAX_CLIENT_MESSAGE_ID} characters"),
        ));
    }
    if id.chars().any(char::is_control) {
        return Err(ServiceError::invalid(
            "clientMessageId",
            "has control characters",
        ));
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
    struct Known<'a> {
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
    if serde_json::from_str::<serde_json::Value>(metadata.get()).is_err() {
        return Err(ServiceError::invalid(
            "metadata",
            "has numbers or characters that not every client can read",
        ));
    }
    let known: Known<'_> = serde_json::from_str(metadata.get()).map_err(|_| {
        ServiceError::invalid(
            "metadata",
            "has an imageUrl or timestamp that is not one string",
        )
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

/// Whether a text is an absolute `http` or `https` URL: a scheme, a host, perhaps a port, and
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
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Credentials in an address that others will open are a trap or a leak.
    if authority.contains('@') {
        return false;
    }
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, "")) => (address, None),
        Some((address, port)) => match port.strip_prefix(':') {
            Some(port) => (address, Some(port)),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port_is_right = port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok());
    !host.is_empty() && !host.contains(['[', ']']) && port_is_right
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
    shape(seconds, "0000-00-00T00:00:00")
        && (shape(offset, "Z") || shape(offset, "+00:00") || shape(offset, "-00:00"))
        && text.parse::<Timestamp>().is_ok()
}

/// The longest id that a client may give to a message, in characters.
const MAX_CLIENT_MESSAGE_ID: usize = 128;

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
        assert!(check_client_message_id("0f8fad5b-d9cb-469f-a165-70867728950e").is_ok());
        assert!(check_client_message_id(&"ä".repeat(128)).is_ok());
        for id in ["", "a\nb", "\0", &"ä".repeat(129)] {
            assert!(check_client_message_id(id).is_err(), "{id:?}");
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
        ] {
            assert!(!is_rfc3339(time), "{time}");
        }
    }

    fn metadata_is_right(metadata: &str) -> bool {
        check_metadata(&RawValue::from_string(metadata.into()).unwrap(), 4096).is_ok()
    }
}
