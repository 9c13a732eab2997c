//! How long the principal of a socket is good, and what happens when it ends.
//!
//! There is no timer for it: it is one of the deadlines of the connection, which are looked at
//! when the connection has its turn.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::{
    socket::{
        core::{Renewal, Socket},
        types::Refusal,
    },
    time::rfc3339,
};
/// The event by which a client is told that it should.
const EXPIRING: &str = "auth:expiring";

/// What comes next of a principal's end.
pub(crate) struct Validity {
    /// When something is to be done next; `None` if the principal does not end.
    at: Option<Instant>,
    /// The client knows that the end is near.
    warned: bool,
    /// Which of the socket's principals this is about.
    renewals: u16,
}

impl Validity {
    /// The validity of a socket's current principal.
    pub(crate) fn of(socket: &Socket, now: Instant) -> Self {
        // The count is read first, so that a principal that is replaced meanwhile makes this outdated.
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
                // A client that connected with an expired token, within the leeway, has the grace
                // too.
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
fn left(end: SystemTime) -> Duration {
    let left = end.duration_since(SystemTime::now());
    left.unwrap_or(Duration::ZERO).min(LONGEST)
}

fn renewal(socket: &Socket) -> Option<Renewal> {
    let handlers = &socket.namespace_inner().handlers;
    handlers.authenticate.as_ref()?.renewal()
}

/// `{"expiresAt":…}`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Expiring {
    expires_at: String,
}

impl Expiring {
    fn of(end: SystemTime) -> Self {
        Self {
            expires_at: rfc3339(end),
        }
    }
}

/// Short enough to be added to any time.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
