//! Error codes of events, as clients see them.

use std::num::NonZeroU64;

use serde_json::json;

use super::{diagnosed, limits};
use crate::metrics::diagnosis::Diagnosis;
use crate::metrics::{Counter, Metrics};
use crate::service::ServiceError;
use crate::service::emissions::identity::{ERROR, ErrorEvent};
use roomcast::{Refusal, handler::Failure};

/// An error code with its properties.
struct Row {
    code: &'static str,
    /// The `type` field of the `error` event.
    kind: &'static str,
    /// The equivalent HTTP status.
    status: u16,
    /// `None` for a code that ends the socket: no event is refused with it.
    counter: Option<Counter>,
}

/// All codes except [`INTERNAL`].
const TABLE: [Row; 10] = [
    Row {
        code: "UNAUTHENTICATED",
        kind: "auth",
        status: 401,
        counter: Some(Counter::ErrorsUnauthenticated),
    },
    Row {
        code: "TOKEN_EXPIRED",
        kind: "auth",
        status: 401,
        counter: None,
    },
    Row {
        code: "TOKEN_REVOKED",
        kind: "auth",
        status: 401,
        counter: None,
    },
    Row {
        code: "FORBIDDEN",
        kind: "auth",
        status: 403,
        counter: Some(Counter::ErrorsForbidden),
    },
    Row {
        code: "INVALID_PAYLOAD",
        kind: "payload",
        status: 400,
        counter: Some(Counter::ErrorsInvalidPayload),
    },
    Row {
        code: "NOT_FOUND",
        kind: "subscription",
        status: 404,
        counter: Some(Counter::ErrorsNotFound),
    },
    Row {
        code: "CONFLICT",
        kind: "subscription",
        status: 409,
        counter: Some(Counter::ErrorsConflict),
    },
    Row {
        code: "RATE_LIMITED",
        kind: "rateLimit",
        status: 429,
        counter: Some(Counter::ErrorsRateLimited),
    },
    Row {
        code: "STORE_UNAVAILABLE",
        kind: "store",
        status: 503,
        counter: Some(Counter::ErrorsStoreUnavailable),
    },
    Row {
        code: "BACKEND_UNAVAILABLE",
        kind: "subscription",
        status: 503,
        counter: Some(Counter::ErrorsBackendUnavailable),
    },
];

/// The code for all other errors.
const INTERNAL: Row = Row {
    code: "INTERNAL",
    kind: "internal",
    status: 500,
    counter: Some(Counter::ErrorsInternal),
};

impl Row {
    fn of(code: &str) -> &'static Self {
        TABLE
            .iter()
            .find(|row| row.code == code)
            .unwrap_or(&INTERNAL)
    }
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Denied(_) => Self::new("FORBIDDEN", message),
            ServiceError::Invalid { field, .. } | ServiceError::Unfit { field, .. } => {
                Self::new("INVALID_PAYLOAD", message).data(json!({"details": {"field": field}}))
            }
            ServiceError::NotFound(_) => Self::new("NOT_FOUND", message),
            ServiceError::Conflict(_) => Self::new("CONFLICT", message),
            ServiceError::Misplaced { offset, .. } => {
                Self::new("CONFLICT", message).data(json!({"details": {"offset": offset}}))
            }
            ServiceError::Failed { reason, .. } => {
                Self::new("CONFLICT", message).data(json!({"details": {"reason": reason}}))
            }
            ServiceError::Limited { retry_after } => {
                Self::new("RATE_LIMITED", message).data(retry_after.data())
            }
            ServiceError::Unavailable { retry_after } => {
                Self::new("STORE_UNAVAILABLE", message).data(retry_after.data())
            }
            ServiceError::NoAnswer { retry_after } => {
                Self::new("BACKEND_UNAVAILABLE", message).data(retry_after.data())
            }
        }
    }
}

