//! Sending: what, to whom, and what became of it.

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

/// What became of an event, by number of recipients. Nothing waits for the clients themselves.
///
/// The value may be ignored, as `emit` of the official server is, so the type is not `must_use`: an
/// event that cannot be sent is logged, and a client for which too much waits is disconnected, which
/// [`Lifecycle`](crate::Lifecycle) reports. To act on a failure, call [`ok`](Self::ok), whose `Result`
/// the compiler does not let pass unused.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Emitted {
    /// The number of sockets for which the event waits to be written.
    pub queued: usize,
    /// The number of sockets that were too slow for an event that may be lost.
    pub dropped: usize,
    /// The number of sockets that are being closed because the event did not fit into what may wait
    /// for them.
    pub overflowed: usize,
    /// The number of sockets that had just been closed.
    pub closed: usize,
    /// Why it went nowhere: it could not be encoded, or is too large for the adapter.
    pub error: Option<EmitError>,
}

impl Emitted {
    /// For who must know that the event is on its way to somebody.
    ///
    /// # Errors
    ///
    /// When it went nowhere (see [`error`](Self::error)), and when the only recipients were closed or overflowed.
    pub fn ok(self) -> Result<Self, EmitError> {
        match self.error {
            Some(error) => Err(error),
            None if self.queued == 0 && self.closed + self.overflowed > 0 => Err(EmitError::Closed),
            None => Ok(self),
        }
    }

    pub(crate) fn failed(event: &str, error: impl Into<EmitError>) -> Self {
        let error = error.into();
        crate::throttled_log!(warn, event, %error, "an event is not sent");
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

/// What may happen to a frame of an event.
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

/// The number of the stream of an event; 0 if it is of none.
pub(crate) fn stream<S: AsRef<str>>(nsp: &Nsp, delivery: &Delivery<S>) -> u64 {
    match delivery {
        Delivery::Reliable | Delivery::Volatile => 0,
        // A connection may be in several namespaces, and a name may be that of a key and of a stream.
        Delivery::Newest(key) => STREAMS.hash_one((nsp.as_str(), true, key.as_ref())),
        Delivery::Last(name, _) => STREAMS.hash_one((nsp.as_str(), false, name.as_ref())),
    }
}

pub(crate) fn encode(
    flags: Flags,
    namespace: &namespace::NamespaceInner,
    id: Option<u64>,
    event: &str,
    args: &impl Arguments,
) -> Result<Frame, EncodeError> {
    let nsp = namespace.name.as_str();
    let parser = namespace.config().sockets.parser;
    // As in the official server, only what is neither lossy nor to be acknowledged is kept and carries an offset.
    let is_kept = id.is_none() && flags.delivery == Delivery::Reliable;
    let stamp = is_kept.then(|| namespace.stamp(flags.position)).flatten();
    let frame = match stamp {
        Some((stamp, offset)) => {
            let args = Numbered::new(args, offset);
            parser.event(nsp, id, event, &args)?.with_stamp(stamp)
        }
        None => parser.event(nsp, id, event, args)?,
    };
    Ok(if flags.compress {
        frame
    } else {
        frame.with_compress(false)
    })
}

/// How names of streams become numbers. At random, so that clients who may choose names cannot
/// choose two that meet. Other servers are told the names, and have numbers of their own.
static STREAMS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
