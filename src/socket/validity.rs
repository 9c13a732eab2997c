//! How long the principal of a socket is good, and what happens when it ends.
//!
//! There is no timer for it: it is one of the deadlines of the connection, which are looked at
//! when the connection has its turn.

use std::{sync::Arc, time::Duration, time::Instant};

use jiff::Timestamp;
use roomcast_protocol::socket::Args;
use serde::Serialize;

use super::{
    authenticate::Authenticate,
    handler::Handler,
    handlers::{Event, Renewal},
    refusal::Refusal,
    socket::Socket,
};
use crate::{Ack, auth::Principal};

/// The event by which a client offers new credentials.
pub(crate) const REFRESH: &str = "auth:refresh";
/// The event by which a client is told that it should.
const EXPIRING: &str = "auth:expiring";

/// What comes next of a principal's end.
pub(crate) struct Validity {
    /// None: it does not end.
    at: Option<Instant>,
    /// The client knows that the end is near.
    warned: bool,
    /// Which of the socket's principals this is about.
    renewals: u16,
}

impl Validity {
    /// The validity of a socket's current principal.
    pub(crate) fn of(socket: &Socket, now: Instant) -> Self {
        // Read first: who replaces the principal meanwhile makes this outdated.
        let renewals = socket.renewals();
        let end = socket.principal().expires_at;
        let renewal = renewal(socket);
        let lead = renewal.map_or(Duration::ZERO, |renewal| renewal.lead);
        Self {
            at: end.map(|end| now + left(end).saturating_sub(lead)),
            warned: renewal.is_none(),
            renewals,
        }
    }

    /// Whether the socket has another principal by now.
    pub(crate) fn is_outdated(&self, socket: &Socket) -> bool {
        self.renewals != socket.renewals()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    pub(crate) fn handle_timeout(&mut self, socket: &Socket, now: Instant) {
        if self.at.is_none_or(|at| at > now) {
            return;
        }
        self.at = None;
        let renewal = renewal(socket);
        let end = socket.principal().expires_at;
        match (renewal, end) {
            (Some(renewal), Some(end)) if !self.warned => {
                self.warned = true;
                // One that came with an expired token, within the leeway, has the grace too.
                self.at = Some(now + left(end) + renewal.grace);
                socket.emit(EXPIRING, Expiring::of(end));
            }
            (Some(_), _) => {
                let refusal = Refusal::new("TOKEN_EXPIRED", "the credentials have expired");
                socket.expel(&refusal);
            }
            (None, _) => socket.disconnect(false),
        }
    }
}

/// How much time is left; none if it is over.
fn left(end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

fn renewal(socket: &Socket) -> Option<Renewal> {
    let handlers = &socket.namespace_inner().handlers;
    handlers.authenticate.as_ref()?.renewal()
}

/// The handler of `auth:refresh`.
pub(crate) fn refresher<A: Authenticate>(authenticate: Arc<A>) -> impl Handler<(Args,)> {
    move |event: Event, offer: Args| {
        let authenticate = Arc::clone(&authenticate);
        async move {
            let current = event.principal();
            let refreshed = authenticate.refresh(Arc::clone(&current), offer).await;
            match refreshed.and_then(|principal| same(&current, principal)) {
                Ok(principal) => {
                    let end = principal.expires_at;
                    event.socket.set_principal(principal);
                    // Revoked while it was looked at: nobody else would notice.
                    event.socket.revalidate();
                    authenticate.refreshed(&event.socket);
                    tracing::info!(socket = %event.socket.id(), "credentials refreshed");
                    Ok(Ack(Refreshed {
                        success: true,
                        expires_at: end.map(rfc3339),
                    }))
                }
                Err(refusal) => {
                    let (socket, io) = (&event.socket, event.io());
                    if let Some(more) = io.speak_of_refusal() {
                        let reason = refusal.reason();
                        tracing::info!(socket = %socket.id(), reason, more, "refresh refused");
                    }
                    if io.blame(&refusal, socket.handshake().address().ip()) {
                        socket.disconnect(true);
                    }
                    Err(refusal)
                }
            }
        }
    }
}

/// A socket stays the user's whose it is.
fn same(current: &Principal, refreshed: Principal) -> Result<Principal, Refusal> {
    if current.subject == refreshed.subject {
        Ok(refreshed)
    } else {
        let message = "the credentials are another user's";
        Err(Refusal::new("FORBIDDEN", message))
    }
}

/// `{"expiresAt":…}`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Expiring {
    expires_at: String,
}

impl Expiring {
    fn of(end: Timestamp) -> Self {
        Self {
            expires_at: rfc3339(end),
        }
    }
}

/// The acknowledgement of `auth:refresh`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refreshed {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// The event `error` of somebody who is disconnected.
#[derive(Serialize)]
pub(crate) struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'a str,
    message: &'a str,
    status: u16,
}

impl<'a> Told<'a> {
    pub(crate) fn of(refusal: &'a Refusal) -> Self {
        Self {
            kind: "auth",
            code: refusal.code(),
            message: refusal.message(),
            status: 401,
        }
    }
}

/// With three decimals, in UTC.
fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}
