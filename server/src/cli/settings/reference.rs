//! All keys of the configuration with type, unit, default, variables and description, as
//! `print-config --commented` prints them.
//!
//! Keys and defaults are those of the serialized settings. Types and descriptions come from the
//! sources of the settings, which the build script reads.

use serde::Serialize;
use toml::{Table, Value};

use super::keys::{ALIASES, Kind, general, is_of_role, is_reloaded, known, variable};
use crate::config::Settings;

/// A struct or enum of the configuration.
struct Definition {
    name: &'static str,
    /// The rule of serde that renames the variants of an enum.
    renaming: &'static str,
    members: &'static [Member],
}

/// A field or variant.
struct Member {
    name: &'static str,
    /// The type of a field in Rust, empty for a variant.
    kind: &'static str,
    doc: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/keys.rs"));

/// A key of the configuration.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Entry {
    pub(super) key: String,
    /// The type of the value, in words.
    #[serde(rename = "type")]
    pub(super) type_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<&'static str>,
    /// `None` if the key is unset by default.
    pub(super) default: Option<Value>,
    /// The default, or a valid value of a key that is unset by default.
    pub(super) example: Value,
    /// The environment variables that set the key.
    pub(super) variables: Vec<String>,
    /// Whether SIGHUP applies a changed value.
    pub(super) reload: bool,
    pub(super) description: String,
}

/// Returns all keys in the order of their declaration.
pub(in crate::cli) fn entries() -> Vec<Entry> {
    let defaults = Table::try_from(Settings::default()).unwrap_or_default();
    let known = known();
    let is_section = |key: &str| {
        let is_within = |(other, _): &(String, Kind)| {
            let rest = other.strip_prefix(key);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        known.iter().any(is_within)
    };
    let keys = known.iter().filter(|(key, _)| !is_section(key));
    let mut entries: Vec<_> = keys
        .map(|(key, kind)| {
            let (order, field) = find(key);
            (order, entry(key, *kind, field, &defaults))
        })
        .collect();
    entries.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.key.cmp(&b.key)));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn entry(key: &str, kind: Kind, field: Option<&'static Member>, defaults: &Table) -> Entry {
    let default = lookup(defaults, key).cloned();
    let rust = field.map_or("", |field| {
        within(field.kind, "Option").unwrap_or(field.kind)
    });
    let expected = Expected::of(rust, kind);
    let aliases = ALIASES.iter().filter(|(_, aliased)| *aliased == key);
    let mut variables: Vec<_> = aliases.map(|(alias, _)| (*alias).to_owned()).collect();
    variables.push(variable(key));
    Entry {
        key: key.to_owned(),
        unit: unit(key, &expected.name),
        type_name: expected.name,
        example: default.clone().unwrap_or(expected.example),
        default,
        variables,
        reload: is_reloaded(key),
        description: of_server(field.map_or("", |field| field.doc)),
    }
}

/// States the default of the server before that of the library. The documentation of the library
/// has them in the other order: `Default A (the binary: B).` or `Default A. In the binary B: `.
fn of_server(doc: &str) -> String {
    let swapped = [(" (the binary: ", ")."), (". In the binary ", ": ")];
    let found = swapped.iter().find_map(|(middle, end)| {
        let (before, rest) = doc.split_once(middle)?;
        let (before, library) = before.rsplit_once("Default ")?;
        let (server, after) = rest.split_once(end)?;
        let end = end.trim_start_matches(')');
        Some(format!(
            "{before}Default {server} (of the library: {library}){end}{after}"
        ))
    });
    found.unwrap_or_else(|| doc.to_owned())
}

/// Returns the type of a key in words. `None` for unknown keys.
pub(super) fn expected(key: &str) -> Option<String> {
    let general = general(key);
    let known = known().iter().find(|(known, _)| *known == general);
    let kind = match known {
        Some((_, kind)) => *kind,
        None if is_of_role(key) => Kind::List,
        None => return None,
    };
    let rust = find(key).1.map_or("", |field| field.kind);
    let expected = Expected::of(within(rust, "Option").unwrap_or(rust), kind);
    let unit = unit(key, &expected.name).map(|unit| format!(" ({unit})"));
    Some(expected.name + &unit.unwrap_or_default())
}

/// The type of a value.
struct Expected {
    name: String,
    /// A valid value.
    example: Value,
}

