//! Puts the configuration together: flag over environment over file over default.
//!
//! Every command begins with [`load`]. `layers` reads the sources and knows which one has said what, `keys` has the
//! names that there are, and `error` says what is wrong and where it was written. The types of the settings and their
//! checks are in `config`, which must not know where a value comes from; this folder imports nothing else of the
//! server.

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

/// The configuration in force, and what looked wrong on the way.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) settings: Settings,
    pub(super) warnings: Vec<String>,
}

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
    let redis_warning = layers.redis_warning();
    let settings = layers.settings()?;
    // An unknown variable is refused as an unknown key of the file is: what was meant to protect
    // the server would not.
    if settings.profile() == Profile::Production && !warnings.is_empty() {
        return Err(LoadError::UnknownVariable(warnings.swap_remove(0)));
    }
    // Such a variable may be meant for another program in the same container, so that it is never an error.
    warnings.extend(redis_warning);
    Ok(Loaded { settings, warnings })
}

/// Reads a profile's name.
pub(super) fn parse_profile(name: &str) -> Result<Profile, String> {
    let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        name.into_deserializer();
    serde::Deserialize::deserialize(name).map_err(|error| error.to_string())
}
