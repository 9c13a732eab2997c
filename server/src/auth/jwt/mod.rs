//! JSON Web Tokens (RFC 7519) as proof of identity.
//!
//! Nothing in a token decides how it is verified. Its `kid` selects a configured key, which has
//! exactly one algorithm. URLs and keys in a token's header are ignored.

mod channel;
mod claims;
pub(crate) mod jwks;
mod keys;
mod provider;
mod source;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use channel::ChannelRights;
pub(crate) use jwks::{JwksUrl, UrlFault, tls_client};
pub use keys::{Keys, KeysError};
pub(crate) use source::{FileError, KeyRing, WeakSecrets};

use self::{claims::Claims, keys::Key};
use super::{
    AuthFault, Credentials, Principal, Revocations,
    offer::{CredentialSources, Offered},
};

/// Admits clients with a valid token that is signed with one of the keys.
///
/// The token is looked up in `auth.token` of the `CONNECT` packet, then in the header
/// `Authorization: Bearer`, then in the cookie `roomcast_token`. The first one present is used.
///
/// `sub` and a numeric `exp` are required. `name`, `roles` (default `["user"]`), `jti` and `sid`
/// are copied to the [`Principal`], and `nbf` is checked. A refused client receives only
/// `unauthorized`; the log has the reason.
///
/// ```
/// use roomcast::Io;
/// use roomcast_server::auth::{JwtAuthenticator, Keys};
///
/// let keys = Keys::from_secret(b"a secret of at least thirty-two bytes");
/// let io = Io::builder().namespace("/", |namespace| {
///     namespace.authenticate(JwtAuthenticator::from_keys(keys).issuer("https://id.example"))
/// });
/// ```
#[derive(Clone)]
pub struct JwtAuthenticator {
    keys: Arc<KeyRing>,
    rules: Rules,
    pub(crate) cookie: Arc<str>,
    pub(crate) query: bool,
    revocations: Arc<Revocations>,
    pub(crate) lead: Duration,
    pub(crate) grace: Duration,
}

/// The requirements for every token.
#[derive(Clone)]
struct Rules {
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
    max_bytes: usize,
    max_lifetime: Option<Duration>,
    /// Claims that are stored in the principal's data. A reload of the configuration replaces them.
    retained_claims: Arc<RwLock<Vec<String>>>,
}

