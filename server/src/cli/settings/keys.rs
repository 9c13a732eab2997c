//! The keys of the configuration, and the environment variables that set them.

use toml::{Table, Value};

use crate::config::Settings;

/// Variables with a short name, and the keys that they set.
pub(super) const ALIASES: [(&str, &str); 4] = [
    ("ROOMCAST_LISTEN", "server.listen"),
    ("ROOMCAST_STORE", "store.url"),
    ("ROOMCAST_PROFILE", "server.profile"),
    ("ALLOWED_ORIGINS", "server.allowed_origins"),
];
pub(super) const PREFIX: &str = "ROOMCAST_";
pub(super) const SECTIONS: [&str; 16] = [
    "adapter",
    "auth",
    "chat",
    "engine",
    "limits",
    "log",
    "market",
    "node",
    "notifications",
    "page",
    "presence",
    "publications",
    "recovery",
    "server",
    "store",
    "webhooks",
];
/// Removed keys, and their replacements.
pub(super) const REMOVED: [(&str, &str); 1] = [(
    "server.open_metrics",
    "it was removed: /metrics and /health/websocket/detailed are served at server.admin_listen \
     (127.0.0.1:9464); to read them at server.listen, set server.metrics_token and send it as a \
     bearer token (docs/operations.md, \"Metrics\")",
)];
/// Renamed keys, and their present names. Keys that end in `_s` were numbers of seconds, and are
/// durations now.
pub(super) const RENAMED: [(&str, &str); 17] = [
    ("auth.backend.patience", "auth.backend.outage_grace"),
    ("auth.expiring_lead_s", "auth.expiring_lead"),
    ("auth.grace_s", "auth.grace"),
    ("auth.jwt.jwks_refresh_s", "auth.jwt.jwks_refresh"),
    ("auth.jwt.jwks_timeout_s", "auth.jwt.jwks_timeout"),
    ("auth.jwt.leeway_s", "auth.jwt.leeway"),
    ("auth.jwt.max_lifetime_s", "auth.jwt.max_lifetime"),
    ("auth.session_max_ttl_s", "auth.session_max_ttl"),
    ("market.keep", "market.retention"),
    ("market.webhook.pause", "market.webhook.retry_delay"),
    ("market.webhook.resume", "market.webhook.reconcile_after"),
    ("publications.keep", "publications.retention"),
    ("server.event_overlap", "server.deprecated_events"),
    ("store.group", "store.max_batch"),
    ("store.lanes", "store.writers"),
    ("store.waiting_reads", "store.max_pending_reads"),
    ("webhooks.pause", "webhooks.retry_delay"),
];
/// Variables with which other programs locate Redis. They have no effect here.
pub(super) const REDIS: [&str; 3] = ["REDIS_HOST", "REDIS_PORT", "REDIS_URL"];
/// Variables with the prefix that do not set keys.
pub(super) const OTHERS: [&str; 2] = ["ROOMCAST_CONFIG", "ROOMCAST_TOKEN"];

/// Returns the environment variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// Returns every key with its default, which determines its type. `None` if it is unset by default.
pub(super) fn known() -> Vec<(String, Option<Value>)> {
    let defaults = Table::try_from(Settings::default()).unwrap_or_default();
    let mut known = Vec::new();
    flatten("", &defaults, &mut |key, value| {
        known.push((key, Some(value.clone())))
    });
    // Keys that are unset by default do not appear in the serialized settings.
    for key in [
        "server.profile",
        "server.tls.cert_file",
        "server.tls.key_file",
        "auth.guests",
        "engine.cookie.name",
        "engine.cookie.path",
        "engine.cookie.http_only",
        "engine.cookie.same_site",
        "engine.cookie.max_age",
        "engine.cookie.domain",
        "engine.cookie.secure",
        "engine.cookie.partitioned",
        "engine.cookie.priority",
        "engine.cookie.expires",
        "store.max_bytes",
        "node.max_forwarded",
        "node.max_tunnels",
        "limits.connects",
        "limits.connections_per_address",
        "limits.connections_per_user",
        "limits.joins_per_address",
        "limits.joins_per_user",
        "limits.lookups_per_address",
        "limits.messages_per_minute",
        "limits.typing_per_second",
        "limits.changes_per_minute",
        "limits.requests_per_second",
        "limits.api_calls_per_second",
    ] {
        known.push((key.to_owned(), None));
    }
    for key in [
        "server.admin_listen",
        "server.metrics_token",
        "auth.login_url",
        "auth.logout_url",
        "auth.jwt.secret",
        "auth.jwt.keys_file",
        "auth.jwt.jwks_url",
        "auth.jwt.jwks_ca_file",
        "auth.jwt.issuer",
        "auth.jwt.audience",
        "auth.jwt.max_lifetime",
        "auth.backend.url",
        "auth.backend.ca_file",
        "log.file",
        "store.retention",
        "adapter.url",
        "adapter.stream_name",
        "adapter.table",
        "market.webhook.url",
        "market.webhook.token",
        "market.webhook.ca_file",
        "webhooks.url",
        "webhooks.secret",
        "webhooks.previous_secret",
        "webhooks.ca_file",
        "node.id",
        "node.address",
    ] {
        known.push((key.to_owned(), Some(Value::String(String::new()))));
    }
    known
}

/// Returns whether Kubernetes sets a variable for a service whose name begins with `roomcast`, such
/// as `ROOMCAST_SERVICE_HOST` and `ROOMCAST_DB_PORT_5432_TCP_ADDR`. Configuration variables never
/// have such names.
pub(super) fn is_of_kubernetes(rest: &str) -> bool {
    let rest = format!("_{rest}");
    let of_port = rest.rsplit_once("_PORT").is_some_and(|(_, after)| {
        let digits = after
            .trim_start_matches('_')
            .trim_start_matches(|c: char| c.is_ascii_digit());
        after.is_empty()
            || ["_TCP", "_UDP", "_SCTP"]
                .iter()
                .any(|kind| digits.starts_with(kind))
    });
    !rest.contains("__")
        && (rest.contains("_SERVICE_HOST") || rest.contains("_SERVICE_PORT") || of_port)
}

/// Returns a warning about ineffective Redis variables that names the variable to set.
pub(super) fn redis_warning(names: &[String]) -> Option<String> {
    let names = (!names.is_empty()).then(|| names.join(", "))?;
    Some(format!(
        "no effect: {names}; to join servers by Redis set ROOMCAST_ADAPTER__URL=redis://HOST:PORT, \
         or ROOMCAST_ADAPTER__URL=none to do without"
    ))
}

/// Returns whether a key belongs to a role of any name.
pub(super) fn is_of_role(key: &str) -> bool {
    let role = key
        .strip_prefix("auth.roles.")
        .and_then(|rest| rest.split_once('.'));
    role.is_some_and(|(name, field)| {
        !name.is_empty() && ["permissions", "inherits"].contains(&field)
    })
}

/// Calls `visit` with each key and value of a table.
pub(super) fn flatten(prefix: &str, table: &Table, visit: &mut impl FnMut(String, &Value)) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(&key, inner, visit),
            // An empty section has no values, but its name is checked.
            Value::Table(_) if SECTIONS.contains(&key.as_str()) => {}
            Value::Table(_)
            | Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => visit(key, value),
        }
    }
}
