//! The authenticators of `auth` as authenticators of sockets.

use std::sync::Arc;

use roomcast_protocol::socket::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    AuthFault, JwtAuthenticator, Principal,
    authenticator::{Authenticator, Denied},
};
use roomcast::{
    Authenticate, Connect, Credentials, EngineRequest, Forbidden, Refusal, Renewal,
    internal::LogThrottle,
};

/// `auth:refresh`: new credentials; neither prolongs the session by which the client came.
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
        // A derived type would take an array of its fields as well.
        let offer: Result<Option<Map<String, Value>>, _> = args.get(0);
        let offer = offer.map(|fields| match fields {
            Some(fields) => serde_json::from_value(Value::Object(fields)),
            None => Ok(Self::default()),
        });
        // The parser's own message could repeat what was sent, which may be a secret.
        let malformed = || Refusal::new("INVALID_PAYLOAD", "auth:refresh takes {token}");
        offer.ok().and_then(Result::ok).ok_or_else(malformed)
    }
}

/// Milliseconds after which trying again may make sense.
const RETRY_AFTER: u64 = 2000;

/// The one answer to credentials that are no good, and another one where nobody can tell whether they are.
fn refused(fault: AuthFault) -> Refusal {
    if fault == AuthFault::BackendUnavailable {
        let message = "who you are is not known now, try again later";
        let refusal = Refusal::new("STORE_UNAVAILABLE", message).because(fault.as_str());
        return refusal.data(json!({"retryAfter": RETRY_AFTER}));
    }
    // A client learns no reason: it would tell an attacker which part of a forged token is already
    // right.
    let refusal = Refusal::unauthenticated(fault.as_str());
    // Only a fault of the client counts towards the block of its address.
    if fault.is_blamed() {
        refusal
    } else {
        refusal.excused()
    }
}

/// What a socket is told whose credentials are not good any more.
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
    /// Whether a request that opens a connection carries a header or a cookie that is good.
    pub(crate) async fn at_handshake(
        &self,
        log_throttle: &LogThrottle,
        request: &EngineRequest,
    ) -> Result<(), Forbidden> {
        let nothing = Args::default();
        let query = request.url().split_once('?').map(|(_, query)| query);
        let credentials = Credentials::new(&nothing, request.address().ip())
            .with_headers(
                request.header_bytes("authorization"),
                request.header_bytes("cookie"),
            )
            .with_trusted_origin(request.is_trusted_origin())
            .with_query(query);
        let Err(reason) = self.proven(&credentials).await else {
            return Ok(());
        };
        if let Some(more) = log_throttle.permit() {
            tracing::info!(address = %request.address(), %reason, more, "handshake refused");
        }
        self.count(reason);
        Err(if reason.is_blamed() {
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
            Denied::Fault(fault) => refused(fault),
            Denied::Guest(error) => Refusal::new("INVALID_PAYLOAD", error.to_string()),
        })
    }

    /// Asks for the credentials again. A guest has none that say who it is, but it had the id of its
    /// session, which is a secret.
    async fn recover(
        &self,
        connect: Connect,
        previous: Arc<Principal>,
    ) -> Result<Principal, Refusal> {
        let admitted = Authenticate::authenticate(self, connect).await?;
        // Whoever has an account must prove again that it is the same one, since its rights may
        // have changed while it was away.
        if !(admitted.guest && previous.guest) {
            return Ok(admitted);
        }
        // The guest's identity comes from before the break, and may have been revoked since.
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

    /// Refreshes with a new token, with a login session, or with nothing, which prolongs the login
    /// session that the socket has.
    async fn refresh(&self, current: Arc<Principal>, offer: Args) -> Result<Principal, Refusal> {
        let offer = RefreshOffer::of(&offer)?;
        let refreshed = match (offer.token, offer.session_id, &current.session) {
            (Some(token), _, _) => self.token(&token).await,
            (None, Some(id), _) => self.login(&id).await,
            // A token may carry a `sid`, whose login must not prolong a socket that came by the
            // token.
            (None, None, Some(hash)) if current.token_id.is_none() => {
                self.login_by_hash(hash.clone()).await
            }
            (None, None, _) => Err(AuthFault::Missing),
        };
        refreshed.map_err(refused)
    }
}
