//! Expiry of a socket's principal.
//!
//! There is no separate timer. The expiry is one of the connection's deadlines, which are checked
//! when the connection is driven.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::{
    socket::{
        core::{Renewal, Socket},
        types::Refusal,
    },
    time::rfc3339,
};
/// The event that asks a client to renew its credentials.
const EXPIRING: &str = "auth:expiring";

/// The next step in the expiry of a principal.
pub(crate) struct Validity {
    /// Time of the next step; `None` if the principal does not expire or no step is left.
    at: Option<Instant>,
    /// Whether the client was warned.
    warned: bool,
    /// The renewal count of the principal that this value describes.
    renewals: u16,
}

impl Validity {
    /// Returns the validity of a socket's current principal.
    pub(crate) fn of(socket: &Socket, now: Instant) -> Self {
        // The count is read first, so that a concurrent renewal makes this value outdated.
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

    /// Returns whether the socket's principal was replaced since.
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
                // A client that connected with an expired token, within the leeway, also gets the
                // grace period.
                self.at = Some(now + left(end) + renewal.grace);
                socket.emit(EXPIRING, Expiring::of(end));
            }
            (Some(_), _) => {
                let refusal = Refusal::new("TOKEN_EXPIRED", "the credentials have expired");
                socket.expel(&refusal);
            }
            (None, _) => socket.disconnect(),
        }
    }
}

/// Returns the remaining time, or zero if it is over.
fn left(end: SystemTime) -> Duration {
    let left = end.duration_since(SystemTime::now());
    left.unwrap_or(Duration::ZERO).min(LONGEST)
}

fn renewal(socket: &Socket) -> Option<Renewal> {
    let handlers = &socket.namespace_inner().handlers;
    handlers.authenticate.as_ref()?.renewal
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

/// Short enough to be added to any `Instant`.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
