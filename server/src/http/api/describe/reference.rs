//! The description of the API for programs and for people: the document, and a page derived from
//! it.
//!
//! The page loads no other resources and runs no scripts.

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::Description;
use crate::http::api::ApiError;

/// Returns the routes `/openapi.json` and `/docs`, below `/api/v1`.
pub(in crate::http::api) fn routes(description: Description) -> Router {
    let reference = Arc::new(Reference {
        description,
        pages: OnceLock::new(),
    });
    Router::new()
        .route("/openapi.json", get(json))
        .route("/docs", get(page))
        .with_state(reference)
}

struct Reference {
    description: Description,
    /// Built at the first request, because most servers never get one.
    pages: OnceLock<Pages>,
}

#[derive(Clone)]
struct Pages {
    json: Bytes,
    html: Bytes,
}

impl Reference {
    async fn pages(self: Arc<Self>) -> Result<Pages, ApiError> {
        let building = spawn_blocking(move || {
            let pages = self.pages.get_or_init(|| {
                let document = self.description.document();
                Pages {
                    json: Bytes::from(document.to_string()),
                    html: Bytes::from(html(&document)),
                }
            });
            pages.clone()
        });
        building.await.map_err(|_| ApiError::internal())
    }
}

async fn json(State(reference): State<Arc<Reference>>) -> Result<Response, ApiError> {
    let json = reference.pages().await?.json;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn page(State(reference): State<Arc<Reference>>) -> Result<Response, ApiError> {
    let html = reference.pages().await?.html;
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    Ok((headers, html).into_response())
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
color:#1b1b1f;background:#fff}code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto;padding:.75rem;\
background:#f3f3f6}h2{margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem}summary{cursor:pointer}\
table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}";

fn html(document: &Value) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Roomcast HTTP API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\
         <h1>Roomcast HTTP API</h1><p>Version {}. The same document for programs: <a href=\"openapi.json\">\
         <code>openapi.json</code></a>.</p>",
        text(at(document, "/info/version"))
    );
    let paths = at(document, "/paths").as_object();
    for (path, methods) in paths.into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            describe(&mut page, path, method, operation);
        }
    }
    page.push_str("<h1>Schemas</h1>");
    let schemas = at(document, "/components/schemas").as_object();
    for (name, schema) in schemas.into_iter().flatten() {
        let name = escape(name);
        let _ = write!(page, "<h2 id=\"{name}\">{name}</h2>");
        show(&mut page, schema);
    }
    page.push_str("</body></html>");
    page
}

fn describe(page: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        page,
        "<h2 id=\"{}\"><code>{} {}</code></h2><p>{} {}</p>",
        text(at(operation, "/operationId")),
        method.to_uppercase(),
        escape(path),
        text(at(operation, "/summary")),
        text(at(operation, "/description")),
    );
    let parameters = at(operation, "/parameters").as_array();
    if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
        page.push_str("<table><tr><th>Parameter</th><th>In</th><th>About</th></tr>");
        for parameter in parameters {
            let _ = write!(
                page,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                text(at(parameter, "/name")),
                text(at(parameter, "/in")),
                text(at(parameter, "/description")),
            );
        }
        page.push_str("</table>");
    }
    let of = |content: &Value| at(content, "/content/application~1json/schema").clone();
    let body = of(at(operation, "/requestBody"));
    if !body.is_null() {
        let _ = write!(page, "<p>Body: {}</p>", link(&body));
    }
    let mut refusals = Vec::new();
    for (status, response) in at(operation, "/responses")
        .as_object()
        .into_iter()
        .flatten()
    {
        match status.starts_with('2') {
            true => {
                let schema = of(response);
                let _ = write!(page, "<p>Answer {}: {}</p>", escape(status), link(&schema));
            }
            false => refusals.push(status.as_str()),
        }
    }
    let _ = write!(page, "<p>Refusals: {}</p>", refusals.join(", "));
}

/// Returns a link to a schema, with its name.
fn link(schema: &Value) -> String {
    let name = at(schema, "/$ref")
        .as_str()
        .and_then(|path| path.rsplit('/').next());
    name.map_or_else(
        || "nothing".to_owned(),
        |name| format!("<a href=\"#{0}\"><code>{0}</code></a>", escape(name)),
    )
}

fn show(page: &mut String, schema: &Value) {
    let json = serde_json::to_string_pretty(schema).unwrap_or_default();
    let _ = write!(page, "<pre>{}</pre>", escape(&json));
}

/// Returns the value at a JSON pointer (RFC 6901), or null.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
