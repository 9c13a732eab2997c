use std::num::NonZeroU8;

/// The base-2 logarithm of a compression window in bytes: 9 (512 bytes) to 15 (32 KiB).
///
/// The RFC also defines 8, which zlib cannot compress with.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WindowBits(NonZeroU8);

impl WindowBits {
    /// The largest window, and the default of the RFC.
    pub const MAX: Self = Self(NonZeroU8::new(15).expect("15 is not zero"));
    /// The smallest window.
    pub const MIN: Self = Self(NonZeroU8::new(9).expect("9 is not zero"));
    /// The number of windows.
    pub(super) const COUNT: usize = 7;

    /// Returns the window with this number of bits, unless it is out of range.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        match NonZeroU8::new(bits) {
            Some(bits) if bits.get() >= 9 && bits.get() <= 15 => Some(Self(bits)),
            Some(_) | None => None,
        }
    }

    /// Returns the number of bits.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// Returns the position among all windows, from the smallest.
    pub(super) const fn index(self) -> usize {
        (self.0.get() - Self::MIN.0.get()) as usize
    }

    /// Returns the window with which to compress messages of at most `len` bytes for a peer with
    /// this window.
    ///
    /// A message that fits into the window of the peer cannot refer to bytes before that window. So
    /// all peers with windows that large share one compressed form.
    pub(super) const fn for_message(self, len: usize) -> Self {
        if len <= 1 << self.0.get() {
            Self::MAX
        } else {
            self
        }
    }
}

impl Default for WindowBits {
    fn default() -> Self {
        Self::MAX
    }
}
