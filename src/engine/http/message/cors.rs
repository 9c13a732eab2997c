//! CORS: which requests from pages of other sites are answered, and with which headers (WHATWG
//! Fetch, CORS protocol).

use std::fmt::Display;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::{config::Cors, engine::admission::IsAllowed};

/// The result of checking the origin of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginCheck {
    /// The request has no `Origin`, or nothing is configured.
    Silent,
    /// Pages of this origin may read the response.
    Allowed(HeaderValue),
    /// The origin is not allowed.
    Foreign,
}

impl Cors {
    /// Checks the origin of a request. Pages of the server's own host are always allowed.
    pub(crate) fn judge(&self, headers: &HeaderMap, also: Option<&IsAllowed>) -> OriginCheck {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return OriginCheck::Silent;
        };
        if self.is_open() {
            return OriginCheck::Allowed(HeaderValue::from_static(ANY));
        }
        if self.lists(origin.to_str().unwrap_or_default(), headers, also) {
            OriginCheck::Allowed(origin.clone())
        } else {
            OriginCheck::Foreign
        }
    }

    /// Returns whether a request comes from a page that may use its user's cookies.
    ///
    /// The page must have an allowed origin, or be on the server's own host. A request without an
    /// `Origin` qualifies only if the browser marks it as `same-origin`, which pages cannot forge.
    pub(crate) fn trusts(&self, headers: &HeaderMap, also: Option<&IsAllowed>) -> bool {
        match headers.get(header::ORIGIN) {
            Some(origin) => {
                let origin = origin.to_str();
                origin.is_ok_and(|origin| self.lists(origin, headers, also))
            }
            None => {
                let site = headers.get("sec-fetch-site");
                site.is_some_and(|site| site == "same-origin")
            }
        }
    }

    /// Returns whether an origin is listed, is allowed by `also`, or is on the server's own host.
    fn lists(&self, origin: &str, headers: &HeaderMap, also: Option<&IsAllowed>) -> bool {
        let host = headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        // `*` lets any page read responses, but that does not make the cookies of its requests
        // trustworthy.
        let mut listed = self.origins.iter().filter(|known| *known != ANY);
        host.is_some_and(|host| is_same_host(origin, host))
            || listed.any(|known| matches(known, origin))
            || also.is_some_and(|also| also(origin))
    }

    /// Returns the response to a preflight, which precedes requests that are not simple.
    pub(crate) fn preflight<T: Default>(
        &self,
        method: &Method,
        headers: &HeaderMap,
        origin_check: &OriginCheck,
    ) -> Option<Response<T>> {
        if method != Method::OPTIONS || self.preflight_continue {
            return None;
        }
        let mut response = Response::new(T::default());
        *response.status_mut() =
            StatusCode::from_u16(self.options_success_status).unwrap_or(StatusCode::NO_CONTENT);
        self.mark(&mut response, origin_check);
        if matches!(origin_check, OriginCheck::Allowed(_)) {
            let answer = response.headers_mut();
            list(answer, header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods);
            match &self.allowed_headers {
                Some(allowed) => list(answer, header::ACCESS_CONTROL_ALLOW_HEADERS, allowed),
                None => {
                    if let Some(requested) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
                    }
                    // The response depends on the requested headers, so a cache must not reuse it
                    // for a different request.
                    let varies = header::ACCESS_CONTROL_REQUEST_HEADERS.into();
                    answer.append(header::VARY, varies);
                }
            }
            if let Some(age) = self.max_age {
                insert(answer, header::ACCESS_CONTROL_MAX_AGE, age.as_secs());
            }
        }
        Some(response)
    }

    /// Lets an allowed origin read a response.
    pub(crate) fn mark<T>(&self, response: &mut Response<T>, origin_check: &OriginCheck) {
        let headers = response.headers_mut();
        if !self.is_open() {
            // Otherwise a cache could serve the response for one origin to a page of another
            // (WHATWG Fetch, "CORS protocol and HTTP caches").
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let OriginCheck::Allowed(origin) = origin_check {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            if self.credentials {
                let allow = HeaderValue::from_static("true");
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allow);
            }
            let exposed = &self.exposed_headers;
            list(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// Returns whether every origin is allowed.
    fn is_open(&self) -> bool {
        self.origins.iter().any(|origin| origin == ANY)
    }

    /// Returns the fault of this configuration, if any.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let is_header = |text: &String| HeaderValue::from_str(text).is_ok();
        let allowed = self.allowed_headers.iter().flatten();
        let mut lists = allowed.chain(&self.exposed_headers).chain(&self.methods);
        let mut origins = self.origins.iter();
        if self.credentials && origins.any(|origin| is_attainable_by_anyone(origin)) {
            Some(
                "cors allows credentials to any origin: name those that may use them, with a * for \
                 names below a domain of yours at most, as in https://*.app.example",
            )
        } else if !(200..300).contains(&self.options_success_status) {
            Some("cors.options_success_status is not a success status")
        } else if !lists.all(is_header) {
            Some("cors has an invalid method or header name")
        } else {
            None
        }
    }
}

fn list(headers: &mut HeaderMap, name: HeaderName, values: &[String]) {
    if !values.is_empty() {
        insert(headers, name, values.join(","));
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: impl Display) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        headers.insert(name, value);
    }
}

