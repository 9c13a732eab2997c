//! An operation on its way to other servers.

use std::sync::Arc;

use roomcast_protocol::{
    Frame,
    socket::{Arguments, EncodeError},
};

use super::{Outcome, Place};
use crate::{
    adapter::{AdapterError, Joined, Kind, Missing, Operation, Request},
    metrics::Counter,
    socket::words::args,
};

/// What has become of an operation that other servers are to apply.
pub(crate) enum Elsewhere {
    /// There are none, it stays here, or it has failed here.
    Nobody,
    /// They are told.
    Told,
    /// They are asked.
    Asked(Request),
    /// They are not told.
    Failed(Unpublished),
}

/// Why other servers are not told of an operation.
pub(crate) enum Unpublished {
    Encode(EncodeError),
    Adapter(AdapterError),
    /// Too many requests wait for answers.
    TooManyPending,
}

impl Unpublished {
    /// That nobody is known to have answered.
    pub(crate) fn missing(self) -> Missing {
        Missing::failed(match self {
            Self::Adapter(error) => error,
            Self::Encode(error) => AdapterError::Transport(Arc::new(error)),
            Self::TooManyPending => AdapterError::Full,
        })
    }
}

pub(super) fn publish<A: Arguments>(
    joined: &Arc<Joined>,
    place: &Place,
    operation: &Operation<'_, A>,
    here: &Outcome,
    frame: Option<Frame>,
) -> Elsewhere {
    let has_failed = match here {
        Outcome::Emitted(emitted) => emitted.error.is_some(),
        Outcome::Asked(asked) => asked.is_err(),
        Outcome::Nothing | Outcome::Sockets(_) => false,
    };
    if has_failed || operation.target.rooms.is_nobody() {
        return Elsewhere::Nobody;
    }
    let parser = place.config().sockets.parser;
    // What was encoded for clients here need not be encoded again, unless an offset was added to it.
    let frame = frame.filter(|frame| frame.stamp().is_none());
    let publication = operation.publication(|given| match &frame {
        Some(frame) => args::read(parser, frame),
        None => args::arguments(parser, given),
    });
    let publication = match publication {
        Ok(publication) => publication,
        Err(error) => return Elsewhere::Failed(Unpublished::Encode(error)),
    };
    match operation.kind {
        Kind::Broadcast { .. }
        | Kind::Join(_)
        | Kind::Leave(_)
        | Kind::Disconnect { .. }
        | Kind::ServerSide { .. } => match joined.publish(publication) {
            Ok(()) => Elsewhere::Told,
            Err(error) => Elsewhere::Failed(Unpublished::Adapter(error)),
        },
        Kind::BroadcastWithAck { .. } | Kind::FetchSockets | Kind::ServerSideWithAck { .. } => {
            let timeout = operation.target.flags.timeout;
            match joined.ask(publication, timeout.unwrap_or_else(|| joined.timeout())) {
                Some(Ok(request)) => Elsewhere::Asked(request),
                Some(Err(error)) => Elsewhere::Failed(Unpublished::Adapter(error)),
                None => {
                    joined.metrics().count(Counter::ClusterRequestsRefused);
                    Elsewhere::Failed(Unpublished::TooManyPending)
                }
            }
        }
    }
}
