//! The keys of the configuration, and the environment variables that set them.

use std::{borrow::Cow, collections::BTreeSet, sync::LazyLock};

use serde::Deserialize as _;
use serde_json::{Value as Json, json};
use toml::{Table, Value};

use crate::config::{ChannelKind, Settings, differ_in_credentials};

/// Variables with a short name, and the keys that they set.
pub(super) const ALIASES: [(&str, &str); 4] = [
    ("ROOMCAST_LISTEN", "server.listen"),
    ("ROOMCAST_STORE", "store.url"),
    ("ROOMCAST_PROFILE", "server.profile"),
    ("ALLOWED_ORIGINS", "server.allowed_origins"),
];
/// The key that [`PORT`] sets.
pub(super) const LISTEN: &str = "server.listen";
/// The variable in which many hosts assign a port. It has effect if nothing else sets [`LISTEN`].
pub(super) const PORT: &str = "PORT";
pub(super) const PREFIX: &str = "ROOMCAST_";
/// Fields of the settings that are not keys, because other keys set them.
const NOT_KEYS: [&str; 1] = ["engine.cors"];
/// Variables with which other programs locate Redis. They have no effect here.
pub(super) const REDIS: [&str; 3] = ["REDIS_HOST", "REDIS_PORT", "REDIS_URL"];
/// Variables with the prefix that do not set keys.
pub(super) const OTHERS: [&str; 3] = ["ROOMCAST_CONFIG", "ROOMCAST_ENV_FILE", "ROOMCAST_TOKEN"];

/// Takes the value of one key from new settings, unless this change of it needs a restart.
type Take = fn(&mut Settings, &Settings);

/// Keys of which SIGHUP applies a changed value, apart from those of kinds of channels; all others
/// need a restart.
const RELOADED: [(&str, Take); 22] = [
    ("adapter.secret", |own, new| {
        // Without the key, the secrets are those of a table.
        let (own, new) = (&mut own.adapter.secret, &new.adapter.secret);
        if own.is_empty() == new.is_empty() {
            own.clone_from(new);
        }
    }),
    ("adapter.url", |own, new| {
        let (own, new) = (&mut own.adapter.url, &new.adapter.url);
        if let (Some(own), Some(new)) = (own, new)
            && differ_in_credentials(own, new)
        {
            own.clone_from(new);
        }
    }),
    ("admin_ui.password_hash", |own, new| {
        let hash = &mut own.admin_ui.password_hash;
        hash.clone_from(&new.admin_ui.password_hash);
    }),
    ("ask.previous_secret", |own, new| {
        let secret = &mut own.ask.previous_secret;
        secret.clone_from(&new.ask.previous_secret);
    }),
    ("ask.secret", |own, new| {
        own.ask.secret.clone_from(&new.ask.secret);
    }),
    ("auth.backend.secrets", |own, new| {
        let secrets = &mut own.auth.backend.secrets;
        secrets.clone_from(&new.auth.backend.secrets);
    }),
    ("auth.jwt.algorithm", |own, new| {
        own.auth.jwt.algorithm.clone_from(&new.auth.jwt.algorithm);
    }),
    ("auth.jwt.secret", |own, new| {
        own.auth.jwt.secret.clone_from(&new.auth.jwt.secret);
    }),
    ("limits.appends_per_second", |own, new| {
        own.limits.appends_per_second = new.limits.appends_per_second;
    }),
    ("limits.changes_per_minute", |own, new| {
        own.limits.changes_per_minute = new.limits.changes_per_minute;
    }),
    ("limits.channel_events_per_minute", |own, new| {
        own.limits.channel_events_per_minute = new.limits.channel_events_per_minute;
    }),
    ("limits.connections_per_user", |own, new| {
        own.limits.connections_per_user = new.limits.connections_per_user;
    }),
    ("limits.joins_per_user", |own, new| {
        own.limits.joins_per_user = new.limits.joins_per_user;
    }),
    ("limits.messages_per_minute", |own, new| {
        own.limits.messages_per_minute = new.limits.messages_per_minute;
    }),
    ("limits.requests_per_second", |own, new| {
        own.limits.requests_per_second = new.limits.requests_per_second;
    }),
    ("limits.typing_per_second", |own, new| {
        own.limits.typing_per_second = new.limits.typing_per_second;
    }),
    ("log.level", |own, new| {
        own.log.level.clone_from(&new.log.level);
    }),
    ("market.webhook.token", |own, new| {
        let token = &mut own.market.webhook.token;
        token.clone_from(&new.market.webhook.token);
    }),
    ("server.metrics_token", |own, new| {
        // Without any token, the server has no route for metrics at its public address.
        let had_route = own.server.has_metrics_token();
        let before = own.server.metrics_token.clone();
        let token = &mut own.server.metrics_token;
        token.clone_from(&new.server.metrics_token);
        if own.server.has_metrics_token() != had_route {
            own.server.metrics_token = before;
        }
    }),
    ("store.url", |own, new| {
        if differ_in_credentials(&own.store.url, &new.store.url) {
            own.store.url.clone_from(&new.store.url);
        }
    }),
    ("webhooks.previous_secret", |own, new| {
        let secret = &mut own.webhooks.previous_secret;
        secret.clone_from(&new.webhooks.previous_secret);
    }),
    ("webhooks.secret", |own, new| {
        own.webhooks.secret.clone_from(&new.webhooks.secret);
    }),
];
/// Sections of which either all changed keys are applied, or the whole reload is refused: a new
/// secret must not be used with the previous URL, nor with previous rules.
const SECTIONS: [&str; 8] = [
    "adapter.",
    "admin_ui.",
    "ask.",
    "auth.backend.",
    "auth.jwt.",
    "market.webhook.",
    "store.",
    "webhooks.",
];

