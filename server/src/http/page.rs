//! The chat page at `/` and the dashboard at `/dashboard`, built by `build.rs` and embedded in the
//! binary.

use std::{borrow::Cow, sync::Arc};

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
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use rust_embed::{Embed, EmbeddedFile};
use sha2::{Digest, Sha256};

use super::PageSettings;

/// Returns a route for every file of the pages: `/` for `index.html` and `/dashboard` for
/// `dashboard.html`. Both files receive the settings in `meta` elements.
pub(super) fn routes<S>(settings: &PageSettings) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let security = security(&settings.images);
    names()
        .filter_map(|name| Some((Files::get(&name)?, name)))
        .fold(Router::new(), |router, (file, name)| {
            let path = route(&name);
            let asset = Arc::new(Asset::new(&name, file, settings, security.clone()));
            router.route(
                &path,
                get(move |headers: HeaderMap| async move { asset.answer(&headers) }),
            )
        })
}

#[derive(Embed)]
#[folder = "$OUT_DIR/page"]
struct Files;

/// Returns the names of the files, without their compressed versions.
fn names() -> impl Iterator<Item = Cow<'static, str>> {
    Files::iter().filter(|name| !ENCODINGS.iter().any(|(_, end)| name.ends_with(end)))
}

/// A file with its headers.
struct Asset {
    body: Bytes,
    /// The versions compressed by `build.rs`, smallest first.
    smaller: Vec<(HeaderValue, Bytes)>,
    content_type: HeaderValue,
    etag: HeaderValue,
    cache_control: HeaderValue,
    security: Security,
}

impl Asset {
    fn new(name: &str, file: EmbeddedFile, settings: &PageSettings, security: Security) -> Self {
        let content_type = content_type(file.metadata.mimetype());
        let built = bytes(file.data);
        let body = match name {
            INDEX | DASHBOARD => with_settings(&built, settings),
            _ => built.clone(),
        };
        // The compressed versions contain the settings of the build, so they are used only if the
        // settings are equal.
        let encodings = ENCODINGS.iter().filter(|_| body == built);
        let smaller = encodings.filter_map(|(encoding, end)| {
            let file = Files::get(&format!("{name}{end}"))?;
            let encoding = HeaderValue::from_static(encoding);
            Some((encoding, bytes(file.data)))
        });
        let digest = if body == built {
            file.metadata.sha256_hash()
        } else {
            Sha256::digest(&body).into()
        };
        Self {
            smaller: smaller.collect(),
            etag: etag(&digest),
            content_type,
            body,
            cache_control: HeaderValue::from_static(cache_control(name)),
            security,
        }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let caching = [
            (ETAG, self.etag.clone()),
            (CACHE_CONTROL, self.cache_control.clone()),
        ];
        if is_known(request, &self.etag) {
            // The headers of this response update those in the browser's cache (RFC 9111, 3.2),
            // including the policy.
            return (StatusCode::NOT_MODIFIED, caching, self.security.clone()).into_response();
        }
        let content = [
            (CONTENT_TYPE, self.content_type.clone()),
            (VARY, HeaderValue::from_static("Accept-Encoding")),
        ];
        let accepted = |(encoding, _): &&(HeaderValue, Bytes)| accepts(request, encoding);
        let security = self.security.clone();
        match self.smaller.iter().find(accepted) {
            None => (caching, content, security, self.body.clone()).into_response(),
            Some((encoding, body)) => {
                let encoding = [(CONTENT_ENCODING, encoding.clone())];
                (caching, content, encoding, security, body.clone()).into_response()
            }
        }
    }
}

/// The encodings of the versions that `build.rs` creates, with the suffixes of their names.
const ENCODINGS: [(&str, &str); 3] = [("br", ".br"), ("gzip", ".gz"), ("deflate", ".zz")];

/// Returns whether a request accepts an encoding explicitly (RFC 9110, 12.5.3) and with a weight
/// above 0.
fn accepts(request: &HeaderMap, encoding: &HeaderValue) -> bool {
    request
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|item| {
            let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            name.trim()
                .eq_ignore_ascii_case(encoding.to_str().ok()?)
                .then_some(weight)
        })
        .any(|weight| {
            let weight = weight
                .trim()
                .trim_start_matches(['q', 'Q'])
                .trim_start_matches('=');
            weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
        })
}

const INDEX: &str = "index.html";
const DASHBOARD: &str = "dashboard.html";

/// Headers that restrict what browsers may do with the page.
type Security = [(HeaderName, HeaderValue); 6];

