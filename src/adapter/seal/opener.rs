//! Opens incoming messages.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use parking_lot::Mutex;
use ring::aead::{Aad, LessSafeKey};

use super::{
    Purpose, Secrets,
    header::{self, Header, Incarnation},
    sealer::{OVERHEAD, bound, nonce},
    secrets::KeyId,
    window::Window,
};
use crate::adapter::{Unopened, WireError};

/// Opens the messages of all senders, each message once.
pub(in crate::adapter) struct Opener {
    secrets: Secrets,
    purpose: Purpose,
    senders: Mutex<Senders>,
}

type Senders = HashMap<Incarnation, Sender, BuildHasherDefault<IncarnationHasher>>;

/// Uses an incarnation as its own hash. It is random, and only a sender that knows the secret can
/// add one.
#[derive(Default)]
struct IncarnationHasher(u64);

impl Hasher for IncarnationHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A sender of which at least one message was opened.
struct Sender {
    id: KeyId,
    key: LessSafeKey,
    window: Window,
    /// The time of the newest opened message.
    last: u64,
}

impl Opener {
    pub(in crate::adapter) fn new(secrets: &Secrets, purpose: &Purpose) -> Self {
        Self {
            secrets: secrets.clone(),
            purpose: purpose.clone(),
            senders: Mutex::default(),
        }
    }

    /// Opens a message that arrived at a place. `stored_at` is the time at which the broker stored
    /// it, in milliseconds since 1970, if it did. Only in this case, the message of a new sender
    /// may be old.
    ///
    /// # Errors
    ///
    /// If the message is not sealed, was sealed with another secret or for another place, or was
    /// opened before. Also if its sender is new and the message is not recent.
    pub(in crate::adapter) fn open(
        &self,
        place: &[u8],
        message: Bytes,
        stored_at: Option<u64>,
    ) -> Result<Bytes, WireError> {
        let header = self.check(&message)?;
        let arrived = || stored_at.unwrap_or_else(header::now);
        let mut senders = self.senders.lock();
        if let Some(sender) = senders.get_mut(&header.incarnation) {
            if sender.id != header.key {
                return Err(WireError::Unopened(Unopened::Forged));
            }
            if sender.window.has(header.counter) {
                return Err(WireError::Unopened(Unopened::Replayed));
            }
            // A message from before the first opened message counts like the message of a new
            // sender.
            if sender.window.is_before(header.counter) && !is_fresh(&header, arrived()) {
                return Err(WireError::Unopened(Unopened::Stale));
            }
            let opened = decrypt(&sender.key, &header, place, message)?;
            sender.window.note(header.counter);
            sender.last = sender.last.max(header.time);
            return Ok(opened);
        }
        if !is_fresh(&header, arrived()) {
            return Err(WireError::Unopened(Unopened::Stale));
        }
        let key = self.key(&header)?;
        let opened = decrypt(&key, &header, place, message)?;
        // Only a sender that knows the secret gets here.
        if senders.len() >= MAX_SENDERS {
            evict(&mut senders);
        }
        let sender = Sender {
            id: header.key,
            key,
            window: Window::new(header.counter),
            last: header.time,
        };
        senders.insert(header.incarnation, sender);
        Ok(opened)
    }

    /// Checks the message without decrypting it: whether it is sealed, and with a known secret.
    fn check(&self, message: &[u8]) -> Result<Header, WireError> {
        let header = Header::read(message)?;
        if message.len() < OVERHEAD {
            return Err(WireError::Unopened(Unopened::Forged));
        }
        match self.secrets.has(header.key) {
            true => Ok(header),
            false => Err(WireError::Unopened(Unopened::UnknownKey)),
        }
    }

    /// Checks whether a message with these first bytes may open, without decrypting it.
    ///
    /// # Errors
    ///
    /// See [`open`](Self::open).
    pub(in crate::adapter) fn may_open(&self, first: &[u8]) -> Result<(), WireError> {
        let header = Header::read(first)?;
        if !self.secrets.has(header.key) {
            return Err(WireError::Unopened(Unopened::UnknownKey));
        }
        match self.senders.lock().get(&header.incarnation) {
            Some(sender) if sender.window.has(header.counter) => {
                Err(WireError::Unopened(Unopened::Replayed))
            }
            None if !is_fresh(&header, header::now()) => Err(WireError::Unopened(Unopened::Stale)),
            Some(_) | None => Ok(()),
        }
    }

