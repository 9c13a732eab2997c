//! Requests from pages of other sites: which are answered, and with what headers (WHATWG Fetch,
//! CORS protocol).

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};

use crate::config::Cors;

/// What the configuration says of one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to say: no `Origin`, or nothing is configured.
    Silent,
    /// This origin may read the answer.
    Allowed(HeaderValue),
    /// The answer is not for this origin.
    Foreign,
}

impl Cors {
    /// Judges the origin of a request. A page of the server's own host is always allowed.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Verdict {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Verdict::Silent;
        };
        let text = origin.to_str().unwrap_or_default();
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let is_own = host.is_some_and(|host| is_same_host(text, host));
        let is_listed = self
            .origins
            .iter()
            .map(|known| known.trim_end_matches('/'))
            .any(|known| known.eq_ignore_ascii_case(text) || known == ANY);
        if is_own || is_listed {
            Verdict::Allowed(origin.clone())
        } else {
            Verdict::Foreign
        }
    }

    /// The answer to a preflight, which asks before a request that is not simple.
    pub(super) fn preflight<B, T: Default>(
        &self,
        request: &Request<B>,
        verdict: &Verdict,
    ) -> Option<Response<T>> {
        if request.method() != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(T::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if matches!(verdict, Verdict::Allowed(_)) {
            let headers = response.headers_mut();
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"),
            );
            let wanted = request
                .headers()
                .get(header::ACCESS_CONTROL_REQUEST_HEADERS);
            if let Some(wanted) = wanted {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
            }
        }
        self.mark(&mut response, verdict);
        Some(response)
    }

    /// Lets an allowed origin read a response.
    pub(super) fn mark<T>(&self, response: &mut Response<T>, verdict: &Verdict) {
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        if let Verdict::Allowed(origin) = verdict {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            if self.credentials {
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    HeaderValue::from_static("true"),
                );
            }
        }
    }
}

/// Whether an origin has the host and port that a request was sent to.
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

/// Stands for every origin.
pub(crate) const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn cors() -> Cors {
        Cors {
            origins: vec!["http://allowed.example".into()],
            credentials: true,
            enforce: true,
        }
    }

    fn judge(origin: &str, host: &str) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers.insert(header::HOST, host.parse().unwrap());
        cors().judge(&headers)
    }

    #[test]
    fn a_request_without_an_origin_is_nobodys_business() {
        assert_eq!(cors().judge(&HeaderMap::new()), Verdict::Silent);
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
            let allowed = Verdict::Allowed(origin.parse().unwrap());
            assert_eq!(judge(origin, host), allowed, "{origin} {host}");
        }
    }

    #[test]
    fn other_origins_are_allowed_by_name_only() {
        let listed = "http://allowed.example";
        assert_eq!(
            judge(listed, "x"),
            Verdict::Allowed(listed.parse().unwrap())
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
                Verdict::Foreign,
                "{origin}"
            );
        }
    }

    #[test]
    fn a_preflight_is_answered_with_what_was_asked_for() {
        let request = Request::options("/socket.io/")
            .header("origin", "http://allowed.example")
            .header("access-control-request-headers", "x-one, x-two")
            .body(())
            .unwrap();
        let verdict = cors().judge(request.headers());
        let response: Response<()> = cors().preflight(&request, &verdict).unwrap();
        assert_eq!(response.status(), 204);
        let value = |name: &str| response.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(
            value("access-control-allow-origin"),
            "http://allowed.example"
        );
        assert_eq!(value("access-control-allow-credentials"), "true");
        assert_eq!(value("access-control-allow-headers"), "x-one, x-two");
        assert_eq!(value("vary"), "Origin");
    }

    #[test]
    fn a_preflight_of_a_foreign_page_allows_nothing() {
        let request = Request::options("/socket.io/")
            .header("origin", "http://evil.example")
            .body(())
            .unwrap();
        let response: Response<()> = cors().preflight(&request, &Verdict::Foreign).unwrap();
        assert_eq!(response.status(), 204);
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-origin")
        );
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-methods")
        );
    }
}
