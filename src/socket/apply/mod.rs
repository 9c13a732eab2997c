//! Applies an operation to the sockets of this server, and publishes it for other servers.
//!
//! This is the only module that acts on several sockets. `api` passes in the operations of
//! applications. Adapters pass in, through `Applier`, the operations that other servers published.
//! The same function applies both.
//!
//! This module imports `life`, because operations add, remove and disconnect sockets, and
//! `sending`. It must not know the origin of an operation.
//!
//! Local sockets never wait for the network, because adapters only queue. An event is passed to the
//! adapter before it is sent to the sockets of this server. So an event that is too large for the
//! adapter is rejected completely. If publishing fails for another reason, the operation is still
//! applied on this server. The failure is counted, and returned if the caller can receive it.

mod acting;
mod emitting;
mod pacing;
mod publishing;
mod received;
mod record;
mod remote;
mod target_namespace;

pub(crate) use acting::count;
pub(crate) use pacing::apply_paced;
pub(crate) use received::Applier;
pub(crate) use record::Record;
pub(crate) use remote::{RemoteOutcome, Unpublished};
pub(crate) use target_namespace::TargetNamespace;

use std::sync::Arc;

use roomcast_protocol::Frame;

use self::emitting::AckRequest;
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
    /// Returns the result of an event that was not published.
    fn emitted(emitted: Emitted) -> Self {
        Self {
            local: Outcome::Emitted(emitted),
            remote: RemoteOutcome::None,
        }
    }
}

/// The result of an operation on this server.
pub(crate) enum Outcome {
    /// The operation reaches no socket on this server, or has no result.
    Nothing,
    Emitted(Emitted),
    AckRequest(AckRequest),
    Sockets(Vec<Socket>),
}

/// Applies an operation to the sockets of this server, and publishes it unless it is local.
#[inline]
pub(crate) fn apply(target_namespace: &TargetNamespace, operation: &Operation<'_>) -> Applied {
    // A journaled operation is applied when the journal delivers it, in the same order on all
    // servers.
    if let Some(remote) = publishing::journal(target_namespace, operation) {
        let local = Outcome::Nothing;
        return Applied { local, remote };
    }
    let publish =
        |frame: Option<&Frame>| publishing::publish_to_peers(target_namespace, operation, frame);
    match target_namespace.local() {
        Some(namespace) => act(namespace, operation, publish),
        None => Applied {
            remote: publish(None),
            local: Outcome::Nothing,
        },
    }
}

/// Applies an operation to the sockets of this server, and publishes it with `publish`, which
/// receives the frame that they receive.
#[inline]
fn act(
    namespace: &Arc<namespace::NamespaceInner>,
    operation: &Operation<'_>,
    publish: impl FnOnce(Option<&Frame>) -> RemoteOutcome,
) -> Applied {
    let target = &operation.target;
    let local = match operation.kind {
        Kind::Broadcast { event, args } => {
            return emitting::emit(namespace, target, event, args, publish);
        }
        Kind::BroadcastWithAck { event, args } => {
            return emitting::emit_with_acks(namespace, target, event, args, publish);
        }
        Kind::Join(rooms) => acting::join(namespace, target, rooms),
        Kind::Leave(rooms) => acting::leave(namespace, target, rooms),
        Kind::Disconnect { close } => acting::disconnect(namespace, target, close),
        Kind::FetchSockets => Outcome::Sockets(acting::sockets(namespace, target)),
        // The handlers of other servers receive these operations; sockets do not.
        Kind::ServerSide { .. } | Kind::ServerSideWithAck { .. } => Outcome::Nothing,
    };
    let remote = publish(None);
    Applied { local, remote }
}
