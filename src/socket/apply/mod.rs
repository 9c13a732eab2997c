//! The only module that acts on many sockets: applies an operation to the sockets of this server
//! and publishes it for the other servers.
//!
//! `api` passes in what applications ask for, and adapters pass in, through `Applier`, what other
//! servers have published. The same function applies both. This module imports `life`, since
//! operations let sockets join, leave and end, and `sending`. Nothing in this module may know how
//! an operation came about.
//!
//! Local sockets never wait for the network: adapters only queue. An event is given to the adapter before it is given to the sockets of
//! this server, so that one that is too large for the adapter is refused as a whole. Whatever else cannot be published is applied on
//! this server all the same; it is counted, and callers that can be told are told.

mod acting;
mod emitting;
mod pacing;
#[cfg(not(feature = "cluster"))]
#[path = "alone.rs"]
mod publishing;
#[cfg(feature = "cluster")]
mod publishing;
#[cfg(feature = "cluster")]
mod received;
mod record;
mod remote;
mod target_namespace;

pub(crate) use acting::count;
pub(crate) use pacing::apply_paced;
#[cfg(feature = "cluster")]
pub(crate) use received::Applier;
pub(crate) use record::Record;
pub(crate) use remote::{RemoteOutcome, Unpublished};
pub(crate) use target_namespace::TargetNamespace;

use std::sync::Arc;

use roomcast_protocol::{Frame, socket::Arguments};

use self::emitting::Asked;
use crate::{
    adapter::{Kind, Operation},
    socket::{
        core::{Socket, namespace},
        sending::Emitted,
    },
};

/// The result of an operation.
pub(crate) struct Applied {
    pub(crate) local: Outcome,
    pub(crate) remote: RemoteOutcome,
}

impl Applied {
    /// The result of an event that was not published.
    fn emitted(emitted: Emitted) -> Self {
        Self {
            local: Outcome::Emitted(emitted),
            remote: RemoteOutcome::None,
        }
    }
}

/// The result of an operation on this server.
pub(crate) enum Outcome {
    /// The operation reaches nobody on this server, or has no result.
    Nothing,
    Emitted(Emitted),
    Asked(Asked),
    Sockets(Vec<Socket>),
}

/// Applies an operation to the sockets of this server, and publishes it unless it is local.
#[inline]
pub(crate) fn apply<A: Arguments>(
    target_namespace: &TargetNamespace,
    operation: &Operation<'_, A>,
) -> Applied {
    // An operation that goes through a journal is applied when it comes back, in one order for all servers.
    if let Some(remote) = publishing::journal(target_namespace, operation) {
        let local = Outcome::Nothing;
        return Applied { local, remote };
    }
    let publish = |frame: Option<&Frame>| publishing::others(target_namespace, operation, frame);
    match target_namespace.local() {
        Some(namespace) => act(namespace, operation, publish),
        None => Applied {
            remote: publish(None),
            local: Outcome::Nothing,
        },
    }
}

/// Applies an operation to the sockets of this server, and publishes it by `publish`, which is given the frame that they receive.
#[inline]
fn act<A: Arguments>(
    namespace: &Arc<namespace::NamespaceInner>,
    operation: &Operation<'_, A>,
    publish: impl FnOnce(Option<&Frame>) -> RemoteOutcome,
) -> Applied {
    let target = &operation.target;
    let local = match operation.kind {
        Kind::Broadcast { event, args } => {
            return emitting::emit(namespace, target, event, args, publish);
        }
        Kind::BroadcastWithAck { event, args } => {
            return emitting::ask(namespace, target, event, args, publish);
        }
        Kind::Join(rooms) => acting::join(namespace, target, rooms),
        Kind::Leave(rooms) => acting::leave(namespace, target, rooms),
        Kind::Disconnect { close } => acting::disconnect(namespace, target, close),
        Kind::FetchSockets => Outcome::Sockets(acting::sockets(namespace, target)),
        // These operations are for the handlers of other servers, not for sockets.
        Kind::ServerSide { .. } | Kind::ServerSideWithAck { .. } => Outcome::Nothing,
    };
    let remote = publish(None);
    Applied { local, remote }
}
