//! Sections about connections: TLS and its certificates, and the cluster.

mod cluster;
mod tls;

pub use cluster::{Adapter, Node, Subscriptions, Trust};
pub use tls::{Acme, Tls};
