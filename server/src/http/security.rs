//! Response headers that restrict what browsers may do (OWASP Secure Headers).

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use http::{
    HeaderName, HeaderValue,
    header::{
        CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

use roomcast::limit::Client;

/// Headers of every response that does not set them itself. A response loads nothing, is not
/// framed, has exactly its declared type, and is not for other sites.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];
/// Half a year, a first step that can be reverted. Subdomains are not included, because they can
/// belong to other services.
const HSTS: &str = "max-age=15768000";

/// Adds the headers to every response, including those for unknown paths. Over TLS, browsers are
/// instructed to use only TLS in future.
pub(crate) fn harden(router: Router) -> Router {
    router.layer(middleware::from_fn(add))
}

async fn add(request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>();
    let is_secure = client.is_some_and(|client| client.is_secure);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        // A response that sets a header itself, as the page does, keeps it.
        headers.entry(name).or_insert(value);
    }
    if is_secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    async fn send_request(path: &str, is_secure: bool) -> http::HeaderMap {
        let own = [(CONTENT_SECURITY_POLICY, "default-src 'self'")];
        let router = Router::new()
            .route("/api", get(async || "{}"))
            .route("/page", get(async move || (own, "<!doctype html>")));
        let mut client = Client::new(([192, 0, 2, 1], 1).into());
        client.is_secure = is_secure;
        let request = Request::get(path).extension(client);
        let request = request.body(Body::empty()).unwrap();
        let response = harden(router).oneshot(request).await.unwrap();
        response.headers().clone()
    }

    #[tokio::test]
    async fn every_response_has_security_headers_and_pages_their_own_policy() {
        for path in ["/api", "/page", "/none"] {
            let headers = send_request(path, false).await;
            for (name, value) in HEADERS {
                if name == CONTENT_SECURITY_POLICY && path == "/page" {
                    assert_eq!(headers[name], "default-src 'self'");
                } else {
                    assert_eq!(headers[&name], value, "{path} {name}");
                }
            }
            assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY), "{path}");
        }
    }

    #[tokio::test]
    async fn tls_responses_have_strict_transport_security() {
        assert_eq!(
            send_request("/none", true).await[STRICT_TRANSPORT_SECURITY],
            HSTS
        );
    }
}
