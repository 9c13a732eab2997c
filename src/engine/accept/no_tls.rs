//! Replaces `tls` in builds without the feature: `Tls` has no values.

use std::net::IpAddr;

use tokio::net::TcpStream;

use crate::metrics::Metrics;

/// TLS, which is not available in this build.
#[derive(Clone, Debug)]
pub(crate) enum Tls {}

impl Tls {
    pub(super) async fn accept(
        &self,
        _: TcpStream,
        _: Option<IpAddr>,
        _: &Metrics,
    ) -> Option<TcpStream> {
        match *self {}
    }
}
