//! The namespace of an operation, which need not exist on this server.

use std::sync::Arc;

use roomcast_protocol::socket::Nsp;

use crate::{
    Config,
    adapter::Cluster,
    metrics::Metrics,
    socket::core::{Io, namespace},
};

/// Where an operation takes place.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Here(Arc<namespace::NamespaceInner>),
    /// In a namespace that does not exist on this server, but may on others.
    Absent(Io, Nsp),
}

impl Place {
    #[inline]
    pub(crate) fn here(&self) -> Option<&Arc<namespace::NamespaceInner>> {
        match self {
            Self::Here(namespace) => Some(namespace),
            Self::Absent(..) => None,
        }
    }

    #[inline]
    pub(crate) fn name(&self) -> &Nsp {
        match self {
            Self::Here(namespace) => &namespace.name,
            Self::Absent(_, name) => name,
        }
    }

    #[inline]
    pub(crate) fn cluster(&self) -> &Cluster {
        match self {
            Self::Here(namespace) => &namespace.cluster,
            Self::Absent(io, _) => io.cluster(),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        match self {
            Self::Here(namespace) => namespace.config(),
            Self::Absent(io, _) => io.config(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        match self {
            Self::Here(namespace) => namespace.metrics(),
            Self::Absent(io, _) => io.metrics(),
        }
    }
}
