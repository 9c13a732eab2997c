//! Replaces the schemas in builds without the feature: a declared schema is refused.

use std::path::Path;

use serde_json::Value;

use crate::service::fault::ServiceError;

/// The schema of an event's data. There is none.
#[derive(Debug)]
pub(in crate::service::channels) enum DataSchema {}

/// Refuses a schema.
pub(in crate::service::channels) const fn parse(_: &Path) -> Result<Value, &'static str> {
    Err(UNAVAILABLE)
}

impl DataSchema {
    /// Refuses a schema.
    pub(in crate::service::channels) const fn open(_: &Path) -> Result<Self, &'static str> {
        Err(UNAVAILABLE)
    }

    /// Checks data.
    pub(in crate::service::channels) const fn check(&self, _: &Value) -> Result<(), ServiceError> {
        match *self {}
    }
}

const UNAVAILABLE: &str = "a schema needs a server with the feature `schemas`: build it with `cargo \
    build --release -p roomcast-server --features schemas`";
