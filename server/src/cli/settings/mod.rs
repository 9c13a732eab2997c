//! Loads the configuration. Flags override environment variables, which override the file, which
//! overrides the defaults. `PORT` only replaces the default address.
//!
//! Every command that needs the configuration begins with [`load`]. `layers` reads the sources and
//! records the source of each value, `keys` has the known names, and `error` describes faults and
//! names where the wrong value came from. The types of the settings and their checks are in
//! `config`, which must not depend on where a value comes from. Apart from `config`, this module
//! imports no module of the server.

mod error;
mod keys;
mod layers;
#[cfg(test)]
mod names;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, net::SocketAddr, path::Path};

use serde::de::IntoDeserializer;

pub(super) use self::error::LoadError;
use self::layers::Layers;
use crate::config::{Profile, Settings};

/// Values given on the command line.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    pub(super) listen: Option<SocketAddr>,
    pub(super) store: Option<String>,
    pub(super) profile: Option<Profile>,
    pub(super) log: Option<String>,
}

/// The loaded configuration, with warnings.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) settings: Settings,
    pub(super) warnings: Vec<String>,
}

/// Reads all sources and checks for unknown names.
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
    layers.add_port()?;
    let mut warnings = std::mem::take(&mut layers.warnings);
    let redis_warning = layers.redis_warning();
    let settings = layers.settings()?;
    // In production, an unknown variable is an error, as an unknown key in the file always is. It
    // may be a misspelled setting that was meant to protect the server.
    if settings.profile() == Profile::Production && !warnings.is_empty() {
        return Err(LoadError::UnknownVariable(warnings.swap_remove(0)));
    }
    // A Redis variable can be meant for another program in the same container, so it is never an
    // error.
    warnings.extend(redis_warning);
    Ok(Loaded { settings, warnings })
}

/// Parses the name of a profile.
pub(super) fn parse_profile(name: &str) -> Result<Profile, String> {
    let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        name.into_deserializer();
    serde::Deserialize::deserialize(name).map_err(|error| error.to_string())
}
