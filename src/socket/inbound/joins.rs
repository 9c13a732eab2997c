//! Limits how often a client may ask to join a namespace.
//!
//! A join costs an authentication, handlers, log lines and messages to other servers, and leaving
//! costs as much again. One packet causes it, so the limit of packets alone does not protect the
//! server.

use std::time::{Duration, Instant};

use roomcast_protocol::{engine::CloseReason, socket::Nsp};

use super::connection::Connection;
use crate::{
    limit::{Rested, Violation},
    metrics::Counter,
    socket::types::Refusal,
};

/// The joins of one connection.
#[derive(Debug)]
pub(super) struct Joins {
    /// When the client may make all joins of a minute again.
    rested: Rested<Instant>,
    /// The number of refused joins since the last one within the limits.
    refused: u32,
    /// The number of joins that have asked to recover a socket.
    offers: usize,
}

/// The number of refused joins in a row after which the connection is closed.
const REFUSED: u32 = 100;
const MINUTE: Duration = Duration::from_secs(60);

/// A join above a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooManyJoins {
    counter: Counter,
    wait: Duration,
}

impl Connection {
    /// Charges the connection and the address of the client for one join.
    pub(super) fn charge_join(&mut self, now: Instant) -> Result<(), TooManyJoins> {
        let count = self.io.config().sockets.joins_per_minute;
        if count > 0 {
            let joins = self.joins.get_or_insert_with(|| Joins::new(now));
            let taken = joins.rested.take(now, MINUTE / count, MINUTE);
            joins.rested = taken.map_err(|wait| TooManyJoins {
                counter: Counter::JoinsLimitedConnection,
                wait,
            })?;
        }
        if let Some(guard) = self.io.guard() {
            let address = self.shared.handshake().address().ip();
            guard.join(address).map_err(|wait| TooManyJoins {
                counter: Counter::JoinsLimitedAddress,
                wait,
            })?;
        }
        if let Some(joins) = &mut self.joins {
            joins.refused = 0;
        }
        Ok(())
    }

    /// Returns whether other servers may be asked for the socket that the client asks to recover. A
    /// client that has lost its connection asks once for each of its namespaces.
    pub(super) fn may_look_up(&mut self, now: Instant) -> bool {
        let most = self.io.config().sockets.max_namespaces_per_connection;
        let joins = self.joins.get_or_insert_with(|| Joins::new(now));
        joins.offers = joins.offers.saturating_add(1);
        joins.offers <= most
    }

    /// Refuses a join above a limit. A client that goes on asking is disconnected.
    pub(super) fn limit_join(
        &mut self,
        nsp: &Nsp,
        too_many: TooManyJoins,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let TooManyJoins { counter, wait } = too_many;
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
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let refusal = Refusal::new("RATE_LIMITED", "too many joins, try again later")
            .data(serde_json::json!({"retryAfter": milliseconds.max(1)}));
        self.refuse(nsp, &refusal);
        Ok(())
    }
}

impl Joins {
    fn new(now: Instant) -> Box<Self> {
        Box::new(Self {
            rested: Rested::at(now),
            refused: 0,
            offers: 0,
        })
    }
}