/// Returns whether an attacker can have an origin that matches this entry.
///
/// A sandboxed page has the origin `null`. A `*` matches domains that an attacker can register,
/// unless at least two literal labels follow it. (Public suffixes such as `co.uk` are not detected,
/// because that requires a complete list of them.)
fn is_attainable_by_anyone(listed: &str) -> bool {
    let host = listed.split_once("://").map_or(listed, |(_, host)| host);
    let (host, _) = split_port(host.trim_end_matches('/'), "");
    let mut names = host.trim_end_matches('.').rsplit('.');
    let labels = names
        .by_ref()
        .take_while(|name| !name.contains('*'))
        .count();
    listed == "null" || (host.contains('*') && labels < 2)
}

/// Returns whether an origin matches a listed one, ignoring case; `*` matches any characters of one
/// part.
fn matches(listed: &str, origin: &str) -> bool {
    let listed = listed.trim_end_matches('/').to_ascii_lowercase();
    let origin = origin.to_ascii_lowercase();
    let mut pieces = listed.split('*');
    let Some(mut rest) = origin.strip_prefix(pieces.next().unwrap_or_default()) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        let is_last = pieces.peek().is_none();
        // The last piece must match at the end. Earlier pieces match as early as possible, which
        // leaves most for the rest.
        let found = if is_last {
            rest.strip_suffix(piece).map(|wild| (wild, ""))
        } else {
            rest.split_once(piece)
        };
        match found {
            Some((wild, after)) if !wild.is_empty() && !wild.contains(['/', ':']) => rest = after,
            Some(_) | None => return false,
        }
    }
    true
}

/// Returns whether an origin has the host and port to which a request was sent.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    split_port(authority, port) == split_port(host, port)
}

fn split_port<'a>(authority: &'a str, default: &'a str) -> (String, &'a str) {
    // The last colon of a bracketed IPv6 address is inside the brackets.
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host.to_ascii_lowercase(), port),
        Some(_) | None => (authority.to_ascii_lowercase(), default),
    }
}

