//! Sealing: only servers that know a secret can read messages, and only their messages are
//! processed.
//!
//! A sealed message is a [header](header), the encrypted content and a tag of 16 bytes
//! (AES-256-GCM).
//!
//! - **Keys.** HKDF-SHA256 derives from the secret one key for each [purpose](Purpose), cluster and
//!   incarnation of a sender. An incarnation is 128 random bits that a sender draws when it starts.
//! - **Nonces.** The nonce is the counter of the incarnation. A counter is drawn once, and each
//!   incarnation has its own key, so no nonce repeats for a key.
//! - **Binding.** The tag covers the whole header and the place, such as the channel: the time and
//!   the place as associated data, the counter as nonce, and the rest through the key. A message
//!   does not open at other places.
//! - **Replays.** An [`Opener`] opens each counter of an incarnation once, within a
//!   [window](window). A message of an unknown incarnation must be at most 60 seconds old. An
//!   incarnation is only stored after one of its messages has opened.
//! - **Stored content** is identified by where it is stored: entries of a journal by their
//!   position, rows by the sealed notification that names them, sessions by their key. Reading it
//!   again is not a replay.
//!
//! A message that does not open costs a check of its header. If it names a known secret, a new
//! counter and the present time, it also costs a decryption.

mod header;
mod opener;
mod protection;
mod sealer;
mod secrets;
mod window;

use std::sync::Arc;

#[cfg(feature = "postgres")]
pub(super) use self::header::{NAME_BYTES, SealedName, sealed_name};
#[cfg(feature = "redis")]
pub(super) use self::opener::Reading;
pub use self::secrets::{InvalidSecrets, Secrets};
pub(super) use self::{
    opener::Opener,
    protection::{Opened, Protection, SealOptions},
    sealer::{OVERHEAD, Sealer},
};

/// The purpose of a key.
#[derive(Clone, Debug)]
pub(super) struct Purpose {
    label: &'static str,
    /// The key of the adapter, which separates clusters on one broker.
    cluster: Arc<str>,
}

impl Purpose {
    pub(super) fn new(label: &'static str, cluster: &str) -> Self {
        Self {
            label,
            cluster: cluster.into(),
        }
    }

    const fn label(&self) -> &[u8] {
        self.label.as_bytes()
    }

    fn cluster(&self) -> &[u8] {
        self.cluster.as_bytes()
    }
}

/// For fuzz targets: arbitrary data never opens unless it was sealed.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Ok(secrets) = Secrets::new([[7; 32]]) else {
        return;
    };
    let (sealer, opener) = (
        Sealer::new(&secrets, &Purpose::new("fuzz", "")),
        Opener::new(&secrets, &Purpose::new("fuzz", "")),
    );
    let sealed = sealer.seal(b"place", data);
    // The data after a genuine header, and instead of a message.
    let header = sealed.get(..header::Header::BYTES).unwrap_or_default();
    for forged in [data.to_vec(), [header, data].concat()] {
        assert!(opener.open(b"place", forged.into(), None).is_err());
    }
    assert!(opener.open(b"elsewhere", sealed.clone(), None).is_err());
    let opened = opener.open(b"place", sealed.clone(), None);
    assert!(opened.is_ok_and(|opened| opened == data));
    assert!(opener.open(b"place", sealed, None).is_err());
    #[cfg(feature = "postgres")]
    if let Ok(text) = std::str::from_utf8(data) {
        super::postgres::fuzz(&secrets, text);
    }
}

#[cfg(test)]
mod tests;
