//! Finds text in the body of a request while it arrives: plain text, lines of JSON, or the
//! server-sent events of a language model.
//!
//! Bytes that do not fit the format are an error, and nothing of them is replaced or left out. What
//! is kept between two parts of a body is at most a character or a line.

use std::mem;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use crate::http::api::ApiError;

/// Reads a body in one of three formats.
#[derive(Debug)]
pub(super) struct Pieces {
    format: Format,
    /// The beginning of a character or of a line.
    rest: Vec<u8>,
    /// The number of lines that were read.
    lines: usize,
}

#[derive(Debug)]
enum Format {
    /// `text/plain`
    Text,
    /// `application/x-ndjson`: `{"text": …}` in each line.
    Lines,
    /// `text/event-stream`
    Events(Events),
}

#[derive(Debug)]
struct Events {
    /// The place of the text in the object of each event.
    select: String,
    /// The lines `data` of an event that has not ended.
    data: String,
    /// Whether the last line ended with a carriage return, which a line feed may follow.
    has_return: bool,
    /// Whether any event had text.
    has_text: bool,
    /// The texts that the first event with any had.
    seen: Vec<String>,
}

/// A line of `application/x-ndjson`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
}

impl Pieces {
    /// Returns the reader for the media type of a body. `select` is the place of the text in
    /// events.
    pub(super) fn new(headers: &HeaderMap, select: Option<String>) -> Result<Self, ApiError> {
        let format = match (media_type(headers).as_deref(), select) {
            (Some("text/plain"), None) => Format::Text,
            (Some("application/x-ndjson"), None) => Format::Lines,
            (Some("text/event-stream"), Some(select)) => Format::Events(Events::new(select)?),
            (Some("text/event-stream"), None) => {
                let message = "text/event-stream needs select, such as choices.0.delta.content";
                return Err(ApiError::invalid(message).field("select"));
            }
            (Some("text/plain" | "application/x-ndjson"), Some(_)) => {
                let message = "select belongs to text/event-stream";
                return Err(ApiError::invalid(message).field("select"));
            }
            _ => {
                let message = "the body must be text/plain, application/x-ndjson or \
                               text/event-stream, in UTF-8";
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                return Err(ApiError::new(status, "INVALID_PAYLOAD", message));
            }
        };
        Ok(Self {
            format,
            rest: Vec::new(),
            lines: 0,
        })
    }

    /// Returns the text that a part of the body completes.
    pub(super) fn push(&mut self, part: &[u8]) -> Result<String, ApiError> {
        let mut text = String::new();
        if matches!(self.format, Format::Text) {
            self.rest.extend_from_slice(part);
            self.take_characters(&mut text)?;
            return Ok(text);
        }
        let is_events = matches!(self.format, Format::Events(_));
        let is_end = |byte: &u8| *byte == b'\n' || is_events && *byte == b'\r';
        let mut part = part;
        while let Some(end) = part.iter().position(is_end) {
            let (line, more) = part.split_at(end);
            self.keep(line)?;
            let line = mem::take(&mut self.rest);
            self.read_line(line, more.first() == Some(&b'\r'), &mut text)?;
            part = more.get(1..).unwrap_or_default();
        }
        self.keep(part)?;
        Ok(text)
    }

    /// Returns the text at the end of the body.
    pub(super) fn end(mut self) -> Result<String, ApiError> {
        let mut text = String::new();
        let rest = mem::take(&mut self.rest);
        if matches!(self.format, Format::Text) {
            return match rest.is_empty() {
                true => Ok(text),
                false => Err(ApiError::invalid("the body ends within a character")),
            };
        }
        if !rest.is_empty() {
            self.read_line(rest, false, &mut text)?;
        }
        if let Format::Events(events) = &mut self.format {
            // The last event may have no empty line after it.
            events.dispatch(self.lines, &mut text)?;
            events.require_text()?;
        }
        Ok(text)
    }

    /// Appends to the kept line, if it is not too long.
    fn keep(&mut self, part: &[u8]) -> Result<(), ApiError> {
        if self.rest.len() + part.len() > MAX_LINE {
            let message = format!("line {} has more than {MAX_LINE} bytes", self.lines + 1);
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(ApiError::new(status, "INVALID_PAYLOAD", message));
        }
        self.rest.extend_from_slice(part);
        Ok(())
    }

