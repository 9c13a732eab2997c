//! Sending: what, to whom, and what became of it.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
    time::Duration,
};

use roomcast_protocol::{
    Frame,
    socket::{Arguments, EncodeError},
};

use crate::{
    engine::{Mode, Yielding},
    socket::{core::namespace, recovery::Numbered, rooms::Tally, words::EmitError},
};

/// What became of an event, by number of recipients. Nothing waits for the clients themselves.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Emitted {
    /// It waits to be written to these.
    pub queued: usize,
    /// It may be lost and these were too slow.
    pub dropped: usize,
    /// It did not fit into what may wait for these; they are being closed.
    pub overflowed: usize,
    /// These had just been closed.
    pub closed: usize,
    /// Why it went nowhere: it could not be encoded.
    pub error: Option<EncodeError>,
}

impl Emitted {
    /// For who must know that the event is on its way to somebody.
    ///
    /// # Errors
    ///
    /// When it could not be encoded, and when the only recipients were closed or overflowed.
    pub fn ok(self) -> Result<Self, EmitError> {
        match self.error {
            Some(error) => Err(EmitError::Encode(error)),
            None if self.queued == 0 && self.closed + self.overflowed > 0 => Err(EmitError::Closed),
            None => Ok(self),
        }
    }

    pub(super) fn failed(event: &str, error: EncodeError) -> Self {
        tracing::warn!(event, %error, "an event cannot be encoded");
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

/// How an event is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    pub(super) mode: Mode,
    pub(super) compress: bool,
    pub(super) timeout: Option<Duration>,
}

impl Default for Flags {
    #[inline]
    fn default() -> Self {
        Self {
            mode: Mode::Reliable,
            compress: true,
            timeout: None,
        }
    }
}

impl Flags {
    /// Only the newest event of a key waits.
    pub(super) fn conflate(&mut self, namespace: Option<&namespace::Inner>, key: &str) {
        self.lossy(namespace, key, Yielding::Newest);
    }

    /// Only the last events of a stream wait.
    pub(super) fn drop_oldest(
        &mut self,
        namespace: Option<&namespace::Inner>,
        stream: &str,
        keep: u16,
    ) {
        self.lossy(namespace, stream, Yielding::Last(keep.max(1)));
    }

    fn lossy(&mut self, namespace: Option<&namespace::Inner>, name: &str, yielding: Yielding) {
        // A connection may be in several namespaces, and a name may be that of a key and of a stream.
        let of = namespace.map(|namespace| namespace.name.as_str());
        let is_key = yielding == Yielding::Newest;
        let stream = STREAMS.hash_one((of, is_key, name));
        self.mode = Mode::Lossy { stream, yielding };
    }

    pub(super) fn encode(
        self,
        namespace: &namespace::Inner,
        id: Option<u64>,
        event: &str,
        args: &impl Arguments,
    ) -> Result<Frame, EncodeError> {
        let nsp = namespace.name.as_str();
        let parser = namespace.config().sockets.parser;
        let is_kept = id.is_none() && self.mode == Mode::Reliable;
        let stamp = is_kept.then(|| namespace.stamp()).flatten();
        let frame = match stamp {
            Some(stamp) => {
                let args = Numbered::new(args, stamp);
                parser.event(nsp, id, event, &args)?.with_stamp(stamp)
            }
            None => parser.event(nsp, id, event, args)?,
        };
        Ok(if self.compress {
            frame
        } else {
            frame.with_compress(false)
        })
    }
}

/// How names of streams become numbers. At random, so that clients who may choose names cannot
/// choose two that meet.
static STREAMS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
