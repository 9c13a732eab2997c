//! Execution of trades by a service over HTTP. The trade id is the idempotency key, so requests can
//! be repeated.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, header::InvalidHeaderValue};
use parking_lot::RwLock;
use serde::Deserialize;

use super::executor::Outcome;
use super::order::{Fault, Order};
use crate::auth::outbound::{Outbound, OutboundFault, Target};
use crate::breaker::Breaker;
use crate::config;
use crate::service::rules::commands::form::exact_or_none;

/// Returns the header with the configured bearer token, if there is one.
///
/// # Errors
///
/// If the token has characters that no header has.
pub(super) fn authorization(
    config: &config::Webhook,
) -> Result<Option<HeaderValue>, OutboundFault> {
    let authorization = config.token.as_ref().map(|token| {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))?;
        value.set_sensitive(true);
        Ok(value)
    });
    authorization.transpose().map_err(|_: InvalidHeaderValue| {
        OutboundFault("market.webhook.token has characters that no header has".into())
    })
}

pub(super) struct Webhook {
    outbound: Outbound,
    /// The bearer token.
    authorization: RwLock<Option<HeaderValue>>,
    breaker: Breaker,
    attempts: u32,
    retry_delay: Duration,
}

/// The response of the service: `{"status": "executed", "executedPrice": 190.5}` or
/// `{"status": "failed", "message": "…"}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: Status,
    #[serde(default, deserialize_with = "exact_or_none")]
    executed_price: Option<f64>,
    message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Executed,
    Failed,
}

/// The outcome of one attempt.
enum Attempt {
    Done(Outcome),
    /// The order did not arrive or was not executed. Another attempt can execute it.
    NotDone(String),
    /// The order may have been executed.
    Unknown(String),
}

impl Webhook {
    pub(super) fn new(config: &config::Webhook) -> Result<Self, OutboundFault> {
        let outbound = Outbound::new(Target {
            section: "market.webhook",
            url: config.url.as_deref().unwrap_or_default(),
            ca_file: config.ca_file.as_deref(),
            timeout: config.timeout,
            allow_private: config.allow_private,
        });
        Ok(Self {
            outbound: outbound?,
            authorization: RwLock::new(authorization(config)?),
            breaker: Breaker::new("the executor of trades"),
            attempts: config.attempts,
            retry_delay: config.retry_delay,
        })
    }

    /// Replaces the bearer token. The next attempt sends the new one.
    pub(super) fn replace_authorization(&self, authorization: Option<HeaderValue>) {
        *self.authorization.write() = authorization;
    }

    /// Retries until there is a response or the attempts are used up. The trade fails only if no
    /// attempt can have executed it.
    pub(super) async fn execute(&self, order: &Order, is_first: bool) -> Outcome {
        let body = serde_json::to_vec(order).unwrap_or_default();
        let mut unknown = None;
        let mut not_done = String::new();
        let mut delay = self.retry_delay;
        for attempt in 1..=self.attempts {
            // Each attempt has the same idempotency key, so that the service executes the order
            // once.
            match self.attempt(&order.trade_id, body.clone()).await {
                Attempt::Done(outcome) => return outcome,
                Attempt::NotDone(why) => not_done = why,
                Attempt::Unknown(why) => unknown = Some(why),
            }
            if attempt < self.attempts {
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(MAX_DELAY);
            }
        }
        // An earlier round may have executed the order. A trade reported as failed although it was
        // executed is worse than a pending one.
        if unknown.is_none() && is_first {
            tracing::warn!(why = not_done, "could not reach the trade executor");
            return Outcome::Failed(Fault {
                code: "EXECUTOR_UNAVAILABLE".into(),
                message: "the executor cannot be reached; nothing was executed".into(),
            });
        }
        Outcome::Unknown(unknown.unwrap_or(not_done))
    }