/// Returns whether SIGHUP applies a changed value of a key.
pub(in crate::cli) fn is_reloaded(key: &str) -> bool {
    kind_of(key).is_some() || RELOADED.iter().any(|(reloaded, _)| *reloaded == key)
}

/// Returns the settings of a running server after a reload of new ones.
pub(in crate::cli) fn reloaded(running: &Settings, new: &Settings) -> Settings {
    let mut merged = running.clone();
    for (_, take) in RELOADED {
        take(&mut merged, new);
    }
    merged.channels.clone_from(&new.channels);
    merged
}

/// Returns the section with both keys that are applied and keys that need a restart, if any.
pub(in crate::cli) fn mixed_section(
    applied: &BTreeSet<String>,
    refused: &BTreeSet<String>,
) -> Option<&'static str> {
    let has = |keys: &BTreeSet<String>, section: &str| keys.iter().any(|k| k.starts_with(section));
    let mut sections = SECTIONS.into_iter();
    let mixed = sections.find(|section| has(applied, section) && has(refused, section));
    mixed.map(|section| section.trim_end_matches('.'))
}

/// Returns the environment variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// The conversion of an environment variable to the value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text itself.
    Text,
    /// Texts with commas in between.
    List,
    /// A list of tables in TOML.
    Tables,
    /// A boolean, an integer, or a text, in this order of preference.
    Scalar,
}

/// Returns every key of [`Settings`] with its kind.
///
/// The keys are the fields of the serialized defaults. A field that is unset by default has its
/// kind from the first of some samples that it accepts. An empty object shows the fields of an
/// optional section. Keys of kinds of channels have [`ANY_NAME`].
pub(super) fn known() -> &'static [(String, Kind)] {
    static KNOWN: LazyLock<Vec<(String, Kind)>> = LazyLock::new(find);
    &KNOWN
}

fn find() -> Vec<(String, Kind)> {
    let mut known = Vec::new();
    let mut open = vec![(String::new(), fields(&Settings::default()))];
    while let Some((key, value)) = open.pop() {
        let kind = match value {
            _ if NOT_KEYS.contains(&key.as_str()) => continue,
            Json::Object(_) if key == CHANNELS => {
                let kind = serde_json::to_value(ChannelKind::default());
                open.push((join(&key, ANY_NAME), kind.unwrap_or_default()));
                continue;
            }
            Json::Object(fields) if !fields.is_empty() => {
                // `print-config` writes a section without values as an empty table.
                if fields.values().all(Json::is_null) {
                    known.push((key.clone(), Kind::Scalar));
                }
                open.extend(
                    fields
                        .into_iter()
                        .map(|(name, value)| (join(&key, &name), value)),
                );
                continue;
            }
            Json::Null => {
                let samples = [json!({}), json!(1), json!(true), json!([])];
                let accepted = samples.into_iter().find_map(|sample| accept(&key, sample));
                if let Some(accepted) = accepted {
                    open.push((key, accepted));
                    continue;
                }
                Kind::Text
            }
            Json::String(_) => Kind::Text,
            Json::Array(_) if accept(&key, json!([{}])).is_some() => Kind::Tables,
            Json::Array(_) => Kind::List,
            Json::Bool(_) | Json::Number(_) | Json::Object(_) => Kind::Scalar,
        };
        known.push((key, kind));
    }
    known.push((HISTORY.to_owned(), Kind::Text));
    known
}

