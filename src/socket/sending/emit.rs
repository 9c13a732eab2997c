//! Encodes events, and reports their outcome.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use roomcast_protocol::{
    Frame,
    socket::{Arguments, EncodeError, Nsp},
};

use crate::{
    adapter::{Delivery, Flags},
    engine::{DropPolicy, Mode},
    socket::{core::namespace, recovery::Numbered, rooms::Tally, types::EmitError},
};

/// The outcome of an event, by number of recipients. Sending does not wait for clients.
///
/// The value may be ignored, like that of `emit` in the official server, so the type is not
/// `must_use`. An event that cannot be sent is logged. A client whose queue overflows is
/// disconnected, which [`Lifecycle`](crate::Lifecycle) reports. To handle failures, call
/// [`ok`](Self::ok), whose `Result` the compiler requires to be used.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Emitted {
    /// The number of sockets for which the event is queued.
    pub queued: usize,
    /// The number of sockets that were too slow for a lossy event.
    pub dropped: usize,
    /// The number of sockets that are being closed because their queue overflowed.
    pub overflowed: usize,
    /// The number of sockets that had just been closed.
    pub closed: usize,
    /// Why the event was not sent: it could not be encoded, or is too large for the adapter.
    pub error: Option<EmitError>,
}

impl Emitted {
    /// Returns the outcome, or an error if the event was not sent.
    ///
    /// # Errors
    ///
    /// Returns [`error`](Self::error) if it is set. Returns [`EmitError::Closed`] if the event was
    /// queued for no socket, and a recipient was closed or overflowed.
    pub fn ok(self) -> Result<Self, EmitError> {
        match self.error {
            Some(error) => Err(error),
            None if self.queued == 0 && self.closed + self.overflowed > 0 => Err(EmitError::Closed),
            None => Ok(self),
        }
    }

    pub(crate) fn failed(event: &str, error: impl Into<EmitError>) -> Self {
        let error = error.into();
        crate::throttled_log!(warn, event, %error, "could not send an event");
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

impl From<Tally> for Emitted {
    #[inline]
    fn from(tally: Tally) -> Self {
        Self {
            queued: tally.queued,
            dropped: tally.dropped,
            overflowed: tally.overflowed,
            closed: tally.closed,
            error: None,
        }
    }
}

/// Returns the outbox mode of an event.
#[inline]
pub(crate) fn mode(delivery: Delivery<u64>) -> Mode {
    let lossy = |stream, policy| Mode::Conflated { stream, policy };
    match delivery {
        Delivery::Reliable => Mode::Reliable,
        Delivery::Volatile => Mode::Volatile,
        Delivery::Newest(stream) => lossy(stream, DropPolicy::Newest),
        Delivery::Last(stream, keep) => lossy(stream, DropPolicy::Last(keep.max(1))),
    }
}

/// Returns the number of an event's stream, or 0 without a stream.
pub(crate) fn stream<S: AsRef<str>>(nsp: &Nsp, delivery: &Delivery<S>) -> u64 {
    match delivery {
        Delivery::Reliable | Delivery::Volatile => 0,
        // A connection may be in several namespaces, and keys and streams may have the same names.
        Delivery::Newest(key) => STREAMS.hash_one((nsp.as_str(), true, key.as_ref())),
        Delivery::Last(name, _) => STREAMS.hash_one((nsp.as_str(), false, name.as_ref())),
    }
}

pub(crate) fn encode(
    flags: Flags,
    namespace: &namespace::NamespaceInner,
    id: Option<u64>,
    event: &str,
    args: &dyn Arguments,
) -> Result<Frame, EncodeError> {
    let nsp = namespace.name.as_str();
    let parser = namespace.config().sockets.parser;
    // As in the official server, lossy events and those with an acknowledgement are not stored and
    // carry no offset.
    let is_retained = id.is_none() && flags.delivery == Delivery::Reliable;
    let stamp = is_retained
        .then(|| namespace.stamp(flags.position))
        .flatten();
    let frame = match stamp {
        Some((stamp, offset)) => {
            let args = Numbered::new(args, offset);
            parser
                .event(nsp, id, event, &args as &dyn Arguments)?
                .with_stamp(stamp)
        }
        None => parser.event(nsp, id, event, args)?,
    };
    let frame = match flags.replaces.filter(|_| id.is_none()) {
        Some(stream) => frame.with_stream(stream),
        None => frame,
    };
    Ok(if flags.compress {
        frame
    } else {
        frame.without_compression()
    })
}

/// Maps names of streams to numbers. Randomly keyed, so that clients who choose names cannot
/// construct a collision. Other servers receive the names, and have their own numbers.
static STREAMS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
