//! Delivers webhooks: takes each delivery from the store, signs it, and sends it until the receiver
//! accepts it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::HooksInner;
use crate::breaker::BreakerPermit;
use crate::metrics::Counter;
use crate::metrics::trace::{OpenSpan, SpanKind, Spans, TraceContext, lenient};
use crate::store::{ClaimedDelivery, Delivery, Time};

/// The result of an attempt.
enum Attempt {
    Delivered,
    /// The receiver answered that it accepts no further deliveries.
    Gone,
    /// The delivery is too old.
    Expired,
    Failed(String),
}

impl Attempt {
    fn counter(&self) -> Counter {
        match self {
            Self::Delivered => Counter::WebhooksDelivered,
            Self::Gone => Counter::WebhooksGone,
            Self::Expired => Counter::WebhooksExpired,
            Self::Failed(_) => Counter::WebhooksRepeated,
        }
    }
}

impl HooksInner {
    /// Makes deliveries one after the other for as long as it is polled.
    pub(super) async fn deliver(&self) {
        loop {
            let (claimed, admission) = {
                // One task at a time looks for a delivery. Otherwise all of them would query the
                // store every second.
                let _permit = self.polling.acquire().await;
                self.due().await
            };
            let attempt = self.attempt(&claimed, admission).await;
            self.settle(&claimed, attempt).await;
        }
    }

    /// Makes a delivery that is not stored, and repeats it until it is accepted or was attempted
    /// too often.
    pub(super) async fn deliver_now(&self, delivery: Delivery) {
        for attempts in 1..=DIRECT_ATTEMPTS {
            let claimed = ClaimedDelivery {
                delivery: delivery.clone(),
                attempts,
            };
            let attempt = match self.breaker.admit() {
                Ok(admission) => self.attempt(&claimed, admission).await,
                Err(_) => Attempt::Failed("the receiver has failed before".to_owned()),
            };
            self.metrics.count(attempt.counter());
            let Attempt::Failed(why) = attempt else {
                return;
            };
            if let Some(more) = self.log_throttle.permit() {
                tracing::warn!(
                    attempts,
                    why,
                    more,
                    "the webhook of an alert was not accepted"
                );
            }
            sleep(retry_delay(self.config.retry_delay, attempts)).await;
        }
        self.count_dropped(
            Counter::WebhookEventsDropped,
            1,
            "the alert was not accepted",
        );
    }

    /// Waits for a delivery that is due and permitted by the circuit breaker.
    async fn due(&self) -> (ClaimedDelivery, BreakerPermit<'_>) {
        loop {
            // The breaker is checked before a delivery is taken: a delivery that is taken and not
            // sent would count as an attempt.
            let admission = match self.breaker.admit() {
                Ok(admission) => admission,
                Err(wait) => {
                    sleep(wait.min(CHECK_INTERVAL)).await;
                    continue;
                }
            };
            let now = Time::now();
            // If this server stops before that, the delivery becomes due again and another server
            // makes it.
            let until = now.after(self.config.timeout + MARGIN);
            match self.store.take_delivery(now, until).await {
                Ok(Some(claimed)) => return (claimed, admission),
                Ok(None) => {
                    drop(admission);
                    // Failed deliveries become due again, and other servers may leave some.
                    let _ = timeout(CHECK_INTERVAL, self.stored.notified()).await;
                }
                Err(error) => {
                    drop(admission);
                    sleep(error.retry_after()).await;
                }
            }
        }
    }

