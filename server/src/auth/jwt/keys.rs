//! Keys that verify and sign tokens, each for one algorithm.

use std::{collections::HashMap, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::{AuthFault, Weakness};

/// Keys of one or several sources.
///
/// Each key is valid for only one algorithm, whatever a token specifies. A `kid` is looked up
/// separately in each source, so keys of different sources with the same `kid` do not conflict.
/// ```
/// use roomcast_server::auth::Keys;
///
/// let keys = Keys::from_secret(b"a secret of at least thirty-two bytes");
/// let more = Keys::from_jwks(r#"{"keys":[
///     {"kty":"OKP","crv":"Ed25519","kid":"2025","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
/// ]}"#)?;
/// assert_eq!(keys.and(more).len(), 2);
/// # Ok::<(), roomcast_server::auth::KeysError>(())
/// ```
#[derive(Clone, Default)]
pub struct Keys {
    sets: Vec<Set>,
}

/// The keys of one source.
#[derive(Clone)]
struct Set {
    keys: Vec<Key>,
    by_id: HashMap<Box<str>, KeyLocation>,
}

/// The position of the key with a `kid`.
#[derive(Clone, Copy)]
enum KeyLocation {
    One(usize),
    Several,
}

#[derive(Clone)]
pub(super) struct Key {
    id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    pub(super) verifying: DecodingKey,
    /// Only shared secrets can sign.
    signing: Option<EncodingKey>,
    /// The reason why the secret is guessable, if it is.
    weakness: Option<Weakness>,
}

impl Keys {
    /// Creates keys from one shared secret without a `kid`, for HS256.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        Self::collect(vec![secret_key(None, Algorithm::HS256, secret)])
    }

    /// Creates keys from one shared secret without a `kid`, for `HS256`, `HS384` or `HS512`.
    ///
    /// # Errors
    ///
    /// If the algorithm is another one, or the secret is empty or looks like a public key, which is
    /// not secret.
    pub fn from_secret_for(secret: &[u8], algorithm: &str) -> Result<Self, KeysError> {
        let algorithm = match algorithm {
            "HS256" => Algorithm::HS256,
            "HS384" => Algorithm::HS384,
            "HS512" => Algorithm::HS512,
            _ => return Err(KeysError::SecretAlgorithm),
        };
        if secret.is_empty() {
            return Err(KeysError::Empty);
        }
        // A public key used as a secret is the classic algorithm confusion: anyone could sign with
        // it.
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(KeysError::PublicSecret);
        }
        Ok(Self::collect(vec![secret_key(None, algorithm, secret)]))
    }

    /// Reads the signature keys of a JWK set (RFC 7517). Keys for other purposes or of unknown
    /// kinds are omitted. An empty set is valid and removes all keys of the source.
    ///
    /// A key without `alg` is used with the algorithm of its curve, RS256 for RSA, or HS256 for
    /// secrets.
    ///
    /// # Errors
    ///
    /// If the text is not a JWK set, the set has more than 100 keys, a key is malformed, or it has
    /// keys but none is usable.
    pub fn from_jwks(json: &str) -> Result<Self, KeysError> {
        let (keys, is_empty) = parse(json)?;
        let keys = Self::collect(keys);
        if keys.is_of_use() || is_empty {
            Ok(keys)
        } else {
            Err(KeysError::NoneOfUse)
        }
    }

    /// Reads a set that was fetched over a network. Secrets in it are ignored, and a set without
    /// usable keys is an error.
    pub(in crate::auth) fn from_public_jwks(json: &str) -> Result<Self, KeysError> {
        let (mut keys, _) = parse(json)?;
        // A secret fetched over the network may be known to others, so it is not used for
        // verification.
        keys.retain(|key| key.signing.is_none());
        let keys = Self::collect(keys);
        if keys.is_of_use() {
            Ok(keys)
        } else {
            Err(KeysError::NoneOfUse)
        }
    }

    /// Returns a source without keys.
    pub(super) fn none_yet() -> Self {
        Self::collect(Vec::new())
    }

    /// Adds the keys of another source.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.sets.extend(other.sets);
        self
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.iter().map(|set| set.keys.len()).sum()
    }

    /// Returns whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns each `kid` that several keys of one source have. These keys are not usable.
    pub fn duplicates(&self) -> impl Iterator<Item = &str> {
        let several = |found: &KeyLocation| matches!(found, KeyLocation::Several);
        self.sets
            .iter()
            .flat_map(|set| &set.by_id)
            .filter(move |(_, found)| several(found))
            .map(|(id, _)| &**id)
    }

    /// Looks up the key named by a token's header in each source.
    pub(super) fn find(&self, id: Option<&str>) -> impl Iterator<Item = Result<&Key, AuthFault>> {
        self.sets.iter().map(move |set| set.find(id))
    }

    /// Returns a key that can sign, with its `kid` and algorithm.
    pub(super) fn signing(&self) -> Option<(Option<&str>, Algorithm, &EncodingKey)> {
        let mut keys = self.sets.iter().flat_map(|set| &set.keys);
        keys.find_map(|key| Some((key.id.as_deref(), key.algorithm, key.signing.as_ref()?)))
    }

    /// Returns why a secret among the keys is guessable, with its `kid`.
    pub(crate) fn weakness(&self) -> Option<(Option<&str>, Weakness)> {
        let mut keys = self.sets.iter().flat_map(|set| &set.keys);
        keys.find_map(|key| Some((key.id.as_deref(), key.weakness?)))
    }

    /// Returns whether a token can refer to any of the keys.
    fn is_of_use(&self) -> bool {
        self.sets.iter().any(|set| {
            let mut found = set.by_id.values();
            found.any(|found| matches!(found, KeyLocation::One(_))) || set.find(None).is_ok()
        })
    }

    fn collect(keys: Vec<Key>) -> Self {
        let mut by_id = HashMap::with_capacity(keys.len());
        for (at, key) in keys.iter().enumerate() {
            if let Some(id) = &key.id {
                by_id
                    .entry(id.clone())
                    // Two keys with the same `kid` are both unusable: a guess could accept tokens
                    // with the wrong one.
                    .and_modify(|found| *found = KeyLocation::Several)
                    .or_insert(KeyLocation::One(at));
            }
        }
        let sets = vec![Set { keys, by_id }];
        Self { sets }
    }
}

