//! The namespace of an operation, which might not exist on this server.

use std::sync::Arc;

use roomcast_protocol::socket::Nsp;

use crate::{
    Config,
    adapter::Cluster,
    socket::core::{Io, namespace},
};

/// The namespace of an operation.
#[derive(Clone, Debug)]
pub(crate) enum TargetNamespace {
    Local(Arc<namespace::NamespaceInner>),
    /// A namespace that does not exist on this server, but may exist on others.
    Absent(Io, Nsp),
}

impl TargetNamespace {
    #[inline]
    pub(crate) fn local(&self) -> Option<&Arc<namespace::NamespaceInner>> {
        match self {
            Self::Local(namespace) => Some(namespace),
            Self::Absent(..) => None,
        }
    }

    #[inline]
    pub(crate) fn name(&self) -> &Nsp {
        match self {
            Self::Local(namespace) => &namespace.name,
            Self::Absent(_, name) => name,
        }
    }

    /// Returns the server, unless it was dropped.
    pub(crate) fn io(&self) -> Option<Io> {
        match self {
            Self::Local(namespace) => namespace.io.upgrade(),
            Self::Absent(io, _) => Some(io.clone()),
        }
    }

    #[inline]
    pub(crate) fn cluster(&self) -> &Cluster {
        match self {
            Self::Local(namespace) => &namespace.cluster,
            Self::Absent(io, _) => io.cluster(),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        match self {
            Self::Local(namespace) => namespace.config(),
            Self::Absent(io, _) => io.config(),
        }
    }

    pub(crate) fn metrics(&self) -> &crate::metrics::Metrics {
        match self {
            Self::Local(namespace) => namespace.metrics(),
            Self::Absent(io, _) => io.metrics(),
        }
    }
}
