//! The sources of keys: a fixed part, a file that is polled every second, and a fetched set. Each
//! source replaces its own part as a whole, or retains the last valid one.

use std::{
    fmt, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use tokio::{sync::Semaphore, time::Instant};

use super::{
    Keys, KeysError,
    jwks::{self, JwksUrl},
};
use crate::auth::Weakness;
use crate::config::{FileState, WatchedFile};

/// The active keys.
pub(crate) struct KeyRing {
    keys: RwLock<Arc<Keys>>,
    parts: Mutex<Parts>,
    /// The key file, in the state from before it was read at the start.
    file: Option<FileState>,
    /// Whether guessable secrets in the file are refused or logged.
    secrets: WeakSecrets,
    remote: Option<Remote>,
}

/// The treatment of guessable secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeakSecrets {
    Refused,
    Warned,
}

#[derive(Default)]
struct Parts {
    fixed: Keys,
    file: Keys,
    remote: Keys,
    /// When the file was read last.
    file_loaded: Option<SystemTime>,
    /// When the set was fetched last.
    remote_loaded: Option<SystemTime>,
}

/// A fetched key set.
struct Remote {
    url: JwksUrl,
    refresh: Duration,
    timeout: Duration,
    /// Its only permit belongs to the current fetch.
    permit: Arc<Semaphore>,
    state: Mutex<Fetches>,
}

#[derive(Default)]
struct Fetches {
    /// The number of ended fetches.
    count: u64,
    /// The number of consecutive failed fetches.
    failures: u32,
    last: Option<Instant>,
}

/// The minimum delay after a successful fetch.
const MIN_FETCH_DELAY: Duration = Duration::from_secs(5);
/// The delay after a failed fetch. Each further failure doubles it.
const FAILURE_DELAY: Duration = Duration::from_secs(1);
/// The maximum delay after failed fetches.
const MAX_FETCH_DELAY: Duration = Duration::from_secs(300);

impl Fetches {
    /// Returns the minimum delay after the last fetch.
    fn delay(&self) -> Duration {
        match self.failures.checked_sub(1) {
            None => MIN_FETCH_DELAY,
            Some(earlier) => FAILURE_DELAY
                // The delay doubles so that many servers do not overload an issuer that is
                // recovering.
                .saturating_mul(1 << earlier.min(16))
                .min(MAX_FETCH_DELAY),
        }
    }

    fn may_fetch(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= self.delay())
    }

    /// Returns when the next periodic fetch is due.
    fn due(&self, refresh: Duration) -> Instant {
        let wait = if self.failures == 0 {
            refresh.min(MAX_REFRESH)
        } else {
            self.delay()
        };
        self.last.map_or_else(Instant::now, |last| last + wait)
    }

    /// Notes the end of a fetch. Returns the delay before the next one.
    fn ended(&mut self, is_good: bool) -> Duration {
        self.count += 1;
        self.failures = if is_good {
            0
        } else {
            self.failures.saturating_add(1)
        };
        self.last = Some(Instant::now());
        self.delay()
    }
}

impl Parts {
    fn load_file(&mut self, keys: Keys) {
        self.file = keys;
        self.file_loaded = Some(SystemTime::now());
    }
}

