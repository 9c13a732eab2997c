//! The configuration layers, in increasing precedence.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use toml::{Table, Value, de::DeTable};

use super::Overrides;
use super::environment::Origins;
use super::error::{Mistake, Place, is_secret};
use super::keys::{
    ALIASES, Kind, LISTEN, OTHERS, PORT, PREFIX, REDIS, flatten, general, is_entry,
    is_of_kubernetes, is_of_role, is_section, known, redis_warning, variable, with_name_of,
};
use crate::config::Settings;

/// The values of all layers, each with its source.
pub(super) struct Layers {
    /// Every key with its kind.
    pub(super) known: &'static [(String, Kind)],
    settings: Vec<Setting>,
    /// Mistakes in names and syntax.
    pub(super) mistakes: Vec<Mistake>,
    /// Unknown variables.
    pub(super) unknown: Vec<Mistake>,
    /// Variables for Redis that are set.
    redis: Vec<String>,
    /// The value of `PORT` and where it is set, if it is.
    port: Option<(OsString, Place)>,
}

/// A value with its source.
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: Value,
    /// The file, the variable of the process, or the flag.
    pub(super) from: String,
    /// The line in the file.
    pub(super) line: Option<usize>,
}

impl Layers {
    pub(super) fn new() -> Self {
        Self {
            known: known(),
            settings: Vec::new(),
            mistakes: Vec::new(),
            unknown: Vec::new(),
            redis: Vec::new(),
            port: None,
        }
    }

