//! A build without the feature `otlp`.

use std::{convert::Infallible, future::Ready, sync::Arc};

use crate::auth::outbound::OutboundFault;
use crate::config::Otlp;
use crate::metrics::{Metrics, trace::Spans};

/// The exporter, which does not exist.
#[derive(Clone, Debug)]
pub(crate) struct Exporter(Infallible);

impl Exporter {
    pub(crate) fn run(self, _: String) -> Ready<()> {
        match self.0 {}
    }

    pub(crate) fn close(&self) -> Ready<()> {
        match self.0 {}
    }
}

/// Refuses a collector.
///
/// # Errors
///
/// If a collector is configured.
pub(crate) fn check(config: &Otlp) -> Result<(), OutboundFault> {
    match super::target(config) {
        None => Ok(()),
        Some(_) => Err(OutboundFault(
            "otlp.url: this build cannot export spans: build with the feature `otlp`".to_owned(),
        )),
    }
}

/// Returns what records no spans.
///
/// # Errors
///
/// If a collector is configured.
pub(crate) fn open(
    config: &Otlp,
    metrics: &Arc<Metrics>,
) -> Result<(Spans, Option<Exporter>), OutboundFault> {
    check(config)?;
    let forwarded = config.requested_per_second;
    Ok((Spans::forwarding(forwarded, Arc::clone(metrics)), None))
}
