//! Puts the configuration together: flag over environment over file over default.

use std::{ffi::OsString, fmt, net::SocketAddr, path::Path, path::PathBuf};

use serde::de::IntoDeserializer;
use toml::{Table, Value};

use crate::config::{Profile, Settings};

/// Values given on the command line.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    pub(super) listen: Option<SocketAddr>,
    pub(super) store: Option<String>,
    pub(super) profile: Option<Profile>,
    pub(super) log: Option<String>,
}

/// The configuration in force, and what looked wrong on the way.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) settings: Settings,
    pub(super) warnings: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(super) enum LoadError {
    Read(PathBuf, std::io::Error),
    /// The file is no TOML: the line, and what is wrong. The line itself may hold a secret.
    Syntax(PathBuf, usize, String),
    UnknownKey {
        path: PathBuf,
        key: String,
        nearest: Option<String>,
    },
    /// A variable that is no key, where that is no warning.
    UnknownVariable(String),
    /// A variable whose value is no text.
    NotText(String),
    Value {
        key: String,
        from: String,
        error: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Syntax(path, line, error) => {
                write!(f, "{}: line {line}: {error}", path.display())
            }
            Self::UnknownVariable(unknown) => f.write_str(unknown),
            Self::NotText(name) => write!(f, "{name}: not UTF-8"),
            Self::UnknownKey { path, key, nearest } => {
                write!(f, "{}: unknown key `{key}`", path.display())?;
                match nearest {
                    Some(nearest) => write!(f, ", did you mean `{nearest}`?"),
                    None => Ok(()),
                }
            }
            Self::Value { key, from, error } => write!(f, "{from}: `{key}`: {error}"),
        }
    }
}

/// Variables with a short name, and the keys they stand for.
const ALIASES: [(&str, &str); 4] = [
    ("ROOMCAST_LISTEN", "server.listen"),
    ("ROOMCAST_STORE", "store.url"),
    ("ROOMCAST_PROFILE", "server.profile"),
    ("ALLOWED_ORIGINS", "server.allowed_origins"),
];
const PREFIX: &str = "ROOMCAST_";
const SECTIONS: [&str; 13] = [
    "adapter",
    "auth",
    "chat",
    "engine",
    "limits",
    "log",
    "market",
    "node",
    "notifications",
    "presence",
    "recovery",
    "server",
    "store",
];
/// Variables with the prefix that are no keys.
const OTHERS: [&str; 2] = ["ROOMCAST_CONFIG", "ROOMCAST_TOKEN"];

/// Reads file and environment, and checks the whole.
pub(super) fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    overrides: Overrides,
) -> Result<Loaded, LoadError> {
    let mut layers = Layers::new();
    if let Some(path) = file {
        layers.add_file(path)?;
    }
    layers.add_environment(environment)?;
    layers.add_overrides(overrides);
    let mut warnings = std::mem::take(&mut layers.warnings);
    let settings = layers.settings()?;
    // As an unknown key of the file: what was meant to protect the server would not.
    if settings.profile() == Profile::Production && !warnings.is_empty() {
        return Err(LoadError::UnknownVariable(warnings.swap_remove(0)));
    }
    Ok(Loaded { settings, warnings })
}

/// Reads a profile's name.
pub(super) fn parse_profile(name: &str) -> Result<Profile, String> {
    let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        name.into_deserializer();
    serde::Deserialize::deserialize(name).map_err(|error| error.to_string())
}

/// The values given so far, each with where it came from.
struct Layers {
    /// Every key with its default, which tells its type; `None` if it is unset by default.
    known: Vec<(String, Option<Value>)>,
    given: Vec<Given>,
    warnings: Vec<String>,
}

struct Given {
    key: String,
    value: Value,
    from: String,
}