    pub(super) fn add_file(&mut self, path: &Path) {
        let from = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let mistake = Mistake::at(Place::of(from), error.to_string());
                self.mistakes.push(mistake);
                return;
            }
        };
        let line_of =
            |offset: usize| 1 + text.get(..offset).unwrap_or_default().matches('\n').count();
        let (parsed, errors) = DeTable::parse_recoverable(&text);
        // The lines themselves are omitted, because they may contain a secret.
        let mut reported = None;
        for error in &errors {
            let line = error.span().map(|span| line_of(span.start));
            // A mistake can have consequences in its line.
            if reported != Some(line) {
                let mut place = Place::of(from.as_str());
                place.line = line;
                self.mistakes.push(Mistake::at(place, error.message()));
                reported = Some(line);
            }
        }
        let Ok(table) = text.parse::<Table>() else {
            return;
        };
        let mut values = Vec::new();
        flatten("", &table, &mut |key, value| {
            values.push((key, value.clone()))
        });
        for (key, value) in values {
            let line = offset(parsed.get_ref(), &key).map(line_of);
            let mut place = Place::of(from.as_str());
            place.line = line;
            if value.is_table() && is_section(&key) {
                // A section may be empty, and keeps its defaults.
            } else if self.is_known(&key) {
                self.settings.push(Setting {
                    key,
                    value,
                    from: from.clone(),
                    line,
                });
            } else {
                let nearest = self.nearest(&key);
                let place = place.with_unknown(&key, nearest.as_deref(), &value);
                let mut mistake = Mistake::at(place, format!("unknown key `{key}`"));
                mistake.nearest = nearest.map(|nearest| format!("`{nearest}`"));
                self.mistakes.push(mistake);
            }
        }
    }

    pub(super) fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
        origins: &Origins,
    ) {
        let mut prefixed = Vec::new();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else {
                continue;
            };
            let is_ours =
                ALIASES.iter().any(|(alias, _)| *alias == name) || name.starts_with(PREFIX);
            if !is_ours {
                if name == PORT && !value.is_empty() {
                    self.port = Some((value, origins.place(&name)));
                    continue;
                }
                if REDIS.contains(&name.as_str()) && is_meant(&value) {
                    self.redis.push(name);
                }
                continue;
            }
            let Ok(value) = value.into_string() else {
                self.mistakes
                    .push(Mistake::at(origins.place(&name), "not UTF-8"));
                continue;
            };
            if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
                self.set_text(key, &value, origins.place(&name));
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
                self.set_text(&key, &value, origins.place(&name));
                continue;
            }
            let value = Value::String(value);
            let nearest = self.nearest(&key);
            let fault = format!("unknown variable {name}");
            let place = origins.place(&name);
            let place = place.with_unknown(&key, nearest.as_deref(), &value);
            let mut mistake = Mistake::at(place, fault);
            mistake.nearest = nearest.map(|nearest| variable(&nearest));
            self.unknown.push(mistake);
        }
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
                self.set_text(key, &value, Place::of(flag));
            }
        }
    }

    /// Adds the port that the environment assigns, if no other layer has an address.
    pub(super) fn add_port(&mut self) {
        let is_set = self.settings.iter().any(|setting| setting.key == LISTEN);
        let Some((port, place)) = self.port.take().filter(|_| !is_set) else {
            return;
        };
        let number = port.to_str().and_then(|port| port.parse().ok());
        let Some(port) = number.filter(|port: &u16| *port != 0) else {
            let mut place = place.named(LISTEN);
            place.value = Some(Value::String(port.to_string_lossy().into_owned()).to_string());
            place.expected = Some("a port from 1 to 65535".to_owned());
            let fault = format!("`{LISTEN}`: not a port");
            self.mistakes.push(Mistake::at(place, fault));
            return;
        };
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        self.set_text(LISTEN, &address.to_string(), place);
    }

    /// Adds a value given as text, parsed according to the kind of the key.
    fn set_text(&mut self, key: &str, text: &str, from: Place) {
        let general = general(key);
        let known = self.known.iter().find(|(known, _)| *known == general);
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
            Kind::Tables => {
                let tables = text.parse();
                tables.unwrap_or_else(|_| Value::String(text.to_owned()))
            }
            Kind::Scalar => scalar(text),
        };
        self.settings.push(Setting {
            key: key.to_owned(),
            value,
            from: from.source,
            line: from.line,
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
        let general = general(key);
        let mut known = self.known.iter();
        is_of_role(key) || is_entry(key) || known.any(|(known, _)| *known == general)
    }

    fn nearest(&self, key: &str) -> Option<String> {
        let known = self.known.iter();
        known
            .map(|(known, _)| with_name_of(key, known))
            .map(|known| (strsim::jaro_winkler(&known, key), known))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known.into_owned())
    }

    /// Returns the value in force of each key that is set.
    pub(super) fn effective(&self) -> impl Iterator<Item = &Setting> {
        let is_last = |(index, setting): &(usize, &Setting)| {
            let mut later = self.settings.iter().skip(index + 1);
            !later.any(|later| later.key == setting.key)
        };
        self.settings
            .iter()
            .enumerate()
            .filter(is_last)
            .map(|(_, setting)| setting)
    }

    /// Returns the settings without the values of some keys, or the key and the reason of the first
    /// value that cannot be used.
    pub(super) fn without(&self, keys: &[String]) -> Result<Settings, (String, String)> {
        settings(self.effective().filter(|set| !keys.contains(&set.key)))
    }

    /// Returns the settings, and a mistake for each value that cannot be used.
    pub(super) fn settings(&self) -> (Settings, Vec<Mistake>) {
        let (mut mistakes, mut wrong) = (Vec::new(), Vec::new());
        loop {
            let (path, error) = match self.without(&wrong) {
                Ok(settings) => return (settings, mistakes),
                Err(fault) => fault,
            };
            let error = if is_secret(&path) {
                "wrong type"
            } else {
                &error
            };
            let right = self.effective().filter(|set| !wrong.contains(&set.key));
            // The path leads into the value, or to the section that the value makes invalid.
            let cause = right
                .filter(|set| path.starts_with(&set.key) || set.key.starts_with(&path))
                .max_by_key(|set| path.starts_with(&set.key).then_some(set.key.len()));
            let Some(cause) = cause else {
                mistakes.push(Mistake::at(
                    Place::of("configuration"),
                    format!("`{path}`: {error}"),
                ));
                return (Settings::default(), mistakes);
            };
            wrong.push(cause.key.clone());
            mistakes.push(Mistake::at(cause.place(), format!("`{path}`: {error}")));
        }
    }
}

/// Returns the defaults with some values, or the key and the reason of the first value that cannot
/// be used.
fn settings<'a>(values: impl Iterator<Item = &'a Setting>) -> Result<Settings, (String, String)> {
    let mut table = Table::try_from(Settings::default()).unwrap_or_default();
    for setting in values {
        set(&mut table, &setting.key, setting.value.clone());
    }
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let key = error.path().to_string();
        (key, error.into_inner().message().to_owned())
    })
}

/// Returns where a key is in a file.
fn offset(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut table = table;
    let mut names = key.split('.').peekable();
    while let Some(name) = names.next() {
        let (found, value) = table.iter().find(|(known, _)| **known.get_ref() == *name)?;
        if names.peek().is_none() {
            return Some(found.span().start);
        }
        table = value.get_ref().as_table()?;
    }
    None
}

/// Returns whether an operator may have set a Redis variable. Kubernetes sets
/// `REDIS_PORT=tcp://10.0.0.1:6379` for a service.
fn is_meant(value: &OsStr) -> bool {
    let is_of_kubernetes = value
        .to_str()
        .is_some_and(|text| text.starts_with("tcp://"));
    !value.is_empty() && !is_of_kubernetes
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