    /// Moves all whole characters to `text`.
    fn take_characters(&mut self, text: &mut String) -> Result<(), ApiError> {
        let valid = match str::from_utf8(&self.rest) {
            Ok(whole) => whole.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(ApiError::invalid("the body is not UTF-8")),
        };
        let rest = self.rest.split_off(valid);
        let whole = mem::replace(&mut self.rest, rest);
        text.push_str(&String::from_utf8(whole).unwrap_or_default());
        Ok(())
    }

    fn read_line(
        &mut self,
        line: Vec<u8>,
        has_return: bool,
        text: &mut String,
    ) -> Result<(), ApiError> {
        let number = self.lines + 1;
        let line = String::from_utf8(line);
        let line = line.map_err(|_| ApiError::invalid(format!("line {number} is not UTF-8")))?;
        match &mut self.format {
            Format::Events(events) => {
                let follows_return = mem::replace(&mut events.has_return, has_return);
                if follows_return && !has_return && line.is_empty() {
                    // The line feed after a carriage return ends no further line.
                    return Ok(());
                }
                self.lines = number;
                events.read_line(&line, number, text)
            }
            Format::Lines | Format::Text => {
                self.lines = number;
                if line.trim_ascii().is_empty() {
                    return Ok(());
                }
                // A derived implementation also accepts an array of the fields.
                let is_object = line.trim_ascii_start().starts_with('{');
                let read = serde_json::from_str::<Line>(&line)
                    .ok()
                    .filter(|_| is_object);
                let Line { text: more } = read.ok_or_else(|| {
                    ApiError::invalid(format!("line {number} is not {{\"text\": \"…\"}}"))
                })?;
                text.push_str(&more);
                Ok(())
            }
        }
    }
}

impl Events {
    fn new(select: String) -> Result<Self, ApiError> {
        let is_place = !select.is_empty()
            && select.len() <= MAX_SELECT
            && select.split('.').all(|part| !part.is_empty());
        if !is_place {
            let message =
                "select must be names and numbers with dots between them, up to 200 bytes";
            return Err(ApiError::invalid(message).field("select"));
        }
        Ok(Self {
            select,
            data: String::new(),
            has_return: false,
            has_text: false,
            seen: Vec::new(),
        })
    }

    /// Reads a line as described in the HTML standard, 9.2.6. Fields other than `data` have no
    /// text.
    fn read_line(&mut self, line: &str, number: usize, text: &mut String) -> Result<(), ApiError> {
        let line = match number {
            1 => line.strip_prefix('\u{feff}').unwrap_or(line),
            _ => line,
        };
        if line.is_empty() {
            return self.dispatch(number, text);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            if self.data.len() + value.len() > MAX_LINE {
                let message = format!("the event at line {number} has more than {MAX_LINE} bytes");
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                return Err(ApiError::new(status, "INVALID_PAYLOAD", message));
            }
            self.data.push_str(value);
            self.data.push('\n');
        }
        Ok(())
    }

    /// Reads an event whose lines are complete.
    fn dispatch(&mut self, number: usize, text: &mut String) -> Result<(), ApiError> {
        let data = mem::take(&mut self.data);
        let data = data.trim_ascii();
        if data.is_empty() || data == DONE {
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|_| {
            ApiError::invalid(format!(
                "the event at line {number} has data that is not JSON"
            ))
        })?;
        // The text of a model that has failed is not whole.
        if event.get("error").is_some_and(|error| !error.is_null()) {
            let message = format!("the event at line {number} reports an error of its source");
            return Err(ApiError::new(StatusCode::CONFLICT, "CONFLICT", message));
        }
        match self.selected(&event) {
            Some(Value::String(more)) => {
                self.has_text = true;
                text.push_str(more);
            }
            // Events that have no text begin or end it.
            Some(Value::Null) | None => {
                if self.seen.is_empty() {
                    texts_in(&event, "", &mut self.seen);
                }
            }
            Some(_) => {
                let message = format!("{} at line {number} is not a text", self.select);
                return Err(ApiError::invalid(message).field("select"));
            }
        }
        Ok(())
    }

