use bytes::Bytes;

use super::{FrameError, mask, utf8};

/// The data message that is being received, its fragments joined in one buffer.
#[derive(Debug)]
pub(super) struct Message {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that are known to be UTF-8; unused unless `kind` is text.
    checked: usize,
    /// Frames of this message so far.
    pub(super) fragments: u32,
    pub(super) kind: Kind,
    /// The reserved bits of the first frame.
    pub(super) rsv: u8,
}

/// What a data message holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Binary,
    /// Text that an extension has transformed: not UTF-8 before the extension has undone that.
    ExtendedText,
}

impl Message {
    /// An open message of which nothing was received; allocates nothing.
    pub(super) fn new(kind: Kind, rsv: u8) -> Self {
        Self {
            buffer: Vec::new(),
            checked: 0,
            fragments: 1,
            kind,
            rsv,
        }
    }

    /// Bytes received so far.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes of heap in use.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Appends what was received of a frame.
    ///
    /// `expected` is how much the frame still lacks, `data` included, if that is where the message
    /// ends: then the buffer gets no larger than needed.
    pub(super) fn extend(
        &mut self,
        data: &[u8],
        key: Option<[u8; 4]>,
        expected: Option<usize>,
    ) -> Result<(), FrameError> {
        let len = self.buffer.len();
        if self.buffer.capacity() - len < data.len() {
            // Doubling follows the bytes received: what was only announced reserves nothing.
            let growth = data.len().max(len);
            self.buffer
                .reserve_exact(expected.map_or(growth, |expected| growth.min(expected)));
        }
        match key {
            Some(key) => mask::append(&mut self.buffer, data, key),
            None => self.buffer.extend_from_slice(data),
        }
        match self.kind {
            Kind::Text => self.checked = utf8::check(&self.buffer, self.checked)?,
            Kind::Binary | Kind::ExtendedText => {}
        }
        Ok(())
    }

    /// The whole message, once its last frame is there.
    pub(super) fn finish(self) -> Result<Bytes, FrameError> {
        match self.kind {
            Kind::Text if self.checked < self.buffer.len() => Err(FrameError::InvalidUtf8),
            Kind::Text | Kind::Binary | Kind::ExtendedText => Ok(self.buffer.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_one_piece_is_allocated_exactly() {
        let mut message = Message::new(Kind::Text, 0);
        message.extend(&[b'a'; 100], None, Some(100)).unwrap();
        assert_eq!(message.capacity(), 100);
    }

    #[test]
    fn a_final_frame_in_pieces_ends_in_an_exact_buffer() {
        let mut message = Message::new(Kind::Binary, 0);
        for received in 0..1000 {
            message.extend(b"x", None, Some(1000 - received)).unwrap();
            assert!(message.capacity() <= 2 * message.len());
        }
        assert_eq!(message.capacity(), 1000);
    }

    #[test]
    fn small_fragments_take_at_most_twice_their_bytes() {
        let mut message = Message::new(Kind::Binary, 0);
        for _ in 0..10_000 {
            message.extend(b"x", Some([0; 4]), None).unwrap();
            assert!(message.capacity() <= 2 * message.len());
        }
    }
}
