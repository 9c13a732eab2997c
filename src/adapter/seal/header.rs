//! The header of a sealed message.
//!
//! ```text
//! magic         1 byte, 0xc1: no JSON, no MessagePack and no envelope begins with it
//! version       1 byte, 1
//! key id        4 bytes
//! incarnation   16 bytes, drawn when the sender starts
//! counter       8 bytes, little-endian: one more for each message of the incarnation
//! time          8 bytes, little-endian: milliseconds since 1970, when the message was sealed
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::secrets::KeyId;
use crate::adapter::{Unopened, WireError};

/// Identifies a sender from its start to its end.
pub(super) type Incarnation = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) key: KeyId,
    pub(super) incarnation: Incarnation,
    pub(super) counter: u64,
    pub(super) time: u64,
}

impl Header {
    /// The size of a header in bytes.
    pub(super) const BYTES: usize = 38;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let Self {
            key,
            incarnation,
            counter,
            time,
        } = self;
        let mut bytes = [0; Self::BYTES];
        let parts: [&[u8]; 5] = [
            &[MAGIC, VERSION],
            &key,
            &incarnation,
            &counter.to_le_bytes(),
            &time.to_le_bytes(),
        ];
        let mut rest = &mut bytes[..];
        for part in parts {
            let (place, next) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = next;
        }
        bytes
    }

    /// Reads the header of a message. This is cheap.
    pub(super) fn read(message: &[u8]) -> Result<Self, WireError> {
        if message.first() != Some(&MAGIC) {
            return Err(WireError::Unopened(Unopened::Plain));
        }
        let header = message.first_chunk::<{ Self::BYTES }>();
        let header = header.ok_or(WireError::Unopened(Unopened::Forged))?;
        let mut rest = &header[1..];
        let version = take::<1>(&mut rest)[0];
        if version != VERSION {
            return Err(WireError::UnknownVersion(version));
        }
        Ok(Self {
            key: take(&mut rest),
            incarnation: take(&mut rest),
            counter: u64::from_le_bytes(take(&mut rest)),
            time: u64::from_le_bytes(take(&mut rest)),
        })
    }
}

/// Splits off `N` bytes. They always exist, because the header has a fixed length.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((part, rest_after)) = rest.split_first_chunk::<N>() else {
        return [0; N];
    };
    *rest = rest_after;
    *part
}

/// Identifies a sealed message: no other message has the same incarnation and counter.
#[cfg(feature = "postgres")]
pub(in crate::adapter) type SealedName = [u8; NAME_BYTES];

/// The size of the name of a sealed message in bytes.
#[cfg(feature = "postgres")]
pub(in crate::adapter) const NAME_BYTES: usize = 24;

/// Returns the name of a sealed message, or `None` if the message is too short.
#[cfg(feature = "postgres")]
pub(in crate::adapter) fn sealed_name(sealed: &[u8]) -> Option<SealedName> {
    sealed.get(6..30)?.try_into().ok()
}

/// Returns whether a message claims to be sealed.
pub(in crate::adapter) fn is_sealed(message: &[u8]) -> bool {
    message.first() == Some(&MAGIC)
}

/// Returns the time in milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO).as_millis();
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// The first byte of a sealed message. MessagePack, JSON and envelopes never begin with it.
pub(super) const MAGIC: u8 = 0xc1;
const VERSION: u8 = 1;
