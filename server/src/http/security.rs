//! Response headers that restrict what browsers may do (OWASP Secure Headers).

use axum::{
    Router,
    extract::{Request, State},
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

use crate::config::Tls;
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
/// Adds the headers to every response, including those for unknown paths. Over TLS, browsers are
/// instructed to use only TLS in future.
pub(crate) fn harden(router: Router, tls: &Tls) -> Router {
    router.layer(middleware::from_fn_with_state(hsts(tls), add))
}

/// Returns the instruction to use only TLS (RFC 6797, 6.1).
fn hsts(tls: &Tls) -> HeaderValue {
    let subdomains = if tls.hsts_subdomains {
        "; includeSubDomains"
    } else {
        ""
    };
    let value = format!("max-age={}{subdomains}", tls.hsts.as_secs());
    HeaderValue::try_from(value).expect("a number is a valid header")
}

async fn add(State(hsts): State<HeaderValue>, request: Request, next: Next) -> Response {
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
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    async fn send_request(path: &str, is_secure: bool) -> http::HeaderMap {
        send_request_to(&Tls::default(), path, is_secure).await
    }

    async fn send_request_to(tls: &Tls, path: &str, is_secure: bool) -> http::HeaderMap {
        let own = [(CONTENT_SECURITY_POLICY, "default-src 'self'")];
        let router = Router::new()
            .route("/api", get(async || "{}"))
            .route("/page", get(async move || (own, "<!doctype html>")));
        let mut client = Client::new(([192, 0, 2, 1], 1).into());
        client.is_secure = is_secure;
        let request = Request::get(path).extension(client);
        let request = request.body(Body::empty()).unwrap();
        let response = harden(router, tls).oneshot(request).await.unwrap();
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
        for (seconds, hsts_subdomains, expected) in [
            (15_724_800, false, "max-age=15724800"),
            (63_072_000, true, "max-age=63072000; includeSubDomains"),
            (0, false, "max-age=0"),
        ] {
            let tls = Tls {
                hsts: std::time::Duration::from_secs(seconds),
                hsts_subdomains,
                ..Tls::default()
            };
            let headers = send_request_to(&tls, "/none", true).await;
            assert_eq!(headers[STRICT_TRANSPORT_SECURITY], expected);
            let plain = send_request_to(&tls, "/none", false).await;
            assert!(!plain.contains_key(STRICT_TRANSPORT_SECURITY));
        }
        assert_eq!(hsts(&Tls::default()), "max-age=15724800");
    }
}