/// Matches every origin.
const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn cors() -> Cors {
        Cors::default()
            .origins(["http://allowed.example"])
            .allow_credentials()
    }

    fn preflight(cors: &Cors, origin: &str) -> Response<()> {
        let mut headers = HeaderMap::new();
        headers.insert("origin", origin.parse().unwrap());
        headers.insert(
            "access-control-request-headers",
            HeaderValue::from_static("x-one, x-two"),
        );
        let origin_check = cors.judge(&headers, None);
        cors.preflight(&Method::OPTIONS, &headers, &origin_check)
            .unwrap()
    }

    fn value(response: &Response<()>, name: &str) -> Option<String> {
        let values = response.headers().get_all(name).iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    fn judge(origin: &str, host: &str) -> OriginCheck {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers.insert(header::HOST, host.parse().unwrap());
        cors().judge(&headers, None)
    }

    #[test]
    fn only_pages_that_are_allowed_may_use_the_cookies_of_their_readers() {
        let trusts = |headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            map.insert(header::HOST, "chat.example".parse().unwrap());
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            let cors = Cors::default().origins(["http://allowed.example", "*"]);
            cors.trusts(&map, None)
        };
        for headers in [
            &[("origin", "https://chat.example")][..],
            &[("origin", "http://allowed.example")],
            &[("sec-fetch-site", "same-origin")],
        ] {
            assert!(trusts(headers), "{headers:?}");
        }
        for headers in [
            &[][..],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "*")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "null"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(!trusts(headers), "{headers:?}");
        }
    }

    #[test]
    fn attainable_origins_with_credentials_are_a_fault() {
        for origin in [
            "*",
            "null",
            "https://*",
            "http://*:80",
            "*://*/",
            "**",
            "https://*.com",
            "https://*.com.:443/",
            "https://*example.com",
            "https://app.*",
            "http://192.168.1.*",
        ] {
            let mut cors = Cors::default()
                .origins(["http://good.example", origin])
                .allow_credentials();
            let fault = cors.fault().unwrap_or_default();
            assert!(fault.contains("credentials to any origin"), "{origin}");
            cors.credentials = false;
            assert_eq!(cors.fault(), None, "{origin}");
        }
        let cors = Cors::default()
            .origins([
                "https://*.app.example",
                "https://app-*.example.com:8443",
                "http://localhost:*",
            ])
            .allow_credentials();
        assert_eq!(cors.fault(), None);
    }

    #[test]
    fn request_without_origin_is_not_marked() {
        assert_eq!(cors().judge(&HeaderMap::new(), None), OriginCheck::Silent);
    }

    #[test]
    fn the_servers_own_pages_are_allowed() {
        for (origin, host) in [
            ("http://localhost:3000", "localhost:3000"),
            ("http://Chat.example", "chat.example"),
            ("https://chat.example", "chat.example:443"),
            ("http://[::1]:3000", "[::1]:3000"),
            ("http://[::1]", "[::1]"),
        ] {
            let allowed = OriginCheck::Allowed(origin.parse().unwrap());
            assert_eq!(judge(origin, host), allowed, "{origin} {host}");
        }
    }

    #[test]
    fn further_origins_are_allowed_only_by_name() {
        let listed = "http://allowed.example";
        assert_eq!(
            judge(listed, "x"),
            OriginCheck::Allowed(listed.parse().unwrap())
        );
        for origin in [
            "http://evil.example",
            "http://allowed.example.evil.example",
            "https://allowed.example",
            "http://localhost:3001",
            "null",
            "",
        ] {
            assert_eq!(
                judge(origin, "localhost:3000"),
                OriginCheck::Foreign,
                "{origin}"
            );
        }
    }

    #[test]
    fn star_matches_one_part_of_an_origin() {
        for (listed, origin, is_match) in [
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com", "https://a.b.EXAMPLE.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            (
                "https://*.example.com",
                "https://a.example.com.evil.com",
                false,
            ),
            (
                "https://*.example.com",
                "https://evil.com/a.example.com",
                false,
            ),
            (
                "https://*.example.com",
                "https://evil.com:1.example.com",
                false,
            ),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "http://localhost", false),
            ("https://*.a.*.com", "https://x.a.y.com", true),
            ("https://a.example/", "https://a.example", true),
            ("https://a.example", "https://a.examples", false),
        ] {
            assert_eq!(matches(listed, origin), is_match, "{listed} {origin}");
        }
    }

    #[test]
    fn a_function_may_allow_further_origins() {
        let mut headers = HeaderMap::new();
        headers.insert("origin", HeaderValue::from_static("http://b.example"));
        let also = |origin: &str| origin == "http://b.example";
        assert_eq!(cors().judge(&headers, None), OriginCheck::Foreign);
        assert_eq!(
            cors().judge(&headers, Some(&also)),
            OriginCheck::Allowed(HeaderValue::from_static("http://b.example"))
        );
    }

    #[test]
    fn preflight_is_answered_with_the_requested_headers() {
        let response = preflight(&cors(), "http://allowed.example");
        assert_eq!(response.status(), 204);
        for (name, expected) in [
            ("access-control-allow-origin", "http://allowed.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-headers", "x-one, x-two"),
            (
                "access-control-allow-methods",
                "GET,HEAD,PUT,PATCH,POST,DELETE",
            ),
            ("vary", "Origin, access-control-request-headers"),
        ] {
            assert_eq!(value(&response, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(value(&response, "access-control-max-age"), None);
    }

    #[test]
    fn every_field_of_the_options_has_its_header() {
        let cors = Cors::default()
            .origins(["*"])
            .methods(["GET", "POST"])
            .allowed_headers(["x-a"])
            .exposed_headers(["x-b", "x-c"])
            .max_age(std::time::Duration::from_secs(86_400))
            .options_success_status(200);
        assert_eq!(cors.fault(), None);
        let response = preflight(&cors, "http://any.example");
        assert_eq!(response.status(), 200);
        for (name, expected) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "GET,POST"),
            ("access-control-allow-headers", "x-a"),
            ("access-control-expose-headers", "x-b,x-c"),
            ("access-control-max-age", "86400"),
        ] {
            assert_eq!(value(&response, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(value(&response, "vary"), None);
        let forwarded = cors.preflight_continue();
        let origin_check = OriginCheck::Silent;
        let nothing: Option<Response<()>> =
            forwarded.preflight(&Method::OPTIONS, &HeaderMap::new(), &origin_check);
        assert!(nothing.is_none());
    }

    #[test]
    fn preflight_of_a_foreign_origin_allows_nothing() {
        let response = preflight(&cors(), "http://evil.example");
        assert_eq!(response.status(), 204);
        assert_eq!(value(&response, "access-control-allow-origin"), None);
        assert_eq!(value(&response, "access-control-allow-methods"), None);
    }

    #[test]
    fn options_that_contradict_are_a_fault() {
        for wrong in [
            Cors::default().origins(["*"]).allow_credentials(),
            Cors::default().options_success_status(404),
            Cors::default().exposed_headers(["x\n"]),
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
