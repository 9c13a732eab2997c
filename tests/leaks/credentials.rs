//! Tokens of clients.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The server's key.
const SECRET: &[u8] = b"of clients that end in every way";

/// Returns a token of this user that is valid for this many seconds.
pub(crate) fn token(user: &str, seconds: i64) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let exp = jiff::Timestamp::now().as_second() + seconds;
    let claims = format!(r#"{{"sub":"{user}","exp":{exp}}}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let signature = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
