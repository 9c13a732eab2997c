//! The chat page at `/`, built by `build.rs` and part of the binary.

use std::sync::Arc;

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use rust_embed::{Embed, EmbeddedFile};
use sha2::{Digest, Sha256};

/// A route for every file of the page, `/` being its `index.html`.
///
/// `socket_path` is where Engine.IO listens; the page connects there.
pub(super) fn routes<S>(socket_path: &str) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Files::iter()
        .filter_map(|name| Some((Files::get(&name)?, name)))
        .fold(Router::new(), |router, (file, name)| {
            let path = route(&name);
            let asset = Arc::new(Asset::new(&name, file, socket_path));
            router.route(
                &path,
                get(move |headers: HeaderMap| async move { asset.answer(&headers) }),
            )
        })
}

#[derive(Embed)]
#[folder = "$OUT_DIR/page"]
struct Files;

/// One file, ready to be sent.
struct Asset {
    body: Bytes,
    content_type: HeaderValue,
    etag: HeaderValue,
    cache_control: HeaderValue,
}

impl Asset {
    fn new(name: &str, file: EmbeddedFile, socket_path: &str) -> Self {
        let content_type = content_type(file.metadata.mimetype());
        let body = match name {
            INDEX => with_socket_path(&file.data, socket_path),
            _ => Bytes::from(file.data.into_owned()),
        };
        Self {
            etag: etag(&body),
            content_type,
            body,
            cache_control: HeaderValue::from_static(cache_control(name)),
        }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let caching = [
            (ETAG, self.etag.clone()),
            (CACHE_CONTROL, self.cache_control.clone()),
        ];
        if is_known(request, &self.etag) {
            // The headers of this answer replace those that the browser keeps (RFC 9111, 3.2), the
            // policy included.
            return (StatusCode::NOT_MODIFIED, caching, SECURITY).into_response();
        }
        let content_type = [(CONTENT_TYPE, self.content_type.clone())];
        (caching, content_type, SECURITY, self.body.clone()).into_response()
    }
}

const INDEX: &str = "index.html";

/// The page may load its own files and talk to its own server, and nothing else. No script of it
/// may turn text into markup.
const SECURITY: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
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

fn route(name: &str) -> String {
    match name {
        INDEX => "/".to_owned(),
        _ => format!("/{name}"),
    }
}

/// Files below `assets/` have a hash of their content in their name and never change.
fn cache_control(name: &str) -> &'static str {
    if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

fn content_type(guess: &str) -> HeaderValue {
    let charset = if guess.starts_with("text/") {
        "; charset=utf-8"
    } else {
        ""
    };
    HeaderValue::try_from(format!("{guess}{charset}"))
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

fn etag(body: &[u8]) -> HeaderValue {
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(body));
    HeaderValue::try_from(format!("\"{digest}\"")).expect("base64 is visible ASCII")
}

/// RFC 9110 §13.1.2: a list of entity tags compared weakly, or `*`.
fn is_known(request: &HeaderMap, etag: &HeaderValue) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// Tells the page where Engine.IO listens.
fn with_socket_path(index: &[u8], socket_path: &str) -> Bytes {
    let escaped = socket_path.replace('&', "&amp;").replace('"', "&quot;");
    let named = format!("content=\"{escaped}\"");
    String::from_utf8_lossy(index)
        .replace("content=\"/socket.io/\"", &named)
        .into()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Method, Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(request: Request<Body>) -> Response {
        routes("/socket.io/").oneshot(request).await.unwrap()
    }

    async fn fetch(path: &str) -> Response {
        ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    fn header(response: &Response, name: HeaderName) -> &str {
        response.headers()[name].to_str().unwrap()
    }

    async fn text(response: Response) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_root_is_the_page() {
        let response = fetch("/").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, CONTENT_TYPE), "text/html; charset=utf-8");
        assert_eq!(header(&response, CACHE_CONTROL), "no-cache");
        assert!(text(response).await.starts_with("<!doctype html>"));
    }

    #[tokio::test]
    async fn the_page_may_reach_its_own_server_alone_and_never_makes_markup_of_text() {
        let response = fetch("/").await;
        let policy = header(&response, CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(policy.contains("connect-src 'self';"));
        assert!(policy.contains("require-trusted-types-for 'script'"));
        assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), "nosniff");
    }

    #[tokio::test]
    async fn a_known_page_is_not_sent_again() {
        let page = fetch("/").await;
        let etag = page.headers()[ETAG].clone();
        let policy = page.headers()[CONTENT_SECURITY_POLICY].clone();
        for known in [
            etag.clone(),
            HeaderValue::from_static("*"),
            HeaderValue::try_from(format!("\"other\", W/{}", etag.to_str().unwrap())).unwrap(),
        ] {
            let request = Request::get("/").header(IF_NONE_MATCH, known);
            let response = ask(request.body(Body::empty()).unwrap()).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(response.headers()[ETAG], etag);
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], policy);
            assert_eq!(text(response).await, "");
        }
    }

    #[tokio::test]
    async fn a_changed_page_is_sent_again() {
        let request = Request::get("/").header(IF_NONE_MATCH, "\"other\"");
        let response = ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn every_file_has_a_type_and_hashed_ones_are_kept_for_ever() {
        for name in Files::iter() {
            let response = fetch(&route(&name)).await;
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            let expected = match name.rsplit('.').next().unwrap() {
                "html" => "text/html; charset=utf-8",
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                "svg" => "image/svg+xml",
                other => panic!("{name}: no type expected for {other}"),
            };
            assert_eq!(header(&response, CONTENT_TYPE), expected, "{name}");
            let is_hashed = name.starts_with("assets/");
            let is_immutable = header(&response, CACHE_CONTROL).contains("immutable");
            assert_eq!(is_immutable, is_hashed, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_not_part_of_the_page_is_not_found() {
        for path in [
            "/index.html",
            "/assets/",
            "/assets/none.js",
            "/../Cargo.toml",
        ] {
            assert_eq!(fetch(path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn only_reading_is_allowed() {
        let request = |method| Request::builder().method(method).uri("/");
        let post = ask(request(Method::POST).body(Body::empty()).unwrap()).await;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
        let head = ask(request(Method::HEAD).body(Body::empty()).unwrap()).await;
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(text(head).await, "");
    }

    #[test]
    fn the_page_learns_where_the_server_listens() {
        let index = br#"<meta name="socket-path" content="/socket.io/" />"#;
        let changed = with_socket_path(index, "/a\"b&c/");
        let expected = br#"<meta name="socket-path" content="/a&quot;b&amp;c/" />"#;
        assert_eq!(changed, &expected[..]);
    }
}
