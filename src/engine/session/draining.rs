//! Draining: refuses new sessions and moves the open sessions one after the other.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use roomcast_protocol::Sid;

use super::engine::Engine;
use crate::{
    engine::{outbox::Outbox, primitives::now},
    metrics::Gauge,
};

/// The part of the window in which sessions are moved, in tenths. The rest is for sessions that are
/// still busy.
const MOVING_TENTHS: u32 = 9;

impl Engine {
    /// Refuses new sessions and ends the open ones within `window`, at evenly spread times with
    /// jitter. Returns when all sessions have ended, or at the end of the window.
    pub(crate) async fn drain(&self, window: Duration) {
        // The flag is set before the table is read, and a new session is inserted into the table
        // before it checks the flag. So one of the two always sees the other.
        self.refuse_new_sessions();
        let begin = now();
        let end = begin.checked_add(window).unwrap_or(begin);
        // Ids are random, so their order does not depend on when clients connected.
        let sids: Vec<Sid> = self.sessions.all().iter().map(Outbox::sid).collect();
        tracing::info!(sessions = sids.len(), ?window, "draining");
        let moving = window.saturating_mul(MOVING_TENTHS) / 10;
        self.close_tunnels(moving);
        let deadline = tokio::time::sleep_until(end.into());
        tokio::select! {
            () = self.move_all(&sids, begin, moving, end) => {}
            () = deadline => {}
            // Tunnels carry the sessions of other servers.
            () = self.wait_until_empty(Gauge::Tunnels) => {}
        }
        let left = self.session_count();
        let took = now().saturating_duration_since(begin);
        tracing::info!(
            moved = sids.len().saturating_sub(left),
            left,
            ?took,
            "drained"
        );
    }

    /// Refuses new sessions with 503 from now on.
    pub(super) fn refuse_new_sessions(&self) {
        if !self.draining.swap(true, Ordering::AcqRel) {
            self.metrics.shift(Gauge::Draining, 1);
        }
    }

    /// Tells each session to leave at its time; never ready.
    async fn move_all(&self, sids: &[Sid], begin: Instant, moving: Duration, end: Instant) {
        let step = moving.as_secs_f64() / sids.len().max(1) as f64;
        for (sid, number) in sids.iter().zip(0_u32..) {
            let jitter = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
            let at =
                begin + Duration::from_secs_f64(step * (f64::from(number) + jitter)).min(moving);
            if at > now() {
                tokio::time::sleep_until(at.into()).await;
            }
            if let Some(outbox) = self.sessions.get(*sid) {
                outbox.leave(end);
            }
        }
        std::future::pending().await
    }
}