impl Expected {
    /// Returns the type of a field, or for a field without a definition that of its kind.
    fn of(rust: &str, kind: Kind) -> Self {
        if let Some(item) = within(rust, "Vec").or_else(|| within(rust, "BTreeSet")) {
            let item = match kind {
                Kind::Tables => "table".to_owned(),
                Kind::Text | Kind::List | Kind::Scalar => Self::of(item, Kind::Text).name,
            };
            return Self {
                name: format!("list of: {item}"),
                example: Value::Array(Vec::new()),
            };
        }
        if let Some(types) = within(rust, "BTreeMap") {
            let value = Self::of(types.rsplit(", ").next().unwrap_or_default(), Kind::Text);
            return Self {
                name: format!("table of: {}", value.name),
                example: Value::Table(Table::new()),
            };
        }
        let text = |name: &str, example: &str| (name.to_owned(), Value::String(example.to_owned()));
        let (name, example) = match rust {
            "bool" => ("boolean".to_owned(), Value::Boolean(true)),
            "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => {
                ("integer".to_owned(), Value::Integer(1))
            }
            "f32" | "f64" => ("number".to_owned(), Value::Float(1.0)),
            "Duration" => text("duration", "30s"),
            "SystemTime" => text("time", "2030-01-01T00:00:00Z"),
            "PathBuf" => text("path", "/path/to/file"),
            "SocketAddr" => text("address", "127.0.0.1:3000"),
            "AdminListen" => text("address or `off`", "127.0.0.1:9464"),
            "Network" => text("address or network", "192.0.2.0/24"),
            "Secret" => text("secret text", ""),
            name => match DEFINITIONS.iter().find(|known| known.name == name) {
                Some(choices) if choices.members.iter().all(|member| member.kind.is_empty()) => {
                    let names = choices
                        .members
                        .iter()
                        .map(|member| choices.renamed(member.name));
                    let names: Vec<_> = names.filter(|name| name != "custom").collect();
                    let first = names.first().cloned().unwrap_or_default();
                    (format!("one of {}", names.join(", ")), Value::String(first))
                }
                Some(_) | None => match kind {
                    Kind::Text => text("text", "text"),
                    Kind::List | Kind::Tables => {
                        ("list of: text".to_owned(), Value::Array(Vec::new()))
                    }
                    Kind::Scalar => ("integer or boolean".to_owned(), Value::Integer(1)),
                },
            },
        };
        Self { name, example }
    }
}

impl Definition {
    /// Returns a variant as in files.
    fn renamed(&self, variant: &str) -> String {
        let mut name = String::new();
        for c in variant.chars() {
            if c.is_uppercase() && !name.is_empty() && self.renaming == "kebab-case" {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }
}

/// Returns the place of a key in the order of declarations, and its field.
fn find(key: &str) -> (Vec<usize>, Option<&'static Member>) {
    let (mut order, mut found) = (Vec::new(), None);
    let mut inner = "Settings";
    let mut names = key.split('.');
    while let Some(name) = names.next() {
        let single = [inner];
        let structs: &[&str] = match inner {
            // In files, the groups of the library's options are flat.
            "Config" => &["Http", "Admission", "Session", "Outbox", "Sockets"],
            _ => &single,
        };
        let definitions = structs
            .iter()
            .filter_map(|name| DEFINITIONS.iter().find(|known| known.name == *name));
        let mut members = definitions
            .flat_map(|definition| definition.members)
            .enumerate();
        let Some((index, member)) = members.find(|(_, member)| member.name == name) else {
            return (order, None);
        };
        order.push(index);
        found = Some(member);
        inner = within(member.kind, "Option").unwrap_or(member.kind);
        if let Some(types) = within(inner, "BTreeMap") {
            // The next name is a key of the map.
            names.next();
            inner = types.rsplit(", ").next().unwrap_or_default();
        }
    }
    (order, found)
}

/// Returns the arguments of a generic type.
fn within<'a>(rust: &'a str, generic: &str) -> Option<&'a str> {
    rust.strip_prefix(generic)?
        .strip_prefix('<')?
        .strip_suffix('>')
}

/// Returns the unit of a key's value, derived from its type and its name.
fn unit(key: &str, type_name: &str) -> Option<&'static str> {
    let name = key.rsplit('.').next().unwrap_or_default();
    match type_name {
        "duration" => Some("ms, s, m, h or days, such as 30s"),
        "integer" if name.ends_with("bytes_per_second") => Some("bytes per second"),
        "integer" if name.ends_with("_per_second") => Some("per second"),
        "integer" if name.ends_with("_per_minute") => Some("per minute"),
        "integer" if name.contains("bytes") || name.ends_with("payload") => Some("bytes"),
        "integer" if name.ends_with("_chars") => Some("characters"),
        _ => None,
    }
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut names = key.split('.');
    let first = table.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

