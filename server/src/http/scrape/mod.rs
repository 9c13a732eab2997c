//! Access control for `/metrics` and `/health/websocket/detailed`.
//!
//! At a loopback address of the admin listener, every process of this machine may read them.
//! Otherwise a reader needs a configured token, or a token of a role with `api:metrics`.

mod token_file;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

pub(crate) use token_file::{TokenFile, TokenFileError};

use super::api::{ApiError, Callers, REFUSALS, bearer_of, refuse_caller};
use roomcast::internal::LogThrottle;

/// The clients that can reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only processes of this machine.
    Machine,
    Network,
}

/// Authenticates readers by token.
#[derive(Clone)]
pub(crate) struct Readers {
    callers: Callers,
    /// The hash of the configured token. Comparing hashes takes the same time for every wrong
    /// token.
    token: Arc<RwLock<Option<[u8; 32]>>>,
    /// The file with a further token.
    file: Option<TokenFile>,
    log_throttle: Arc<LogThrottle>,
}

impl Readers {
    pub(crate) fn new(callers: Callers, token: Option<&str>, file: Option<TokenFile>) -> Self {
        Self {
            callers,
            token: Arc::new(RwLock::new(token.map(hash))),
            file,
            log_throttle: Arc::new(LogThrottle::new(REFUSALS)),
        }
    }

    /// Replaces the configured token, for all clones.
    pub(crate) fn replace_token(&self, token: Option<&str>) {
        *self.token.write() = token.map(hash);
    }

    /// Refuses a request whose token does not permit reading.
    async fn check(&self, path: &str, authorization: Option<String>) -> Result<(), Response> {
        let token = authorization.as_deref().and_then(bearer_token);
        if let Some(received) = token {
            let given = hash(received);
            let configured = *self.token.read();
            let file = self.file.as_ref().map(TokenFile::hash);
            if configured.into_iter().chain(file).any(|hash| hash == given) {
                return Ok(());
            }
        }
        match (self.callers)(authorization).await {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refuse_caller(path, refusal, &self.log_throttle)),
        }
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Restricts routes to permitted readers.
pub(crate) fn limit(routes: Router, readers: Readers, reach: Reach) -> Router {
    routes.route_layer(middleware::from_fn_with_state((readers, reach), admit))
}

async fn admit(
    State((readers, reach)): State<(Readers, Reach)>,
    request: Request,
    next: Next,
) -> Response {
    let foreign = (reach == Reach::Machine).then(|| foreign(&request));
    match foreign {
        Some(None) => return next.run(request).await,
        // A request without a token gets the reason, because its address is the correct one.
        Some(Some(reason)) if !request.headers().contains_key(header::AUTHORIZATION) => {
            return ApiError::new(StatusCode::FORBIDDEN, "FORBIDDEN", reason).into_response();
        }
        Some(Some(_)) | None => {}
    }
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = route.as_ref().map_or("", MatchedPath::as_str);
    match readers.check(path, bearer_of(&request)).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

/// Returns why a request from a process of this machine may originate elsewhere, if it may.
fn foreign(request: &Request) -> Option<&'static str> {
    let headers = request.headers();
    let forwarding = [
        header::FORWARDED.as_str(),
        "x-forwarded-for",
        "x-real-ip",
        "via",
    ];
    if forwarding.iter().any(|name| headers.contains_key(*name)) {
        return Some(
            "a proxy has forwarded the request: send server.metrics_token as a bearer token",
        );
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let host = host.and_then(|host| host.to_str().ok());
    // A page can resolve its own host name to this machine (DNS rebinding), but the browser sends
    // that name.
    let is_own = second.is_none() && host.is_some_and(is_loopback);
    (!is_own).then_some(
        "the Host is no loopback address: ask for 127.0.0.1 or localhost, or send \
         server.metrics_token as a bearer token",
    )
}

/// Returns whether a `Host` is `localhost` or a loopback address, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let is_address = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_address)
}

/// Returns the bearer token of an `Authorization` header.
fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        auth::{AuthFault, Principal},
        http::api::CallerRefusal,
    };

    async fn status(reach: Reach, path: &str, headers: &[(&str, &str)]) -> u16 {
        let callers: Callers = Arc::new(|authorization| {
            Box::pin(async move {
                match authorization.as_deref() {
                    Some("Bearer s") => Ok(Arc::new(Principal::new("s"))),
                    Some("Bearer u") => {
                        Err(CallerRefusal::Forbidden(Arc::new(Principal::new("u"))))
                    }
                    Some(_) => Err(CallerRefusal::Unauthenticated(AuthFault::NotAToken)),
                    None => Err(CallerRefusal::Unauthenticated(AuthFault::Missing)),
                }
            })
        });
        let routes = Router::new().route("/metrics", get(async || "1"));
        let limited = limit(
            routes,
            Readers::new(callers, Some("the-token"), None),
            reach,
        );
        let routes = limited.route("/health/live", get(async || "1"));
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        routes.oneshot(request).await.unwrap().status().as_u16()
    }

    const OWN: (&str, &str) = ("host", "127.0.0.1:9464");

    #[tokio::test]
    async fn remote_scrape_requires_a_token_with_the_metrics_permission() {
        for reach in [Reach::Network, Reach::Machine] {
            for (token, expected) in [
                ("Bearer the-token", 200),
                ("bearer  the-token", 200),
                ("Bearer s", 200),
                ("Bearer u", 403),
                ("Bearer the-toke", 401),
                ("Basic the-token", 401),
                ("the-token", 401),
            ] {
                let headers = [("host", "chat.example"), ("authorization", token)];
                assert_eq!(
                    status(reach, "/metrics", &headers).await,
                    expected,
                    "{token}"
                );
            }
        }
        assert_eq!(status(Reach::Network, "/metrics", &[OWN]).await, 401);
        assert_eq!(status(Reach::Network, "/health/live", &[]).await, 200);
        assert_eq!(status(Reach::Network, "/none", &[]).await, 404);
    }

    #[tokio::test]
    async fn local_process_scrapes_metrics_over_loopback_without_a_token() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "LOCALHOST:1",
            "[::1]:1",
            "127.9.9.9",
        ] {
            assert_eq!(
                status(Reach::Machine, "/metrics", &[("host", host)]).await,
                200,
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:1",
            "192.0.2.1",
            "[2001:db8::1]",
            "",
        ] {
            assert_eq!(
                status(Reach::Machine, "/metrics", &[("host", host)]).await,
                403,
                "{host}"
            );
        }
        assert_eq!(status(Reach::Machine, "/metrics", &[]).await, 403);
        assert_eq!(status(Reach::Machine, "/metrics", &[OWN, OWN]).await, 403);
        for header in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
            let headers = [OWN, (header, "x")];
            assert_eq!(
                status(Reach::Machine, "/metrics", &headers).await,
                403,
                "{header}"
            );
        }
    }
}
