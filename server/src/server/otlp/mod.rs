//! Exports the spans of sampled events and API calls to an OpenTelemetry collector (OTLP over
//! HTTP).
//!
//! Without the feature `otlp`, this module refuses a configured collector. Spans are recorded in
//! `metrics::trace`; the requests of this module are in no trace.

#[cfg(feature = "otlp")]
mod encoding;
#[cfg(feature = "otlp")]
mod exporter;
#[cfg(feature = "otlp")]
mod headers;
#[cfg(not(feature = "otlp"))]
mod no_otlp;

use crate::auth::outbound::Target;
use crate::config::Otlp;

#[cfg(feature = "otlp")]
pub(super) use exporter::{Exporter, check, open};
#[cfg(not(feature = "otlp"))]
pub(super) use no_otlp::{Exporter, check, open};

/// Returns the collector, if it is configured.
pub(super) fn target(config: &Otlp) -> Option<Target<'_>> {
    let url = config.url.as_deref()?;
    Some(Target {
        section: "otlp",
        url,
        ca_file: config.ca_file.as_deref(),
        timeout: config.timeout,
        // Collectors usually run beside the server, in the same private network.
        allow_private: true,
    })
}
