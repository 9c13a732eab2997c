//! Checks combinations of values, and durations that are unreasonably long.

use std::time::Duration;

use roomcast::options::{Cookie, SameSite};

use super::Settings;

/// The maximum duration. It is short enough to be added to any time.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Returns the first fault.
pub(super) fn check(settings: &Settings) -> Result<(), &'static str> {
    let Settings {
        server,
        engine,
        limits,
        chat,
        presence,
        store,
        ..
    } = settings;
    let times = [
        (server.drain, "server.drain is over a year"),
        (server.grace, "server.grace is over a year"),
        (server.acme.timeout, "server.acme.timeout is over a year"),
        (
            server.deprecated_events,
            "server.deprecated_events is over a year",
        ),
        (
            limits.connects_window,
            "limits.connects_window is over a year",
        ),
        (limits.block_window, "limits.block_window is over a year"),
        (limits.block_time, "limits.block_time is over a year"),
        (chat.confirm_timeout, "chat.confirm_timeout is over a year"),
        (presence.grace, "presence.grace is over a year"),
        (presence.interval, "presence.interval is over a year"),
        (store.busy_timeout, "store.busy_timeout is over a year"),
        (
            store.connect_timeout,
            "store.connect_timeout is over a year",
        ),
        (store.pool_timeout, "store.pool_timeout is over a year"),
        (
            store.statement_timeout,
            "store.statement_timeout is over a year",
        ),
        (store.retry_timeout, "store.retry_timeout is over a year"),
        (
            store.health_interval,
            "store.health_interval is over a year",
        ),
    ];
    if let Some((_, fault)) = times.into_iter().find(|(time, _)| *time > LONGEST) {
        return Err(fault);
    }
    if settings.log.files == 0 || settings.log.file_bytes == 0 {
        return Err("log.files and log.file_bytes must be 1 or more");
    }
    if server.proxy_protocol && server.trusted_proxies.is_empty() {
        return Err(
            "server.proxy_protocol is for connections of trusted proxies: set server.trusted_proxies",
        );
    }
    if !server
        .allowed_origins
        .iter()
        .all(|origin| is_origin(origin))
    {
        return Err(
            "server.allowed_origins (ALLOWED_ORIGINS) has something that is no origin; one is \
             https://app.example, with a port if there is one and without a path",
        );
    }
    let is_encrypted = server.tls.cert_file.is_some();
    if engine
        .http
        .cookie
        .as_ref()
        .is_some_and(|cookie| !is_accepted_by_browsers(cookie, is_encrypted))
    {
        return Err(
            "browsers drop engine.cookie: with same_site none or partitioned it must be secure",
        );
    }
    Ok(())
}

/// Returns whether a text can be an `Origin` (RFC 6454, 6.2). The wildcard `*` is checked
/// elsewhere.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        // These values are refused elsewhere with a specific reason.
        return text == "*" || text == "null";
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.*".contains(&byte);
    let is_host = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\,\"<>".contains(&byte);
    // The origin of a file has no host.
    let has_host = !host.is_empty() || scheme == "file";
    !scheme.is_empty() && scheme.bytes().all(is_scheme) && has_host && host.bytes().all(is_host)
}

/// Returns whether browsers store a cookie (RFC 6265bis, 5.7).
fn is_accepted_by_browsers(cookie: &Cookie, is_encrypted: bool) -> bool {
    let must_be_secure = cookie.same_site == Some(SameSite::None) || cookie.partitioned;
    !must_be_secure || cookie.secure || is_encrypted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut Settings)) -> &'static str {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().unwrap_err()
    }

    #[test]
    fn durations_over_a_year_are_refused() {
        let long = LONGEST + Duration::from_secs(1);
        assert_eq!(
            fault(|settings| settings.limits.block_time = Duration::MAX),
            "limits.block_time is over a year"
        );
        assert_eq!(
            fault(|settings| settings.presence.grace = long),
            "presence.grace is over a year"
        );
    }

    #[test]
    fn proxy_protocol_without_proxies_is_refused() {
        let fault = fault(|settings| settings.server.proxy_protocol = true);
        assert!(fault.contains("server.trusted_proxies"), "{fault}");
    }

    #[test]
    fn origin_consists_of_scheme_and_host_only() {
        for origin in [
            "https://app.example",
            "http://localhost:5173",
            "http://127.0.0.1:80/",
            "http://[::1]:80",
            "https://*.example",
            "capacitor://localhost",
            "chrome-extension://abc",
            "file://",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for text in [
            "app.example",
            "localhost:5173",
            "https://",
            "://a",
            "https://a.example/path",
            "https://a.example?x",
            "https://a.example#x",
            "https://a#b.example",
            "https://user@a.example",
            "https://a b",
            "",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }

    #[test]
    fn cookie_that_browsers_drop_is_refused() {
        let cookie = Cookie::default().same_site(SameSite::None);
        assert!(!is_accepted_by_browsers(&cookie, false));
        assert!(is_accepted_by_browsers(&cookie, true));
        assert!(is_accepted_by_browsers(&Cookie::default(), false));
    }
}