    async fn attempt(&self, claimed: &ClaimedDelivery, admission: BreakerPermit<'_>) -> Attempt {
        let delivery = &claimed.delivery;
        // Receivers remember idempotency keys for a limited time, and very old deliveries are of no
        // use to them.
        if delivery.created_at <= Time::now().before(self.config.max_age) {
            return Attempt::Expired;
        }
        let time = Timestamp::now().as_second();
        let id = delivery.id.to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (DELIVERY, id.clone()),
            (IDEMPOTENCY_KEY, id),
            // The time is signed as well and is that of the attempt, so that receivers can reject
            // replays.
            (SIGNATURE, self.signer.read().header(time, &delivery.body)),
        ] {
            // All three values consist of digits and a few letters, so they are valid header
            // values.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        let traces = traces_of(&delivery.body);
        let spans = DeliverySpans::start(&self.spans, &traces, claimed);
        if let Some(trace) = traces.first() {
            tracing::debug!(trace_id = trace.trace_id(), delivery = %delivery.id, "delivering a webhook of a traced event");
            let trace = spans.context_of(*trace);
            if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
                headers.insert(TRACEPARENT, value);
            }
        }
        let body = delivery.body.clone().into_bytes();
        let answered = self.outbound.notify(&headers, body).await;
        spans.end(answered.as_ref().ok().copied());
        match answered {
            Ok(status) if status.is_success() => {
                admission.succeeded();
                Attempt::Delivered
            }
            Ok(StatusCode::GONE) => {
                admission.succeeded();
                Attempt::Gone
            }
            Ok(status) => {
                // A receiver that rejects one delivery may accept the next, so only its own
                // failures count.
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

    /// Records the result of an attempt. If that cannot be stored, the delivery is made again.
    async fn settle(&self, claimed: &ClaimedDelivery, attempt: Attempt) {
        self.metrics.count(attempt.counter());
        let again = matches!(attempt, Attempt::Failed(_))
            .then(|| Time::now().after(retry_delay(self.config.retry_delay, claimed.attempts)));
        let why = match attempt {
            Attempt::Delivered => None,
            Attempt::Gone => Some("answered 410: the delivery is discarded".to_owned()),
            Attempt::Expired => Some("the delivery is too old and is discarded".to_owned()),
            Attempt::Failed(why) => Some(why),
        };
        if let Some(why) = why
            && let Some(more) = self.log_throttle.permit()
        {
            let (id, attempts) = (claimed.delivery.id, claimed.attempts);
            tracing::warn!(%id, attempts, why, more, "a webhook was not accepted");
        }
        if let Err(error) = self.store.end_delivery(claimed, again).await {
            tracing::debug!(%error, "could not store the outcome of a webhook delivery, it will be repeated");
        }
    }
}

/// The spans of one attempt, one in each sampled trace of its events.
struct DeliverySpans(Vec<OpenSpan>);

impl DeliverySpans {
    fn start(spans: &Spans, traces: &[TraceContext], claimed: &ClaimedDelivery) -> Self {
        let name = || "deliver webhook".to_owned();
        let start = |trace: &TraceContext| {
            let mut span = spans.start_child(Some(*trace), SpanKind::Client, name)?;
            span.set("roomcast.delivery", claimed.delivery.id);
            span.set("roomcast.attempt", u64::from(claimed.attempts));
            Some(span)
        };
        Self(traces.iter().filter_map(start).collect())
    }

    /// Returns the context that the receiver continues: the span of this attempt if the trace is
    /// sampled, otherwise the trace itself.
    fn context_of(&self, trace: TraceContext) -> TraceContext {
        let mut contexts = self.0.iter().filter_map(OpenSpan::context);
        let own = contexts.find(|context| context.is_same_trace(trace));
        own.unwrap_or(trace)
    }

    /// Ends the spans with the status of the response, if there is one.
    fn end(self, status: Option<StatusCode>) {
        for mut span in self.0 {
            let Some(status) = status else {
                span.fail("no response");
                continue;
            };
            span.set("http.response.status_code", u64::from(status.as_u16()));
            match status.is_success() {
                true => span.end(),
                false => span.fail("not accepted"),
            }
        }
    }
}

/// Returns the traces of the events of a delivery. It can contain events of several traces, but has
/// one header.
fn traces_of(body: &str) -> Vec<TraceContext> {
    #[derive(Deserialize)]
    struct Events {
        events: Vec<Traced>,
    }
    #[derive(Deserialize)]
    struct Traced {
        #[serde(default, deserialize_with = "lenient")]
        traceparent: Option<TraceContext>,
    }
    // Most deliveries have no trace and are not parsed.
    if !body.contains(r#""traceparent":"#) {
        return Vec::new();
    }
    let Ok(events) = serde_json::from_str::<Events>(body) else {
        return Vec::new();
    };
    let traces = events.events.into_iter();
    traces.filter_map(|event| event.traceparent).collect()
}

/// Returns the delay after this many attempts.
///
/// It is shortened at random by up to half, so that servers and deliveries spread out.
fn retry_delay(first: Duration, attempts: u32) -> Duration {
    let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let longest = doubled.min(MAX_DELAY);
    let (random, _, _, _) = Uuid::new_v4().as_fields();
    longest.mul_f64(1.0 - f64::from(random) / f64::from(u32::MAX) / 2.0)
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const DELIVERY: HeaderName = HeaderName::from_static("roomcast-delivery");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SIGNATURE: HeaderName = HeaderName::from_static("roomcast-signature");
/// The interval between checks for due deliveries while this server stores none.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time, in addition to the request timeout, for which a delivery is withheld from other servers.
const MARGIN: Duration = Duration::from_secs(10);
/// The maximum number of attempts to make a delivery that is not stored.
const DIRECT_ATTEMPTS: u32 = 10;
/// The maximum delay between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_maximum_and_jitter_by_at_most_half() {
        for (attempts, seconds) in [(1, 1), (2, 2), (5, 16), (11, 600), (u32::MAX, 600)] {
            let longest = Duration::from_secs(seconds);
            for _ in 0..100 {
                let delay = retry_delay(Duration::from_secs(1), attempts);
                assert!(
                    delay >= longest / 2 && delay <= longest,
                    "{attempts}: {delay:?}"
                );
            }
        }
    }
}
