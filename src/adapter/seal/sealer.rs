//! Seals outgoing messages.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut as _, Bytes, BytesMut};
use ring::aead::{Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce};

use super::{
    Purpose, Secrets,
    header::{self, Header, Incarnation},
    secrets::KeyId,
};

/// Seals messages with its own key.
pub(in crate::adapter) struct Sealer {
    id: KeyId,
    incarnation: Incarnation,
    key: LessSafeKey,
    /// The counter of the next message.
    next: AtomicU64,
}

impl Sealer {
    /// Creates a sealer with a new incarnation.
    ///
    /// # Panics
    ///
    /// If the operating system returns no random numbers. A repeated incarnation would repeat
    /// nonces.
    pub(in crate::adapter) fn new(secrets: &Secrets, purpose: &Purpose) -> Self {
        let mut incarnation = Incarnation::default();
        getrandom::fill(&mut incarnation).expect("the operating system has random numbers");
        Self::with(secrets, purpose, incarnation)
    }

    pub(super) fn with(secrets: &Secrets, purpose: &Purpose, incarnation: Incarnation) -> Self {
        let secret = secrets.first();
        Self {
            id: secret.id,
            incarnation,
            key: secret.key(purpose, &incarnation),
            next: AtomicU64::new(0),
        }
    }

    /// Seals a message for one place, such as a channel. It does not open at other places.
    pub(in crate::adapter) fn seal(&self, place: &[u8], message: &[u8]) -> Bytes {
        self.seal_at(header::now(), place, message)
    }

    pub(super) fn seal_at(&self, time: u64, place: &[u8], message: &[u8]) -> Bytes {
        let header = Header {
            key: self.id,
            incarnation: self.incarnation,
            // Relaxed ordering suffices: a counter must only be drawn once.
            counter: self.next.fetch_add(1, Ordering::Relaxed),
            time,
        };
        let bytes = header.to_bytes();
        let mut sealed = BytesMut::with_capacity(message.len() + OVERHEAD);
        sealed.put_slice(&bytes);
        sealed.put_slice(message);
        let tag = bound(time, place, |bound| {
            let (_, text) = sealed.split_at_mut(Header::BYTES);
            self.key
                .seal_in_place_separate_tag(nonce(header.counter), Aad::from(bound), text)
        });
        let tag = tag.expect("no message is as long as 64 GiB");
        sealed.put_slice(tag.as_ref());
        sealed.freeze()
    }

    /// Returns whether this sealer has sealed the message, according to its header. A false claim
    /// only helps a message that is ignored anyway.
    pub(in crate::adapter) fn has_sealed(&self, message: &[u8]) -> bool {
        Header::read(message).is_ok_and(|header| header.incarnation == self.incarnation)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// Returns the nonce of a message. It never repeats for a key, because each incarnation has its own
/// key.
pub(super) fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    for (place, byte) in nonce.iter_mut().skip(4).zip(counter.to_le_bytes()) {
        *place = byte;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// Calls `then` with the associated data of a message: its time and its place. The key depends on
/// all of the header except the counter and the time, and the counter is the nonce.
pub(super) fn bound<T>(time: u64, place: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    let time = time.to_le_bytes();
    let mut here = [0; 128];
    // Most places are short, and need no allocation.
    match here.get_mut(..time.len() + place.len()) {
        Some(bound) => {
            let (front, back) = bound.split_at_mut(time.len());
            front.copy_from_slice(&time);
            back.copy_from_slice(place);
            then(bound)
        }
        None => then(&[&time, place].concat()),
    }
}

/// The additional size of a sealed message in bytes.
pub(in crate::adapter) const OVERHEAD: usize = Header::BYTES + TAG;
/// The size of the tag at the end in bytes.
pub(super) const TAG: usize = MAX_TAG_LEN;
