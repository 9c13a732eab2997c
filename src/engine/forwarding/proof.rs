//! Proofs that a request was forwarded by a server of the cluster, for which client, and when.
//!
//! A proof is an HMAC with SHA-256 (RFC 2104) over the relevant parts of the request, with the key
//! of the receiving server.
//!
//! The time in a proof is the uptime of the receiving server in seconds, which it announces in its
//! heartbeats. So the clocks of the servers do not matter, even if one of them is set.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, HeaderValue, Method};
use sha2::Sha256;

use crate::engine::primitives::Peer;

/// The header with the proof: `http` or `https`, the client's address, the time, and the code.
pub(in crate::engine) const HEADER: HeaderName = HeaderName::from_static("x-roomcast-forwarded");

/// Maximum difference between the time in a proof and the uptime of the receiving server, in either
/// direction. The heartbeat from which the sender knows the uptime may be old, if a broker buffered
/// it.
pub(in crate::engine) const LEEWAY: Duration = Duration::from_secs(60);

/// The signed parts of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct SignedFields<'a> {
    pub(in crate::engine) method: &'a Method,
    /// The path and query.
    pub(in crate::engine) target: &'a str,
    pub(in crate::engine) client: Peer,
}

/// Why a proof is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum ProofError {
    /// The code is not that of a server of the cluster, or the proof is malformed.
    Forged,
    /// The request was forwarded too long ago, or its time is in the future.
    Stale {
        /// The time in the proof, in seconds since the start of the verifying server.
        at: u64,
        /// The uptime of the verifying server, in seconds.
        now: u64,
    },
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forged => f.write_str("its authentication code is wrong"),
            Self::Stale { at, now } => write!(
                f,
                "the proof is for uptime second {at} of this server, which is at second {now}"
            ),
        }
    }
}

/// Creates a proof for a server with this uptime.
pub(in crate::engine) fn sign(
    key: &[u8; 32],
    signed: SignedFields<'_>,
    uptime: Duration,
) -> Option<HeaderValue> {
    let Peer { address, secure } = signed.client;
    let scheme = if secure { "https" } else { "http" };
    let shown = format!("{scheme} {address} {}", uptime.as_secs());
    let code = mac(key, &[signed.method.as_str(), signed.target, &shown])?;
    let code = URL_SAFE_NO_PAD.encode(code.finalize().into_bytes());
    HeaderValue::try_from(format!("{shown} {code}")).ok()
}

/// Verifies a proof for the server with this key and uptime. Returns the client of the request.
pub(super) fn verify(
    key: &[u8; 32],
    uptime: Duration,
    method: &Method,
    target: &str,
    proof: &HeaderValue,
) -> Result<Peer, ProofError> {
    let (peer, at) = read(key, method, target, proof).ok_or(ProofError::Forged)?;
    let now = uptime.as_secs();
    if at.abs_diff(now) > LEEWAY.as_secs() {
        return Err(ProofError::Stale { at, now });
    }
    Ok(peer)
}

/// Parses a proof with a correct code.
fn read(key: &[u8; 32], method: &Method, target: &str, proof: &HeaderValue) -> Option<(Peer, u64)> {
    let (shown, code) = proof.to_str().ok()?.rsplit_once(' ')?;
    let code = URL_SAFE_NO_PAD.decode(code).ok()?;
    // `verify_slice` takes constant time, so its duration does not reveal the code.
    let mac = mac(key, &[method.as_str(), target, shown])?;
    mac.verify_slice(&code).ok()?;
    let mut parts = shown.split(' ');
    let (scheme, address) = (parts.next()?, parts.next()?);
    let at = parts.next()?.parse().ok()?;
    let peer = Peer {
        address: address.parse().ok()?,
        secure: scheme == "https",
    };
    parts.next().is_none().then_some((peer, at))
}

/// Computes the code over all parts. No part can contain the separator, so different parts have
/// different inputs.
pub(super) fn mac(key: &[u8; 32], parts: &[&str]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(part.as_bytes());
        mac.update(b"\0");
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "/socket.io/?EIO=4&sid=x";
    const NOW: Duration = Duration::from_millis(1_000_900);

    fn signed(at: u64) -> (Peer, HeaderValue) {
        let client = Peer {
            address: "[2001:db8::7]:4711".parse().unwrap(),
            secure: true,
        };
        let signed = SignedFields {
            method: &Method::GET,
            target: TARGET,
            client,
        };
        let proof = sign(&[7; 32], signed, Duration::from_secs(at));
        (client, proof.unwrap())
    }

    #[test]
    fn a_proof_has_the_documented_form() {
        let (_, proof) = signed(1000);
        let (shown, code) = proof.to_str().unwrap().rsplit_once(' ').unwrap();
        assert_eq!(shown, "https [2001:db8::7]:4711 1000");
        assert_eq!(code.len(), 43);
    }

    #[test]
    fn corpus_proofs_verify_and_are_signed_identically() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/forwarding.txt");
        let corpus = std::fs::read_to_string(path).unwrap();
        let mut read_lines = 0;
        for line in corpus.lines().filter(|line| !line.starts_with('#')) {
            let [is, _, proof] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            assert_eq!(is, "timed");
            let (client, again) = signed(1000);
            assert_eq!(again, proof);
            let proof = HeaderValue::from_str(proof).unwrap();
            let checked = verify(&[7; 32], NOW, &Method::GET, TARGET, &proof);
            assert_eq!(checked, Ok(client));
            read_lines += 1;
        }
        assert_eq!(read_lines, 1);
    }

    #[test]
    fn proof_is_valid_for_one_key_request_client_and_time() {
        let (client, proof) = signed(1000);
        let check = |key: &[u8; 32], method: &Method, target: &str, proof: &HeaderValue| {
            verify(key, NOW, method, target, proof)
        };
        let (good, forged) = (Ok(client), Err(ProofError::Forged));
        assert_eq!(check(&[7; 32], &Method::GET, TARGET, &proof), good);
        assert_eq!(check(&[8; 32], &Method::GET, TARGET, &proof), forged);
        assert_eq!(check(&[7; 32], &Method::POST, TARGET, &proof), forged);
        let elsewhere = check(&[7; 32], &Method::GET, "/socket.io/", &proof);
        assert_eq!(elsewhere, forged);
        let text = proof.to_str().unwrap();
        for changed in [
            text.replace("https", "http"),
            text.replace("4711", "4712"),
            text.replace(" 1000", " 1001"),
            text.replace(" 1000", ""),
            text.replace(" 1000", " 1000 1000"),
            text.replace(' ', "  "),
            text[..text.len() - 1].to_owned(),
            format!("{text}A"),
            "https 1.2.3.4:5".to_owned(),
            "https 1.2.3.4:5 1000".to_owned(),
            String::new(),
        ] {
            let changed = HeaderValue::try_from(changed).unwrap();
            let checked = check(&[7; 32], &Method::GET, TARGET, &changed);
            assert_eq!(checked, forged, "{changed:?}");
        }
    }

    #[test]
    fn proof_is_valid_within_a_minute_of_its_time() {
        for (at, holds) in [
            (0, false),
            (939, false),
            (940, true),
            (1000, true),
            (1060, true),
            (1061, false),
            (u64::MAX, false),
        ] {
            let (client, proof) = signed(at);
            let checked = verify(&[7; 32], NOW, &Method::GET, TARGET, &proof);
            let stale = ProofError::Stale { at, now: 1000 };
            let expected = if holds { Ok(client) } else { Err(stale) };
            assert_eq!(checked, expected);
        }
    }
}
