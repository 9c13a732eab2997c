//! Stands in for `forwarding` in builds without the feature: there is no value of it.

use std::time::Duration;

use http::HeaderName;
use roomcast_protocol::Tag;

/// The header by which servers hand requests on. Requests that carry it are read in full here too,
/// although nothing can prove it.
pub(in crate::engine) const HEADER: HeaderName = HeaderName::from_static("x-roomcast-forwarded");

/// What hands requests on, of which this build has none.
#[derive(Debug)]
pub(crate) enum Forwarder {}

impl Forwarder {
    pub(in crate::engine) fn tag(&self) -> Tag {
        match *self {}
    }

    pub(in crate::engine) fn is_crowded(&self) -> bool {
        match *self {}
    }

    pub(in crate::engine) fn send_away(&self, _: Duration) {
        match *self {}
    }
}
