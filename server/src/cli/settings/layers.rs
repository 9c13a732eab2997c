//! The configuration layers, in increasing precedence.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use toml::{Table, Value};

use super::keys::{
    ALIASES, Kind, LISTEN, OTHERS, PORT, PREFIX, REDIS, REMOVED, RENAMED, flatten,
    is_of_kubernetes, is_of_role, known, redis_warning, variable,
};
use super::{LoadError, Overrides};
use crate::config::Settings;

/// The values of all layers, each with its source.
pub(super) struct Layers {
    /// Every key with its kind.
    pub(super) known: Vec<(String, Kind)>,
    settings: Vec<Setting>,
    pub(super) warnings: Vec<String>,
    /// Variables for Redis that are set.
    redis: Vec<String>,
    /// The value of `PORT`, if it is set.
    port: Option<OsString>,
}

struct Setting {
    key: String,
    value: Value,
    from: String,
}

impl Layers {
    pub(super) fn new() -> Self {
        Self {
            known: known(),
            settings: Vec::new(),
            warnings: Vec::new(),
            redis: Vec::new(),
            port: None,
        }
    }

    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), LoadError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| LoadError::Read(path.into(), error))?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = 1 + before.unwrap_or_default().matches('\n').count();
            LoadError::Syntax(path.into(), line, error.message().to_owned())
        })?;
        let mut unknown = None;
        let mut settings = Vec::new();
        flatten("", &table, &mut |key, value| {
            if self.is_known(&key) {
                let from = path.display().to_string();
                settings.push(Setting {
                    key,
                    value: value.clone(),
                    from,
                });
            } else if !(value.is_table() && self.is_section(&key)) {
                unknown.get_or_insert(key);
            }
        });
        if let Some(key) = unknown {
            if let Some(removed) = removed(&key, path.display().to_string()) {
                return Err(removed);
            }
            return Err(LoadError::UnknownKey {
                path: path.into(),
                nearest: self.nearest(&key),
                key,
            });
        }
        self.settings.extend(settings);
        Ok(())
    }

    pub(super) fn add_environment(
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
                if name == PORT && !value.is_empty() {
                    self.port = Some(value);
                    continue;
                }
                if REDIS.contains(&name.as_str()) && is_meant(&value) {
                    self.redis.push(name);
                }
                continue;
            }
            let Ok(value) = value.into_string() else {
                return Err(LoadError::NotText(name));
            };
            if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
                self.set_text(key, &value, name);
            } else if let Some(rest) = name.strip_prefix(PREFIX)
                && !OTHERS.contains(&name.as_str())
                && !is_of_kubernetes(rest)
            {
                let key = rest.to_ascii_lowercase().replace("__", ".");
                prefixed.push((key, value, name));
            }
        }
        // Prefixed variables are added after the aliases, over which they take precedence.
        for (key, value, name) in prefixed {
            if self.is_known(&key) {
                self.set_text(&key, &value, name);
            } else if let Some(removed) = removed(&key, name.clone()) {
                // Such a key may have protected or permitted something, so it must not be
                // ignored silently.
                return Err(removed);
            } else {
                let hint = self
                    .nearest(&key)
                    .map(|nearest| format!(", did you mean {}?", variable(&nearest)))
                    .unwrap_or_default();
                self.warnings.push(format!("unknown variable {name}{hint}"));
            }
        }
        Ok(())
    }

    pub(super) fn add_overrides(&mut self, overrides: Overrides) {
        let values = [
            (LISTEN, overrides.listen.map(|v| v.to_string()), "--listen"),
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
                self.set_text(key, &value, flag.to_owned());
            }
        }
    }

    /// Adds the port that the environment assigns, if no other layer has an address.
    ///
    /// # Errors
    ///
    /// If the port is needed and is not a number.
    pub(super) fn add_port(&mut self) -> Result<(), LoadError> {
        let is_set = self.settings.iter().any(|setting| setting.key == LISTEN);
        let Some(port) = self.port.take().filter(|_| !is_set) else {
            return Ok(());
        };
        let port = port.to_str().and_then(|port| port.parse().ok());
        let Some(port) = port.filter(|port: &u16| *port != 0) else {
            return Err(LoadError::Value {
                key: LISTEN.to_owned(),
                from: PORT.to_owned(),
                error: "expected a port from 1 to 65535".to_owned(),
            });
        };
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        self.set_text(LISTEN, &address.to_string(), PORT.to_owned());
        Ok(())
    }

    /// Adds a value given as text, parsed according to the kind of the key.
    fn set_text(&mut self, key: &str, text: &str, from: String) {
        let known = self.known.iter().find(|(known, _)| known == key);
        // A key that is not in the settings belongs to a role.
        let value = match known.map_or(Kind::List, |(_, kind)| *kind) {
            Kind::Text => Value::String(text.to_owned()),
            Kind::List => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Value::String(item.to_owned()))
                    .collect(),
            ),
            Kind::Scalar => scalar(text),
        };
        self.settings.push(Setting {
            key: key.to_owned(),
            value,
            from,
        });
    }

    /// Returns a warning about ineffective Redis variables, unless `adapter.url` is set.
    pub(super) fn redis_warning(&self) -> Option<String> {
        let is_set = self
            .settings
            .iter()
            .any(|setting| setting.key == "adapter.url");
        let mut names = self.redis.clone();
        names.sort();
        redis_warning(&names).filter(|_| !is_set)
    }

    pub(super) fn is_known(&self, key: &str) -> bool {
        is_of_role(key) || self.known.iter().any(|(known, _)| known == key)
    }

    /// Returns whether a name is that of a section, which may be empty in a file.
    pub(super) fn is_section(&self, name: &str) -> bool {
        let mut sections = self.known.iter().filter_map(|(key, _)| key.split_once('.'));
        sections.any(|(section, _)| section == name)
    }

    fn nearest(&self, key: &str) -> Option<String> {
        self.known
            .iter()
            .map(|(known, _)| (strsim::jaro_winkler(known, key), known))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known.clone())
    }

    pub(super) fn settings(self) -> Result<Settings, LoadError> {
        let mut table = Table::try_from(Settings::default()).unwrap_or_default();
        for setting in &self.settings {
            set(&mut table, &setting.key, setting.value.clone());
        }
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
            let key = error.path().to_string();
            let from = self
                .settings
                .iter()
                .rev()
                .find(|setting| key.starts_with(&setting.key))
                .map_or_else(
                    || "configuration".to_owned(),
                    |setting| setting.from.clone(),
                );
            let error = if key.contains("secret") || key.ends_with("token") {
                "not a text".to_owned()
            } else {
                error.into_inner().message().to_owned()
            };
            LoadError::Value { key, from, error }
        })
    }
}

/// Returns whether an operator may have set a Redis variable. Kubernetes sets
/// `REDIS_PORT=tcp://10.0.0.1:6379` for a service.
fn is_meant(value: &OsStr) -> bool {
    let is_of_kubernetes = value
        .to_str()
        .is_some_and(|text| text.starts_with("tcp://"));
    !value.is_empty() && !is_of_kubernetes
}

/// Returns the error for a removed or renamed key.
fn removed(key: &str, from: String) -> Option<LoadError> {
    if let Some((_, now)) = RENAMED.iter().find(|(renamed, _)| *renamed == key) {
        return Some(LoadError::Renamed {
            now: if from.starts_with(PREFIX) {
                variable(now)
            } else {
                (*now).to_owned()
            },
            from,
            key: key.to_owned(),
        });
    }
    let (_, instead) = REMOVED.iter().find(|(removed, _)| *removed == key)?;
    Some(LoadError::Removed(from, key.to_owned(), instead))
}

/// Parses text as a boolean or an integer, or else returns it as a string.
fn scalar(text: &str) -> Value {
    if let Ok(value) = text.parse() {
        return Value::Boolean(value);
    }
    if let Ok(value) = text.parse() {
        return Value::Integer(value);
    }
    Value::String(text.to_owned())
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