impl KeyRing {
    /// Creates a ring of fixed keys.
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            keys: RwLock::new(Arc::new(keys.clone())),
            parts: Mutex::new(Parts {
                fixed: keys,
                ..Parts::default()
            }),
            file: None,
            secrets: WeakSecrets::Warned,
            remote: None,
        }
    }

    /// Adds the keys in a file, which must be valid now.
    pub(crate) fn with_file(
        mut self,
        path: &Path,
        secrets: WeakSecrets,
    ) -> Result<Self, FileError> {
        let state = FileState::content(path);
        let keys = read(path, secrets)?;
        self.secrets = secrets;
        self.change(|parts| parts.load_file(keys));
        self.file = Some(state);
        Ok(self)
    }

    /// Adds the keys at a URL, which need not be available now.
    pub(crate) fn with_url(mut self, url: JwksUrl, refresh: Duration, timeout: Duration) -> Self {
        self.change(|parts| parts.remote = Keys::none_yet());
        self.remote = Some(Remote {
            url,
            refresh,
            timeout,
            permit: Arc::new(Semaphore::new(1)),
            state: Mutex::default(),
        });
        self
    }

    pub(crate) fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read())
    }

    /// Returns the sources whose keys can change, and when each was loaded last.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = (&'static str, Option<SystemTime>)> {
        let parts = self.parts.lock();
        let file = self.file.as_ref().map(|_| ("file", parts.file_loaded));
        let url = self.remote.as_ref().map(|_| ("url", parts.remote_loaded));
        file.into_iter().chain(url)
    }

    /// Returns whether there are fixed keys.
    pub(crate) fn has_fixed(&self) -> bool {
        !self.parts.lock().fixed.is_empty()
    }

    /// Replaces the fixed keys.
    pub(crate) fn replace_fixed(&self, keys: Keys) {
        self.change(|parts| parts.fixed = keys);
    }

    /// Changes some of the parts and activates all of them.
    fn change(&self, change: impl FnOnce(&mut Parts)) {
        // The parts stay locked until the keys are swapped. Otherwise, of two concurrent changes,
        // the one with older parts could be swapped in last.
        let mut parts = self.parts.lock();
        change(&mut parts);
        // The new set is built separately and swapped in whole, so that no token is checked against
        // a partial set.
        let keys = parts.fixed.clone().and(parts.file.clone());
        let keys = keys.and(parts.remote.clone());
        for id in keys.duplicates() {
            tracing::warn!(
                kid = id,
                "several keys of a source have this kid: none of them is used"
            );
        }
        *self.keys.write() = Arc::new(keys);
    }

    /// Returns whether the keys can change.
    pub(crate) fn may_change(&self) -> bool {
        self.file.is_some() || self.remote.is_some()
    }

    /// Updates the keys continuously if they can change. Runs until dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::join!(self.watch(), self.refresh());
    }

    async fn watch(&self) {
        let Some(state) = &self.file else { return };
        // The watch starts from the state before the first read, so it detects changes during the
        // start, and those before a restart of this task.
        let mut file = WatchedFile::since(state.clone());
        loop {
            file.changed().await;
            match read(state.path(), self.secrets) {
                Ok(keys) => {
                    if keys.is_empty() {
                        tracing::warn!(
                            "key file reloaded: it is empty, all its previous keys are revoked"
                        );
                    } else {
                        tracing::info!(keys = keys.len(), "key file reloaded");
                    }
                    self.change(|parts| parts.load_file(keys));
                }
                Err(error) => {
                    tracing::error!(
                        %error,
                        "could not load the changed key file, the previous keys stay in use"
                    );
                    file.retry();
                }
            }
        }
    }

    async fn refresh(&self) {
        let Some(remote) = &self.remote else { return };
        loop {
            let due = remote.state.lock().due(remote.refresh);
            tokio::time::sleep_until(due).await;
            let Ok(_permit) = remote.permit.acquire().await else {
                return;
            };
            // Another task may have fetched in the meantime.
            if remote.state.lock().due(remote.refresh) <= Instant::now() {
                self.fetch().await;
            }
        }
    }

    /// Fetches newer keys if there is a URL and the last fetch is not too recent. Concurrent
    /// callers wait for the same fetch.
    ///
    /// Returns `false` if the keys can never change by fetching.
    pub(crate) async fn renew(self: &Arc<Self>) -> bool {
        let Some(remote) = &self.remote else {
            return false;
        };
        // The count is read before waiting, so that a fetch that ends in the meantime is not
        // repeated.
        let before = remote.state.lock().count;
        let Ok(permit) = Arc::clone(&remote.permit).acquire_owned().await else {
            return false;
        };
        let is_due = {
            let state = remote.state.lock();
            state.count == before && state.may_fetch()
        };
        if is_due {
            // The fetch runs in its own task, because the caller can be canceled while others wait
            // for the fetch.
            let ring = Arc::clone(self);
            let fetch = tokio::spawn(async move {
                ring.fetch().await;
                drop(permit);
            });
            let _ = fetch.await;
        }
        true
    }

    async fn fetch(&self) {
        let Some(remote) = &self.remote else { return };
        let fetched = tokio::time::timeout(remote.timeout, jwks::fetch(&remote.url)).await;
        let keys = match fetched {
            Ok(Ok(text)) => Keys::from_public_jwks(&text).map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("took too long".to_owned()),
        };
        // A failed fetch retains the previous keys, because refusing all tokens would be worse.
        let delay = remote.state.lock().ended(keys.is_ok());
        match keys {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "the key set was fetched");
                self.change(|parts| {
                    parts.remote = keys;
                    parts.remote_loaded = Some(SystemTime::now());
                });
            }
            Err(reason) => tracing::warn!(
                reason,
                url = %remote.url,
                again_in = ?delay,
                "could not fetch the key set, the previous keys stay in use"
            ),
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("keys", &self.now())
            .finish_non_exhaustive()
    }
}