impl Layers {
    fn new() -> Self {
        let defaults = Table::try_from(Settings::default()).unwrap_or_default();
        let mut known = Vec::new();
        flatten("", &defaults, &mut |key, value| {
            known.push((key, Some(value.clone())))
        });
        // Keys that are unset by default do not appear in a serialised tree.
        for key in [
            "server.profile",
            "server.tls.cert_file",
            "server.tls.key_file",
            "auth.guests",
            "auth.jwt.max_lifetime_s",
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
            "limits.connects",
            "limits.connections_per_address",
            "limits.connections_per_user",
            "limits.messages_per_minute",
            "limits.typing_per_second",
            "limits.changes_per_minute",
            "limits.requests_per_second",
            "limits.api_calls_per_second",
        ] {
            known.push((key.to_owned(), None));
        }
        for key in [
            "auth.login_url",
            "auth.logout_url",
            "auth.jwt.secret",
            "auth.jwt.keys_file",
            "auth.jwt.jwks_url",
            "auth.jwt.jwks_ca_file",
            "auth.jwt.issuer",
            "auth.jwt.audience",
            "log.file",
            "store.retention",
            "adapter.url",
            "market.webhook.url",
            "market.webhook.token",
            "market.webhook.ca_file",
            "node.id",
            "node.address",
        ] {
            known.push((key.to_owned(), Some(Value::String(String::new()))));
        }
        Self {
            known,
            given: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), LoadError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| LoadError::Read(path.into(), error))?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = 1 + before.unwrap_or_default().matches('\n').count();
            LoadError::Syntax(path.into(), line, error.message().to_owned())
        })?;
        let mut unknown = None;
        let mut given = Vec::new();
        flatten("", &table, &mut |key, value| {
            if self.is_known(&key) {
                let from = path.display().to_string();
                given.push(Given {
                    key,
                    value: value.clone(),
                    from,
                });
            } else {
                unknown.get_or_insert(key);
            }
        });
        if let Some(key) = unknown {
            return Err(LoadError::UnknownKey {
                path: path.into(),
                nearest: self.nearest(&key),
                key,
            });
        }
        self.given.extend(given);
        Ok(())
    }

    fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), LoadError> {
        let mut prefixed = Vec::new();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else {
                continue;
            };
            let is_ours =
                ALIASES.iter().any(|(alias, _)| *alias == name) || name.starts_with(PREFIX);
            if !is_ours {
                continue;
            }
            let Ok(value) = value.into_string() else {
                return Err(LoadError::NotText(name));
            };
            if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
                self.give(key, &value, name);
            } else if let Some(rest) = name.strip_prefix(PREFIX)
                && !OTHERS.contains(&name.as_str())
                && !is_of_kubernetes(rest)
            {
                let key = rest.to_ascii_lowercase().replace("__", ".");
                prefixed.push((key, value, name));
            }
        }
        // After all aliases, which they beat.
        for (key, value, name) in prefixed {
            if self.is_known(&key) {
                self.give(&key, &value, name);
            } else {
                let hint = self
                    .nearest(&key)
                    .map(|nearest| {
                        let name = nearest.to_ascii_uppercase().replace('.', "__");
                        format!(", did you mean {PREFIX}{name}?")
                    })
                    .unwrap_or_default();
                self.warnings.push(format!("unknown variable {name}{hint}"));
            }
        }
        Ok(())
    }

    fn add_overrides(&mut self, overrides: Overrides) {
        let values = [
            (
                "server.listen",
                overrides.listen.map(|v| v.to_string()),
                "--listen",
            ),
            ("store.url", overrides.store, "--store"),
            (
                "server.profile",
                overrides.profile.map(|v| v.name().to_owned()),
                "--profile",
            ),
            ("log.level", overrides.log, "--log"),
        ];
        for (key, value, flag) in values {
            if let Some(value) = value {
                self.give(key, &value, flag.to_owned());
            }
        }
    }

    /// Takes a value given as text, read as the key's default suggests.
    fn give(&mut self, key: &str, text: &str, from: String) {
        let default = self.known.iter().find(|(known, _)| known == key);
        let list = Value::Array(Vec::new());
        let default = match default {
            Some((_, value)) => value.as_ref(),
            None => is_of_role(key).then_some(&list),
        };
        let value = match default {
            Some(Value::String(_)) => Value::String(text.to_owned()),
            Some(Value::Array(_)) => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Value::String(item.to_owned()))
                    .collect(),
            ),
            Some(_) | None => scalar(text),
        };
        self.given.push(Given {
            key: key.to_owned(),
            value,
            from,
        });
    }

    fn is_known(&self, key: &str) -> bool {
        is_of_role(key) || self.known.iter().any(|(known, _)| known == key)
    }

    fn nearest(&self, key: &str) -> Option<String> {
        self.known
            .iter()
            .map(|(known, _)| (strsim::jaro_winkler(known, key), known))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known.clone())
    }

    fn settings(self) -> Result<Settings, LoadError> {
        let mut table = Table::try_from(Settings::default()).unwrap_or_default();
        for given in &self.given {
            set(&mut table, &given.key, given.value.clone());
        }
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
            let key = error.path().to_string();
            let from = self
                .given
                .iter()
                .rev()
                .find(|given| key.starts_with(&given.key))
                .map_or_else(|| "configuration".to_owned(), |given| given.from.clone());
            let error = if key.ends_with("secret") {
                "not a text".to_owned()
            } else {
                error.into_inner().message().to_owned()
            };
            LoadError::Value { key, from, error }
        })
    }
}

