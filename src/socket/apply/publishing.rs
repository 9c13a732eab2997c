//! Publishes operations for other servers.

use std::sync::Arc;

use roomcast_protocol::{
    Frame,
    socket::{Arguments, EncodeError},
};

use super::{Outcome, TargetNamespace};
use crate::{
    adapter::{AdapterError, Joined, Kind, Missing, Operation, Request},
    metrics::Counter,
    socket::types::args,
};

/// The result of an operation on other servers.
pub(crate) enum RemoteOutcome {
    /// There are no other servers, the operation is local, or it has failed on this server.
    None,
    /// The operation was published, and expects no answer.
    Published,
    /// The operation was published, and other servers will answer.
    Requested(Request),
    /// The operation was not published.
    Failed(Unpublished),
}

/// Why an operation was not published.
pub(crate) enum Unpublished {
    Encode(EncodeError),
    Adapter(AdapterError),
    /// Too many requests already wait for answers.
    TooManyPending,
}

impl Unpublished {
    /// The same failure as that of a request whose answers are all missing.
    pub(crate) fn missing(self) -> Missing {
        Missing::failed(match self {
            Self::Adapter(error) => error,
            Self::Encode(error) => AdapterError::Transport(Arc::new(error)),
            Self::TooManyPending => AdapterError::Full,
        })
    }
}

/// Whether an operation is applied when it comes back from a journal.
pub(super) fn is_journaled<A>(joined: &Joined, operation: &Operation<'_, A>) -> bool {
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

/// Gives an operation to a journal, from which it comes to this server as well; `None` if it does not go there.
pub(super) fn journal<A: Arguments>(
    target_namespace: &TargetNamespace,
    operation: &Operation<'_, A>,
) -> Option<RemoteOutcome> {
    let joined = target_namespace.cluster().joined()?;
    if operation.target.local || !is_journaled(joined, operation) || !joined.journal()?.is_up() {
        return None;
    }
    let remote = publish(joined, target_namespace, operation, &Outcome::Nothing, None);
    let has_failed = matches!(remote, RemoteOutcome::Failed(Unpublished::Adapter(_)));
    (!has_failed).then_some(remote)
}

pub(super) fn publish<A: Arguments>(
    joined: &Arc<Joined>,
    target_namespace: &TargetNamespace,
    operation: &Operation<'_, A>,
    local: &Outcome,
    frame: Option<Frame>,
) -> RemoteOutcome {
    let has_failed = match local {
        Outcome::Emitted(emitted) => emitted.error.is_some(),
        Outcome::Asked(asked) => asked.is_err(),
        Outcome::Nothing | Outcome::Sockets(_) => false,
    };
    if has_failed || operation.target.rooms.is_nobody() {
        return RemoteOutcome::None;
    }
    let parser = target_namespace.config().sockets.parser;
    // The frame holds the encoded arguments already, unless an offset was added to it.
    let frame = frame.filter(|frame| frame.stamp().is_none());
    let publication = operation.publication(|given| match &frame {
        Some(frame) => args::read(parser, frame),
        None => args::arguments(parser, given),
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
            Err(error) => RemoteOutcome::Failed(Unpublished::Adapter(error)),
        },
        Kind::BroadcastWithAck { .. } | Kind::FetchSockets | Kind::ServerSideWithAck { .. } => {
            let timeout = operation.target.flags.timeout;
            match joined.ask(publication, timeout.unwrap_or_else(|| joined.timeout())) {
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
