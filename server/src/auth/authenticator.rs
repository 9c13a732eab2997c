//! The authenticator of the binary: tokens, sessions and guests, one rule for which of them counts.

use std::{pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    AuthFault, Credentials, JwtAuthenticator, Principal, Revocations, Revoked,
    backend::BackendSessions,
    guest::{self, GuestError},
    is_name, jwt,
    offer::{Offer, Offered, bearer},
    session_hash,
};
use crate::metrics::{Counter, Metrics};

/// A login session of this server, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) user_id: String,
    pub(crate) roles: Vec<String>,
    pub(crate) expires_at: Timestamp,
    /// A JSON object.
    pub(crate) data: Option<String>,
}

/// Uses the session with this hash, which prolongs it; none if there is none. `Err`: nobody knows.
pub(crate) type UseSession = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Option<Session>, ()>> + Send>>
        + Send
        + Sync,
>;

/// Name of the cookie that may hold the id of a session.
const SESSION_COOKIE: &str = "roomcast_session";
/// Characters of a name.
pub(crate) const MAX_NAME: usize = 256;
/// Bytes that the id of a session may have; ours have 43.
const MAX_SESSION_ID: usize = 128;

/// Says who somebody is. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Authenticator {
    tokens: JwtAuthenticator,
    sessions: UseSession,
    backend: Option<Arc<BackendSessions>>,
    guests: bool,
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
}

/// Why somebody is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The credentials are no good.
    Fault(AuthFault),
    /// There are none, and what a guest says of itself is no good.
    Guest(GuestError),
}

impl From<AuthFault> for Denied {
    fn from(fault: AuthFault) -> Self {
        Self::Fault(fault)
    }
}

impl Authenticator {
    pub(crate) fn new(
        tokens: JwtAuthenticator,
        sessions: UseSession,
        backend: Option<Arc<BackendSessions>>,
        guests: bool,
        revocations: Arc<Revocations>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            tokens,
            sessions,
            backend,
            guests,
            revocations,
            metrics,
        }
    }

    /// Authenticates a client. Credentials that are offered and invalid are not overlooked: nobody
    /// becomes a guest by a bad token.
    pub(crate) async fn admit(&self, credentials: &Credentials<'_>) -> Result<Principal, Denied> {
        let admitted = match self.proven(credentials).await {
            Err(AuthFault::Missing) if self.guests => self.guest(credentials),
            other => other.map_err(Denied::Fault),
        };
        self.note(&admitted);
        admitted
    }

    /// The user whose credentials the client offers.
    pub(crate) async fn proven(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Principal, AuthFault> {
        let offer = Offer {
            token_cookie: &self.tokens.cookie,
            session_cookie: Some(SESSION_COOKIE),
            backend_cookie: self.backend.as_ref().map(|backend| backend.cookie()),
            query: self.tokens.query,
        };
        match offer.of(credentials)? {
            Some(Offered::Token(token)) => self.tokens.verify(&token).await,
            Some(Offered::Session(id)) => self.session(&id).await,
            Some(Offered::Backend(cookie)) => self.backend_session(cookie).await,
            None => Err(AuthFault::Missing),
        }
    }

    async fn backend_session(&self, cookie: &str) -> Result<Principal, AuthFault> {
        let backend = self.backend.as_ref().ok_or(AuthFault::Missing)?;
        let principal = backend.user(cookie).await?;
        if self.revocations.covers(&principal) {
            return Err(AuthFault::Revoked);
        }
        Ok(principal)
    }

    /// Authenticates a caller of the HTTP API by a token in its header, and by nothing that a
    /// browser sends by itself.
    pub(crate) async fn caller(&self, authorization: Option<&str>) -> Result<Principal, AuthFault> {
        let caller = match authorization.map(|header| bearer(header.as_bytes())) {
            Some(Ok(Some(token))) => self.tokens.verify(token).await,
            Some(Ok(None) | Err(_)) => Err(AuthFault::Malformed),
            None => Err(AuthFault::Missing),
        };
        self.note(&caller.clone().map_err(Denied::Fault));
        caller
    }

    /// The user of a token that is offered on a live socket.
    pub(crate) async fn token(&self, token: &str) -> Result<Principal, AuthFault> {
        self.tokens.verify(token).await
    }

    /// The user of a session, which is prolonged by that.
    pub(crate) async fn session(&self, id: &str) -> Result<Principal, AuthFault> {
        if id.is_empty() || id.len() > MAX_SESSION_ID {
            return Err(AuthFault::UnknownSession);
        }
        self.session_by_hash(session_hash(id)).await
    }

    /// The user of a session, by the hash of its id.
    pub(crate) async fn session_by_hash(&self, hash: String) -> Result<Principal, AuthFault> {
        let revoked = Revoked::Session(hash.clone());
        if self.revocations.has(&revoked) {
            return Err(AuthFault::Revoked);
        }
        let session = (self.sessions)(hash.clone()).await;
        let session = session
            .map_err(|()| AuthFault::Unavailable)?
            .ok_or(AuthFault::UnknownSession)?;
        if session.expires_at <= Timestamp::now() {
            return Err(AuthFault::SessionExpired);
        }
        let mut principal = Principal::new(session.user_id).with_expiry(session.expires_at.into());
        if let Some(name) = session.data.as_deref().and_then(name_in) {
            principal = principal.with_name(name);
        }
        principal.roles = session.roles;
        principal.session = Some(hash);
        principal.data = session.data.map(Into::into);
        if self.revocations.covers(&principal) {
            return Err(AuthFault::Revoked);
        }
        Ok(principal)
    }

    fn guest(&self, credentials: &Credentials<'_>) -> Result<Principal, Denied> {
        let guest = guest::admit(credentials).map_err(Denied::Guest)?;
        if self.revocations.covers(&guest) {
            return Err(AuthFault::Revoked.into());
        }
        Ok(guest)
    }

    /// Whether a principal that was let in earlier would still be.
    pub(crate) fn revalidate(&self, principal: &Principal) -> Result<(), AuthFault> {
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

    /// Counts somebody who was refused elsewhere.
    pub(crate) fn count(&self, fault: AuthFault) {
        self.metrics.count(fault.counter());
    }

    fn note(&self, admitted: &Result<Principal, Denied>) {
        self.metrics.count(match admitted {
            Ok(_) => Counter::AuthAccepted,
            Err(Denied::Fault(fault)) => fault.counter(),
            Err(Denied::Guest(_)) => Counter::AuthMalformed,
        });
    }
}

/// The name that a session's data give its user, if they give one that is a text.
pub(crate) fn name_given(data: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Data {
        name: Option<String>,
    }
    serde_json::from_str::<Data>(data).ok()?.name
}

/// The name in `data`, if it is valid. Sessions that were made by an older server may have others.
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
