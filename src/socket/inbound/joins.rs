//! Limits how often a client may join namespaces.
//!
//! A join causes an authentication, handlers, log lines and messages to other servers. Leaving
//! causes as much again. It needs only one packet, so the packet limit alone does not protect the
//! server.

use std::time::{Duration, Instant};

use roomcast_protocol::{engine::CloseReason, socket::Nsp};

use super::connection::Connection;
use crate::{
    limit::{RetryAfter, TokenBucket, Violation},
    metrics::Counter,
    socket::types::Refusal,
};

/// The join limits of one connection.
#[derive(Debug)]
pub(super) struct Joins {
    /// When the full number of joins per minute is available again.
    rested: TokenBucket<Instant>,
    /// The number of refused joins since the last accepted one.
    refused: u32,
    /// The number of joins with a recovery offer.
    offers: usize,
}

/// Maximum number of consecutive refused joins. Beyond that, the connection is closed.
const REFUSED: u32 = 100;
const MINUTE: Duration = Duration::from_secs(60);

/// A join that exceeds a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooManyJoins {
    counter: Counter,
    retry_after: RetryAfter,
}

impl Connection {
    /// Charges the client's connection and address for one join.
    pub(super) fn charge_join(&mut self, now: Instant) -> Result<(), TooManyJoins> {
        let count = self.io.config().sockets.joins_per_minute;
        if count > 0 {
            let joins = self.joins.get_or_insert_with(|| Joins::new(now));
            let taken = joins.rested.take(now, MINUTE / count, MINUTE);
            joins.rested = taken.map_err(|wait| TooManyJoins {
                counter: Counter::JoinsLimitedConnection,
                retry_after: RetryAfter::new(wait),
            })?;
        }
        if let Some(guard) = self.io.guard() {
            let address = self.shared.handshake().address().ip();
            guard.join(address).map_err(|retry_after| TooManyJoins {
                counter: Counter::JoinsLimitedAddress,
                retry_after,
            })?;
        }
        if let Some(joins) = &mut self.joins {
            joins.refused = 0;
        }
        Ok(())
    }

    /// Returns whether other servers may be queried for the socket that the client offers to
    /// recover. A reconnecting client needs one query per namespace.
    pub(super) fn may_look_up(&mut self, now: Instant) -> bool {
        let most = self.io.config().sockets.max_namespaces_per_connection;
        let joins = self.joins.get_or_insert_with(|| Joins::new(now));
        joins.offers = joins.offers.saturating_add(1);
        joins.offers <= most
    }

    /// Refuses a join that exceeds a limit. Closes the connection after too many refusals.
    pub(super) fn limit_join(
        &mut self,
        nsp: &Nsp,
        too_many: TooManyJoins,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let TooManyJoins {
            counter,
            retry_after,
        } = too_many;
        self.io.metrics().count(counter);
        let joins = self.joins.get_or_insert_with(|| Joins::new(now));
        joins.refused += 1;
        if joins.refused > REFUSED {
            if let Some(guard) = self.io.guard() {
                let address = self.shared.handshake().address().ip();
                let _ = guard.violation(address, Violation::Flood);
            }
            return Err(self.misplaced());
        }
        let refusal = Refusal::new("RATE_LIMITED", "too many joins, try again later")
            .data(retry_after.data());
        self.refuse(nsp, &refusal);
        Ok(())
    }
}

impl Joins {
    fn new(now: Instant) -> Box<Self> {
        Box::new(Self {
            rested: TokenBucket::at(now),
            refused: 0,
            offers: 0,
        })
    }
}