/// The fields that are read from a token's header (RFC 7515, 4.1).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl JwtAuthenticator {
    /// Creates an authenticator for tokens that are signed with one of these keys.
    #[must_use]
    pub fn from_keys(keys: Keys) -> Self {
        Self::from_ring(Arc::new(KeyRing::new(keys)))
    }

    pub(crate) fn from_ring(keys: Arc<KeyRing>) -> Self {
        provider::install();
        Self {
            keys,
            rules: Rules {
                issuer: None,
                audience: None,
                leeway: Duration::from_secs(30),
                max_bytes: 8192,
                max_lifetime: None,
                retained_claims: Arc::default(),
            },
            cookie: "roomcast_token".into(),
            query: false,
            revocations: Arc::default(),
            lead: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }

    /// Stores these claims of further tokens in [`Principal::data`], and no others.
    pub(crate) fn retain_claims(&self, claims: Vec<String>) {
        *self.rules.retained_claims.write() = claims;
    }

    /// Requires this value of `iss`.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.rules.issuer = Some(issuer.into());
        self
    }

    /// Requires `aud` to contain this value.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.rules.audience = Some(audience.into());
        self
    }

    /// Sets how far the issuer's clock may differ from this server's. Default 30 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.rules.leeway = leeway;
        self
    }

    /// Sets the maximum bytes of a token. Default 8,192.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.rules.max_bytes = max_bytes;
        self
    }

    /// Sets the maximum time from a token's `iat` to its `exp`. With it, a token without `iat` is
    /// refused. Default: no limit.
    ///
    /// A revoked token has certainly expired after this time plus twice the leeway.
    #[must_use]
    pub fn max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.rules.max_lifetime = Some(max_lifetime);
        self
    }

    /// Sets the name of the cookie with the token. Default `roomcast_token`.
    #[must_use]
    pub fn cookie(mut self, name: impl Into<Arc<str>>) -> Self {
        self.cookie = name.into();
        self
    }

    /// Sets whether the query parameter `token` of the handshake is accepted, with the lowest
    /// precedence. Default `false`, because URLs are stored in logs and histories.
    #[must_use]
    pub fn query(mut self, query: bool) -> Self {
        self.query = query;
        self
    }

    /// Refuses revoked credentials. The list can be shared and extended later.
    #[must_use]
    pub fn revocations(mut self, revocations: Arc<Revocations>) -> Self {
        self.revocations = revocations;
        self
    }

    /// Sets how long before a token's expiry the client receives `auth:expiring {expiresAt}`.
    /// Default 60 s.
    #[must_use]
    pub fn expiring_lead(mut self, lead: Duration) -> Self {
        self.lead = lead;
        self
    }

    /// Sets how long after a token's expiry the socket stays connected, so that it can be
    /// refreshed. Default 10 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Returns the principal of a client, by the credentials that it offers.
    ///
    /// # Errors
    ///
    /// Returns the reason why the client is refused.
    pub async fn principal(&self, credentials: &Credentials<'_>) -> Result<Principal, AuthFault> {
        let offer = CredentialSources {
            token_cookie: &self.cookie,
            login_cookie: None,
            backend_cookie: None,
            query: self.query,
        };
        match offer.of(credentials)? {
            Some(Offered::Token(token)) => self.verify(&token).await,
            Some(Offered::Login(_) | Offered::Backend(_)) | None => Err(AuthFault::Missing),
        }
    }

    /// Returns the principal of a token.
    ///
    /// # Errors
    ///
    /// Returns the reason why the token is refused.
    pub async fn verify(&self, token: &str) -> Result<Principal, AuthFault> {
        of_user(self.check(token).await?)
    }

    /// Returns the user of a token for channels, and its rights.
    pub(crate) async fn verify_for_channel(
        &self,
        token: &str,
    ) -> Result<(Principal, ChannelRights), AuthFault> {
        let (principal, rights) = self.check(token).await?;
        Ok((principal, rights.ok_or(AuthFault::Purpose)?))
    }

    async fn check(&self, token: &str) -> Result<(Principal, Option<ChannelRights>), AuthFault> {
        // A token is checked only once more, with keys that the issuer may have published since.
        let mut verified = self.check_now(token);
        if matches!(
            verified,
            Err(TokenRefusal {
                is_final: false,
                ..
            })
        ) && self.keys.renew().await
        {
            verified = self.check_now(token);
        }
        let (principal, rights) = verified?;
        // Revocations are checked last, because they apply to the claims of genuine tokens.
        if self.revocations.covers(&principal) {
            return Err(AuthFault::Revoked);
        }
        Ok((principal, rights))
    }

    /// Verifies a token with the current keys.
    #[cfg(test)]
    fn verify_now(&self, token: &str) -> Result<Principal, AuthFault> {
        of_user(self.check_now(token)?)
    }

    fn check_now(&self, token: &str) -> Result<(Principal, Option<ChannelRights>), TokenRefusal> {
        // The length is checked first, so that unauthenticated clients cannot cause decoding of
        // large input.
        if token.len() > self.rules.max_bytes {
            return Err(AuthFault::TooLong.into());
        }
        let (message, signature) = token.rsplit_once('.').ok_or(AuthFault::NotAToken)?;
        let (head, body) = message.split_once('.').ok_or(AuthFault::NotAToken)?;
        if body.contains('.') {
            return Err(AuthFault::NotAToken.into());
        }
        let head: Header = part(head).ok_or(AuthFault::NotAToken)?;
        // An unsupported extension can change the meaning of the token (RFC 7515, 4.1.11).
        if head.crit.is_some() {
            return Err(AuthFault::Critical.into());
        }
        let algorithm: jsonwebtoken::Algorithm =
            head.alg.parse().map_err(|_| AuthFault::Algorithm)?;
        let keys = self.keys.now();
        let check = |key: &Key| {
            // The key determines the algorithm. Otherwise a header could turn a public key into a
            // shared secret.
            if key.algorithm != algorithm {
                return Err(AuthFault::AlgorithmMismatch);
            }
            let message = message.as_bytes();
            let verified =
                jsonwebtoken::crypto::verify(signature, message, &key.verifying, key.algorithm);
            verified
                .unwrap_or(false)
                .then_some(())
                .ok_or(AuthFault::Signature)
        };
        let mut unverified = TokenRefusal {
            fault: AuthFault::NoKeys,
            is_final: true,
        };
        for found in keys.find(head.kid.as_deref()) {
            let Err(fault) = found.and_then(check) else {
                // The claims are parsed only after the signature is verified.
                let claims = Claims::parse(body)?;
                let rights = claims.channel_rights()?;
                let mut principal = claims.check(&self.rules, Timestamp::now())?;
                principal.data = self.retained(body)?;
                return Ok((principal, rights));
            };
            if closeness(fault) > closeness(unverified.fault) {
                unverified.fault = fault;
            }
            // New keys are fetched only if there are none, or none with this `kid`. A forged
            // signature alone must not cause a request.
            unverified.is_final &= closeness(fault) >= closeness(AuthFault::NoKeyId);
        }
        Err(unverified)
    }

    /// Returns the configured claims of a token as a JSON object.
    fn retained(&self, body: &str) -> Result<Option<Arc<str>>, AuthFault> {
        let names = self.rules.retained_claims.read();
        if names.is_empty() {
            return Ok(None);
        }
        let claims: Map<String, Value> = part(body).ok_or(AuthFault::Claims)?;
        let is_retained = |name: &String| names.contains(name);
        let retained = claims.into_iter().filter(|(name, _)| is_retained(name));
        let retained: Map<String, Value> = retained.collect();
        Ok((!retained.is_empty()).then(|| Value::Object(retained).to_string().into()))
    }

    /// Checks whether an admitted principal would still be admitted.
    ///
    /// # Errors
    ///
    /// Returns the reason why it would be refused.
    pub fn revalidate(&self, principal: &Principal) -> Result<(), AuthFault> {
        let grace = self.grace.max(self.rules.leeway);
        revalidate(principal, &self.revocations, grace)
    }
}

