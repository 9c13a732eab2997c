//! Where keys come from while the server runs: a fixed part, a file that is looked at every
//! second, a set that is fetched. Each replaces its own part as a whole, or keeps the last good one.

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

/// The keys in force.
pub(crate) struct KeyRing {
    keys: RwLock<Arc<Keys>>,
    parts: Mutex<Parts>,
    file: Option<PathBuf>,
    /// Whether secrets in the file that can be guessed are refused, or warned of.
    secrets: WeakSecrets,
    remote: Option<Remote>,
}

/// What becomes of secrets that can be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeakSecrets {
    Refused,
    Warned,
}

struct Parts {
    fixed: Keys,
    file: Keys,
    remote: Keys,
}

/// A set that is fetched.
struct Remote {
    url: JwksUrl,
    refresh: Duration,
    timeout: Duration,
    /// Taken while a fetch is under way, so that there is one.
    turn: Arc<Semaphore>,
    state: Mutex<Fetches>,
}

#[derive(Default)]
struct Fetches {
    /// How many have ended.
    count: u64,
    /// How many of the last ones have failed.
    failures: u32,
    last: Option<Instant>,
}

/// How long to leave the address alone after a fetch, whoever asks.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause after a fetch that failed; each further failure doubles it.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Fetches {
    /// How long to leave the address alone after the last one.
    fn pause(&self) -> Duration {
        match self.failures.checked_sub(1) {
            None => PAUSE,
            Some(earlier) => FAILURE_PAUSE
                // The pause doubles so that many servers do not hold down an issuer that is coming
                // back.
                .saturating_mul(1 << earlier.min(16))
                .min(MAX_PAUSE),
        }
    }

    fn may_ask(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= self.pause())
    }

    /// When to fetch again by itself.
    fn due(&self, refresh: Duration) -> Instant {
        let wait = if self.failures == 0 {
            refresh.min(MAX_REFRESH)
        } else {
            self.pause()
        };
        self.last.map_or_else(Instant::now, |last| last + wait)
    }

    /// A fetch has ended. Returns how long to wait for the next.
    fn ended(&mut self, is_good: bool) -> Duration {
        self.count += 1;
        self.failures = if is_good {
            0
        } else {
            self.failures.saturating_add(1)
        };
        self.last = Some(Instant::now());
        self.pause()
    }
}

impl KeyRing {
    /// A source of these keys, which never changes.
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            keys: RwLock::new(Arc::new(keys.clone())),
            parts: Mutex::new(Parts {
                fixed: keys,
                file: Keys::default(),
                remote: Keys::default(),
            }),
            file: None,
            secrets: WeakSecrets::Warned,
            remote: None,
        }
    }

    /// Adds the keys in a file, which must be good now.
    pub(crate) fn with_file(
        mut self,
        path: &Path,
        secrets: WeakSecrets,
    ) -> Result<Self, FileError> {
        let keys = read(path, secrets)?;
        self.secrets = secrets;
        self.change(|parts| parts.file = keys);
        self.file = Some(path.to_owned());
        Ok(self)
    }

    /// Adds the keys at an address, which need not answer now.
    pub(crate) fn with_url(mut self, url: JwksUrl, refresh: Duration, timeout: Duration) -> Self {
        self.change(|parts| parts.remote = Keys::none_yet());
        self.remote = Some(Remote {
            url,
            refresh,
            timeout,
            turn: Arc::new(Semaphore::new(1)),
            state: Mutex::default(),
        });
        self
    }

    pub(crate) fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read())
    }

    /// Changes some of the parts, and puts all of them into force.
    fn change(&self, change: impl FnOnce(&mut Parts)) {
        // The parts stay locked until the keys are swapped in. Otherwise, of two changes at one
        // moment, the one that had read the parts earlier could be the last to swap in its keys.
        let mut parts = self.parts.lock();
        change(&mut parts);
        // The keys are put together beside those in force and swapped in whole, so that no token
        // is checked against half of them.
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

    /// Whether there is a place where other keys may come from.
    pub(crate) fn may_change(&self) -> bool {
        self.file.is_some() || self.remote.is_some()
    }

    /// Keeps the keys up to date for as long as it is polled, if they may change.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::join!(self.watch(), self.refresh());
    }

    async fn watch(&self) {
        let Some(path) = &self.file else { return };
        let mut known = stamp(path);
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let seen = stamp(path);
            if seen == known {
                continue;
            }
            // The stamp is taken before the file is read: a change in between is seen on the next
            // look.
            known = seen;
            match read(path, self.secrets) {
                Ok(keys) => {
                    if keys.is_empty() {
                        tracing::warn!(
                            "the file with keys was read again: it takes all its keys back"
                        );
                    } else {
                        tracing::info!(keys = keys.len(), "the file with keys was read again");
                    }
                    self.change(|parts| parts.file = keys);
                }
                Err(error) => {
                    tracing::error!(%error, "the file with keys has changed and cannot be used: \
                        the keys before stay in force");
                    // A file that is being written is good a moment later, with the same stamp if
                    // the clock is coarse.
                    known = None;
                }
            }
        }
    }

    async fn refresh(&self) {
        let Some(remote) = &self.remote else { return };
        loop {
            let due = remote.state.lock().due(remote.refresh);
            tokio::time::sleep_until(due).await;
            let Ok(_turn) = remote.turn.acquire().await else {
                return;
            };
            // Another task may have asked for the fetch meanwhile.
            if remote.state.lock().due(remote.refresh) <= Instant::now() {
                self.fetch().await;
            }
        }
    }

    /// Looks for newer keys, if there may be some and that was not done a moment ago. A caller that
    /// comes while a fetch is under way waits for that one. Returns `false` if there will never be
    /// other keys.
    pub(crate) async fn renew(self: &Arc<Self>) -> bool {
        let Some(remote) = &self.remote else {
            return false;
        };
        // The count is taken before the wait, so that a fetch that ends meanwhile is not repeated.
        let before = remote.state.lock().count;
        let Ok(turn) = Arc::clone(&remote.turn).acquire_owned().await else {
            return false;
        };
        let is_due = {
            let state = remote.state.lock();
            state.count == before && state.may_ask()
        };
        if is_due {
            // The fetch runs in a task of its own, since whoever asked may go away while others
            // wait for it.
            let ring = Arc::clone(self);
            let fetch = tokio::spawn(async move {
                ring.fetch().await;
                drop(turn);
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
        // A failed fetch keeps the keys before, since refusing all tokens would be worse than using
        // keys of a moment ago.
        let pause = remote.state.lock().ended(keys.is_ok());
        match keys {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "the key set was fetched");
                self.change(|parts| parts.remote = keys);
            }
            Err(reason) => tracing::warn!(
                reason,
                url = %remote.url,
                again_in = ?pause,
                "the key set could not be fetched: the keys before stay in force"
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

/// Why a file with keys cannot be used.
#[derive(Debug)]
pub(crate) enum FileError {
    Read(PathBuf, io::Error),
    TooLarge(PathBuf),
    Keys(PathBuf, KeysError),
    /// A secret with this `kid` can be guessed.
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
    // One byte more than the limit tells a file that is too large from one that just fits.
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
            tracing::warn!(kid, %weakness, "a key of the file with keys is weak");
            Ok(keys)
        }
        None => Ok(keys),
    }
}

/// What changes when a file does; the inode tells of one that was put in its place within the
/// clock's resolution.
fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

const MAX_FILE_BYTES: u64 = 1 << 20;
/// A day: nobody should go on longer with keys that were withdrawn.
const MAX_REFRESH: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_changes_at_one_moment_both_are_in_force() {
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
