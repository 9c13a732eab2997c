//! Loads the configuration. Flags override environment variables, which override the file, which
//! overrides the defaults. `PORT` only replaces the default address.
//!
//! Every command that needs the configuration begins with [`read`]. `layers` reads the sources and
//! records the source of each value, `keys` has the known names, `error` describes mistakes and
//! names where each came from, `environment` reads variables, `checks` finds all mistakes that a
//! check reports one at a time, and `reference` describes all keys. The types of the settings and
//! their checks are in `config`, which must not depend on where a value comes from. Apart from
//! `config`, this module imports no module of the server.

mod checks;
mod environment;
mod error;
mod keys;
mod layers;
#[cfg(test)]
mod names;
mod reference;
#[cfg(test)]
mod tests;

#[cfg(test)]
use std::ffi::OsString;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
};

use serde::de::IntoDeserializer;

use self::environment::Environment;
pub(super) use self::environment::environment;
pub(super) use self::error::Mistake;
#[cfg(test)]
pub(super) use self::error::Mistakes;
pub(super) use self::keys::{mixed_section, reloaded};
use self::layers::Layers;
pub(super) use self::reference::{commented, entries};
use crate::config::{Profile, Settings};

/// Values given on the command line.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    pub(super) listen: Option<SocketAddr>,
    pub(super) store: Option<String>,
    pub(super) profile: Option<Profile>,
    pub(super) log: Option<String>,
}

/// The configuration as read, with all mistakes.
pub(super) struct Configuration {
    layers: Layers,
    /// The settings, without values that cannot be used.
    pub(super) settings: Settings,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<String>,
}

/// Reads all sources.
pub(super) fn read(
    file: Option<&Path>,
    environment: Environment,
    overrides: Overrides,
) -> Configuration {
    let mut layers = Layers::new();
    layers.mistakes.extend(environment.mistakes);
    if let Some(path) = file {
        layers.add_file(path);
    }
    layers.add_environment(environment.variables.into_iter(), &environment.origins);
    layers.add_overrides(overrides);
    layers.add_port();
    let mut mistakes = std::mem::take(&mut layers.mistakes);
    let (settings, wrong) = layers.settings();
    mistakes.extend(wrong);
    let unknown = std::mem::take(&mut layers.unknown);
    let mut warnings = Vec::new();
    // In production, an unknown variable is an error, as an unknown key in the file always is. It
    // may be a misspelled setting that was meant to protect the server.
    if settings.profile() == Profile::Production {
        mistakes.extend(unknown);
    } else {
        warnings.extend(unknown.iter().map(Mistake::summary));
    }
    // A Redis variable can be meant for another program in the same container, so it is never an
    // error.
    warnings.extend(layers.redis_warning());
    Configuration {
        layers,
        settings,
        mistakes,
        warnings,
    }
}

impl Configuration {
    /// Adds all mistakes that a check finds.
    pub(super) fn check(&mut self, check: impl Fn(&Settings) -> Result<(), String>) {
        // A file that cannot be parsed has unknown values.
        let has_key = |mistake: &Mistake| mistake.settings.iter().any(|place| place.key.is_some());
        if self.mistakes.iter().all(has_key) {
            let found = checks::find(&self.layers, &self.mistakes, &check);
            self.mistakes.extend(found);
        }
    }
}

/// Returns the keys whose values differ.
pub(super) fn changed(one: &Settings, other: &Settings) -> BTreeSet<String> {
    let values = |settings: &Settings| {
        let mut values = BTreeMap::new();
        let table = toml::Table::try_from(settings).unwrap_or_default();
        keys::flatten("", &table, &mut |key, value| {
            values.insert(key, value.clone());
        });
        values
    };
    let (one, other): (BTreeMap<_, _>, BTreeMap<_, _>) = (values(one), values(other));
    let keys = one.keys().chain(other.keys());
    let keys = keys.filter(|key| one.get(*key) != other.get(*key));
    keys.cloned().collect()
}

/// The loaded configuration, with warnings.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) settings: Settings,
    pub(super) warnings: Vec<String>,
}

/// Reads all sources. Fails if there are mistakes.
#[cfg(test)]
pub(super) fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    overrides: Overrides,
) -> Result<Loaded, Mistakes> {
    let Configuration {
        settings,
        mistakes,
        warnings,
        ..
    } = read(file, self::environment(None, environment), overrides);
    if mistakes.is_empty() {
        Ok(Loaded { settings, warnings })
    } else {
        Err(Mistakes(mistakes))
    }
}

/// Parses the name of a profile.
pub(super) fn parse_profile(name: &str) -> Result<Profile, String> {
    let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        name.into_deserializer();
    serde::Deserialize::deserialize(name).map_err(|error| error.to_string())
}