/// Returns the value of a key after it was set to a sample. `None` if the key does not accept it.
fn accept(key: &str, sample: Json) -> Option<Json> {
    let names = || key.split('.');
    let nested = names()
        .rev()
        .fold(sample, |inner, name| json!({ name: inner }));
    let settings = Settings::deserialize(nested).ok()?;
    names().try_fold(fields(&settings), |outer, name| outer.get(name).cloned())
}

/// Returns whether a name is that of a section, which may be empty in a file.
pub(super) fn is_section(name: &str) -> bool {
    let mut names = name.split('.');
    let found = names.try_fold(fields(&Settings::default()), |outer, name| {
        outer.get(name).cloned()
    });
    found.is_some_and(|found| found.is_object())
}

/// Returns the settings with null for each field that is unset.
fn fields(settings: &Settings) -> Json {
    serde_json::to_value(settings).unwrap_or_default()
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

/// Returns whether a key is that of a role or a kind of channels without any value.
pub(super) fn is_entry(key: &str) -> bool {
    let is_name = |section: &str| name_in(section, key).map(|name| join(section, name));
    NAMED
        .into_iter()
        .any(|section| is_name(section).as_deref() == Some(key))
}

/// Returns a known key with the name of the role or the kind of channels that another key has.
pub(super) fn with_name_of<'a>(key: &str, known: &'a str) -> Cow<'a, str> {
    let mut sections = NAMED.iter();
    let renamed = sections.find_map(|section| {
        let rest = known.get(section.len() + 1 + name_in(section, known)?.len()..)?;
        Some(format!("{section}.{}{rest}", name_in(section, key)?).into())
    });
    renamed.unwrap_or(Cow::Borrowed(known))
}

/// Returns the name of the entry of a section that a key belongs to.
fn name_in<'a>(section: &str, key: &'a str) -> Option<&'a str> {
    let rest = key.strip_prefix(section)?.strip_prefix('.')?;
    rest.split('.').next().filter(|name| !name.is_empty())
}

/// Returns a key with [`ANY_NAME`] instead of the name of a kind of channels, as [`known`] has it.
pub(super) fn general(key: &str) -> Cow<'_, str> {
    match kind_of(key) {
        Some(kind) => {
            let rest = key
                .get(CHANNELS.len() + 1 + kind.len()..)
                .unwrap_or_default();
            format!("{CHANNELS}.{ANY_NAME}{rest}").into()
        }
        None => key.into(),
    }
}

/// Returns the name of the kind of channels that a key belongs to.
pub(super) fn kind_of(key: &str) -> Option<&str> {
    name_in(CHANNELS, key)
}

/// The section with the kinds of channels.
const CHANNELS: &str = "channels";
/// The sections with entries of any name.
const NAMED: [&str; 2] = [CHANNELS, "auth.roles"];
/// Stands for the name of any kind of channels.
const ANY_NAME: &str = "NAME";
/// The section that may also have a text as its value.
const HISTORY: &str = "channels.NAME.history";
/// The key whose value is a table with names of the application.
const TABLE_VALUE: &str = "channels.NAME.events";

fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        return name.to_owned();
    }
    format!("{section}.{name}")
}

/// Calls `visit` with each key and value of a table. An empty table counts as a value.
pub(super) fn flatten(prefix: &str, table: &Table, visit: &mut impl FnMut(String, &Value)) {
    for (name, value) in table {
        let key = join(prefix, name);
        match value {
            Value::Table(inner) if !inner.is_empty() && general(&key) != TABLE_VALUE => {
                flatten(&key, inner, visit);
            }
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
