use std::sync::OnceLock;

use bytes::Bytes;

use super::WindowBits;

/// The compressed forms of a frame, one for each window in use, made when they are first needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Encodings(OnceLock<Box<[Slot; WindowBits::COUNT]>>);

/// A compressed form; `None` inside if the frame is better sent uncompressed.
type Slot = OnceLock<Option<Bytes>>;

impl Encodings {
    /// Returns the form for messages of at most `len` bytes and a peer with this window. `make`
    /// creates it; other threads that need the same form wait for it.
    pub(crate) fn get(
        &self,
        window: WindowBits,
        len: usize,
        make: impl FnOnce(WindowBits) -> Option<Bytes>,
    ) -> Option<&Bytes> {
        let window = window.for_message(len);
        let slots = self.0.get_or_init(Box::default);
        let slot = slots.get(window.index())?;
        slot.get_or_init(|| make(window)).as_ref()
    }

    /// Returns the number of forms that exist.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        let slots = self.0.get().into_iter().flat_map(|slots| slots.iter());
        slots.filter(|slot| slot.get().is_some()).count()
    }
}