/// Counts and records a failed event. Sends the `error` event if it was sent without an
/// acknowledgement.
pub(super) fn report_failure(failure: &Failure<'_>, metrics: &Metrics, diagnosis: &Diagnosis) {
    diagnosed::refused(diagnosis, failure);
    let row = Row::of(failure.refusal.code());
    if let Some(counter) = row.counter {
        metrics.count(counter);
    }
    if failure.answered {
        return;
    }
    if row.code == "RATE_LIMITED" && !limits::may_notify(failure) {
        return;
    }
    let error = ErrorEvent {
        kind: row.kind,
        code: row.code,
        message: failure.refusal.message(),
        event: Some(failure.event),
        retry_after: failure
            .refusal
            .details()
            .get("retryAfter")
            .and_then(|ms| ms.as_u64())
            .and_then(NonZeroU64::new),
        details: failure.refusal.details().get("details"),
        status: row.status,
    };
    ERROR.emit_to(failure.socket, &error);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roomcast::internal::RetryAfter;

    use super::*;
    use crate::service::policy;

    const WAIT: RetryAfter = RetryAfter::new(Duration::from_micros(1001));

    #[test]
    fn service_error_has_the_code_and_fields_of_its_row() {
        let json = |error: ServiceError| serde_json::to_string(&Refusal::from(error)).unwrap();
        assert_eq!(
            json(ServiceError::NotFound("no such conversation")),
            r#"{"code":"NOT_FOUND","message":"no such conversation"}"#
        );
        assert_eq!(
            json(ServiceError::Invalid {
                field: "content".into(),
                problem: "is empty".into()
            }),
            r#"{"code":"INVALID_PAYLOAD","message":"content is empty","details":{"field":"content"}}"#
        );
        assert_eq!(
            json(ServiceError::Limited { retry_after: WAIT }),
            r#"{"code":"RATE_LIMITED","message":"too many events of this kind, try again later","retryAfter":2}"#
        );
        assert_eq!(
            json(ServiceError::Unavailable { retry_after: WAIT }),
            r#"{"code":"STORE_UNAVAILABLE","message":"the store is not available, try again later","retryAfter":2}"#
        );
    }

    /// The page that authors of clients rely on.
    const PAGE: &str = include_str!("../../../docs/chat.md");

    #[test]
    fn protocol_page_lists_every_code_with_its_type_and_status() {
        for Row {
            code, kind, status, ..
        } in TABLE.iter().chain([&INTERNAL])
        {
            let row = format!("| {kind} | `{code}` | {status} | ");
            assert!(PAGE.contains(&row), "docs/chat.md lacks {row}");
        }
        let errors = PAGE.split("\n## Errors").nth(1).unwrap();
        let errors = errors.split("\n## ").next().unwrap();
        let rows = errors.lines().filter(|line| line.starts_with("| ")).count();
        assert_eq!(rows - 1, TABLE.len() + 1, "and no other");
    }

    #[test]
    fn protocol_page_lists_every_event_with_its_fields() {
        let sent = PAGE.split("\n## What clients send").nth(1).unwrap();
        let sent = sent.split("\n## ").next().unwrap();
        let rows: Vec<_> = sent
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let events: Vec<_> = policy::events()
            .filter(|row| row.namespace() == "/")
            .collect();
        assert_eq!(rows.len(), events.len());
        for policy in events {
            let start = format!("| `{}` | ", policy.event);
            let row = rows.iter().find(|row| row.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("docs/chat.md lacks {}", policy.event));
            let schema = serde_json::to_value((policy.payload)()).unwrap();
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            for name in schema["properties"].as_object().into_iter().flatten() {
                let mark = if required.contains(&json!(name.0)) {
                    ""
                } else {
                    "?"
                };
                let field = format!("`{}{mark}`", name.0);
                assert!(
                    row.contains(&field),
                    "{}: no {field} in {row}",
                    policy.event
                );
            }
        }
    }

    #[test]
    fn protocol_page_lists_every_server_event_with_its_fields() {
        let sent = PAGE.split("\n## What the server sends").nth(1).unwrap();
        let sent = sent.split("\n\n").nth(1).unwrap();
        let rows: Vec<_> = sent.lines().filter(|row| row.starts_with("| `")).collect();
        let sent: Vec<_> = policy::emissions()
            .filter(|row| row.namespace() == "/")
            .collect();
        assert_eq!(rows.len(), sent.len());
        for policy in sent {
            let start = format!("| `{}` | ", policy.event);
            let row = rows.iter().find(|row| row.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("docs/chat.md lacks {}", policy.event));
            let payload = row.split(" | ").nth(1).unwrap();
            if !payload.starts_with('`') {
                continue;
            }
            let schema = serde_json::to_value((policy.payload)()).unwrap();
            let required = schema["required"].as_array().unwrap();
            let fields = schema["properties"].as_object().unwrap().keys();
            let fields = fields.map(|name| {
                let is_required = required.iter().any(|required| required == name);
                format!("{name}{}", if is_required { "" } else { "?" })
            });
            let named = payload.split('`').skip(1).step_by(2);
            let named = named.map(|name| name.split(':').next().unwrap().to_owned());
            let (mut fields, mut named): (Vec<_>, Vec<_>) = (fields.collect(), named.collect());
            fields.sort_unstable();
            named.sort_unstable();
            assert_eq!(named, fields, "{}", policy.event);
        }
    }

    #[test]
    fn each_code_of_an_event_has_its_own_counter() {
        for row in TABLE.iter().chain([&INTERNAL]) {
            let metrics = Metrics::new();
            let Some(counter) = row.counter else {
                assert!(row.code.starts_with("TOKEN_"), "{}", row.code);
                continue;
            };
            metrics.count(counter);
            let code = row.code.to_ascii_lowercase();
            let expected = format!("roomcast_errors_total{{code=\"{code}\"}} 1\n");
            assert!(metrics.render().contains(&expected), "{code}");
        }
    }

    #[test]
    fn every_service_error_has_a_row() {
        for error in [
            ServiceError::Denied(""),
            ServiceError::Invalid {
                field: "".into(),
                problem: "".into(),
            },
            ServiceError::NotFound(""),
            ServiceError::Conflict(""),
            ServiceError::Misplaced {
                problem: "",
                offset: 0,
            },
            ServiceError::Failed {
                reason: String::new(),
                message: String::new(),
            },
            ServiceError::Limited { retry_after: WAIT },
            ServiceError::Unavailable { retry_after: WAIT },
            ServiceError::NoAnswer { retry_after: WAIT },
        ] {
            let refusal = Refusal::from(error);
            assert_eq!(Row::of(refusal.code()).code, refusal.code());
        }
        assert_eq!(Row::of("whatever").code, "INTERNAL");
    }
}
