//! Publishes operations for other servers.

use std::sync::Arc;

use roomcast_protocol::Frame;

use super::{RemoteOutcome, TargetNamespace, Unpublished};
use crate::{
    adapter::{Joined, Kind, Operation},
    metrics::Counter,
    socket::{core::Io, types::args},
};

/// Returns whether an operation is applied when a journal delivers it.
fn is_journaled(joined: &Joined, operation: &Operation<'_>) -> bool {
    joined.journal().is_some()
        && match operation.kind {
            Kind::Broadcast { .. } | Kind::Join(_) | Kind::Leave(_) | Kind::Disconnect { .. } => {
                true
            }
            Kind::BroadcastWithAck { .. }
            | Kind::FetchSockets
            | Kind::ServerSide { .. }
            | Kind::ServerSideWithAck { .. } => false,
        }
}

/// Returns whether an operation needs no publication, because no other server listens or must
/// answer.
///
/// If the namespace is not open on this server, this server does not know its members.
fn needs_no_peer(
    joined: &Joined,
    target_namespace: &TargetNamespace,
    operation: &Operation<'_>,
) -> bool {
    match operation.kind {
        // Heartbeats are also server-side events, but do not use this path.
        Kind::Broadcast { .. }
        | Kind::Join(_)
        | Kind::Leave(_)
        | Kind::Disconnect { .. }
        | Kind::ServerSide { .. } => target_namespace.local().is_some() && joined.has_no_peers(),
        // Requests are rare, and the servers that should answer must be waited for.
        Kind::BroadcastWithAck { .. } | Kind::FetchSockets | Kind::ServerSideWithAck { .. } => {
            false
        }
    }
}

/// Publishes an operation through the journal, which also delivers it to this server.
///
/// Returns `None` if the operation does not use the journal.
pub(super) fn journal(
    target_namespace: &TargetNamespace,
    operation: &Operation<'_>,
) -> Option<RemoteOutcome> {
    let joined = target_namespace.cluster().joined()?;
    if operation.target.local || !is_journaled(joined, operation) || !joined.journal()?.is_up() {
        return None;
    }
    let remote = publish(joined, target_namespace, operation, None);
    let has_failed = matches!(remote, RemoteOutcome::Failed(Unpublished::Adapter(_)));
    let is_refused = remote.refusal().is_some() && matches!(operation.kind, Kind::Broadcast { .. });
    // If the journal fails, the operation is applied to the sockets of this server immediately,
    // unless it is an event that is too large.
    (!has_failed || is_refused).then_some(remote)
}

/// Publishes an operation unless it is local. `frame` is the frame that this server's sockets
/// receive.
#[inline]
pub(super) fn publish_to_peers(
    target_namespace: &TargetNamespace,
    operation: &Operation<'_>,
    frame: Option<&Frame>,
) -> RemoteOutcome {
    match target_namespace.cluster().joined() {
        // A journaled operation reaches this point only if the journal failed.
        Some(joined) if !operation.target.local && is_journaled(joined, operation) => {
            RemoteOutcome::Failed(Unpublished::Adapter(joined.unreached()))
        }
        Some(joined)
            if !operation.target.local && !needs_no_peer(joined, target_namespace, operation) =>
        {
            publish(joined, target_namespace, operation, frame)
        }
        Some(_) | None => RemoteOutcome::None,
    }
}

fn publish(
    joined: &Arc<Joined>,
    target_namespace: &TargetNamespace,
    operation: &Operation<'_>,
    frame: Option<&Frame>,
) -> RemoteOutcome {
    if operation.target.rooms.has_no_target() {
        return RemoteOutcome::None;
    }
    let parser = target_namespace.config().sockets.parser;
    // The frame already contains the encoded arguments, unless an offset was appended.
    let frame = frame.filter(|frame| frame.stamp().is_none());
    let publication = operation.publication(|payload| match frame {
        Some(frame) => args::read(parser, frame),
        None => args::arguments(parser, payload),
    });
    let publication = match publication {
        Ok(publication) => publication,
        Err(error) => return RemoteOutcome::Failed(Unpublished::Encode(error)),
    };
    match operation.kind {
        Kind::Broadcast { .. }
        | Kind::Join(_)
        | Kind::Leave(_)
        | Kind::Disconnect { .. }
        | Kind::ServerSide { .. } => match joined.publish(publication) {
            Ok(()) => RemoteOutcome::Published,
            Err(error) => {
                // The application receives the error of an event. Other operations only log it.
                if let Kind::Join(_) | Kind::Leave(_) | Kind::Disconnect { .. } = operation.kind {
                    crate::throttled_log!(warn, %error, "could not publish a room change or disconnect, it applies to this server only");
                }
                RemoteOutcome::Failed(Unpublished::Adapter(error))
            }
        },
        Kind::BroadcastWithAck { .. } | Kind::FetchSockets | Kind::ServerSideWithAck { .. } => {
            // Adapters may use the runtime, and the application may ask on its own thread.
            let io = target_namespace.io();
            let _runtime = io.as_ref().and_then(Io::enter_runtime);
            let timeout = operation.target.flags.timeout;
            match joined.send_request(publication, timeout.unwrap_or_else(|| joined.timeout())) {
                Some(Ok(request)) => RemoteOutcome::Requested(request),
                Some(Err(error)) => RemoteOutcome::Failed(Unpublished::Adapter(error)),
                None => {
                    joined.metrics().count(Counter::ClusterRequestsRefused);
                    RemoteOutcome::Failed(Unpublished::TooManyPending)
                }
            }
        }
    }
}