/// Formats all keys as a configuration file in which every key is a comment.
///
/// A line that begins with `#` and no space is a key.
pub(in crate::cli) fn commented() -> String {
    let mut text = String::from(HEAD);
    let mut section = "";
    let entries = entries();
    for entry in &entries {
        let (first, rest) = entry.key.split_once('.').unwrap_or(("", &entry.key));
        if first != section {
            text.push_str(&format!("\n[{first}]\n"));
            section = first;
        }
        text.push('\n');
        for line in wrapped(&entry.description) {
            text.push_str(&format!("# {line}\n"));
        }
        let unit = entry
            .unit
            .map(|unit| format!(" ({unit})"))
            .unwrap_or_default();
        let default = match &entry.default {
            Some(default) => default.to_string(),
            None => UNSET.to_owned(),
        };
        let reload = if entry.reload {
            "yes"
        } else {
            "needs a restart"
        };
        text.push_str(&format!(
            "# type: {}{unit}; default: {default}\n# variable: {}; reload: {reload}\n#{rest} = {}\n",
            entry.type_name,
            entry.variables.join(" or "),
            entry.example,
        ));
    }
    text
}

/// Breaks a text into lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

const HEAD: &str = "\
# All keys of the configuration, with their defaults. To set a key, remove the `#` before it.
# A key that is unset by default has an example as its value.
# `reload: yes` means that the server applies a change on SIGHUP, of a URL only user and password.
";
/// The default of a key that is unset.
const UNSET: &str = "unset";
/// Maximum length of a line of a description.
const COLUMNS: usize = 97;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Overrides, load};
    use super::*;
    use crate::config::named_files;

    fn loaded(text: &str) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(Some(file.path()), std::iter::empty(), Overrides::default())
            .map(|loaded| loaded.settings)
            .map_err(|error| format!("{text}: {error}"))
    }

    #[test]
    fn every_key_that_names_a_file_is_in_the_list_of_files() {
        let entries = entries();
        let paths = entries.iter().filter(|entry| entry.type_name == "path");
        let paths: BTreeSet<_> = paths.map(|entry| entry.key.as_str()).collect();
        let settings = Settings::default();
        let named = named_files(&settings);
        let named: BTreeSet<_> = named.iter().map(|named| named.key).collect();
        assert!(named.contains("audit.file"));
        assert_eq!(paths, named);
    }

    #[test]
    fn every_key_has_a_description_and_a_type() {
        let entries = entries();
        assert!(entries.len() > 170, "{}", entries.len());
        for entry in &entries {
            assert!(!entry.description.is_empty(), "{}", entry.key);
            let Entry { key, type_name, .. } = entry;
            assert_ne!(type_name, "integer or boolean", "{key}");
            for form in ["(the binary: ", "In the binary `"] {
                assert!(!entry.description.contains(form), "{key}");
            }
        }
        let of = |key: &str| entries.iter().find(|entry| entry.key == key).unwrap();
        for (key, type_name, unit) in [
            ("server.listen", "address", None),
            ("server.profile", "one of development, production", None),
            (
                "store.retention",
                "duration",
                Some("ms, s, m, h or days, such as 30s"),
            ),
            ("engine.max_payload", "integer", Some("bytes")),
            (
                "engine.bytes_per_second",
                "integer",
                Some("bytes per second"),
            ),
            (
                "engine.transports",
                "list of: one of polling, websocket",
                None,
            ),
            ("auth.jwt.secret", "secret text", None),
            ("auth.roles.user.permissions", "list of: text", None),
            ("market.signals", "list of: table", None),
            ("adapter.trust", "one of servers, shared-with-node", None),
        ] {
            let entry = of(key);
            assert_eq!((&*entry.type_name, entry.unit), (type_name, unit), "{key}");
        }
        for (key, default) in [
            (
                "engine.bytes_per_second",
                "Default 1 MiB (of the library: 0).",
            ),
            (
                "recovery.enabled",
                "Default `false` (of the library: `true`): a",
            ),
        ] {
            let description = &of(key).description;
            assert!(description.contains(default), "{description}");
        }
        assert_eq!(
            of("server.listen").variables,
            ["ROOMCAST_LISTEN", "ROOMCAST_SERVER__LISTEN"]
        );
    }

    #[test]
    fn commented_keys_are_the_defaults_and_each_can_be_set() {
        let text = commented();
        let defaults = toml::to_string(&Settings::default()).unwrap();
        let read = |text: &str| toml::to_string(&loaded(text).unwrap()).unwrap();
        assert_eq!(read(&text), defaults);
        let mut all = String::new();
        let (mut section, mut is_unset, mut keys) = ("", false, 0);
        for line in text.lines() {
            let key = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
            match key {
                Some(key) => {
                    keys += 1;
                    read(&format!("{section}\n{key}"));
                    if !is_unset {
                        all.push_str(&format!("{key}\n"));
                    }
                }
                None if line.starts_with('[') => {
                    section = line;
                    all.push_str(&format!("{line}\n"));
                }
                None if line.starts_with("# type: ") => is_unset = line.ends_with("default: unset"),
                None => {}
            }
        }
        assert_eq!(keys, entries().len());
        assert_eq!(read(&all), defaults);
    }
}
