//! The authenticator of the server: tokens, login sessions and guests, and their precedence.

use std::{pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    AuthFault, Credentials, JwtAuthenticator, Principal, Revocations, Revoked,
    backend::BackendLogins,
    guest::{self, GuestError},
    is_name,
    jwt::{self, ChannelRights},
    offer::{CredentialSources, Offered, bearer},
    secret_hash,
};
use crate::metrics::{Counter, Metrics};

/// A stored login session of this server.
#[derive(Clone, Debug)]
pub(crate) struct ActiveLogin {
    pub(crate) user_id: String,
    pub(crate) roles: Vec<String>,
    pub(crate) expires_at: Timestamp,
    /// A JSON object.
    pub(crate) data: Option<String>,
}

/// Looks up a login by the hash of its id, and extends its expiry.
///
/// The result is `None` if there is no such login, and `Err` if the store is unavailable.
pub(crate) type UseLogin = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Option<ActiveLogin>, ()>> + Send>>
        + Send
        + Sync,
>;

/// Name of the cookie with the id of a login.
const LOGIN_COOKIE: &str = "roomcast_session";
/// Maximum characters of a name.
pub(crate) const MAX_NAME: usize = 256;
/// Maximum bytes of a login id. The ids that this server creates have 43.
const MAX_LOGIN_ID: usize = 128;

/// Authenticates clients and callers. Clones share the same state.
#[derive(Clone)]
pub(crate) struct Authenticator {
    tokens: JwtAuthenticator,
    logins: UseLogin,
    backend: Option<Arc<BackendLogins>>,
    guests: bool,
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
}

/// The reason why a client is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdmitError {
    /// The credentials are invalid.
    Fault(AuthFault),
    /// There are no credentials, and the guest's name or key is invalid.
    Guest(GuestError),
}

impl From<AuthFault> for AdmitError {
    fn from(fault: AuthFault) -> Self {
        Self::Fault(fault)
    }
}