    fn key(&self, header: &Header) -> Result<LessSafeKey, WireError> {
        let secrets = &self.secrets;
        let key = secrets.key(header.key, &self.purpose, &header.incarnation);
        key.ok_or(WireError::Unopened(Unopened::UnknownKey))
    }

    /// Opens stored content at a place, which may be read any number of times. Returns it with its
    /// age.
    ///
    /// # Errors
    ///
    /// If it is not sealed, or was sealed with another secret or for another place.
    pub(in crate::adapter) fn read(
        &self,
        place: &[u8],
        stored: Bytes,
    ) -> Result<(Bytes, Duration), WireError> {
        let header = self.check(&stored)?;
        let opened = decrypt(&self.key(&header)?, &header, place, stored)?;
        let age = Duration::from_millis(header::now().saturating_sub(header.time));
        Ok((opened, age))
    }

    /// Returns the number of stored senders.
    #[cfg(test)]
    pub(super) fn senders(&self) -> usize {
        self.senders.lock().len()
    }

    /// Starts to read entries of a journal. They may be read any number of times, but each once per
    /// reading.
    #[cfg(feature = "redis")]
    pub(in crate::adapter) fn reading(&self) -> Reading<'_> {
        Reading {
            opener: self,
            keys: HashMap::new(),
            names: HashSet::new(),
        }
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

/// One reading of a part of a journal.
#[cfg(feature = "redis")]
pub(in crate::adapter) struct Reading<'a> {
    opener: &'a Opener,
    keys: HashMap<(KeyId, Incarnation), LessSafeKey>,
    names: HashSet<(Incarnation, u64)>,
}

#[cfg(feature = "redis")]
impl Reading<'_> {
    /// Opens an entry that the broker stored at the time `stored_at`, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// See [`Opener::open`]. An entry that was sealed long before it was stored is stale.
    pub(in crate::adapter) fn open(
        &mut self,
        place: &[u8],
        entry: Bytes,
        stored_at: u64,
    ) -> Result<Bytes, WireError> {
        let header = self.opener.check(&entry)?;
        if !is_fresh(&header, stored_at) {
            return Err(WireError::Unopened(Unopened::Stale));
        }
        let name = (header.incarnation, header.counter);
        if self.names.contains(&name) {
            return Err(WireError::Unopened(Unopened::Replayed));
        }
        let sender = (header.key, header.incarnation);
        let opened = match self.keys.get(&sender) {
            Some(key) => decrypt(key, &header, place, entry)?,
            None => {
                let key = self.opener.key(&header)?;
                let opened = decrypt(&key, &header, place, entry)?;
                self.keys.insert(sender, key);
                opened
            }
        };
        self.names.insert(name);
        Ok(opened)
    }
}

fn decrypt(
    key: &LessSafeKey,
    header: &Header,
    place: &[u8],
    message: Bytes,
) -> Result<Bytes, WireError> {
    // A message with a shared buffer is copied; most buffers are not shared.
    let mut message = message
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&*shared));
    message.advance(Header::BYTES);
    let opened = bound(header.time, place, |bound| {
        key.open_in_place(nonce(header.counter), Aad::from(bound), &mut message)
            .map(|opened| opened.len())
    });
    let length = opened.map_err(|_| WireError::Unopened(Unopened::Forged))?;
    message.truncate(length);
    Ok(message.freeze())
}

/// Removes the senders that were silent for [`SILENCE`], whose old messages are stale. If there are
/// none, removes the sender with the oldest last message.
fn evict(senders: &mut Senders) {
    let (before, now) = (senders.len(), header::now());
    let is_silent = |sender: &Sender| {
        let silence = Duration::from_millis(now.saturating_sub(sender.last));
        silence >= SILENCE
    };
    senders.retain(|_, sender| !is_silent(sender));
    if senders.len() == before {
        let oldest = senders.iter().min_by_key(|(_, sender)| sender.last);
        if let Some(oldest) = oldest.map(|(incarnation, _)| *incarnation) {
            senders.remove(&oldest);
        }
    }
}

fn is_fresh(header: &Header, arrived: u64) -> bool {
    u128::from(header.time.abs_diff(arrived)) <= FRESH.as_millis()
}

/// The maximum difference between the time of a new sender's message and that of this server, or of
/// the broker that stored it.
const FRESH: Duration = Duration::from_secs(60);
/// Minimum time that a silent sender is stored. By then, a recorded message of it is stale.
const SILENCE: Duration = Duration::from_secs(180);
/// The maximum number of stored senders.
const MAX_SENDERS: usize = 4096;
