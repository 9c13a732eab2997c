//! Stands in for `tls` in builds without the feature: there is no value of it.

use std::net::IpAddr;

use tokio::net::TcpStream;

use crate::metrics::Metrics;

/// TLS, of which this build has none.
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
