use std::{fmt, ops::Deref};

/// The payload of a ping or pong: at most 125 bytes, stored inline.
#[derive(Clone)]
pub struct Control {
    bytes: [u8; MAX],
    /// `len <= MAX`
    len: u8,
}

impl Control {
    /// Creates a payload from as much of `data` as fits.
    pub(super) fn new(data: &[u8]) -> Self {
        let mut control = Self {
            bytes: [0; MAX],
            len: 0,
        };
        control.extend(data);
        control
    }

    /// Appends as much of `data` as fits.
    pub(super) fn extend(&mut self, data: &[u8]) {
        let start = usize::from(self.len);
        let room = self.bytes.get_mut(start..).unwrap_or_default();
        let taken = data.len().min(room.len());
        if let Some((to, from)) = room.get_mut(..taken).zip(data.get(..taken)) {
            to.copy_from_slice(from);
        }
        // The sum is at most MAX, because `room` has MAX - `start` bytes.
        self.len += taken as u8;
    }

    /// Returns the bytes, so that they can be unmasked in place.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(..usize::from(self.len))
            .unwrap_or_default()
    }
}

impl Deref for Control {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Control {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Control {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Control {}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

/// "All control frames MUST have a payload length of 125 bytes or less" (RFC 6455 section 5.5).
pub(super) const MAX: usize = 125;
