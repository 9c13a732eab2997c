//! The access log: one line for each HTTP request to the API, the page, health and metrics at
//! `server.listen`. Requests to the admin listener are not logged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::{
    Router,
    body::HttpBody as _,
    extract::{ConnectInfo, MatchedPath, Request},
    middleware::{self, Next},
    response::Response,
};

use crate::auth::Principal;

/// Logs each request of the router after its response is complete except for its body.
pub(crate) fn logged(router: Router) -> Router {
    router.layer(middleware::from_fn(log))
}

async fn log(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let extensions = request.extensions();
    // The route is logged instead of the path and the query, which can contain secrets.
    let route = extensions.get::<MatchedPath>().cloned();
    let address = extensions.get::<ConnectInfo<SocketAddr>>();
    let address = address.map(|ConnectInfo(address)| address.to_string());
    let response = next.run(request).await;
    let caller = response.extensions().get::<Arc<Principal>>();
    tracing::info!(
        target: "roomcast_access",
        %method,
        path = route.as_ref().map_or("unknown", MatchedPath::as_str),
        status = response.status().as_u16(),
        duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        bytes = response.body().size_hint().exact(),
        address,
        user = caller.map(|caller| &*caller.subject),
        "request"
    );
    response
}
