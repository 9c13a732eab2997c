use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::options;

options! {
    /// Bounds of connection state recovery, `connectionStateRecovery` of the official server.
    ///
    /// A session retains what it sent since the last answered heartbeat. While the client is
    /// disconnected, it also retains what it would have sent. This state is in memory and is lost
    /// when the server stops.
    Recovery {
        /// Whether clients may recover sessions; in the library, if `Builder::recovery` is called.
        /// Default `true`. In the binary `false`: a chat client catches up by message sequence
        /// numbers, which also works after a server restart.
        enabled: bool = true, disabled: false;
        /// Maximum time that a client may be disconnected. `maxDisconnectionDuration` of the
        /// official server. Default 2 min.
        #[serde(with = "humantime_serde")]
        window: Duration = Duration::from_secs(120);
        /// Maximum time that a reconnecting client waits for recovery. This covers other servers
        /// handing over the session, or reading the journal. The handlers of the old socket get
        /// half of it. After that the client starts a new session. At most one minute. Default 2 s.
        #[serde(with = "humantime_serde")]
        claim_timeout: Duration = Duration::from_secs(2);
        /// Maximum number of events retained for one connection. When it is exceeded, the oldest
        /// are discarded. A client that missed a discarded event starts a new session. Default
        /// 2,048.
        max_messages: usize = 2048;
        /// Maximum size of the events retained for one connection, in bytes; at most
        /// [`Config::outbox_bytes`](crate::Config::outbox_bytes). Default 256 KiB.
        max_bytes: usize = 256 << 10;
        /// Maximum number of disconnected but recoverable sockets. When it is exceeded, the oldest
        /// expire. Default 100,000.
        max_sessions: usize = 100_000;
        /// Maximum size of the events retained for all connections, in bytes, in steps of 1 KiB. An
        /// event counts once for each connection that retains it, although it is in memory only
        /// once. Above the limit, the connections that retain most discard their events, and their
        /// clients start new sessions. From one eighth above the limit on, a connection that adds
        /// events discards its own. Default 256 MiB.
        max_total_bytes: usize = 256 << 20;
        /// Whether recovering clients skip the [middleware](crate::NamespaceBuilder::middleware).
        /// Authentication is never skipped. Default `true`, as in the official server.
        skip_middlewares: bool = true, run_middlewares: false;
        /// Whether a client may recover that has received no event and so has no offset. It gets
        /// all events of the session. Default `true`; `false` as in the official server, where the
        /// client starts a new session.
        without_offset: bool = true, only_with_offset: false;
    }
}

impl Recovery {
    /// Checks the values against the size of outboxes, in bytes.
    ///
    /// # Errors
    ///
    /// Names the invalid option and the reason.
    pub fn check(&self, outbox_bytes: usize) -> Result<(), &'static str> {
        if self.window.is_zero() {
            return Err("recovery.window is zero");
        }
        if self.window > Duration::from_secs(24 * 60 * 60) {
            return Err("recovery.window is longer than a day");
        }
        if self.claim_timeout.is_zero() {
            return Err("recovery.claim_timeout is zero");
        }
        if self.claim_timeout > Duration::from_secs(60) {
            return Err("recovery.claim_timeout is longer than a minute");
        }
        let sizes = [
            (self.max_messages, "recovery.max_messages is zero"),
            (self.max_bytes, "recovery.max_bytes is zero"),
            (self.max_sessions, "recovery.max_sessions is zero"),
        ];
        if let Some((_, fault)) = sizes.into_iter().find(|(size, _)| *size == 0) {
            return Err(fault);
        }
        if self.max_bytes > outbox_bytes {
            return Err("recovery.max_bytes is larger than outbox_bytes");
        }
        if self.max_total_bytes < self.max_bytes {
            return Err("recovery.max_total_bytes is smaller than recovery.max_bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_times_must_be_nonzero_and_bounded() {
        let check = |recovery: Recovery| recovery.check(1 << 20);
        let standard = Recovery::default();
        let (day, minute) = (Duration::from_secs(86_400), Duration::from_secs(60));
        assert_eq!(check(standard.clone().window(day)), Ok(()));
        assert_eq!(check(standard.clone().claim_timeout(minute)), Ok(()));
        let more = Duration::from_nanos(1);
        for (recovery, fault) in [
            (
                standard.clone().window(Duration::ZERO),
                "recovery.window is zero",
            ),
            (
                standard.clone().window(day + more),
                "recovery.window is longer than a day",
            ),
            (
                standard.clone().claim_timeout(Duration::ZERO),
                "recovery.claim_timeout is zero",
            ),
            (
                standard.claim_timeout(minute + more),
                "recovery.claim_timeout is longer than a minute",
            ),
        ] {
            assert_eq!(check(recovery), Err(fault));
        }
    }
}
