//! The secrets that the servers of a cluster share.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;
use ring::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Okm, Prk, Salt},
};

use super::{Purpose, header::Incarnation};

/// The secrets with which servers seal their messages: the first seals, and all open.
///
/// All servers and emitters of a cluster have the same list. To replace a secret, change all
/// servers in three steps: add the new secret at the end, move it to the front, and remove the old
/// secret. [`replace`](Self::replace) does this while a server runs. Clones share the list.
///
/// ```
/// use roomcast::adapter::Secrets;
///
/// let secrets = Secrets::new(["0123456789abcdef0123456789abcdef"])?;
/// assert!(Secrets::new(["too short"]).is_err());
/// # let _ = secrets;
/// # Ok::<(), roomcast::adapter::InvalidSecrets>(())
/// ```
#[derive(Clone)]
pub struct Secrets(Arc<RwLock<Vec<Secret>>>);

/// A secret, as the pseudorandom key from which HKDF derives all other keys.
#[derive(Clone)]
struct Secret {
    id: KeyId,
    root: Prk,
}

/// Identifies a secret in sealed messages, and reveals nothing about it.
pub(super) type KeyId = [u8; 4];

/// The reason why a list of secrets is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidSecrets {
    /// The list is empty.
    Empty,
    /// The list is longer than [`Secrets::MAX`].
    TooMany(usize),
    /// The secret with this number, counted from 1, is shorter than [`Secrets::MIN_BYTES`].
    TooShort {
        /// The number of the secret in the list, counted from 1.
        number: usize,
        /// The length of the secret in bytes.
        bytes: usize,
    },
    /// The secret with this number, counted from 1, repeats an earlier secret.
    Repeated(usize),
}

impl fmt::Display for InvalidSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the list of secrets is empty: give at least one"),
            Self::TooMany(count) => {
                let most = Secrets::MAX;
                write!(f, "{count} secrets are too many: give at most {most}")
            }
            Self::TooShort { number, bytes } => {
                let least = Secrets::MIN_BYTES;
                write!(
                    f,
                    "secret {number} has {bytes} bytes, too few: give at least {least}"
                )
            }
            Self::Repeated(number) => {
                write!(f, "secret {number} is in the list twice: remove it")
            }
        }
    }
}

impl std::error::Error for InvalidSecrets {}

impl Secrets {
    /// The minimum length of a secret in bytes.
    pub const MIN_BYTES: usize = 32;
    /// The maximum number of secrets.
    pub const MAX: usize = 16;

    /// Creates a list of secrets, of which the first seals.
    ///
    /// # Errors
    ///
    /// If the list is empty, is longer than [`MAX`](Self::MAX), contains a secret twice, or
    /// contains a secret shorter than [`MIN_BYTES`](Self::MIN_BYTES).
    pub fn new<S: AsRef<[u8]>>(
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidSecrets> {
        let salt = Salt::new(HKDF_SHA256, SALT);
        let mut all: Vec<Secret> = Vec::new();
        let mut count = 0;
        for secret in secrets {
            count += 1;
            if count > Self::MAX {
                continue;
            }
            let secret = secret.as_ref();
            let bytes = secret.len();
            if bytes < Self::MIN_BYTES {
                let number = count;
                return Err(InvalidSecrets::TooShort { number, bytes });
            }
            let root = salt.extract(secret);
            let mut id = KeyId::default();
            fill(&root, &[KEY_ID], &mut id);
            if all.iter().any(|known| known.id == id) {
                return Err(InvalidSecrets::Repeated(count));
            }
            all.push(Secret { id, root });
        }
        match count {
            0 => Err(InvalidSecrets::Empty),
            count if count > Self::MAX => Err(InvalidSecrets::TooMany(count)),
            _ => Ok(Self(Arc::new(RwLock::new(all)))),
        }
    }

    /// Replaces the list by another list, for all clones. Adapters that have one of them seal with
    /// the first secret of the new list from the next message on, and open no message that was
    /// sealed with a secret that is not in it. Nothing is disconnected.
    ///
    /// ```
    /// use roomcast::adapter::Secrets;
    ///
    /// let [old, new] = [[1; 32], [2; 32]];
    /// let secrets = Secrets::new([old])?;
    /// // All servers know the new secret before one of them seals with it.
    /// secrets.replace(&Secrets::new([old, new])?);
    /// secrets.replace(&Secrets::new([new, old])?);
    /// secrets.replace(&Secrets::new([new])?);
    /// # Ok::<(), roomcast::adapter::InvalidSecrets>(())
    /// ```
    pub fn replace(&self, other: &Self) {
        // The locks are not held together, so that a list can also replace itself.
        let list = other.0.read().clone();
        *self.0.write() = list;
    }

    /// Derives a key from each secret, in order, for proofs and protections besides messages. Keys
    /// of different purposes reveal nothing about each other.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Vec<[u8; 32]> {
        let derive = |secret: &Secret| {
            let mut key = [0; 32];
            fill(&secret.root, &[APPLICATION, purpose.as_bytes()], &mut key);
            key
        };
        self.0.read().iter().map(derive).collect()
    }

    /// Returns the id of the secret that seals.
    pub(super) fn first(&self) -> KeyId {
        let list = self.0.read();
        list.first().expect("a list of secrets is never empty").id
    }

    /// Derives the key of one sender for one purpose from the secret that seals, and returns it
    /// with the id of that secret.
    pub(super) fn first_key(
        &self,
        purpose: &Purpose,
        incarnation: &Incarnation,
    ) -> (KeyId, LessSafeKey) {
        let list = self.0.read();
        let first = list.first().expect("a list of secrets is never empty");
        (first.id, first.key(purpose, incarnation))
    }

    /// Returns whether a secret has this id.
    pub(super) fn has(&self, id: KeyId) -> bool {
        self.0.read().iter().any(|secret| secret.id == id)
    }

    /// Derives the key of one sender for one purpose from the secret with this id, if there is one.
    pub(super) fn key(
        &self,
        id: KeyId,
        purpose: &Purpose,
        incarnation: &Incarnation,
    ) -> Option<LessSafeKey> {
        let list = self.0.read();
        let secret = list.iter().find(|secret| secret.id == id)?;
        Some(secret.key(purpose, incarnation))
    }
}

impl Secret {
    /// Derives the key of one sender for one purpose.
    fn key(&self, purpose: &Purpose, incarnation: &Incarnation) -> LessSafeKey {
        let info = [
            MESSAGES,
            purpose.label(),
            &[0],
            purpose.cluster(),
            &[0],
            incarnation,
        ];
        let key = self.root.expand(&info, &AES_256_GCM);
        let key: Okm<'_, _> = key.expect("HKDF derives 32 bytes");
        LessSafeKey::new(UnboundKey::from(key))
    }
}

fn fill(root: &Prk, info: &[&[u8]], key: &mut [u8]) {
    struct Length(usize);

    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    let derived = root.expand(info, Length(key.len()));
    let derived = derived.expect("HKDF derives so few bytes");
    derived.fill(key).expect("the lengths are equal");
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The log must not contain more than the number of secrets.
        write!(f, "Secrets({})", self.0.read().len())
    }
}

/// Separates these keys from keys that other programs derive from the same secret.
const SALT: &[u8] = b"roomcast seal 1";
const KEY_ID: &[u8] = b"key id";
const MESSAGES: &[u8] = b"messages/";
const APPLICATION: &[u8] = b"application/";
