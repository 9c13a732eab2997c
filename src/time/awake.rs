//! A timeout that does not count the time for which this process stood still.
//!
//! For answers of other programs. It must not know what is waited for.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;

/// Waits for a response for at most this time, and returns `None` afterwards.
///
/// After a stall, the response may have arrived, but the task that reads it has not run yet. So
/// each part of the time is waited for by itself, and a stall of any length ends one part only.
pub async fn while_awake<T>(limit: Duration, response: impl Future<Output = T>) -> Option<T> {
    let mut response = pin!(response);
    for _ in 0..PARTS {
        if let Ok(response) = timeout(limit / PARTS, response.as_mut()).await {
            return Some(response);
        }
    }
    None
}

const PARTS: u32 = 8;

#[cfg(test)]
mod tests {
    use tokio::{
        sync::oneshot,
        time::{Instant, advance},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_limit() {
        let begin = Instant::now();
        assert_eq!(while_awake(LIMIT, std::future::pending::<()>()).await, None);
        let margin = Duration::from_millis(100);
        assert!((LIMIT..LIMIT + margin).contains(&begin.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn response_that_is_read_after_a_stall_is_in_time() {
        let (send, response) = oneshot::channel();
        let mut waiting = pin!(while_awake(LIMIT, response));
        assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
        advance(100 * LIMIT).await;
        // The task that reads the response runs after this one has noticed the time.
        assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
        send.send(7).unwrap();
        assert_eq!(waiting.await, Some(Ok(7)));
    }
}
