//! The file with the long-lived token of scrapers, which is read again when it changes.

use std::{
    fmt, fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

use crate::auth::{Weakness, configured::token_weakness, jwt::WeakSecrets};
use crate::config::{FileState, WatchedFile};

/// The token of a file. Clones share it.
#[derive(Clone)]
pub(crate) struct TokenFile(Arc<Inner>);

struct Inner {
    /// The file, in the state from before it was read at the start.
    state: FileState,
    /// Whether a guessable token is refused.
    secrets: WeakSecrets,
    hash: RwLock<[u8; 32]>,
}

impl TokenFile {
    /// Reads the token.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is accessible to every user, or has no valid token.
    pub(crate) fn open(path: &Path, secrets: WeakSecrets) -> Result<Self, TokenFileError> {
        let state = FileState::content_and_mode(path);
        let hash = RwLock::new(read(path, secrets)?);
        Ok(Self(Arc::new(Inner {
            state,
            secrets,
            hash,
        })))
    }

    /// Returns the hash of the token in use.
    pub(super) fn hash(&self) -> [u8; 32] {
        *self.0.hash.read()
    }

    /// Reads the file again when it changes. Runs until dropped.
    pub(crate) async fn watch(self) {
        // The watch starts from the state before the first read, so it detects changes during the
        // start, and those before a restart of this task.
        let mut file = WatchedFile::since(self.0.state.clone());
        loop {
            file.changed().await;
            if !self.reload() {
                file.retry();
            }
        }
    }

    /// Returns whether the file has a valid token.
    fn reload(&self) -> bool {
        match read(self.0.state.path(), self.0.secrets) {
            Ok(hash) => {
                *self.0.hash.write() = hash;
                tracing::info!("metrics token reloaded");
                true
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    "could not load the changed metrics token, the previous one stays in use"
                );
                false
            }
        }
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile")
            .field("path", &self.0.state.path())
            .finish_non_exhaustive()
    }
}

/// Why the file with the token of scrapers cannot be used. It contains no part of the token.
#[derive(Debug)]
pub(crate) struct TokenFileError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Read(io::Error),
    /// Every user of the machine may read or change the file, which has this mode.
    Open(u32),
    NoToken,
    Weak(Weakness),
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "server.metrics_token_file: {path}: ")?;
        match &self.reason {
            Reason::Read(error) => error.fmt(f),
            Reason::Open(mode) => write!(
                f,
                "every user of this machine can access the file (mode {mode:o}): run `chmod o-rwx {path}`"
            ),
            Reason::NoToken => {
                f.write_str("expected one line with a token of 1 to 512 visible ASCII characters")
            }
            Reason::Weak(weakness) => weakness.fmt(f),
        }
    }
}

impl std::error::Error for TokenFileError {}

/// Reads the file as a whole, and returns the hash of its token.
fn read(path: &Path, secrets: WeakSecrets) -> Result<[u8; 32], TokenFileError> {
    let fault = |reason| TokenFileError {
        path: path.to_owned(),
        reason,
    };
    let file = fs::File::open(path).map_err(|error| fault(Reason::Read(error)))?;
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| fault(Reason::Read(error)))?;
    let mode = metadata.mode() & PERMISSIONS;
    if metadata.is_file() && mode & OTHERS != 0 {
        return Err(fault(Reason::Open(mode)));
    }
    let mut text = Vec::new();
    // A longer file has more than the longest token and its line end.
    file.take(MAX_TOKEN as u64 + 3)
        .read_to_end(&mut text)
        .map_err(|error| fault(Reason::Read(error)))?;
    let token = text.strip_suffix(b"\n").unwrap_or(&text);
    let token = token.strip_suffix(b"\r").unwrap_or(token);
    if !(1..=MAX_TOKEN).contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
        return Err(fault(Reason::NoToken));
    }
    if secrets == WeakSecrets::Refused
        && let Some(weakness) = token_weakness(token)
    {
        return Err(fault(Reason::Weak(weakness)));
    }
    Ok(Sha256::digest(token).into())
}

/// Maximum length of a token in characters.
const MAX_TOKEN: usize = 512;
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;
/// All permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    use super::*;

    const TOKEN: &str = "a-token-of-scrapers-with-thirty-two-or-more-characters";

    fn write(path: &Path, text: &[u8], mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_a_private_file_with_one_whole_token_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let expected: [u8; 32] = Sha256::digest(TOKEN).into();
        for end in ["", "\n", "\r\n"] {
            for mode in [0o600, 0o640, 0o400] {
                write(&path, format!("{TOKEN}{end}").as_bytes(), mode);
                assert_eq!(read(&path, WeakSecrets::Refused).unwrap(), expected);
                fs::remove_file(&path).unwrap();
            }
        }
        let long = "x".repeat(MAX_TOKEN + 1);
        for (text, mode, reason) in [
            (TOKEN, 0o644, "chmod o-rwx"),
            (TOKEN, 0o602, "chmod o-rwx"),
            ("", 0o600, "expected one line"),
            ("\n", 0o600, "expected one line"),
            ("one two", 0o600, "expected one line"),
            ("one\ntwo\n", 0o600, "expected one line"),
            ("tok\u{e9}n", 0o600, "expected one line"),
            (&long, 0o600, "expected one line"),
            ("short-canary", 0o600, "can be guessed"),
        ] {
            write(&path, text.as_bytes(), mode);
            let error = read(&path, WeakSecrets::Refused).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(
                !error.contains("canary") && !error.contains(TOKEN),
                "{error}"
            );
        }
        write(&path, b"short", 0o600);
        assert!(
            read(&path, WeakSecrets::Warned).is_ok(),
            "a development server warns only"
        );
        fs::remove_file(&path).unwrap();
        assert!(read(&path, WeakSecrets::Warned).is_err());
    }

    #[test]
    fn an_invalid_change_leaves_the_previous_token_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, TOKEN.as_bytes(), 0o600);
        let file = TokenFile::open(&path, WeakSecrets::Refused).unwrap();
        let before = file.hash();
        write(&path, b"two tokens", 0o600);
        assert!(!file.reload());
        assert_eq!(file.hash(), before);
        let other = TOKEN.replace('a', "b");
        write(&path, other.as_bytes(), 0o600);
        assert!(file.reload());
        assert_eq!(file.hash(), <[u8; 32]>::from(Sha256::digest(other)));
    }

    #[tokio::test(start_paused = true)]
    async fn token_changed_between_start_and_watch_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, TOKEN.as_bytes(), 0o600);
        let file = TokenFile::open(&path, WeakSecrets::Refused).unwrap();
        let other = format!("{TOKEN}-and-more");
        write(&path, other.as_bytes(), 0o600);
        let watching = tokio::spawn(file.clone().watch());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(file.hash(), <[u8; 32]>::from(Sha256::digest(&other)));
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_written_in_parts_is_used_although_the_stamp_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, TOKEN.as_bytes(), 0o600);
        let file = TokenFile::open(&path, WeakSecrets::Refused).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let write_at = |text: &str| {
            write(&path, text.as_bytes(), 0o600);
            let opened = fs::File::options().append(true).open(&path).unwrap();
            opened.set_modified(time).unwrap();
        };
        let watching = tokio::spawn(file.clone().watch());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let other = TOKEN.replace('a', "b");
        write_at(&other.replace('-', " "));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before: [u8; 32] = Sha256::digest(TOKEN).into();
        assert_eq!(file.hash(), before);
        write_at(&other);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(file.hash(), <[u8; 32]>::from(Sha256::digest(&other)));
        watching.abort();
    }
}
