//! Replaces the module `tls` in builds without the feature `tls`. `Tls` has no variants, so its
//! methods are never called.

use std::{future::Ready, net::IpAddr};

use tokio::net::TcpStream;

use crate::metrics::Metrics;

/// TLS, which is not available in this build.
#[derive(Clone, Debug)]
pub(crate) enum Tls {}

impl Tls {
    pub(super) fn accept(
        &self,
        _: TcpStream,
        _: Option<IpAddr>,
        _: &Metrics,
    ) -> Ready<Option<TcpStream>> {
        match *self {}
    }
}
