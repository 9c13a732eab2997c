//! Session cookies as signed by express-session: `s:ID.SIGNATURE`, percent-encoded. The signature
//! is the HMAC-SHA256 of the id in Base64 without padding.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::hmac;

use crate::auth::AuthFault;

/// Returns the session id in a cookie that is signed with one of the keys.
///
/// # Errors
///
/// Returns [`AuthFault::TooLong`], [`AuthFault::Malformed`] or [`AuthFault::Signature`].
pub(super) fn session_id(value: &str, keys: &[hmac::Key]) -> Result<String, AuthFault> {
    // The length is checked before decoding and hashing.
    if value.len() > MAX_BYTES {
        return Err(AuthFault::TooLong);
    }
    let decoded = decode(value).ok_or(AuthFault::Malformed)?;
    let signed = decoded.strip_prefix("s:").ok_or(AuthFault::Malformed)?;
    // An id can contain a dot; Base64 has none.
    let (id, signature) = signed.rsplit_once('.').ok_or(AuthFault::Malformed)?;
    let signature = STANDARD_NO_PAD.decode(signature);
    let signature = signature.map_err(|_| AuthFault::Signature)?;
    // The comparison takes constant time for each key, so that a signature cannot be guessed byte
    // by byte.
    let is_signed = |key| hmac::verify(key, id.as_bytes(), &signature).is_ok();
    if id.is_empty() {
        return Err(AuthFault::Malformed);
    }
    if !keys.iter().any(is_signed) {
        return Err(AuthFault::Signature);
    }
    Ok(id.to_owned())
}

/// Percent-decodes a text, as `decodeURIComponent` does.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Maximum bytes of a cookie, the same limit as in browsers.
const MAX_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[&str]) -> Vec<hmac::Key> {
        let key = |secret: &&str| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        secrets.iter().map(key).collect()
    }

    #[test]
    fn cookie_is_valid_if_any_configured_secret_signed_it() {
        // require("cookie-signature").sign("hello", "tobiiscool"), from the tests of that package.
        let cookie = "s%3Ahello.DGDUkGlIkCzPz%2BC0B064FNgHdEjox7ch8tOBGslZ5QI";
        let plain = "s:hello.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI";
        for value in [cookie, plain] {
            for secrets in [&["tobiiscool"][..], &["newer", "tobiiscool"]] {
                assert_eq!(session_id(value, &keys(secrets)).as_deref(), Ok("hello"));
            }
            let wrong = session_id(value, &keys(&["luna"]));
            assert_eq!(wrong, Err(AuthFault::Signature));
        }
    }

    #[test]
    fn unsigned_and_malformed_cookies_are_refused() {
        let long = format!("s:{}.x", "a".repeat(MAX_BYTES));
        for (value, fault) in [
            ("", AuthFault::Malformed),
            ("hello", AuthFault::Malformed),
            ("s:hello", AuthFault::Malformed),
            ("j:{\"a\":1}", AuthFault::Malformed),
            ("s%3", AuthFault::Malformed),
            ("s%3Ahello%ff.x", AuthFault::Malformed),
            ("s%+3hello.x", AuthFault::Malformed),
            ("s:.DGDUkGlIkCzPz", AuthFault::Signature),
            ("s:hello.", AuthFault::Signature),
            (
                "s:hello.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI=",
                AuthFault::Signature,
            ),
            (
                "s:hello.DGDUkGlIkCzPz-C0B064FNgHdEjox7ch8tOBGslZ5QI",
                AuthFault::Signature,
            ),
            (
                "s:hellp.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI",
                AuthFault::Signature,
            ),
            (&long, AuthFault::TooLong),
        ] {
            assert_eq!(
                session_id(value, &keys(&["tobiiscool"])),
                Err(fault),
                "{value}"
            );
        }
    }
}