impl Authenticator {
    pub(crate) fn new(
        tokens: JwtAuthenticator,
        logins: UseLogin,
        backend: Option<Arc<BackendLogins>>,
        guests: bool,
        revocations: Arc<Revocations>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            tokens,
            logins,
            backend,
            guests,
            revocations,
            metrics,
        }
    }

    /// Authenticates a client. A client with invalid credentials does not become a guest.
    pub(crate) async fn admit(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Principal, AdmitError> {
        let admitted = match self.proven(credentials).await {
            Err(AuthFault::Missing) if self.guests => self.guest(credentials),
            other => other.map_err(AdmitError::Fault),
        };
        self.note(&admitted);
        admitted
    }

    /// Returns the user of the offered credentials.
    pub(crate) async fn proven(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Principal, AuthFault> {
        let offer = CredentialSources {
            token_cookie: &self.tokens.cookie,
            login_cookie: Some(LOGIN_COOKIE),
            backend_cookie: self.backend.as_ref().map(|backend| backend.cookie()),
            query: self.tokens.query,
        };
        match offer.of(credentials)? {
            Some(Offered::Token(token)) => self.tokens.verify(&token).await,
            Some(Offered::Login(id)) => self.login(&id).await,
            Some(Offered::Backend(cookie)) => self.backend_login(cookie).await,
            None => Err(AuthFault::Missing),
        }
    }

    async fn backend_login(&self, cookie: &str) -> Result<Principal, AuthFault> {
        let backend = self.backend.as_ref().ok_or(AuthFault::Missing)?;
        let principal = backend.user(cookie).await?;
        // The backend does not know revocations of this server.
        if self.revocations.covers(&principal) {
            return Err(AuthFault::Revoked);
        }
        Ok(principal)
    }

    /// Authenticates a caller of the HTTP API by the token in its header, and by nothing that a
    /// browser sends automatically.
    pub(crate) async fn caller(&self, authorization: Option<&str>) -> Result<Principal, AuthFault> {
        let caller = match authorization.map(|header| bearer(header.as_bytes())) {
            Some(Ok(Some(token))) => self.tokens.verify(token).await,
            // Another scheme is refused here. A connecting client may send one that is meant for a
            // proxy.
            Some(Ok(None) | Err(_)) => Err(AuthFault::Malformed),
            None => Err(AuthFault::Missing),
        };
        self.note(&caller.clone().map_err(AdmitError::Fault));
        caller
    }

    /// Returns the user of a token that a connected socket offers.
    pub(crate) async fn token(&self, token: &str) -> Result<Principal, AuthFault> {
        self.tokens.verify(token).await
    }

    /// Returns the user of a token for channels, and its rights.
    pub(crate) async fn channel_token(
        &self,
        token: &str,
    ) -> Result<(Principal, ChannelRights), AuthFault> {
        self.tokens.verify_for_channel(token).await
    }

    /// Retains these claims of further tokens, and no others.
    pub(crate) fn retain_claims(&self, claims: Vec<String>) {
        self.tokens.retain_claims(claims);
    }

    /// Returns the revocations, which also apply to tokens for channels.
    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Returns the user of a login, and extends its expiry.
    pub(crate) async fn login(&self, id: &str) -> Result<Principal, AuthFault> {
        // The length is checked first, so that unauthenticated clients cannot cause hashing or
        // lookups of long input.
        if id.is_empty() || id.len() > MAX_LOGIN_ID {
            return Err(AuthFault::UnknownLogin);
        }
        self.login_by_hash(secret_hash(id)).await
    }

    /// Returns the user of a login, by the hash of its id.
    pub(crate) async fn login_by_hash(&self, hash: String) -> Result<Principal, AuthFault> {
        let revoked = Revoked::Login(hash.clone());
        // Revocations are checked before the store, so that this use does not extend a login that
        // was just ended.
        if self.revocations.has(&revoked) {
            return Err(AuthFault::Revoked);
        }
        let login = (self.logins)(hash.clone()).await;
        let login = login
            .map_err(|()| AuthFault::Unavailable)?
            .ok_or(AuthFault::UnknownLogin)?;
        // The store returns expired logins until a sweep removes them.
        if login.expires_at <= Timestamp::now() {
            return Err(AuthFault::LoginExpired);
        }
        let mut principal = Principal::new(login.user_id).with_expiry(login.expires_at.into());
        if let Some(name) = login.data.as_deref().and_then(name_in) {
            principal = principal.with_name(name);
        }
        principal.roles = login.roles;
        principal.session = Some(hash);
        principal.data = login.data.map(Into::into);
        // The user or one of the roles may be revoked. They are known only after the login is read.
        if self.revocations.covers(&principal) {
            return Err(AuthFault::Revoked);
        }
        Ok(principal)
    }

    fn guest(&self, credentials: &Credentials<'_>) -> Result<Principal, AdmitError> {
        let guest = guest::admit(credentials).map_err(AdmitError::Guest)?;
        // A guest has no credentials that expire, so only a revocation can refuse it.
        if self.revocations.covers(&guest) {
            return Err(AuthFault::Revoked.into());
        }
        Ok(guest)
    }

    /// Returns whether an admitted principal would still be admitted.
    pub(crate) fn revalidate(&self, principal: &Principal) -> Result<(), AuthFault> {
        // The grace leaves time to refresh a socket. Issuers' clocks may differ by the default
        // leeway of 30 s.
        let grace = self.grace().max(Duration::from_secs(30));
        jwt::revalidate(principal, &self.revocations, grace)?;
        let backend = self.backend.as_ref();
        backend.map_or(Ok(()), |backend| backend.revalidate(principal))
    }

    pub(crate) fn lead(&self) -> Duration {
        self.tokens.lead
    }

    pub(crate) fn grace(&self) -> Duration {
        self.tokens.grace
    }

    /// Counts a refusal that was decided elsewhere.
    pub(crate) fn count(&self, fault: AuthFault) {
        self.metrics.count(fault.counter());
    }

    fn note(&self, admitted: &Result<Principal, AdmitError>) {
        self.metrics.count(match admitted {
            Ok(_) => Counter::AuthAccepted,
            Err(AdmitError::Fault(fault)) => fault.counter(),
            Err(AdmitError::Guest(_)) => Counter::AuthMalformed,
        });
    }
}

/// Returns the `name` in the data of a login, if it is a string.
pub(crate) fn name_given(data: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Data {
        name: Option<String>,
    }
    serde_json::from_str::<Data>(data).ok()?.name
}

/// Returns the `name` in the data of a login, if it is valid.
fn name_in(data: &str) -> Option<String> {
    name_given(data).filter(|name| is_name(name, MAX_NAME))
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("tokens", &self.tokens)
            .field("guests", &self.guests)
            .finish_non_exhaustive()
    }
}