/// Returns the user of a token that is no token for channels: a backend gives those away for one
/// channel, so that they must not authenticate.
fn of_user(
    (principal, rights): (Principal, Option<ChannelRights>),
) -> Result<Principal, AuthFault> {
    match rights {
        Some(_) => Err(AuthFault::Purpose),
        None => Ok(principal),
    }
}

/// The reason why a token is refused.
struct TokenRefusal {
    fault: AuthFault,
    /// Whether no newly fetched key could change the result.
    is_final: bool,
}

impl From<AuthFault> for TokenRefusal {
    fn from(fault: AuthFault) -> Self {
        let is_final = true;
        Self { fault, is_final }
    }
}

impl From<TokenRefusal> for AuthFault {
    fn from(unverified: TokenRefusal) -> Self {
        unverified.fault
    }
}

/// Returns how far the verification with the keys of a source succeeded. Of several sources, the
/// fault of the closest one is reported.
fn closeness(fault: AuthFault) -> usize {
    let from_far = [
        AuthFault::NoKeys,
        AuthFault::UnknownKey,
        AuthFault::NoKeyId,
        AuthFault::DuplicateKey,
        AuthFault::AlgorithmMismatch,
        AuthFault::Signature,
    ];
    let place = from_far.iter().position(|one| *one == fault);
    place.unwrap_or(from_far.len())
}

/// Checks that a principal is not revoked, and has not expired more than `grace` ago.
pub(crate) fn revalidate(
    principal: &Principal,
    revocations: &Revocations,
    grace: Duration,
) -> Result<(), AuthFault> {
    if revocations.covers(principal) {
        return Err(AuthFault::Revoked);
    }
    match principal.expires_at {
        Some(end) if has_passed(end, grace) => Err(AuthFault::Expired),
        Some(_) | None => Ok(()),
    }
}

fn has_passed(end: SystemTime, grace: Duration) -> bool {
    end.checked_add(grace)
        .is_some_and(|end| end <= SystemTime::now())
}

/// Decodes one part of a token: JSON in base64url without padding.
fn part<T: for<'de> Deserialize<'de>>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&decoded(encoded)?).ok()
}

fn decoded(encoded: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(encoded).ok()
}

impl fmt::Debug for JwtAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuthenticator")
            .field("keys", &self.keys.now())
            .field("issuer", &self.rules.issuer)
            .field("audience", &self.rules.audience)
            .finish_non_exhaustive()
    }
}

/// The claims of a new token.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Minting<'a> {
    pub(crate) sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    pub(crate) roles: &'a [String],
    pub(crate) jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aud: Option<&'a str>,
    pub(crate) iat: i64,
    pub(crate) exp: i64,
}

/// Creates a token signed with the first secret among the keys. Returns `None` if there is no
/// secret.
pub(crate) fn mint(keys: &Keys, claims: &Minting<'_>) -> Option<String> {
    provider::install();
    let (id, algorithm, key) = keys.signing()?;
    let mut header = jsonwebtoken::Header::new(algorithm);
    header.kid = id.map(Into::into);
    jsonwebtoken::encode(&header, claims, key).ok()
}

#[cfg(test)]
mod tests;
