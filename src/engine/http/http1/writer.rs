//! Writes responses in the format of HTTP/1.1 (RFC 9112), line by line like hyper.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{StatusCode, header, response::Parts};

use super::parser::closes;
use crate::{engine::http::message::reply::Head, time::http_date};

/// Appends the head of a response with a body of this many bytes. `close` means that no other
/// response follows on this connection.
pub(in crate::engine::http) fn encode(out: &mut Vec<u8>, head: &Head, body: usize, close: bool) {
    let (mut has_length, mut is_dated) = (true, false);
    match head {
        Head::Known(text) => {
            out.extend_from_slice(text.as_bytes());
            if close {
                out.extend_from_slice(b"connection: close\r\n");
            }
        }
        Head::Parts(parts) => {
            status_line(out, parts.status);
            // Such a response must not have a length (RFC 9110, 8.6).
            has_length =
                !(parts.status.is_informational() || parts.status == StatusCode::NO_CONTENT);
            is_dated = parts.headers.contains_key(header::DATE);
            headers(out, parts, close);
        }
    }
    if has_length {
        out.extend_from_slice(b"content-length: ");
        decimal(out, body);
        out.extend_from_slice(b"\r\n");
    }
    if !is_dated {
        out.extend_from_slice(b"date: ");
        date(out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends all headers except those that delimit the body, which the hooks of an application must
/// not override.
fn headers(out: &mut Vec<u8>, answer: &Parts, close: bool) {
    let close = close && !has_close(answer);
    let mut is_connection_written = false;
    for (name, value) in &answer.headers {
        if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING {
            continue;
        }
        if name == header::CONNECTION {
            if !std::mem::replace(&mut is_connection_written, true) {
                connection(out, answer, close);
            }
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if close && !is_connection_written {
        connection(out, answer, close);
    }
}

/// Returns whether a response declares itself the last one of its connection.
pub(super) fn is_last(head: &Head) -> bool {
    match head {
        Head::Known(_) => false,
        Head::Parts(parts) => has_close(parts),
    }
}

fn has_close(answer: &Parts) -> bool {
    let mut connection = answer.headers.get_all(header::CONNECTION).iter();
    connection.any(|value| closes(value.as_bytes()))
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    // hyper also writes `<none>` for a status without a name.
    let reason = status.canonical_reason().unwrap_or("<none>");
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the `Connection` headers of the response as one line.
fn connection(out: &mut Vec<u8>, answer: &Parts, close: bool) {
    let values = answer.headers.get_all(header::CONNECTION).iter();
    let close = close.then_some(&b"close"[..]);
    let mut before: &[u8] = b"connection: ";
    for option in values.map(|value| value.as_bytes()).chain(close) {
        out.extend_from_slice(before);
        out.extend_from_slice(option);
        before = b", ";
    }
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, mut number: usize) {
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// The value of the `Date` header for the current second.
struct DateHeader {
    second: u64,
    text: String,
}

thread_local! {
    /// Formatted once per second, the precision of the header.
    static DATE: RefCell<DateHeader> = const { RefCell::new(DateHeader { second: 0, text: String::new() }) };
}

/// Appends the current time (RFC 9110, 5.6.7).
fn date(out: &mut Vec<u8>) {
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH);
    let second = since.map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|date| {
        if date.second != second || date.text.is_empty() {
            date.text = http_date(now);
            date.second = second;
        }
        out.extend_from_slice(date.text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Response};

    use super::*;

    fn head(status: u16, headers: &[(&'static str, &'static str)], close: bool) -> String {
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().append(*name, value);
        }
        let mut out = Vec::new();
        let head = Head::Parts(answer.into_parts().0);
        encode(&mut out, &head, 1204, close);
        String::from_utf8(out).unwrap()
    }

    fn without_date(head: &str) -> String {
        let mut lines = head.split_inclusive("\r\n");
        let undated = lines.by_ref().filter(|line| !line.starts_with("date: "));
        undated.collect()
    }

    #[test]
    fn an_answer_has_its_headers_its_length_and_a_date() {
        let answer = head(200, &[("content-type", "text/plain"), ("vary", "a")], false);
        assert_eq!(
            without_date(&answer),
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nvary: a\r\ncontent-length: 1204\r\n\r\n"
        );
        let date = answer.lines().find_map(|line| line.strip_prefix("date: "));
        let date = date.unwrap();
        let read = httpdate::parse_http_date(date).unwrap();
        let age = SystemTime::now().duration_since(read).unwrap();
        assert!(age.as_secs() < 60, "{date}");
        assert_eq!((date.len(), &date[25..]), (29, " GMT"));
    }

    #[test]
    fn an_answer_without_a_body_has_no_length() {
        assert_eq!(
            without_date(&head(204, &[], false)),
            "HTTP/1.1 204 No Content\r\n\r\n"
        );
        assert_eq!(
            without_date(&head(101, &[("connection", "Upgrade")], false)),
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\r\n"
        );
    }

    #[test]
    fn last_response_of_a_connection_has_one_close_header() {
        for (connection, line) in [
            (&[][..], "connection: close"),
            (&["close"], "connection: close"),
            (&["Upgrade"], "connection: Upgrade, close"),
            (&["a", "Close"], "connection: a, Close"),
        ] {
            let headers: Vec<_> = connection.iter().map(|v| ("connection", *v)).collect();
            let answer = head(200, &headers, true);
            let found: Vec<_> = answer
                .lines()
                .filter(|l| l.starts_with("connection"))
                .collect();
            assert_eq!(found, [line]);
        }
    }

    #[test]
    fn a_function_for_headers_cannot_change_where_the_body_ends() {
        let headers = [
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("date", "never"),
        ];
        assert_eq!(
            head(200, &headers, false),
            "HTTP/1.1 200 OK\r\ndate: never\r\ncontent-length: 1204\r\n\r\n"
        );
    }
}
