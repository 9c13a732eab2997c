//! Proofs of server identity, required before a server is sent client requests.
//!
//! A proof is an HMAC with SHA-256 (RFC 2104) over a nonce of the caller. Its key is the one that
//! the server announces in its heartbeats.
//!
//! An address may be reassigned while a heartbeat still announces it, but a key is not. The proof
//! is valid for one connection: the caller draws a new nonce for each.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use http::{HeaderName, HeaderValue, uri::Authority};
use roomcast_protocol::Tag;
use sha2::Sha256;

use super::proof;

/// The request header that challenges a server: the version, the tag, and the nonce.
pub(in crate::engine) const CHALLENGE: HeaderName = HeaderName::from_static("x-roomcast-challenge");
/// The response header: the version and the code.
pub(in crate::engine) const IDENTITY: HeaderName = HeaderName::from_static("x-roomcast-identity");

/// The version of both headers.
const VERSION: &str = "1";
/// Length of a nonce, in bytes.
const NONCE: usize = 32;
/// The first part of the code's input. It contains a space, which no HTTP method does, so a code
/// over a request ([`proof`](super::proof)) is never a code over a challenge. Only called servers
/// answer challenges, so the code identifies the called server.
const LABEL: &str = "roomcast identity of the called server";

/// The claimed identity of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) tag: Tag,
    /// The address that the server announces. A server answers challenges only for its own address,
    /// so that no other address can relay challenges to it.
    pub(super) authority: &'a Authority,
}

/// A challenge for one connection.
#[derive(Debug)]
pub(super) struct Challenge<'a> {
    claim: Claim<'a>,
    nonce: String,
}

impl<'a> Challenge<'a> {
    /// Draws a challenge; `None` if the operating system provides no random bytes.
    pub(super) fn draw(claim: Claim<'a>) -> Option<Self> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        Some(Self {
            claim,
            nonce: URL_SAFE_NO_PAD.encode(nonce),
        })
    }

    /// Returns the value of the challenge header.
    pub(super) fn header(&self) -> String {
        format!("{VERSION} {} {}", self.claim.tag.as_str(), self.nonce)
    }

    /// Returns whether `identity` is the answer of the server with this key to this challenge.
    pub(super) fn is_answered(&self, key: &[u8; 32], identity: &[u8]) -> bool {
        let code = std::str::from_utf8(identity)
            .ok()
            .and_then(|identity| identity.split_once(' '))
            .filter(|(version, _)| *version == VERSION)
            .and_then(|(_, code)| URL_SAFE_NO_PAD.decode(code).ok());
        let mac = mac(key, self.claim, &self.nonce);
        // `verify_slice` takes constant time.
        code.zip(mac)
            .is_some_and(|(code, mac)| mac.verify_slice(&code).is_ok())
    }
}

/// Answers a challenge; `None` if it is malformed or for another server.
pub(super) fn answer(
    key: &[u8; 32],
    claim: Claim<'_>,
    challenge: &HeaderValue,
) -> Option<HeaderValue> {
    let mut parts = challenge.to_str().ok()?.split(' ');
    let (version, tag, nonce) = (parts.next()?, parts.next()?, parts.next()?);
    let is_nonce = URL_SAFE_NO_PAD
        .decode(nonce)
        .is_ok_and(|nonce| nonce.len() == NONCE);
    let is_own = version == VERSION && tag == claim.tag.as_str();
    if !is_own || !is_nonce || parts.next().is_some() {
        return None;
    }
    let code = mac(key, claim, nonce)?.finalize().into_bytes();
    HeaderValue::try_from(format!("{VERSION} {}", URL_SAFE_NO_PAD.encode(code))).ok()
}

/// Computes the code over all parts of a proof.
fn mac(key: &[u8; 32], claim: Claim<'_>, nonce: &str) -> Option<Hmac<Sha256>> {
    let (tag, authority) = (claim.tag.as_str(), claim.authority.as_str());
    proof::mac(key, &[LABEL, VERSION, tag, authority, nonce])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_is_valid_for_one_key_tag_address_and_nonce() {
        let (authority, other_authority) = ("a:1".parse().unwrap(), "b:1".parse().unwrap());
        let claim = |tag: u8, authority| Claim {
            tag: Tag::from_random([tag; 6]),
            authority,
        };
        let challenge = Challenge::draw(claim(1, &authority)).unwrap();
        let header = HeaderValue::try_from(challenge.header()).unwrap();
        let good = answer(&[7; 32], claim(1, &authority), &header).unwrap();
        assert!(challenge.is_answered(&[7; 32], good.as_bytes()));
        assert!(!challenge.is_answered(&[8; 32], good.as_bytes()), "key");
        let other = answer(&[7; 32], claim(1, &other_authority), &header).unwrap();
        assert!(
            !challenge.is_answered(&[7; 32], other.as_bytes()),
            "address"
        );
        let again = Challenge::draw(claim(1, &authority)).unwrap();
        assert!(!again.is_answered(&[7; 32], good.as_bytes()), "nonce");
        assert_eq!(answer(&[7; 32], claim(2, &authority), &header), None, "tag");
    }

    #[test]
    fn malformed_challenges_and_answers_are_refused() {
        let authority = "a:1".parse().unwrap();
        let claim = Claim {
            tag: Tag::from_random([1; 6]),
            authority: &authority,
        };
        let challenge = Challenge::draw(claim).unwrap();
        let good = challenge.header();
        for bad in [
            String::new(),
            good.replacen('1', "2", 1),
            format!("{good} more"),
            good[..good.len() - 1].to_owned(),
            format!("{good}A"),
            good.replace(' ', "  "),
        ] {
            let header = HeaderValue::try_from(&bad).unwrap();
            assert_eq!(answer(&[7; 32], claim, &header), None, "{bad}");
        }
        let header = HeaderValue::try_from(good).unwrap();
        let good = answer(&[7; 32], claim, &header).unwrap();
        let good = good.to_str().unwrap();
        for bad in [
            String::new(),
            good[2..].to_owned(),
            good.replacen('1', "2", 1),
            good[..good.len() - 1].to_owned(),
            format!("{good}A"),
            format!("{good} more"),
        ] {
            assert!(!challenge.is_answered(&[7; 32], bad.as_bytes()), "{bad}");
        }
    }
}
