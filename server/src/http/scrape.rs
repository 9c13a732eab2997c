//! Decides who may read `/metrics` and what says as much: whoever is on this machine, and callers with the
//! permission for it.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::header,
    middleware::{self, Next},
    response::Response,
};

use super::api::{Callers, REFUSALS, bearer_of, turn_away};
use roomcast::internal::LogThrottle;

/// Adds the check to routes, of which `/metrics` is not for everybody.
pub(crate) fn limit(routes: Router, callers: Callers) -> Router {
    let log_throttle = Arc::new(LogThrottle::new(REFUSALS));
    routes.layer(middleware::from_fn_with_state(
        (callers, log_throttle),
        admit,
    ))
}

async fn admit(
    State((callers, log_throttle)): State<(Callers, Arc<LogThrottle>)>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let path = route.and_then(|route| PATHS.into_iter().find(|path| *path == route.as_str()));
    let Some(path) = path.filter(|_| !is_local(&request)) else {
        return next.run(request).await;
    };
    match callers(bearer_of(&request)).await {
        Ok(_) => next.run(request).await,
        Err(turned) => turn_away(path, turned, &log_throttle),
    }
}

/// Whether a request comes from this machine. One that was forwarded does not, whatever proxy it was
/// that nobody has listed as trusted.
fn is_local(request: &Request) -> bool {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let headers = request.headers();
    from.is_some_and(|from| from.0.ip().to_canonical().is_loopback())
        // A proxy on this machine makes every client look local, so a forwarded request has to
        // prove itself.
        && !headers.contains_key(header::FORWARDED)
        && !headers.contains_key("x-forwarded-for")
}

const PATHS: [&str; 2] = ["/metrics", super::DETAILS];

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        auth::{AuthFault, Principal},
        http::api::Turned,
    };

    async fn status(path: &str, from: Option<&str>, headers: &[(&str, &str)]) -> u16 {
        let callers: Callers = Arc::new(|authorization| {
            Box::pin(async move {
                match authorization.as_deref() {
                    Some("Bearer s") => Ok(Arc::new(Principal::new("s"))),
                    Some(_) => Err(Turned::Forbidden("u".into())),
                    None => Err(Turned::Unauthenticated(AuthFault::Missing)),
                }
            })
        });
        let routes = Router::new()
            .route("/metrics", get(async || "1"))
            .route("/health/websocket/detailed", get(async || "1"))
            .route("/health/live", get(async || "1"));
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(from) = from {
            let from: SocketAddr = from.parse().unwrap();
            request = request.extension(ConnectInfo(from));
        }
        let request = request.body(Body::empty()).unwrap();
        let response = limit(routes, callers).oneshot(request).await.unwrap();
        response.status().as_u16()
    }

    #[tokio::test]
    async fn metrics_are_for_this_machine_and_for_callers_who_may() {
        let (near, far) = ("127.0.0.1:1", "192.0.2.1:1");
        for near in [near, "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(status("/metrics", Some(near), &[]).await, 200, "{near}");
        }
        assert_eq!(status("/metrics", Some(far), &[]).await, 401);
        let details = "/health/websocket/detailed";
        assert_eq!(status(details, Some(far), &[]).await, 401);
        assert_eq!(status(details, Some(near), &[]).await, 200);
        assert_eq!(status("/metrics", None, &[]).await, 401);
        for header in ["x-forwarded-for", "forwarded"] {
            assert_eq!(status("/metrics", Some(near), &[(header, "x")]).await, 401);
        }
        for (token, expected) in [("Bearer s", 200), ("Bearer u", 403)] {
            let headers = [("authorization", token)];
            assert_eq!(status("/metrics", Some(far), &headers).await, expected);
        }
        assert_eq!(status("/health/live", Some(far), &[]).await, 200);
        assert_eq!(status("/none", Some(far), &[]).await, 404);
    }
}
