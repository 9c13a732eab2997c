//! Records administrative operations in the audit log, and lists it. The rules are those of the
//! service.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension, Json, RequestExt as _,
    body::{Body, to_bytes},
    extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State},
    http::{HeaderName, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::describe::RouteRules;
use super::{ApiError, By, Operation, PREFIX, Parameters, Routes, TIMEOUT};
use crate::auth::{Permission, Principal};
use crate::metrics::trace::TraceContext;
use crate::service::audit::{ActOutcome, Audit, AuditPage, ListAudit, Requester, of_path};

/// Returns the routes, below `/api/v1`.
pub(super) fn routes(audit: Audit) -> Routes {
    Routes::new()
        .on(
            Method::GET,
            "/audit",
            list,
            Operation::new(
                "listAudit",
                "Lists administrative acts, newest first.",
                Permission::AuditRead,
            )
            .query::<ListAudit>()
            .answer::<AuditPage>(200),
        )
        .with_state(audit)
}

async fn list(
    State(audit): State<Audit>,
    Extension(by): By,
    Parameters(query): Parameters<ListAudit>,
) -> Result<Json<AuditPage>, ApiError> {
    Ok(Json(audit.list(audit.access().allow(by, query)?).await?))
}

/// Records an administrative operation before and after it is performed. Operations that publish
/// what they are about, and most operations that only read, are not recorded.
pub(super) async fn record(
    State((audit, rules)): State<(Audit, Arc<RouteRules>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let Some(route) = route else {
        return next.run(request).await;
    };
    let Some(operation) = rules.recorded(request.method(), route.as_str()) else {
        return next.run(request).await;
    };
    // A caller without the permission cannot fill the audit log. The handler refuses it.
    let caller = request.extensions().get::<Arc<Principal>>();
    let needs = rules.needs(request.method(), route.as_str());
    let is_permitted = caller.is_some_and(|caller| {
        let mut needed = needs.always.iter();
        needed.all(|permission| audit.access().allows(caller, *permission))
    });
    if !is_permitted {
        return next.run(request).await;
    }
    let requester = match requester(&request) {
        Ok(requester) => requester,
        Err(refusal) => return refusal.into_response(),
    };
    let parameters = request.extract_parts::<RawPathParams>().await;
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let parameters: Vec<_> = parameters.iter().flatten().map(owned).collect();
    let path = route.as_str();
    let about = of_path(path.strip_prefix(PREFIX).unwrap_or(path), &parameters);
    if request.method().is_safe() {
        let query = request.uri().query().unwrap_or_default();
        let asked = form_urlencoded::parse(query.as_bytes());
        let asked: Value = asked
            .map(|(name, value)| (name.into_owned(), scalar(&value)))
            .collect();
        // The response can be a stream, of which only the beginning is waited for.
        let begun = audit.begin(requester, "http", operation, about, &asked);
        return match begun.await {
            Ok(act) => {
                let response = next.run(request).await;
                act.end(outcome(response.status()), &Value::Null).await;
                response
            }
            Err(refusal) => ApiError::from(refusal).into_response(),
        };
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, rules.body_bytes(route.as_str())).await else {
        return ApiError::too_large().into_response();
    };
    let asked = serde_json::from_slice(&body).unwrap_or_default();
    let request = Request::from_parts(parts, Body::from(body));
    // The operation and the record of its outcome do not end with the connection of the caller.
    let performed = TraceContext::spawn(async move {
        let begun = audit.begin(requester, "http", operation, about, &asked);
        let act = match begun.await {
            Ok(act) => act,
            Err(refusal) => return ApiError::from(refusal).into_response(),
        };
        let answered = tokio::time::timeout(TIMEOUT, next.run(request)).await;
        let response = answered.unwrap_or_else(|_| super::late());
        let status = response.status();
        let outcome = outcome(status);
        let (parts, body) = response.into_parts();
        let Ok(body) = to_bytes(body, usize::MAX).await else {
            act.end(ActOutcome::Failed, &Value::Null).await;
            return Response::from_parts(parts, Body::empty());
        };
        let mut answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if outcome != ActOutcome::Done {
            // The message of an error can repeat what the caller sent.
            answer = json!({"error": answer.pointer("/error/code")});
        }
        act.end(outcome, &answer).await;
        Response::from_parts(parts, Body::from(body))
    });
    performed
        .await
        .unwrap_or_else(|_| super::once::failed().into_response())
}

/// Returns the value of a query parameter: a boolean or a number if it is one.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => text.into(),
    }
}

fn outcome(status: StatusCode) -> ActOutcome {
    match status.as_u16() {
        // The handler was stopped, after it may have changed something.
        408 | 500.. => ActOutcome::Failed,
        400.. => ActOutcome::Refused,
        _ => ActOutcome::Done,
    }
}

/// Returns who sends a request, or why its statement about that is refused.
fn requester(request: &Request) -> Result<Requester, ApiError> {
    let extensions = request.extensions();
    let caller = extensions.get::<Arc<Principal>>();
    let address = extensions.get::<ConnectInfo<SocketAddr>>();
    let mut stated = request.headers().get_all(STATED_USER).iter();
    let stated = match (stated.next(), stated.next()) {
        (None, _) => None,
        (Some(name), None) => {
            let name = name.to_str().ok();
            let name = name.filter(|name| (1..=MAX_STATED).contains(&name.len()));
            let problem = "must have 1 to 256 visible ASCII characters";
            let invalid = || ApiError::invalid(format!("{STATED_USER} {problem}"));
            Some(name.ok_or_else(invalid)?.to_owned())
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid(format!("{STATED_USER} is given twice")));
        }
    };
    Ok(Requester {
        user: caller.map(|caller| caller.subject.clone()),
        stated,
        address: address.map(|ConnectInfo(address)| address.ip().to_canonical()),
        connection: None,
    })
}

/// The name of the person who uses the command line, as the command line states it.
const STATED_USER: HeaderName = HeaderName::from_static("roomcast-stated-user");
/// Maximum bytes of a stated name.
const MAX_STATED: usize = 256;