impl Set {
    /// Returns the key named by a token's header.
    fn find(&self, id: Option<&str>) -> Result<&Key, AuthFault> {
        match (id, self.keys.as_slice()) {
            (_, []) => Err(AuthFault::NoKeys),
            (Some(id), keys) => match self.by_id.get(id) {
                Some(KeyLocation::One(at)) => keys.get(*at).ok_or(AuthFault::UnknownKey),
                Some(KeyLocation::Several) => Err(AuthFault::DuplicateKey),
                None => Err(AuthFault::UnknownKey),
            },
            (None, [key]) => Ok(key),
            (None, keys) => {
                // A token without a `kid` can only refer to a single key without one.
                let mut nameless = keys.iter().filter(|key| key.id.is_none());
                match (nameless.next(), nameless.next()) {
                    (Some(key), None) => Ok(key),
                    (_, _) => Err(AuthFault::NoKeyId),
                }
            }
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.sets.iter().flat_map(|set| &set.keys);
        let names = keys.map(|key| (key.id.as_deref(), key.algorithm));
        f.debug_list().entries(names).finish()
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

/// A key in a JWK set (RFC 7517, 4 and RFC 7518, 6).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// Parses the supported keys of a set. Also returns whether the set is empty.
fn parse(json: &str) -> Result<(Vec<Key>, bool), KeysError> {
    let set: JwkSet = serde_json::from_str(json).map_err(|_| KeysError::NotASet)?;
    if set.keys.len() > MAX_KEYS {
        return Err(KeysError::TooMany);
    }
    let is_empty = set.keys.is_empty();
    let mut keys = Vec::with_capacity(set.keys.len());
    for (position, value) in set.keys.into_iter().enumerate() {
        let broken = || KeysError::Key(position);
        let jwk: Jwk = serde_json::from_value(value).map_err(|_| broken())?;
        if jwk
            .purpose
            .as_deref()
            // A set can also contain encryption keys, which must not verify signatures.
            .is_some_and(|purpose| purpose != "sig")
        {
            continue;
        }
        let Some(algorithm) = algorithm(&jwk) else {
            continue;
        };
        keys.push(key(jwk, algorithm).ok_or_else(broken)?);
    }
    Ok((keys, is_empty))
}

/// Returns the only algorithm that a key is used with, or `None` if it is not supported.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let implied = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => "RS256",
        ("oct", _) => "HS256",
        ("EC", Some("P-256")) => "ES256",
        ("EC", Some("P-384")) => "ES384",
        ("OKP", Some("Ed25519")) => "EdDSA",
        (_, _) => return None,
    };
    // RFC 9864 renames the algorithm of this curve to Ed25519.
    let named = match jwk.alg.as_deref() {
        Some("Ed25519") => "EdDSA",
        Some(named) => named,
        None => implied,
    };
    let named: Algorithm = named.parse().ok()?;
    let implied: Algorithm = implied.parse().ok()?;
    let fits = match jwk.kty.as_str() {
        // RSA keys and secrets fit several algorithms of a family; a curve has exactly one.
        "RSA" | "oct" => named.family() == implied.family(),
        _ => named == implied,
    };
    fits.then_some(named)
}

fn key(jwk: Jwk, algorithm: Algorithm) -> Option<Key> {
    let id = jwk.kid.map(String::into_boxed_str);
    if jwk.kty == "oct" {
        let secret = URL_SAFE_NO_PAD.decode(jwk.k?).ok()?;
        return (!secret.is_empty()).then(|| secret_key(id, algorithm, &secret));
    }
    let verifying = match jwk.kty.as_str() {
        "RSA" => DecodingKey::from_rsa_components(&jwk.n?, &jwk.e?),
        "EC" => DecodingKey::from_ec_components(&jwk.x?, &jwk.y?),
        _ => DecodingKey::from_ed_components(&jwk.x?),
    };
    Some(Key {
        id,
        algorithm,
        verifying: verifying.ok()?,
        signing: None,
        weakness: None,
    })
}

fn secret_key(id: Option<Box<str>>, algorithm: Algorithm, secret: &[u8]) -> Key {
    Key {
        id,
        algorithm,
        verifying: DecodingKey::from_secret(secret),
        signing: Some(EncodingKey::from_secret(secret)),
        weakness: weakness(algorithm, secret),
    }
}

/// Returns why a secret for an algorithm is guessable (RFC 7518, 3.2).
fn weakness(algorithm: Algorithm, secret: &[u8]) -> Option<Weakness> {
    let needs = [
        (Algorithm::HS256, "HS256", 32),
        (Algorithm::HS384, "HS384", 48),
        (Algorithm::HS512, "HS512", 64),
    ];
    let (_, name, needed) = needs.into_iter().find(|(one, _, _)| *one == algorithm)?;
    Weakness::of(name, needed, secret)
}

/// The reason why keys cannot be loaded. It contains no part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeysError {
    /// The document is not a JSON object with an array `keys`.
    NotASet,
    /// The set has more than 100 keys.
    TooMany,
    /// The key at this zero-based position is malformed.
    Key(usize),
    /// None of the keys can be used for tokens.
    NoneOfUse,
    /// The secret is configured for an algorithm other than HS256, HS384 and HS512.
    SecretAlgorithm,
    /// The secret is empty.
    Empty,
    /// The secret is a public key.
    PublicSecret,
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASet => f.write_str("not a JWK set"),
            Self::TooMany => write!(f, "more than {MAX_KEYS} keys"),
            Self::Key(position) => write!(f, "key {position} of the set is broken"),
            Self::NoneOfUse => f.write_str("no key of the set can be used"),
            Self::SecretAlgorithm => f.write_str(
                "a secret is for HS256, HS384 or HS512; public keys belong in a JWK set",
            ),
            Self::Empty => f.write_str("the secret is empty"),
            Self::PublicSecret => {
                f.write_str("the secret is a PEM file; public keys belong in a JWK set")
            }
        }
    }
}

impl std::error::Error for KeysError {}

const MAX_KEYS: usize = 100;
