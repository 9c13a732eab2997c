//! Implements the socket authentication of the library for the authenticators in `auth`.

use std::{sync::Arc, time::Duration};

use roomcast_protocol::socket::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    AuthFault, JwtAuthenticator, Principal,
    authenticator::{AdmitError, Authenticator},
};
use roomcast::{
    Authenticate, Connect, Refusal,
    connection::{Credentials, EngineRequest, Forbidden},
    handler::Renewal,
    internal::{LogThrottle, RetryAfter},
};

/// `auth:refresh`: new credentials. Without a field, the current session is extended.
#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RefreshOffer {
    /// A token of the same user.
    token: Option<String>,
    /// A session of the same user.
    session_id: Option<String>,
}

impl RefreshOffer {
    fn of(args: &Args) -> Result<Self, Refusal> {
        // A derived implementation also accepts an array of the fields.
        let offer: Result<Option<Map<String, Value>>, _> = args.get(0);
        let offer = offer.map(|fields| match fields {
            Some(fields) => serde_json::from_value(Value::Object(fields)),
            None => Ok(Self::default()),
        });
        // The parser's message could repeat a secret that the client sent.
        let malformed = || Refusal::new("INVALID_PAYLOAD", "auth:refresh takes {token}");
        offer.ok().and_then(Result::ok).ok_or_else(malformed)
    }
}

/// When to retry while the backend is unavailable.
const RETRY_AFTER: RetryAfter = RetryAfter::new(Duration::from_secs(2));

/// Returns the same refusal for all invalid credentials, and a different one if the backend is
/// unavailable.
fn refused(fault: AuthFault) -> Refusal {
    if fault == AuthFault::BackendUnavailable {
        let message = "the credentials cannot be checked now, try again later";
        let refusal = Refusal::new("STORE_UNAVAILABLE", message).because(fault.as_str());
        return refusal.data(RETRY_AFTER.data());
    }
    // Clients do not learn the reason, because it would reveal to an attacker which part of a
    // forged token is correct.
    let refusal = Refusal::unauthenticated(fault.as_str());
    // Only a violation by the client counts towards a block of its address.
    if fault.is_violation() {
        refusal
    } else {
        refusal.excused()
    }
}

/// Returns the message for a socket whose credentials are no longer valid.
fn ended(fault: AuthFault) -> Refusal {
    if fault == AuthFault::Revoked {
        Refusal::new("TOKEN_REVOKED", "the credentials have been revoked")
    } else {
        Refusal::new("TOKEN_EXPIRED", "the credentials have expired")
    }
}

impl Authenticate for JwtAuthenticator {
    async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
        let principal = self.principal(&connect.credentials()).await;
        principal.map_err(refused)
    }

    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        self.revalidate(principal).map_err(ended)
    }

    fn renewal(&self) -> Option<Renewal> {
        Some(Renewal {
            lead: self.lead,
            grace: self.grace,
        })
    }

    async fn refresh(&self, _: Arc<Principal>, offer: Args) -> Result<Principal, Refusal> {
        let token = RefreshOffer::of(&offer)?.token;
        let token = token.ok_or_else(|| refused(AuthFault::Missing))?;
        self.verify(&token).await.map_err(refused)
    }
}

impl Authenticator {
    /// Checks the headers and cookies of a request that opens a connection.
    pub(crate) async fn at_handshake(
        &self,
        log_throttle: &LogThrottle,
        request: &EngineRequest,
    ) -> Result<(), Forbidden> {
        let nothing = Args::default();
        let query = request.url().split_once('?').map(|(_, query)| query);
        let mut credentials = Credentials::new(&nothing, request.address().ip())
            .with_headers(
                request.header_bytes("authorization"),
                request.header_bytes("cookie"),
            )
            .with_query(query);
        if !request.is_trusted_origin() {
            credentials = credentials.with_untrusted_origin();
        }
        let Err(reason) = self.proven(&credentials).await else {
            return Ok(());
        };
        if let Some(more) = log_throttle.permit() {
            tracing::info!(address = %request.address(), %reason, more, "handshake refused");
        }
        self.count(reason);
        Err(if reason.is_violation() {
            Forbidden::unauthenticated()
        } else {
            Forbidden::default()
        })
    }
}

impl Authenticate for Authenticator {
    async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
        let admitted = self.admit(&connect.credentials()).await;
        admitted.map_err(|denied| match denied {
            AdmitError::Fault(fault) => refused(fault),
            AdmitError::Guest(error) => Refusal::new("INVALID_PAYLOAD", error.to_string()),
        })
    }

    /// Verifies the credentials again. A guest has no credentials that prove its identity, but it
    /// knew the id of its session, which is a secret.
    async fn recover(
        &self,
        connect: Connect,
        previous: Arc<Principal>,
    ) -> Result<Principal, Refusal> {
        let admitted = Authenticate::authenticate(self, connect).await?;
        // A registered user must authenticate again, because its permissions may have changed in
        // the meantime.
        if !(admitted.guest && previous.guest) {
            return Ok(admitted);
        }
        // The guest's identity dates from before the disconnection, and may have been revoked
        // since.
        self.revalidate(&previous).map_err(refused)?;
        Ok(Principal::clone(&previous))
    }

    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        self.revalidate(principal).map_err(ended)
    }

    fn renewal(&self) -> Option<Renewal> {
        Some(Renewal {
            lead: self.lead(),
            grace: self.grace(),
        })
    }

    /// Refreshes with a new token, with a login session, or with nothing, which extends the
    /// socket's current login session.
    async fn refresh(&self, current: Arc<Principal>, offer: Args) -> Result<Principal, Refusal> {
        let offer = RefreshOffer::of(&offer)?;
        let refreshed = match (offer.token, offer.session_id, &current.session) {
            (Some(token), _, _) => self.token(&token).await,
            (None, Some(id), _) => self.login(&id).await,
            // A token can contain a `sid`. That login must not extend a socket that was
            // authenticated with the token.
            (None, None, Some(hash)) if current.token_id.is_none() => {
                self.login_by_hash(hash.clone()).await
            }
            (None, None, _) => Err(AuthFault::Missing),
        };
        refreshed.map_err(refused)
    }
}