/// The reason why a key file cannot be used.
#[derive(Debug)]
pub(crate) enum FileError {
    Read(PathBuf, io::Error),
    TooLarge(PathBuf),
    Keys(PathBuf, KeysError),
    /// The secret with this `kid` is guessable.
    Weak(PathBuf, Option<String>, Weakness),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{}: {error}", path.display()),
            Self::TooLarge(path) => write!(f, "{}: more than 1 MiB", path.display()),
            Self::Keys(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Weak(path, Some(kid), weakness) => {
                write!(f, "{}: key `{kid}`: {weakness}", path.display())
            }
            Self::Weak(path, None, weakness) => write!(f, "{}: {weakness}", path.display()),
        }
    }
}

impl std::error::Error for FileError {}

fn read(path: &Path, secrets: WeakSecrets) -> Result<Keys, FileError> {
    let fault = |error| FileError::Read(path.to_owned(), error);
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut text = String::new();
    // One extra byte distinguishes a file that is too large from one that just fits.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(fault)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    let keys = Keys::from_jwks(&text);
    let keys = keys.map_err(|error| FileError::Keys(path.to_owned(), error))?;
    match keys.weakness() {
        Some((kid, weakness)) if secrets == WeakSecrets::Refused => {
            let kid = kid.map(str::to_owned);
            Err(FileError::Weak(path.to_owned(), kid, weakness))
        }
        Some((kid, weakness)) => {
            tracing::warn!(kid, %weakness, "a key of the key file is weak");
            Ok(keys)
        }
        None => Ok(keys),
    }
}

const MAX_FILE_BYTES: u64 = 1 << 20;
/// One day: withdrawn keys must not be used longer.
const MAX_REFRESH: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn key_file_changed_between_start_and_watch_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let key = r#"{"kty":"oct","kid":"a","k":"GawgguFyGrWKav7AX4VKUg-Rj7ISG4hMpRrpmSYWHwc"}"#;
        std::fs::write(&path, format!(r#"{{"keys":[{key}]}}"#)).unwrap();
        let ring = KeyRing::new(Keys::default()).with_file(&path, WeakSecrets::Warned);
        let ring = Arc::new(ring.unwrap());
        assert!(!ring.now().is_empty());
        std::fs::write(&path, r#"{"keys":[]}"#).unwrap();
        let watching = tokio::spawn(Arc::clone(&ring).run());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(ring.now().is_empty());
        watching.abort();
    }

    #[test]
    fn concurrent_key_changes_are_both_applied() {
        let ring = KeyRing::new(Keys::default());
        let key = || Keys::from_secret(&[7; 32]);
        for _ in 0..200 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for keys in [key(), Keys::default()].into_iter().cycle().take(200) {
                        ring.change(|parts| parts.file = keys);
                    }
                });
                for keys in [key(), Keys::default()].into_iter().cycle().take(200) {
                    ring.change(|parts| parts.remote = keys);
                }
            });
            assert!(ring.now().is_empty());
        }
    }
}
