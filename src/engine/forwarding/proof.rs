//! How a server knows that a request was handed on by another server, and whose it is: an HMAC with SHA-256
//! (RFC 2104) over what matters of it, with the key of the server that gets it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, HeaderValue, Method};
use sha2::Sha256;

use crate::engine::primitives::Peer;

/// The header with the proof: `http` or `https`, the client's address, and the code.
pub(in crate::engine) const HEADER: HeaderName = HeaderName::from_static("x-roomcast-forwarded");

/// What is proved.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Said<'a> {
    pub(in crate::engine) method: &'a Method,
    /// Path and query.
    pub(in crate::engine) target: &'a str,
    pub(in crate::engine) client: Peer,
}

pub(in crate::engine) fn sign(key: &[u8; 32], said: Said<'_>) -> Option<HeaderValue> {
    let client = shown(said.client);
    let code = mac(key, said.method, said.target, &client)?;
    let code = URL_SAFE_NO_PAD.encode(code.finalize().into_bytes());
    HeaderValue::try_from(format!("{client} {code}")).ok()
}

pub(super) fn verify(
    key: &[u8; 32],
    method: &Method,
    target: &str,
    proof: &HeaderValue,
) -> Option<Peer> {
    let (client, code) = proof.to_str().ok()?.rsplit_once(' ')?;
    let code = URL_SAFE_NO_PAD.decode(code).ok()?;
    // `verify_slice` takes as long whichever byte differs, so its duration tells nothing of the
    // code.
    mac(key, method, target, client)?.verify_slice(&code).ok()?;
    let (scheme, address) = client.split_once(' ')?;
    Some(Peer {
        address: address.parse().ok()?,
        secure: scheme == "https",
    })
}

fn shown(client: Peer) -> String {
    let scheme = if client.secure { "https" } else { "http" };
    format!("{scheme} {}", client.address)
}

/// The code over all parts. None of them can contain the separator, so no two requests have the
/// same input.
fn mac(key: &[u8; 32], method: &Method, target: &str, client: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in [method.as_str(), target, client] {
        mac.update(part.as_bytes());
        mac.update(b"\0");
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "/socket.io/?EIO=4&sid=x";

    fn signed(key: &[u8; 32]) -> (Peer, HeaderValue) {
        let client = Peer {
            address: "[2001:db8::7]:4711".parse().unwrap(),
            secure: true,
        };
        let said = Said {
            method: &Method::GET,
            target: TARGET,
            client,
        };
        (client, sign(key, said).unwrap())
    }

    #[test]
    fn a_proof_has_the_documented_form() {
        let (_, proof) = signed(&[7; 32]);
        let (client, code) = proof.to_str().unwrap().rsplit_once(' ').unwrap();
        assert_eq!(client, "https [2001:db8::7]:4711");
        assert_eq!(code.len(), 43);
    }

    #[test]
    fn a_proof_is_for_one_key_one_request_and_one_client() {
        let (client, proof) = signed(&[7; 32]);
        let check = |key: &[u8; 32], method: &Method, target: &str, proof: &HeaderValue| {
            verify(key, method, target, proof)
        };
        assert_eq!(check(&[7; 32], &Method::GET, TARGET, &proof), Some(client));
        assert_eq!(check(&[8; 32], &Method::GET, TARGET, &proof), None);
        assert_eq!(check(&[7; 32], &Method::POST, TARGET, &proof), None);
        assert_eq!(check(&[7; 32], &Method::GET, "/socket.io/", &proof), None);
        let text = proof.to_str().unwrap();
        for forged in [
            text.replace("https", "http"),
            text.replace("4711", "4712"),
            text.replace(' ', "  "),
            text[..text.len() - 1].to_owned(),
            format!("{text}A"),
            "https 1.2.3.4:5".to_owned(),
            String::new(),
        ] {
            let forged = HeaderValue::try_from(forged).unwrap();
            assert_eq!(
                check(&[7; 32], &Method::GET, TARGET, &forged),
                None,
                "{forged:?}"
            );
        }
    }
}
