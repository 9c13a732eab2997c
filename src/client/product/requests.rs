//! Requests to the server: which failures are repeated, when, and for how long.

use std::time::Duration;

use roomcast_protocol::socket::{Argument, Arguments};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::client::{ClientError, DisconnectReason, Socket};

/// The attempts since the server last did what was requested.
#[derive(Debug)]
pub(super) struct Attempts {
    /// What the requests are for, in the error after the timeout.
    purpose: &'static str,
    timeout: Duration,
    failures: u32,
    /// When the caller gives up, while a request is due.
    deadline: Option<Instant>,
}

impl Attempts {
    pub(super) fn new(purpose: &'static str, timeout: Duration) -> Self {
        Self {
            purpose,
            // Longer durations may overflow the clock.
            timeout: timeout.min(Duration::from_secs(365 * 86_400)),
            failures: 0,
            deadline: None,
        }
    }

    /// Returns when the request that is due now must be answered.
    pub(super) fn deadline(&mut self, now: Instant) -> Result<Instant, ClientError> {
        let deadline = *self.deadline.get_or_insert(now + self.timeout);
        if deadline <= now {
            return Err(ClientError::Timeout(self.purpose));
        }
        Ok(deadline)
    }

    /// Ends the attempts: the server did what was requested.
    pub(super) fn succeed(&mut self) {
        (self.failures, self.deadline) = (0, None);
    }

    /// Returns when to try again after this failure, or the failure if it is final.
    pub(super) fn retry_at(
        &mut self,
        error: ClientError,
        now: Instant,
    ) -> Result<Instant, ClientError> {
        self.failures = self.failures.saturating_add(1);
        let deadline = *self.deadline.get_or_insert(now + self.timeout);
        match delay(&error, self.failures) {
            Some(delay) if deadline.saturating_duration_since(now) > delay => Ok(now + delay),
            _ => Err(error),
        }
    }
}

/// Sends a request, and waits for the answer until the deadline.
pub(super) async fn request<T: Argument>(
    socket: &Socket,
    event: &str,
    payload: impl Arguments,
    deadline: Instant,
) -> Result<T, ClientError> {
    let now = Instant::now();
    let timeout = socket.client().handle().settings.ack_timeout;
    let timeout = timeout.min(deadline.saturating_duration_since(now));
    let answer = socket.timeout(timeout).emit_with_ack(event, payload);
    // With `retries`, a client does not count the time without a connection.
    let answer = timeout_at(now + timeout, answer).await;
    answer.unwrap_or(Err(ClientError::Timeout("an acknowledgement")))
}

/// Waits until this time, or until the socket connects again.
pub(super) async fn pause(socket: &Socket, until: Instant) {
    // Either outcome ends the delay.
    let _ = timeout_at(until, socket.connected_again()).await;
}

/// Returns the delay before a request is repeated, or `None` if its failure is final. Repeating is
/// safe: the server has each message and event once, and each text at its position.
fn delay(error: &ClientError, failures: u32) -> Option<Duration> {
    let short = SHORTEST_DELAY.saturating_mul(failures).min(LIMITED_DELAY);
    if let ClientError::Refused { code, data, .. } = error {
        let advised = data.as_ref().and_then(|data| data.get("retryAfter"));
        let advised = advised.and_then(Value::as_u64).map(Duration::from_millis);
        return match &**code {
            "RATE_LIMITED" => Some(advised.unwrap_or(LIMITED_DELAY)),
            "STORE_UNAVAILABLE" | "BACKEND_UNAVAILABLE" | "INTERNAL" => {
                Some(advised.unwrap_or_default().max(backoff(failures)))
            }
            _ => None,
        };
    }
    if let ClientError::Disconnected(reason) = error {
        // The application reconnects a socket that the server has disconnected, for example with
        // another token. The request waits in the socket's queue until then.
        let is_waiting = reason.reconnects() || *reason == DisconnectReason::ServerDisconnect;
        return is_waiting.then_some(short);
    }
    if let ClientError::Timeout(_) = error {
        return Some(backoff(failures));
    }
    matches!(error, ClientError::Full).then_some(short)
}

/// Returns 1, 2, 4 and then 8 seconds.
pub(super) fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(3))
}

/// Delay per failure after a lost connection. The request waits for the next connection anyway.
const SHORTEST_DELAY: Duration = Duration::from_millis(10);
/// Delay after a refusal that names none.
const LIMITED_DELAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: &str, data: Value) -> ClientError {
        ClientError::Refused {
            code: code.into(),
            message: String::new(),
            data: Some(data),
        }
    }

    #[test]
    fn delays_follow_the_advice_of_the_server() {
        let delays = [
            (
                refused("RATE_LIMITED", json!({"retryAfter": 250})),
                Some(250),
            ),
            (refused("RATE_LIMITED", json!({})), Some(1000)),
            (
                refused("STORE_UNAVAILABLE", json!({"retryAfter": 9000})),
                Some(9000),
            ),
            (
                refused("BACKEND_UNAVAILABLE", json!({"retryAfter": 5000})),
                Some(5000),
            ),
            (refused("INTERNAL", json!({"retryAfter": 5})), Some(4000)),
            (refused("FORBIDDEN", json!({"retryAfter": 5})), None),
            (ClientError::Timeout("x"), Some(4000)),
            (ClientError::Full, Some(30)),
            (
                ClientError::Disconnected(DisconnectReason::TransportClose),
                Some(30),
            ),
            (
                ClientError::Disconnected(DisconnectReason::ClientDisconnect),
                None,
            ),
        ];
        for (error, expected) in delays {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(delay(&error, 3), expected, "{error:?}");
        }
    }

    #[test]
    fn attempts_end_at_their_deadline_and_begin_again_after_success() {
        let mut attempts = Attempts::new("storing the text", Duration::from_secs(5));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let timeout = || ClientError::Timeout("x");
        assert_eq!(attempts.deadline(at(0)).unwrap(), at(5));
        assert_eq!(attempts.retry_at(timeout(), at(1)).unwrap(), at(2));
        assert_eq!(attempts.retry_at(timeout(), at(2)).unwrap(), at(4));
        attempts.retry_at(timeout(), at(4)).unwrap_err();
        attempts.deadline(at(5)).unwrap_err();
        attempts.succeed();
        assert_eq!(attempts.deadline(at(9)).unwrap(), at(14));
    }
}
