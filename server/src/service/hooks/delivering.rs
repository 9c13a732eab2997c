//! Deliveries of webhooks: each is taken from the store, signed and sent, until the receiver takes it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::HooksInner;
use crate::breaker::Admission;
use crate::metrics::Counter;
use crate::store::{TakenDelivery, Time};

/// What came of an attempt.
enum Attempt {
    Delivered,
    /// The receiver answers that it takes no deliveries any more.
    Gone,
    /// The delivery has grown too old.
    Expired,
    Failed(String),
}

impl HooksInner {
    /// Makes one delivery after the other, for as long as it is polled.
    pub(super) async fn deliver(&self) {
        loop {
            let (taken, admission) = {
                // One loop at a time looks for a delivery, or all of them would ask the store each
                // second.
                let _looking = self.looking.acquire().await;
                self.due().await
            };
            let attempt = self.attempt(&taken, admission).await;
            self.settle(&taken, attempt).await;
        }
    }

    /// Waits for a delivery that is due and may be made.
    async fn due(&self) -> (TakenDelivery, Admission<'_>) {
        loop {
            // The breaker is asked before a delivery is taken: one that is taken and not sent would
            // count as an attempt.
            let admission = match self.breaker.admit() {
                Ok(admission) => admission,
                Err(wait) => {
                    sleep(wait.min(LOOK)).await;
                    continue;
                }
            };
            let now = Time::now();
            // If this server ends in between, the delivery is due again then, and another one makes
            // it.
            let until = now.after(self.config.timeout + MARGIN);
            match self.store.take_delivery(now, until).await {
                Ok(Some(taken)) => return (taken, admission),
                Ok(None) => {
                    drop(admission);
                    // Deliveries that failed come due, and other servers leave some.
                    let _ = timeout(LOOK, self.stored.notified()).await;
                }
                Err(error) => {
                    drop(admission);
                    sleep(error.retry_after()).await;
                }
            }
        }
    }

    async fn attempt(&self, taken: &TakenDelivery, admission: Admission<'_>) -> Attempt {
        let delivery = &taken.delivery;
        // Receivers remember idempotency keys for a limited time, and what is very old is no news
        // to them.
        if delivery.created_at <= Time::now().before(self.config.max_age) {
            return Attempt::Expired;
        }
        let time = Timestamp::now().as_second();
        let id = delivery.id.to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (DELIVERY, id.clone()),
            (IDEMPOTENCY_KEY, id),
            // The time is signed as well and is that of the attempt, so that receivers can refuse
            // what is replayed.
            (SIGNATURE, self.signer.header(time, &delivery.body)),
        ] {
            // All three values are digits and a few letters, so that they fit into headers.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        let body = delivery.body.clone().into_bytes();
        match self.outbound.tell(&headers, body).await {
            Ok(status) if status.is_success() => {
                admission.succeeded();
                Attempt::Delivered
            }
            Ok(StatusCode::GONE) => {
                admission.succeeded();
                Attempt::Gone
            }
            Ok(status) => {
                // A receiver that refuses one delivery may take the next, so that only its own failures count.
                if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                    admission.failed();
                } else {
                    admission.succeeded();
                }
                Attempt::Failed(format!("answered {status}"))
            }
            Err(error) => {
                admission.failed();
                Attempt::Failed(error.to_string())
            }
        }
    }

    /// Notes the outcome of an attempt. If that cannot be stored, the delivery is made once more.
    async fn settle(&self, taken: &TakenDelivery, attempt: Attempt) {
        let (counter, again) = match &attempt {
            Attempt::Delivered => (Counter::WebhooksDelivered, None),
            Attempt::Gone => (Counter::WebhooksGone, None),
            Attempt::Expired => (Counter::WebhooksExpired, None),
            Attempt::Failed(_) => (
                Counter::WebhooksRepeated,
                Some(Time::now().after(pause(self.config.pause, taken.attempts))),
            ),
        };
        self.metrics.count(counter);
        let why = match attempt {
            Attempt::Delivered => None,
            Attempt::Gone => Some("answered 410: it is given up".to_owned()),
            Attempt::Expired => Some("it is too old and is given up".to_owned()),
            Attempt::Failed(why) => Some(why),
        };
        if let Some(why) = why
            && let Some(more) = self.log_throttle.permit()
        {
            let (id, attempts) = (taken.delivery.id, taken.attempts);
            tracing::warn!(%id, attempts, why, more, "a webhook was not taken");
        }
        if let Err(error) = self.store.end_delivery(taken, again).await {
            tracing::debug!(%error, "a delivery could not be noted, and is made again");
        }
    }
}

/// The pause after so many attempts, up to a half shorter at random so that servers and deliveries do not come together.
fn pause(first: Duration, attempts: u32) -> Duration {
    let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let longest = doubled.min(LONGEST_PAUSE);
    let (random, _, _, _) = Uuid::new_v4().as_fields();
    longest.mul_f64(1.0 - f64::from(random) / f64::from(u32::MAX) / 2.0)
}

const DELIVERY: HeaderName = HeaderName::from_static("roomcast-delivery");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SIGNATURE: HeaderName = HeaderName::from_static("roomcast-signature");
/// How often deliveries that are due are looked for while this server stores none.
const LOOK: Duration = Duration::from_secs(1);
/// How much longer than a request may take a delivery is kept from other servers.
const MARGIN: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_longest_and_are_never_shorter_than_a_half() {
        for (attempts, seconds) in [(1, 1), (2, 2), (5, 16), (11, 600), (u32::MAX, 600)] {
            let longest = Duration::from_secs(seconds);
            for _ in 0..100 {
                let pause = pause(Duration::from_secs(1), attempts);
                assert!(
                    pause >= longest / 2 && pause <= longest,
                    "{attempts}: {pause:?}"
                );
            }
        }
    }
}
