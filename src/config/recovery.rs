use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::options;

options! {
    /// Bounds of connection state recovery, `connectionStateRecovery` of the official server.
    ///
    /// A session keeps what was sent to its client since the last heartbeat that was answered, and
    /// while the client is away, what would have been sent. It lives in memory and does not outlive the
    /// server.
    Recovery {
        /// Whether clients may recover at all. Default `true` (the binary: `false`, because a chat
        /// client catches up by the sequence numbers of messages, also after a restart of the server).
        enabled: bool = true;
        /// How long a client may be away. `maxDisconnectionDuration` of the official server. Default
        /// 2 min.
        #[serde(with = "humantime_serde")]
        window: Duration = Duration::from_secs(120);
        /// How long a client that comes back waits until it is known whether it can go on: for the other servers to give
        /// it away or the journal to be read, and half as long for the handlers of its old socket. After that it starts
        /// afresh. At most a minute. Default 2 s.
        #[serde(with = "humantime_serde")]
        claim_timeout: Duration = Duration::from_secs(2);
        /// Events kept for one connection; when there are more, the oldest go, and a client that has
        /// missed one of those starts afresh. Default 2,048.
        max_messages: usize = 2048;
        /// Bytes of events kept for one connection, at most [`Config::outbox_bytes`](crate::Config::outbox_bytes). Default 256 KiB.
        max_bytes: usize = 256 << 10;
        /// Sockets whose client is away; when there are more, the oldest end. Default 100,000.
        max_sessions: usize = 100_000;
        /// Bytes of events kept for all connections together, each counted for every connection that
        /// keeps it (in memory it is there once), in steps of 1 KiB. When there are more, the connections
        /// that keep most forget theirs, and their clients start afresh. One that pushes faster than they
        /// do forgets its own an eighth above the limit. Default 256 MiB.
        max_total_bytes: usize = 256 << 20;
        /// Whether clients that recover pass by the [middleware](crate::NamespaceBuilder::middleware). Default
        /// `true`, as in the official server. Authentication is never skipped.
        skip_middlewares: bool = true;
    }
}

impl Recovery {
    /// No recovery at all.
    #[must_use]
    pub fn disabled() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }

    /// Whether the values make sense, for outboxes of this size.
    ///
    /// # Errors
    ///
    /// Which one does not, and why.
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
    fn times_are_neither_zero_nor_longer_than_anybody_waits() {
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
