//! Seals outgoing messages.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use ring::aead::{Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce};

use super::{
    Purpose, Secrets,
    header::{self, Header, Incarnation},
    secrets::KeyId,
};

/// Seals messages with its own key.
pub(in crate::adapter) struct Sealer {
    secrets: Secrets,
    purpose: Purpose,
    current: RwLock<SealingKey>,
}

/// The key of one incarnation.
struct SealingKey {
    /// The secret from which the key was derived.
    id: KeyId,
    incarnation: Incarnation,
    key: LessSafeKey,
    /// The counter of the next message.
    next: AtomicU64,
    /// The latest incarnations of this sealer with former secrets, oldest first.
    former: Vec<Incarnation>,
}

impl Sealer {
    /// Creates a sealer with a new incarnation.
    ///
    /// # Panics
    ///
    /// If the operating system returns no random numbers. A repeated incarnation would repeat
    /// nonces.
    pub(in crate::adapter) fn new(secrets: &Secrets, purpose: &Purpose) -> Self {
        Self::with(secrets, purpose, new_incarnation())
    }

    pub(super) fn with(secrets: &Secrets, purpose: &Purpose, incarnation: Incarnation) -> Self {
        let current = SealingKey::new(secrets, purpose, incarnation, Vec::new());
        Self {
            secrets: secrets.clone(),
            purpose: purpose.clone(),
            current: RwLock::new(current),
        }
    }

    /// Returns the key of the present first secret. If that was replaced, a new incarnation begins,
    /// because receivers know an incarnation with one secret.
    fn current(&self) -> RwLockReadGuard<'_, SealingKey> {
        let current = self.current.read();
        if current.id == self.secrets.first() {
            return current;
        }
        drop(current);
        let mut current = self.current.write();
        // Another thread may have been faster.
        if current.id != self.secrets.first() {
            let mut former = std::mem::take(&mut current.former);
            former.push(current.incarnation);
            let excess = former.len().saturating_sub(MAX_FORMER);
            former.drain(..excess);
            *current = SealingKey::new(&self.secrets, &self.purpose, new_incarnation(), former);
        }
        RwLockWriteGuard::downgrade(current)
    }

    /// Seals a message for one place, such as a channel. It does not open at other places.
    pub(in crate::adapter) fn seal(&self, place: &[u8], message: &[u8]) -> Bytes {
        self.seal_at(header::now(), place, message)
    }

    pub(super) fn seal_at(&self, time: u64, place: &[u8], message: &[u8]) -> Bytes {
        let current = self.current();
        let header = Header {
            key: current.id,
            incarnation: current.incarnation,
            // Relaxed ordering suffices: a counter must only be drawn once.
            counter: current.next.fetch_add(1, Ordering::Relaxed),
            time,
        };
        let bytes = header.to_bytes();
        let mut sealed = BytesMut::with_capacity(message.len() + OVERHEAD);
        sealed.put_slice(&bytes);
        sealed.put_slice(message);
        let tag = bound(time, place, |bound| {
            let (_, text) = sealed.split_at_mut(Header::BYTES);
            current
                .key
                .seal_in_place_separate_tag(nonce(header.counter), Aad::from(bound), text)
        });
        let tag = tag.expect("no message is as long as 64 GiB");
        sealed.put_slice(tag.as_ref());
        sealed.freeze()
    }

    /// Returns whether this sealer has sealed the message, according to its header. A false claim
    /// only helps a message that is ignored anyway.
    pub(in crate::adapter) fn has_sealed(&self, message: &[u8]) -> bool {
        let current = self.current.read();
        Header::read(message).is_ok_and(|header| {
            let incarnation = header.incarnation;
            incarnation == current.incarnation || current.former.contains(&incarnation)
        })
    }
}

impl SealingKey {
    fn new(
        secrets: &Secrets,
        purpose: &Purpose,
        incarnation: Incarnation,
        former: Vec<Incarnation>,
    ) -> Self {
        let (id, key) = secrets.first_key(purpose, &incarnation);
        Self {
            id,
            incarnation,
            key,
            next: AtomicU64::new(0),
            former,
        }
    }
}

fn new_incarnation() -> Incarnation {
    let mut incarnation = Incarnation::default();
    getrandom::fill(&mut incarnation).expect("the operating system has random numbers");
    incarnation
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

/// Maximum number of former incarnations whose messages a sealer recognizes. Messages are in flight
/// for a much shorter time than so many replacements take.
const MAX_FORMER: usize = 8;
/// The additional size of a sealed message in bytes.
pub(in crate::adapter) const OVERHEAD: usize = Header::BYTES + TAG;
/// The size of the tag at the end in bytes.
pub(super) const TAG: usize = MAX_TAG_LEN;
