//! Serves the JavaScript client.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::Full;

use crate::{
    engine::{Fallback, compression::Encoding},
    socket::{
        core::Io,
        types::{ClientFiles, NAMES},
    },
};

/// Returns the name of the client file at a path, if it is one.
fn name<'a>(io: &Io, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(io.config().http.path.trim_end_matches('/'))?;
    let name = rest.strip_prefix('/')?;
    NAMES.contains(&name).then_some(name)
}

/// Returns whether a path belongs to a client file.
pub(super) fn owns(io: &Io, path: &str) -> bool {
    io.config().http.serve_client && name(io, path).is_some()
}

/// Returns the response if the request is for a client file, by its full path or its path within a
/// router.
pub(super) fn answer(io: &Io, request: &Parts) -> Option<Response<Full<Bytes>>> {
    let config = io.config();
    if !config.http.serve_client {
        return None;
    }
    let path = request.uri.path();
    let nested = || path.strip_prefix('/').filter(|name| NAMES.contains(name));
    let name = name(io, path).or_else(nested)?;
    let mut response = match &config.http.cors {
        None => file(io.client_files(), name, request),
        Some(cors) => {
            let origin_check = cors.judge(&request.headers, io.hooks().cors_origin.as_deref());
            let preflight = cors.preflight(&request.method, &request.headers, &origin_check);
            preflight.unwrap_or_else(|| {
                let mut response = file(io.client_files(), name, request);
                cors.mark(&mut response, &origin_check);
                response
            })
        }
    };
    harden(&mut response);
    Some(response)
}

/// Adds security headers.
///
/// Browsers must not guess the content type. Pages of all sites may load the files, including
/// isolated sites (`Cross-Origin-Embedder-Policy`). There is no content security policy, because a
/// worker created from a file would inherit it.
fn harden<T>(response: &mut Response<T>) {
    let headers = response.headers_mut();
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("cross-origin"));
}

/// Returns a service that serves the client files before the fallback.
pub(super) fn before(fallback: Fallback, io: &Io) -> Fallback {
    if !io.config().http.serve_client {
        return fallback;
    }
    let io = io.clone();
    fallback
        .preceded_by(move |request| answer(&io, request).filter(|_| owns(&io, request.uri.path())))
}

fn file(files: &ClientFiles, name: &str, request: &Parts) -> Response<Full<Bytes>> {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allowed);
        return response;
    }
    let Some(plain) = files.get(name) else {
        return missing(files);
    };
    let mut response = Response::new(Full::default());
    let etag = format!("\"{}\"", files.version());
    let headers = response.headers_mut();
    let kind = if name.ends_with(".map") {
        "application/json; charset=utf-8"
    } else {
        "application/javascript; charset=utf-8"
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let control = HeaderValue::from_static("public, max-age=0");
    headers.insert(header::CACHE_CONTROL, control);
    let vary = HeaderValue::from_static("Accept-Encoding");
    headers.insert(header::VARY, vary);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    let known = &request.headers.get(header::IF_NONE_MATCH);
    let known = known.and_then(|known| known.to_str().ok()).unwrap_or("");
    // A proxy that changes the content encoding makes the tag weak.
    if known.trim_start_matches("W/") == etag {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    // Only versions that exist are offered, because the best encoding of the client may be missing.
    let mut versions = VERSIONS.to_vec();
    versions.retain(|encoding| files.encoded(name, *encoding).is_some());
    let encoding = Encoding::choose(&request.headers, &versions);
    let smaller = encoding.and_then(|encoding| Some((encoding, files.encoded(name, encoding)?)));
    let body = match smaller {
        None => plain,
        Some((encoding, body)) => {
            let encoding = encoding.header();
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, encoding);
            body
        }
    };
    *response.body_mut() = Full::from(body);
    response
}

/// The encodings of files, smallest first.
const VERSIONS: [Encoding; 4] = [
    Encoding::Brotli,
    Encoding::Zstd,
    Encoding::Gzip,
    Encoding::Deflate,
];

/// Returns a 404 response with the reason.
fn missing(files: &ClientFiles) -> Response<Full<Bytes>> {
    let reason = files.why_missing().unwrap_or(NOTHING).to_owned();
    let mut response = Response::new(Full::from(reason));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

const NOTHING: &str =
    "The client is not part of this server: none was given to `Builder::client_files`.\n";
