//! Replaces `acme` in builds without the feature: `Acme` has no values.

use std::{convert::Infallible, sync::Arc};

use super::Challenges;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;

/// Orders of certificates, which are not available in this build.
pub(in crate::server) enum Acme {}

/// The fault of a file, which cannot occur in this build.
pub(crate) type FileFault = Infallible;

impl Acme {
    /// The fault of a configured authority.
    pub(in crate::server) const UNAVAILABLE: Option<&'static str> =
        Some("server.acme.url needs a server that was built with the feature `acme`");

    /// Returns no orders.
    pub(in crate::server) fn prepare(
        _: &Settings,
        _: &Challenges,
        _: &Arc<Metrics>,
    ) -> Result<Option<Self>, FileFault> {
        Ok(None)
    }

    /// Never called.
    pub(in crate::server) fn start(self, _: &Supervisor) {
        match self {}
    }
}
