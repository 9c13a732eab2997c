//! The opening handshake (RFC 6455 section 4).
//!
//! The server side checks header values that an HTTP server has parsed ([`check`]) and computes the
//! response to the client's key ([`accept_key`]). The client side writes the text of a request
//! ([`Request::encode`]) and parses the response ([`read_answer`]). Every function is linear in its
//! input.
//!
//! Subprotocols are ignored: a server that does not name them in its response has declined them
//! (section 4.2.2), whatever a client offered. The only extension is in
//! [`deflate`](super::deflate).

mod client;
mod server;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1_smol::Sha1;

pub use client::{Answer, AnswerError, Request, key, read_answer, read_answer_to};
pub use server::{HandshakeError, Upgrade, check};

/// Returns the value of `Sec-WebSocket-Accept`, which proves that the server read the key (section
/// 4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    STANDARD.encode(hash.digest().bytes())
}

/// Returns whether a comma-separated header value contains this token, ignoring case (RFC 9110
/// section 5.6.1).
#[must_use]
pub fn has_token(value: &str, token: &str) -> bool {
    value
        .split(',')
        .any(|item| item.trim_matches([' ', '\t']).eq_ignore_ascii_case(token))
}

/// The only version of the protocol that browsers support.
pub const VERSION: &str = "13";

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn tokens_are_found_in_lists_in_any_case() {
        for value in [
            "upgrade",
            "Upgrade",
            "keep-alive, Upgrade",
            "keep-alive ,\tUPGRADE ",
            ",,upgrade",
        ] {
            assert!(has_token(value, "upgrade"), "{value}");
        }
        for value in ["", "upgraded", "up grade", "keep-alive", "upgrade;q=1"] {
            assert!(!has_token(value, "upgrade"), "{value}");
        }
    }
}
