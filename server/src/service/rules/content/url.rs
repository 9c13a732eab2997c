//! HTTP URLs that clients open, as a check and as a regular expression.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use crate::auth::is_invisible;
use crate::service::rules::content::character_class::class;

/// Returns whether a text is an absolute `http` or `https` URL (RFC 3986).
///
/// It has a scheme, a host, an optional port and no characters that must be escaped. International
/// domain names and paths may be unescaped.
pub(in crate::service) fn is_http_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return false;
    }
    if rest.chars().any(is_forbidden) {
        return false;
    }
    if !escapes_are_right(rest) {
        return false;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Credentials in a URL that other users open are a trap or a leak.
    if authority.contains('@') {
        return false;
    }
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, _)) if address.parse::<Ipv6Addr>().is_err() => return false,
        Some((_, "")) => return true,
        Some((_, port)) => return port.strip_prefix(':').is_some_and(is_port),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    is_host(host) && port.is_none_or(is_port)
}

/// Returns whether every `%` begins an escape (RFC 3986, 2.1).
fn escapes_are_right(text: &str) -> bool {
    let is_digit = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let mut escapes = text.split('%').skip(1).map(str::as_bytes);
    escapes.all(|rest| is_digit(rest.first()) && is_digit(rest.get(1)))
}

/// Returns whether a text is a port (RFC 3986, 3.2.3), which may be empty.
fn is_port(port: &str) -> bool {
    port.bytes().all(|digit| digit.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Returns whether a text is a domain name or an IPv4 address.
///
/// Browsers parse a host whose last label is a number as an address, or reject it. Escapes in host
/// names are refused because they only serve to disguise a name.
fn is_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.split('.').any(str::is_empty) || host.contains(['[', ']', '%']) {
        return false;
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|digit| digit.is_ascii_digit())
        || last
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    !is_number || name.parse::<Ipv4Addr>().is_ok()
}

/// Returns whether a character must be escaped in a URL.
pub(super) fn is_forbidden(c: char) -> bool {
    c.is_control() || c.is_whitespace() || is_invisible(c) || "\"<>\\^`{|}".contains(c)
}

/// Returns a regular expression, without anchors, for the URLs that [`is_http_url`] accepts.
pub(in crate::service) fn pattern() -> &'static str {
    static PATTERN: LazyLock<String> = LazyLock::new(build_pattern);
    &PATTERN
}

fn build_pattern() -> String {
    let ends_label = |c: char| is_forbidden(c) || "/?#@:[]%.".contains(c);
    let label = format!("[^{}]", class(&ends_label));
    let no_digit = |c: char| ends_label(c) || c.is_ascii_digit();
    let letter = format!("[^{}]", class(&no_digit));
    let no_x = |c: char| no_digit(c) || c.eq_ignore_ascii_case(&'x');
    let letter_but_x = format!("[^{}]", class(&no_x));
    // The last label is not a number, neither decimal nor hexadecimal.
    let last = format!(
        "(?:{letter}{label}*|[1-9][0-9]*{letter}{label}*|0(?:[0-9]+{letter}|{letter_but_x}){label}*)"
    );
    let name = format!(r"(?:{label}+\.)*{last}");
    let port =
        "0*(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{0,4})";
    let rest = format!(
        "(?:[^{}]|%[0-9A-Fa-f]{{2}})*",
        class(&|c: char| is_forbidden(c) || c == '%')
    );
    format!(
        r"[hH][tT][tT][pP][sS]?://(?:(?:{name}|{IPV4})\.?|\[{IPV6}\])(?::{port})?(?:[/?#]{rest})?"
    )
}

/// Expands to a pattern for IPv6 addresses that may end in an IPv4 address: `$groups` groups before
/// the last 32 bits, and at most `$before` + 1 groups before `::`.
macro_rules! ipv6 {
    ($groups:literal, "") => {
        concat!("(?:[0-9A-Fa-f]{1,4}:){", $groups, "}", ipv6!(last))
    };
    ($groups:literal, $before:literal) => {
        concat!(
            "(?:(?:[0-9A-Fa-f]{1,4}:){0,", $before, "}[0-9A-Fa-f]{1,4})?::(?:[0-9A-Fa-f]{1,4}:){", $groups, "}", ipv6!(last)
        )
    };
    (last) => {
        concat!(
            "(?:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}|",
            r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
            ")"
        )
    };
}

/// A regular expression for an IPv4 address.
pub(in crate::service) const IPV4: &str = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

/// A regular expression for an IPv6 address (`IPv6address` in RFC 3986).
pub(in crate::service) const IPV6: &str = concat!(
    "(?:",
    ipv6!(6, ""),
    "|",
    "::",
    ipv6!(5, ""),
    "|",
    ipv6!(4, "0"),
    "|",
    ipv6!(3, "1"),
    "|",
    ipv6!(2, "2"),
    "|",
    ipv6!(1, "3"),
    "|",
    ipv6!(0, "4"),
    "|",
    "(?:(?:[0-9A-Fa-f]{1,4}:){0,5}[0-9A-Fa-f]{1,4})?::[0-9A-Fa-f]{1,4}|",
    "(?:(?:[0-9A-Fa-f]{1,4}:){0,6}[0-9A-Fa-f]{1,4})?::",
    ")"
);