/// Returns the headers. The page may load only its own files and images of these origins, connect
/// only to its own server, and never turn text into markup.
fn security(images: &[String]) -> Security {
    let pictures = images
        .iter()
        .fold(String::new(), |pictures, origin| pictures + " " + origin);
    // The configuration rejects origins that are not valid in a header.
    let policy = HeaderValue::try_from(format!("{POLICY}; img-src 'self'{pictures}"));
    let fixed = HeaderValue::from_static;
    [
        (
            CONTENT_SECURITY_POLICY,
            policy.unwrap_or_else(|_| fixed(POLICY)),
        ),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (X_FRAME_OPTIONS, fixed("DENY")),
        (REFERRER_POLICY, fixed("no-referrer")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            fixed("same-origin"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            fixed("same-origin"),
        ),
    ]
}

/// The policy `worker` of the page creates only the address of its service worker.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types worker";

fn route(name: &str) -> String {
    match name {
        INDEX => "/".to_owned(),
        DASHBOARD => "/dashboard".to_owned(),
        _ => format!("/{name}"),
    }
}

/// Returns the caching policy. Names of files below `assets/` contain a content hash, so these
/// files never change.
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

/// Returns the content of a file, which is copied only if it is not embedded.
fn bytes(data: Cow<'static, [u8]>) -> Bytes {
    match data {
        Cow::Borrowed(data) => Bytes::from_static(data),
        Cow::Owned(data) => data.into(),
    }
}

fn etag(sha256: &[u8; 32]) -> HeaderValue {
    let digest = URL_SAFE_NO_PAD.encode(sha256);
    HeaderValue::try_from(format!("\"{digest}\"")).expect("base64 is visible ASCII")
}

/// Returns whether the client already has the file: a list of entity tags compared weakly, or `*`
/// (RFC 9110, 13.1.2).
fn is_known(request: &HeaderMap, etag: &HeaderValue) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// Writes the settings into the `meta` elements of a page.
fn with_settings(index: &[u8], settings: &PageSettings) -> Bytes {
    let url = |url: &Option<String>| url.clone().unwrap_or_default();
    let metas = [
        ("socket-path", "/socket.io/", settings.socket_path.clone()),
        ("guests", "true", settings.guests.to_string()),
        ("login-url", "", url(&settings.login_url)),
        ("logout-url", "", url(&settings.logout_url)),
        ("market", "false", settings.market.to_string()),
        ("images", "", settings.images.join(" ")),
    ];
    let index = String::from_utf8_lossy(index).into_owned();
    let rendered = metas.iter().fold(index, |index, (name, built, value)| {
        // Settings are text and must not become markup.
        let escaped = value.replace('&', "&amp;").replace('"', "&quot;");
        let built = format!("name=\"{name}\" content=\"{built}\"");
        index.replace(&built, &format!("name=\"{name}\" content=\"{escaped}\""))
    });
    rendered.into()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Method, Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn send_request(request: Request<Body>) -> Response {
        let settings = PageSettings::default();
        routes(&settings).oneshot(request).await.unwrap()
    }

    async fn fetch(path: &str) -> Response {
        send_request(Request::get(path).body(Body::empty()).unwrap()).await
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
    async fn page_policy_allows_only_own_server_and_trusted_types() {
        for path in ["/", "/dashboard"] {
            let response = fetch(path).await;
            let policy = header(&response, CONTENT_SECURITY_POLICY);
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
            assert!(policy.contains("connect-src 'self';"));
            assert!(policy.contains("require-trusted-types-for 'script'"));
            assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), "nosniff");
        }
    }

    #[tokio::test]
    async fn dashboard_loads_no_script_of_the_chat_page() {
        let scripts = async |path: &str| {
            let page = text(fetch(path).await).await;
            assert!(page.starts_with("<!doctype html>"), "{path}");
            let parts = page.split('"').filter(|part| part.starts_with("/assets/"));
            parts.map(str::to_owned).collect::<Vec<_>>()
        };
        let (chat, dashboard) = (scripts("/").await, scripts("/dashboard").await);
        assert!(!chat.is_empty() && !dashboard.is_empty());
        assert!(dashboard.iter().all(|part| !chat.contains(part)));
    }

    #[tokio::test]
    async fn images_are_allowed_from_the_server_and_configured_origins() {
        let own = fetch("/").await;
        assert!(header(&own, CONTENT_SECURITY_POLICY).ends_with("; img-src 'self'"));
        let origins = ["https://img.example.org", "http://127.0.0.1:9000"];
        let settings = PageSettings {
            images: origins.map(str::to_owned).into(),
            ..PageSettings::default()
        };
        let request = Request::get("/").body(Body::empty()).unwrap();
        let page = routes::<()>(&settings).oneshot(request).await.unwrap();
        let policy = header(&page, CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        let expected = "; img-src 'self' https://img.example.org http://127.0.0.1:9000";
        assert!(policy.ends_with(expected), "{policy}");
        let rendered =
            r#"<meta name="images" content="https://img.example.org http://127.0.0.1:9000" />"#;
        assert!(text(page).await.contains(rendered));
    }

    #[tokio::test]
    async fn unchanged_page_is_not_sent_again() {
        let page = fetch("/").await;
        let etag = page.headers()[ETAG].clone();
        let policy = page.headers()[CONTENT_SECURITY_POLICY].clone();
        for known in [
            etag.clone(),
            HeaderValue::from_static("*"),
            HeaderValue::try_from(format!("\"other\", W/{}", etag.to_str().unwrap())).unwrap(),
        ] {
            let request = Request::get("/").header(IF_NONE_MATCH, known);
            let response = send_request(request.body(Body::empty()).unwrap()).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(response.headers()[ETAG], etag);
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], policy);
            assert_eq!(text(response).await, "");
        }
    }

    #[tokio::test]
    async fn a_changed_page_is_sent_again() {
        let request = Request::get("/").header(IF_NONE_MATCH, "\"other\"");
        let response = send_request(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn every_file_has_a_type_and_hashed_files_are_immutable() {
        assert!(names().any(|name| name.starts_with("assets/")));
        for name in names() {
            let response = fetch(&route(&name)).await;
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            let expected = match name.rsplit('.').next().unwrap() {
                "html" => "text/html; charset=utf-8",
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                "svg" => "image/svg+xml",
                "png" => "image/png",
                "webmanifest" => "application/manifest+json",
                other => panic!("{name}: no type expected for {other}"),
            };
            assert_eq!(header(&response, CONTENT_TYPE), expected, "{name}");
            let is_hashed = name.starts_with("assets/");
            let is_immutable = header(&response, CACHE_CONTROL).contains("immutable");
            assert_eq!(is_immutable, is_hashed, "{name}");
        }
    }

    #[tokio::test]
    async fn unknown_page_files_are_not_found() {
        for path in [
            "/index.html",
            "/dashboard.html",
            "/dashboard/",
            "/assets/",
            "/assets/none.js",
            "/../Cargo.toml",
        ] {
            assert_eq!(fetch(path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn page_files_allow_only_get_and_head() {
        let request = |method| Request::builder().method(method).uri("/");
        let post = send_request(request(Method::POST).body(Body::empty()).unwrap()).await;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
        let head = send_request(request(Method::HEAD).body(Body::empty()).unwrap()).await;
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(text(head).await, "");
    }

    #[tokio::test]
    async fn first_load_is_compressed_on_request_and_within_60_kib() {
        let mut first = 0;
        let index = text(fetch("/").await).await;
        for name in names().filter(|name| name.starts_with("assets/")) {
            let sizes = ["identity", "br;q=0, gzip", "gzip;q=0.5, br"].map(async |accepted| {
                let request = Request::get(route(&name)).header(ACCEPT_ENCODING, accepted);
                let response = send_request(request.body(Body::empty()).unwrap()).await;
                assert_eq!(header(&response, VARY), "Accept-Encoding");
                let encoding = response.headers().get(CONTENT_ENCODING).cloned();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                (encoding, body.len())
            });
            let [plain, gzip, brotli] = sizes;
            let (plain, gzip, brotli) = (plain.await, gzip.await, brotli.await);
            assert_eq!(plain.0, None);
            assert_eq!(gzip.0.unwrap(), "gzip");
            assert_eq!(brotli.0.unwrap(), "br");
            assert!(brotli.1 < gzip.1 && gzip.1 < plain.1, "{name}");
            // Other files are loaded on demand.
            if index.contains(&*route(&name)) {
                first += gzip.1;
            }
        }
        assert!(first > 0 && first <= 60 * 1024, "{first} bytes");
    }

    #[tokio::test]
    async fn page_is_compressed_unless_its_settings_differ_from_the_built() {
        let fetch = async |settings: PageSettings| {
            let request = Request::get("/").header(ACCEPT_ENCODING, "br");
            let request = request.body(Body::empty()).unwrap();
            routes::<()>(&settings).oneshot(request).await.unwrap()
        };
        let built = PageSettings {
            socket_path: "/socket.io/".into(),
            guests: true,
            ..PageSettings::default()
        };
        let page = fetch(built.clone()).await;
        assert_eq!(header(&page, CONTENT_ENCODING), "br");
        let market = true;
        let page = fetch(PageSettings { market, ..built }).await;
        assert_eq!(page.headers().get(CONTENT_ENCODING), None);
        let expected = r#"<meta name="market" content="true" />"#;
        assert!(text(page).await.contains(expected));
    }

    #[test]
    fn page_receives_the_sign_in_settings() {
        let index = br#"<meta name="socket-path" content="/socket.io/" /><meta name="guests" content="true" /><meta name="login-url" content="" /><meta name="market" content="false" />"#;
        let settings = PageSettings {
            socket_path: "/a\"b&c/".into(),
            guests: false,
            login_url: Some("https://id.example/?a=1&b=\"".into()),
            logout_url: None,
            market: true,
            images: Vec::new(),
        };
        let changed = with_settings(index, &settings);
        let expected = br#"<meta name="socket-path" content="/a&quot;b&amp;c/" /><meta name="guests" content="false" /><meta name="login-url" content="https://id.example/?a=1&amp;b=&quot;" /><meta name="market" content="true" />"#;
        assert_eq!(changed, &expected[..]);
    }
}