    fn selected<'a>(&self, event: &'a Value) -> Option<&'a Value> {
        self.select.split('.').try_fold(event, |value, part| {
            if let Value::Array(items) = value {
                return items.get(part.parse::<usize>().ok()?);
            }
            value.get(part)
        })
    }

    /// Refuses events of which none had the selected text, naming the texts that there were.
    fn require_text(&self) -> Result<(), ApiError> {
        if self.has_text {
            return Ok(());
        }
        let seen = match self.seen.is_empty() {
            true => "none has any text".to_owned(),
            false => format!("the first with texts has {}", self.seen.join(", ")),
        };
        let message = format!("no event has a text at {}; {seen}", self.select);
        Err(ApiError::invalid(message).field("select"))
    }
}

/// Collects the places of texts in a value, in the form of `select`.
fn texts_in(value: &Value, place: &str, found: &mut Vec<String>) {
    if found.len() >= MAX_SEEN || place.len() > MAX_SELECT {
        return;
    }
    let below = |part: &str| match place {
        "" => part.to_owned(),
        _ => format!("{place}.{part}"),
    };
    match value {
        Value::String(_) => found.push(place.to_owned()),
        Value::Array(items) => {
            for (index, item) in items.iter().take(MAX_SEEN).enumerate() {
                texts_in(item, &below(&index.to_string()), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                texts_in(field, &below(name), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the media type of a body in lower case, or `None` if it is absent or not UTF-8.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let given = given.next().filter(|_| given.next().is_none());
    let text = given.map(HeaderValue::to_str)?.ok()?.to_ascii_lowercase();
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let is_other = |parameter: &str| {
        let charset = parameter.trim().strip_prefix("charset=");
        charset.is_some_and(|charset| charset.trim_matches('"') != "utf-8")
    };
    let is_utf8 = !parameters.split(';').any(is_other);
    is_utf8.then(|| kind.trim().to_owned())
}

/// The data with which streams of language models end.
const DONE: &str = "[DONE]";
/// Maximum bytes of a line, and of the data of an event.
const MAX_LINE: usize = 1 << 20;
/// Maximum bytes of the place of a text.
const MAX_SELECT: usize = 200;
/// Maximum number of places that an error names.
const MAX_SEEN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(kind: &'static str, select: Option<&str>) -> Result<Pieces, ApiError> {
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
        Pieces::new(&headers.into_iter().collect(), select.map(str::to_owned))
    }

    /// Reads a body in parts of `size` bytes.
    fn read(
        kind: &'static str,
        select: Option<&str>,
        body: &[u8],
        size: usize,
    ) -> Result<String, String> {
        let message = |error: ApiError| error.message().to_owned();
        let mut pieces = pieces(kind, select).map_err(message)?;
        let mut text = String::new();
        for part in body.chunks(size) {
            text += &pieces.push(part).map_err(message)?;
        }
        text += &pieces.end().map_err(message)?;
        Ok(text)
    }

    /// Reads a body in parts of all small sizes, which must not matter.
    fn read_anyhow(kind: &'static str, select: Option<&str>, body: &str) -> Result<String, String> {
        let whole = read(kind, select, body.as_bytes(), body.len().max(1));
        for size in 1..body.len().min(20) {
            assert_eq!(read(kind, select, body.as_bytes(), size), whole, "{size}");
        }
        whole
    }

    const TEXT: &str = "text/plain; charset=UTF-8";
    const LINES: &str = "application/x-ndjson";
    const EVENTS: &str = "text/event-stream";

    #[test]
    fn plain_text_may_be_split_within_a_character() {
        for text in ["", "a", "\u{fc}\n\u{20ac}\u{1f600} e\u{301}\u{feff}"] {
            assert_eq!(read_anyhow(TEXT, None, text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_at_any_split() {
        for (body, reason) in [
            (&b"ab\xff"[..], "the body is not UTF-8"),
            (b"a\xed\xa0\x80", "the body is not UTF-8"),
            (b"a\xf0\x9f\x98", "the body ends within a character"),
        ] {
            for size in 1..=body.len() {
                assert_eq!(read(TEXT, None, body, size), Err(reason.to_owned()));
            }
        }
    }

    #[test]
    fn each_line_of_json_has_a_text_and_nothing_else() {
        let body = "{\"text\":\"a\\n\"}\r\n\n {\"text\": \"\u{1f600}\"} \n{\"text\":\"\"}";
        assert_eq!(
            read_anyhow(LINES, None, body),
            Ok("a\n\u{1f600}".to_owned())
        );
        for line in [
            "{\"text\":1}",
            "{}",
            "[\"a\"]",
            "{\"text\":\"a\",\"more\":1}",
            "{\"text\":\"a\"",
            "{\"text\":\"\\ud83d\"}",
        ] {
            let body = format!("{{\"text\":\"a\"}}\n{line}\n");
            let refused = "line 2 is not {\"text\": \"…\"}";
            assert_eq!(read_anyhow(LINES, None, &body), Err(refused.to_owned()));
        }
    }

    #[test]
    fn text_of_a_model_is_found_in_its_events() {
        let body = "\u{feff}: ping\r\nevent: x\r\n\
            data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\r\n\r\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n\
            data:{\"choices\":[{\"delta\":\rdata:{\"content\":\"lo\u{1f600}\"}}]}\r\r\
            data: {\"choices\":[{\"delta\":{\"content\":null}}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n\
            data: [DONE]\n\n";
        let select = Some("choices.0.delta.content");
        assert_eq!(
            read_anyhow(EVENTS, select, body),
            Ok("Hello\u{1f600}".to_owned())
        );
        let last = "data: {\"response\":\"a\"}";
        assert_eq!(
            read_anyhow(EVENTS, Some("response"), last),
            Ok("a".to_owned())
        );
    }

    #[test]
    fn place_that_matches_nothing_is_refused_with_what_was_seen() {
        let body =
            "data: {\"type\":\"x\",\"delta\":{\"text\":\"a\"},\"n\":1}\n\ndata: {\"b\":\"c\"}\n\n";
        let refused = "no event has a text at a.b; the first with texts has delta.text, type";
        assert_eq!(
            read_anyhow(EVENTS, Some("a.b"), body),
            Err(refused.to_owned())
        );
        let refused = "no event has a text at a; none has any text";
        assert_eq!(
            read_anyhow(EVENTS, Some("a"), "data: 1\n\n"),
            Err(refused.to_owned())
        );
        let refused = "delta at line 2 is not a text";
        assert_eq!(
            read_anyhow(EVENTS, Some("delta"), body),
            Err(refused.to_owned())
        );
    }

    #[test]
    fn events_of_a_failed_model_are_refused() {
        let first = "data: {\"a\":\"b\"}\n\n";
        for (event, reason) in [
            (
                "data: {\"error\":{\"message\":\"m\"}}\n\n",
                "reports an error of its source",
            ),
            ("data: {\"a\":\n\n", "has data that is not JSON"),
        ] {
            let body = format!("{first}{event}");
            let refused = format!("the event at line 4 {reason}");
            assert_eq!(read_anyhow(EVENTS, Some("a"), &body), Err(refused));
        }
    }

    #[test]
    fn lines_and_events_have_a_bound() {
        let long = "a".repeat(MAX_LINE);
        for (kind, body, reason) in [
            (
                LINES,
                format!("\n{long}a"),
                "line 2 has more than 1048576 bytes",
            ),
            (
                EVENTS,
                format!("{long}a"),
                "line 1 has more than 1048576 bytes",
            ),
            (
                EVENTS,
                format!("data:{0}\ndata:{0}\n", "b".repeat(MAX_LINE / 2)),
                "the event at line 2 has more than 1048576 bytes",
            ),
        ] {
            let select = (kind == EVENTS).then_some("a");
            let refused = read(kind, select, body.as_bytes(), 4096);
            assert_eq!(refused, Err(reason.to_owned()));
        }
    }

    #[test]
    fn media_type_and_place_must_fit_each_other() {
        let kind =
            "the body must be text/plain, application/x-ndjson or text/event-stream, in UTF-8";
        for (kind, select, reason) in [
            ("text/plain; charset=latin1", None, kind),
            ("application/json", None, kind),
            ("", None, kind),
            (TEXT, Some("a"), "select belongs to text/event-stream"),
            (
                EVENTS,
                None,
                "text/event-stream needs select, such as choices.0.delta.content",
            ),
            (
                EVENTS,
                Some("a..b"),
                "select must be names and numbers with dots between them, up to 200 bytes",
            ),
        ] {
            let refused = pieces(kind, select).map(drop).unwrap_err();
            assert_eq!(refused.message(), reason);
        }
    }
}
