//! Errors for server responses that do not follow the Socket.IO protocol, and for refused events.

use roomcast_protocol::socket::Args;
use serde::Deserialize;
use serde_json::Value;

use super::ClientError;

/// The body of an Engine.IO error: `{"code":0,"message":"Transport unknown"}`.
#[derive(Deserialize)]
struct Refusal {
    code: u64,
    message: String,
}

/// Returns the error for an HTTP response that opens no session.
pub(super) fn refusal(status: u16, body: &[u8]) -> ClientError {
    if let Ok(Refusal { code, message }) = serde_json::from_slice(body) {
        let message = format!("{} (code {code})", shorten(message.as_bytes()));
        return ClientError::Status { status, message };
    }
    match status {
        401 | 403 | 429 | 503 => ClientError::Status {
            status,
            message: shorten(body),
        },
        _ => ClientError::NotSocketIo(format!("it answers the handshake with status {status}")),
    }
}

/// Returns the error for bytes that are not an HTTP response.
pub(super) fn unexpected_response(received: &[u8]) -> ClientError {
    ClientError::NotSocketIo(if received.is_empty() {
        "it closes the connection without an answer".into()
    } else {
        format!("it says \"{}\"", shorten(received))
    })
}

/// Returns the error for a WebSocket server that sends no Engine.IO handshake.
pub(super) fn missing_handshake() -> ClientError {
    ClientError::NotSocketIo("it accepts WebSockets, but sends no handshake".into())
}

/// Returns the refusal in an acknowledgement, if it is one.
///
/// Servers of this library acknowledge an event that they reject in this format.
pub(crate) fn refused(answer: &Args) -> Option<ClientError> {
    #[derive(Deserialize)]
    struct Failed {
        success: bool,
        error: Value,
    }
    let Failed {
        success: false,
        error,
    } = answer.get(0).ok()?
    else {
        return None;
    };
    let text = |name| error.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(ClientError::Refused {
        code: text("code").unwrap_or_default(),
        message: text("message")?,
        data: Some(error),
    })
}

/// Returns the first characters of a server's text as one printable line.
pub(super) fn shorten(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..SHOWN * 4).unwrap_or(text));
    let mut line: String = text
        .trim()
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.trim().chars().count() > SHOWN {
        line.push('…');
    }
    line
}

/// Maximum number of characters of a server's text in an error.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_io_errors_are_distinguished_from_other_servers() {
        let shown = |status, body: &str| refusal(status, body.as_bytes()).to_string();
        assert_eq!(
            shown(400, r#"{"code":0,"message":"Transport unknown"}"#),
            "the server refuses clients with status 400: Transport unknown (code 0)"
        );
        assert_eq!(
            shown(404, "<html>nothing here</html>"),
            "not a Socket.IO server: it answers the handshake with status 404"
        );
        assert_eq!(shown(503, ""), "the server refuses clients with status 503");
    }

    #[test]
    fn shorten_returns_one_short_printable_line() {
        assert_eq!(shorten(b"  a\r\nb\x1b[31m "), "a  b [31m");
        assert_eq!(shorten(&[b'x'; 1000]).chars().count(), SHOWN + 1);
    }
}