/// Whether a variable is one that Kubernetes sets for each service in a namespace whose name begins with
/// ours, as `ROOMCAST_SERVICE_HOST` and `ROOMCAST_DB_PORT_5432_TCP_ADDR`. Our own have no such names.
fn is_of_kubernetes(rest: &str) -> bool {
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

/// Whether a key is one of a role, whatever the role's name.
fn is_of_role(key: &str) -> bool {
    let role = key
        .strip_prefix("auth.roles.")
        .and_then(|rest| rest.split_once('.'));
    role.is_some_and(|(name, field)| {
        !name.is_empty() && ["permissions", "inherits"].contains(&field)
    })
}

/// Text as the boolean or number that it looks like.
fn scalar(text: &str) -> Value {
    if let Ok(value) = text.parse() {
        return Value::Boolean(value);
    }
    if let Ok(value) = text.parse() {
        return Value::Integer(value);
    }
    Value::String(text.to_owned())
}

fn flatten(prefix: &str, table: &Table, visit: &mut impl FnMut(String, &Value)) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(&key, inner, visit),
            // An empty section says nothing, but its name may be wrong.
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

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod names;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::config::Durability;

    fn env(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn from_env(variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
        load(None, env(variables).into_iter(), Overrides::default())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn defaults_hold_without_file_and_environment() {
        let settings = from_env(&[]).unwrap().settings;
        assert_eq!(settings.server.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(settings.engine.session.ping_timeout.as_secs(), 60);
        assert!(settings.guests());
    }

    #[test]
    fn what_is_unset_by_default_can_be_set() {
        let file = file("[store]\nretention = \"30days\"\n[chat]\ncontent = \"html\"");
        let settings = load(Some(file.path()), std::iter::empty(), Overrides::default());
        let settings = settings.unwrap().settings;
        assert_eq!(settings.store.retention.unwrap().as_secs(), 30 * 86_400);
        assert_eq!(settings.chat.content, crate::config::Content::Html);
        let settings = from_env(&[("ROOMCAST_STORE__RETENTION", "1h")]).unwrap();
        assert_eq!(settings.settings.store.retention.unwrap().as_secs(), 3600);
        assert!(from_env(&[("ROOMCAST_CHAT__CONTENT", "markdown")]).is_err());
    }

    #[test]
    fn a_flag_beats_the_environment_and_the_environment_the_file() {
        let file = file(
            "[server]\nlisten = \"127.0.0.1:1\"\n[store]\nurl = \"memory:\"\n[log]\nlevel = \"debug\"",
        );
        let variables = env(&[
            ("ROOMCAST_LISTEN", "127.0.0.1:2"),
            ("ROOMCAST_STORE", "sqlite:a.db"),
        ]);
        let overrides = Overrides {
            listen: Some("127.0.0.1:3".parse().unwrap()),
            ..Overrides::default()
        };
        let settings = load(Some(file.path()), variables.into_iter(), overrides)
            .unwrap()
            .settings;
        assert_eq!(settings.server.listen.port(), 3);
        assert_eq!(settings.store.url, "sqlite:a.db");
        assert_eq!(settings.log.level, "debug");
    }

    #[test]
    fn a_prefixed_variable_beats_its_alias_in_any_order() {
        for variables in [
            [
                ("ROOMCAST_LISTEN", "127.0.0.1:2"),
                ("ROOMCAST_SERVER__LISTEN", "127.0.0.1:4"),
            ],
            [
                ("ROOMCAST_SERVER__LISTEN", "127.0.0.1:4"),
                ("ROOMCAST_LISTEN", "127.0.0.1:2"),
            ],
        ] {
            assert_eq!(
                from_env(&variables).unwrap().settings.server.listen.port(),
                4
            );
        }
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let settings = from_env(&[("ALLOWED_ORIGINS", "http://a.example, http://b.example")])
            .unwrap()
            .settings;
        assert_eq!(
            settings.server.allowed_origins,
            ["http://a.example", "http://b.example"]
        );
    }

    #[test]
    fn values_are_read_as_their_key_wants_them() {
        let settings = from_env(&[
            ("ROOMCAST_AUTH__GUESTS", "false"),
            ("ROOMCAST_ENGINE__MAX_PAYLOAD", "2000"),
            ("ROOMCAST_ENGINE__PARSER", "messagepack"),
            ("ROOMCAST_ENGINE__PING_INTERVAL", "250ms"),
            ("ROOMCAST_STORE__DURABILITY", "full"),
            ("ROOMCAST_LOG__LEVEL", "7"),
        ])
        .unwrap()
        .settings;
        assert!(!settings.guests());
        assert_eq!(settings.engine.session.max_payload, 2000);
        assert_eq!(
            settings.engine.sockets.parser,
            roomcast_protocol::socket::Parser::MessagePack
        );
        assert_eq!(settings.engine.session.ping_interval.as_millis(), 250);
        assert_eq!(settings.store.durability, Durability::Full);
        assert_eq!(settings.log.level, "7");
    }

    #[test]
    fn an_unknown_key_in_the_file_is_an_error_with_the_nearest_name() {
        let file = file("[engine]\nping_intervall = \"1s\"");
        let error = load(Some(file.path()), std::iter::empty(), Overrides::default()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(
                "unknown key `engine.ping_intervall`, did you mean `engine.ping_interval`?"
            ),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_section_is_an_error_even_when_it_is_empty() {
        for (text, is_valid) in [("[serverr]", false), ("[server]\n[auth]", true)] {
            let file = file(text);
            let loaded = load(Some(file.path()), std::iter::empty(), Overrides::default());
            assert_eq!(loaded.is_ok(), is_valid, "{text}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_told_by_name() {
        let settings = from_env(&[("ROOMCAST_CHAT__PAGE", "0")]).unwrap().settings;
        assert_eq!(settings.check(), Err("chat.page is zero"));
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn every_section_is_known() {
        let table = Table::try_from(Settings::default().in_force()).unwrap();
        assert!(table.keys().map(String::as_str).eq(SECTIONS));
    }

    #[test]
    fn a_bad_value_names_its_key_and_its_source() {
        let error = from_env(&[("ROOMCAST_LISTEN", "nowhere")])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("ROOMCAST_LISTEN: `server.listen`: "),
            "{error}"
        );
    }

    #[test]
    fn every_unset_key_is_known() {
        let file = file(
            "[server]\nprofile = \"production\"\n[auth]\nguests = true\n[log]\nfile = \"x.log\"\n\
             [engine.cookie]\nname = \"node\"\npath = \"/x\"\nhttp_only = false\nsame_site = \"strict\"\n\
             max_age = \"1m\"\ndomain = \"x\"\nsecure = true\npartitioned = true",
        );
        let settings = load(Some(file.path()), std::iter::empty(), Overrides::default())
            .unwrap()
            .settings;
        assert_eq!(settings.profile(), Profile::Production);
        assert!(settings.guests());
        let cookie = settings.engine.http.cookie.unwrap();
        assert_eq!((&*cookie.name, cookie.secure), ("node", true));
    }
}
