use bytes::Bytes;

use super::{
    FrameError,
    header::Header,
    mask::{self, Key},
    utf8,
};

/// The incomplete data message, with its fragments joined in one buffer.
#[derive(Debug)]
pub(super) struct Message {
    buffer: Vec<u8>,
    /// Number of leading bytes of `buffer` that were checked to be UTF-8; unused unless `kind` is
    /// text.
    checked: usize,
    /// The number of frames of this message so far.
    pub(super) fragments: u32,
    pub(super) kind: Kind,
    /// The reserved bits of the first frame.
    pub(super) rsv: u8,
}

/// The content type of a data message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Binary,
    /// Text that an extension has transformed. It is UTF-8 only after the extension has reversed
    /// that.
    ExtendedText,
}

/// The missing part of a data frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingPayload {
    pub(super) missing: usize,
    /// The masking key, rotated so that it begins at the next byte.
    key: Key,
    /// Whether the message ends with this frame.
    pub(super) fin: bool,
}

impl PendingPayload {
    /// Returns the whole payload after this header.
    pub(super) fn of(header: &Header) -> Self {
        Self {
            missing: header.len,
            key: header.key,
            fin: header.fin,
        }
    }
}

impl Message {
    /// Creates a message without received bytes; allocates nothing.
    pub(super) fn new(kind: Kind, rsv: u8) -> Self {
        Self {
            buffer: Vec::new(),
            checked: 0,
            fragments: 1,
            kind,
            rsv,
        }
    }

    /// Returns the number of bytes received so far.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the allocated capacity in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Consumes the available part of a frame from the front of `input`. Returns the missing part.
    // This has two callers. The caller for a message in one frame should keep the message in
    // registers.
    #[inline(always)]
    pub(super) fn receive(
        &mut self,
        rest: PendingPayload,
        input: &mut &[u8],
    ) -> Result<PendingPayload, FrameError> {
        let data = take(input, rest.missing);
        self.reserve(data.len(), rest);
        mask::append(&mut self.buffer, data, rest.key);
        match self.kind {
            Kind::Text => self.checked = utf8::check(&self.buffer, self.checked)?,
            Kind::Binary | Kind::ExtendedText => {}
        }
        Ok(PendingPayload {
            missing: rest.missing - data.len(),
            key: mask::rotate(rest.key, data.len()),
            fin: rest.fin,
        })
    }

    /// Reserves space for `additional` bytes that have arrived.
    ///
    /// The buffer doubles with the received bytes: an announced length reserves nothing. In the
    /// last frame of a message, the buffer does not exceed the final length.
    fn reserve(&mut self, additional: usize, rest: PendingPayload) {
        let len = self.buffer.len();
        if self.buffer.capacity() - len < additional {
            let growth = additional.max(len);
            let growth = if rest.fin {
                growth.min(rest.missing)
            } else {
                growth
            };
            self.buffer.reserve_exact(growth);
        }
    }

    /// Returns the complete message, after its last frame has arrived.
    pub(super) fn finish(self) -> Result<Bytes, FrameError> {
        match self.kind {
            Kind::Text if self.checked < self.buffer.len() => Err(FrameError::InvalidUtf8),
            Kind::Text | Kind::Binary | Kind::ExtendedText => Ok(self.buffer.into()),
        }
    }
}

/// Takes up to `len` bytes from the front.
pub(super) fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(missing: usize, fin: bool) -> PendingPayload {
        PendingPayload {
            missing,
            key: [1, 2, 3, 4],
            fin,
        }
    }

    #[test]
    fn a_message_in_one_piece_is_allocated_exactly() {
        let mut message = Message::new(Kind::Binary, 0);
        message
            .receive(rest(100, true), &mut &[0; 150][..])
            .unwrap();
        assert_eq!((message.len(), message.capacity()), (100, 100));
    }

    #[test]
    fn a_final_frame_in_pieces_ends_in_an_exact_buffer() {
        let mut message = Message::new(Kind::Binary, 0);
        let mut rest = rest(1000, true);
        while rest.missing > 0 {
            rest = message.receive(rest, &mut &b"x"[..]).unwrap();
            assert!(message.capacity() <= 2 * message.len());
        }
        assert_eq!(message.capacity(), 1000);
    }

    #[test]
    fn small_fragments_take_at_most_twice_their_bytes() {
        let mut message = Message::new(Kind::Binary, 0);
        for _ in 0..10_000 {
            message.receive(rest(1, false), &mut &b"x"[..]).unwrap();
            assert!(message.capacity() <= 2 * message.len());
        }
    }
}