    async fn attempt(&self, key: &str, body: Vec<u8>) -> Attempt {
        let Ok(admission) = self.breaker.admit() else {
            // Nothing was sent, so the order has certainly not been executed.
            return Attempt::NotDone("the executor failed recently and is not called".into());
        };
        let mut headers = HeaderMap::new();
        // The id of a trade is a UUID created by this server, so it is a valid header value.
        if let Ok(key) = HeaderValue::from_str(key) {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        if let Some(authorization) = self.authorization.read().clone() {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        let answer = self.outbound.post(&headers, body).await;
        match answer {
            Err(error) if error.is_before_sending() => {
                admission.failed();
                Attempt::NotDone(error.to_string())
            }
            Err(error) => {
                admission.failed();
                Attempt::Unknown(error.to_string())
            }
            Ok((status, text)) => {
                let attempt = judge(status, &text);
                match &attempt {
                    Attempt::Done(_) => admission.succeeded(),
                    Attempt::NotDone(_) | Attempt::Unknown(_) => admission.failed(),
                }
                attempt
            }
        }
    }
}

/// Interprets a response.
fn judge(status: StatusCode, text: &str) -> Attempt {
    if status.is_success() {
        return match serde_json::from_str(text) {
            Ok(Answer {
                status: Status::Executed,
                executed_price: Some(price),
                ..
            }) if price > 0.0 => Attempt::Done(Outcome::Filled(price)),
            Ok(Answer {
                status: Status::Failed,
                message,
                ..
            }) => Attempt::Done(rejected(message)),
            Ok(_) => Attempt::Unknown("its answer has no price above zero".into()),
            Err(error) => Attempt::Unknown(format!("its answer is not understood: {error}")),
        };
    }
    match status {
        // These two redirects mean that the request was not processed. Other redirects can point to
        // a result.
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
            Attempt::NotDone(format!("answered {status}: redirects are not followed"))
        }
        // A refused credential says nothing about this trade, which an earlier attempt may have
        // executed with a token that was valid then.
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE => Attempt::NotDone(format!("answered {status}")),
        // Another request with this key is in flight or was processed.
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => {
            Attempt::Unknown(format!("answered {status}"))
        }
        status if status.is_client_error() => {
            let answer = serde_json::from_str::<Answer>(text).ok();
            let failed = answer.filter(|answer| answer.status == Status::Failed);
            Attempt::Done(rejected(failed.and_then(|answer| answer.message)))
        }
        status => Attempt::Unknown(format!("answered {status}")),
    }
}

/// Returns a rejection by the service. The message is truncated to what a client can display.
fn rejected(message: Option<String>) -> Outcome {
    let message = message.unwrap_or_default();
    let shown: String = message
        .chars()
        .filter(|c| !c.is_control())
        .take(MESSAGE_CHARS)
        .collect();
    let message = match shown.as_str() {
        "" => "the executor has rejected the trade".to_owned(),
        _ => shown,
    };
    Outcome::Failed(Fault {
        code: "REJECTED".into(),
        message,
    })
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The maximum delay between two attempts.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(10);
const MESSAGE_CHARS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, text: &str) -> String {
        match judge(StatusCode::from_u16(status).unwrap(), text) {
            Attempt::Done(Outcome::Filled(price)) => format!("filled {price}"),
            Attempt::Done(Outcome::Failed(fault)) => format!("{}: {}", fault.code, fault.message),
            Attempt::Done(Outcome::Unknown(_)) | Attempt::Unknown(_) => "unknown".into(),
            Attempt::NotDone(_) => "not done".into(),
        }
    }

    #[test]
    fn executor_responses_mean_executed_rejected_or_unknown() {
        let filled = r#"{"status":"executed","executedPrice":190.5,"more":[]}"#;
        let failed = r#"{"status":"failed","message":"no\u0007 funds"}"#;
        for (status, text, expected) in [
            (200, filled, "filled 190.5"),
            (201, filled, "filled 190.5"),
            (200, failed, "REJECTED: no funds"),
            (422, failed, "REJECTED: no funds"),
            (
                400,
                "<html>",
                "REJECTED: the executor has rejected the trade",
            ),
            (200, "", "unknown"),
            (200, "<html>", "unknown"),
            (200, r#"{"status":"executed"}"#, "unknown"),
            (
                200,
                r#"{"status":"executed","executedPrice":-1}"#,
                "unknown",
            ),
            (
                200,
                r#"{"status":"executed","executedPrice":1e999}"#,
                "unknown",
            ),
            (
                200,
                r#"{"status":"executed","executedPrice":0.12345678901234567}"#,
                "unknown",
            ),
            (200, r#"{"status":"perhaps"}"#, "unknown"),
            (500, filled, "unknown"),
            (409, "", "unknown"),
            (408, "", "unknown"),
            (429, "", "not done"),
            (503, "", "not done"),
            (401, failed, "not done"),
            (403, "", "not done"),
            (407, "", "not done"),
            (302, filled, "unknown"),
            (303, filled, "unknown"),
            (307, filled, "not done"),
            (308, filled, "not done"),
        ] {
            assert_eq!(of(status, text), expected, "{status} {text}");
        }
        let long = format!(r#"{{"status":"failed","message":"{}"}}"#, "x".repeat(1000));
        assert_eq!(of(200, &long).len(), "REJECTED: ".len() + MESSAGE_CHARS);
    }
}
