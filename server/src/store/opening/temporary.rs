//! The folder of a temporary database, which ends with its server.
//!
//! A folder of its own keeps other users of the machine from the files that SQLite creates next to
//! the database. A lock in the folder tells the folders of running servers from those that killed
//! servers left.
//!
//! `memory:` is SQLite on a temporary file. A store of its own would repeat the rules of both
//! databases. SQLite's own databases in memory have no write-ahead log, so the writer blocks
//! readers: with a shared cache most reads are refused, and with `memdb` no read succeeds during a
//! write.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access, statvfs},
    process::geteuid,
};
use uuid::Uuid;

use super::reservation::Reservation;
use crate::{config::private_files, store::OpenError};

/// A private folder with the database of one server. Dropping it removes the folder.
#[derive(Debug)]
pub(in crate::store) struct TemporaryFolder {
    path: PathBuf,
    /// The lock of the database, which other servers check before they remove a folder.
    _reservation: Reservation,
}

impl TemporaryFolder {
    /// Creates a folder in shared memory if that has room for the database, or else in the
    /// temporary folder of the system. Removes the folders that killed servers left there.
    pub(super) fn create(max_bytes: u64) -> Result<Self, OpenError> {
        let system = std::env::temp_dir();
        let shared_memory = Path::new(SHARED_MEMORY);
        for parent in [shared_memory, &system] {
            remove_leftovers(parent);
        }
        Self::create_in(choose(shared_memory, &system, max_bytes))
    }

    fn create_in(parent: &Path) -> Result<Self, OpenError> {
        let mut attempts = 0;
        loop {
            let path = parent.join(format!("{PREFIX}{}", Uuid::new_v4()));
            let created = private_files::make_folder(&path).map_err(|error| failed(&path, &error));
            match created.and_then(|()| Self::lock(path)) {
                Ok(folder) => return Ok(folder),
                Err(error) if attempts == MAX_RETRIES => return Err(error),
                // Before it is locked, a starting server may remove the folder as a leftover.
                Err(_) => attempts += 1,
            }
        }
    }

    fn lock(path: PathBuf) -> Result<Self, OpenError> {
        let reservation = Reservation::of(&path.join(DATABASE))?;
        let folder = Self {
            path,
            _reservation: reservation,
        };
        // A lock in a removed folder would protect nothing.
        match fs::metadata(&folder.path) {
            Ok(_) => Ok(folder),
            Err(error) => Err(failed(&folder.path, &error)),
        }
    }

    /// Returns the path of the database file.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Removes the folder and its files.
    pub(in crate::store) fn remove(&self) {
        if let Err(error) = remove(&self.path) {
            let folder = self.path.display();
            tracing::warn!(%folder, %error, "could not remove the temporary database, the next server removes it");
        }
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Returns the folder of shared memory if it is writable and has room, or else the other one.
fn choose<'a>(shared_memory: &'a Path, other: &'a Path, max_bytes: u64) -> &'a Path {
    let free =
        statvfs(shared_memory).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize));
    let is_writable = access(shared_memory, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if is_writable && free >= max_bytes {
        shared_memory
    } else {
        other
    }
}

/// Removes the folders of servers of this user that have ended without removing them.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if is_own_folder(&entry)
            // The lock of a running server cannot be taken.
            && let Ok(_reservation) = Reservation::of(&entry.path().join(DATABASE))
            && let Err(error) = remove(&entry.path())
        {
            let folder = entry.path();
            tracing::debug!(folder = %folder.display(), %error, "could not remove a temporary database");
        }
    }
}

/// Returns whether an entry is a folder that a server of this user created.
fn is_own_folder(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    // The metadata is of the entry itself, not of the target of a symbolic link.
    name.to_str().is_some_and(|name| name.starts_with(PREFIX))
        && entry
            .metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
}

/// Removes a folder and its files.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error)
            // A starting server may take an unlocked folder for a leftover and remove it.
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) =>
        {
            Ok(())
        }
        removed => removed,
    }
}

fn failed(folder: &Path, error: &io::Error) -> OpenError {
    OpenError::Database {
        database: "memory:".into(),
        reason: format!("{}: {error}", folder.display()),
    }
}

/// The file system that is in memory.
const SHARED_MEMORY: &str = "/dev/shm";
/// The beginning of the names of temporary folders.
const PREFIX: &str = "roomcast-memory-";
/// The name of the database in its folder.
const DATABASE: &str = "chat.db";
/// The maximum number of further folders that are tried if one is removed as a leftover.
const MAX_RETRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_used_only_if_it_has_room() {
        let (shared_memory, other) = (tempfile::tempdir().unwrap(), Path::new("/other"));
        let chosen = |max_bytes| choose(shared_memory.path(), other, max_bytes);
        assert_eq!(chosen(1), shared_memory.path());
        assert_eq!(chosen(u64::MAX), other);
        assert_eq!(choose(Path::new("/missing"), other, 1), other);
    }

    #[test]
    fn folder_that_vanishes_before_its_lock_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let folder = TemporaryFolder::create_in(parent.path()).unwrap();
        remove_leftovers(parent.path());
        assert!(folder.path.exists(), "its server runs");
        let path = folder.path.clone();
        drop(folder);
        assert!(!path.exists());
        assert!(TemporaryFolder::lock(path).is_err());
    }

    #[test]
    fn leftovers_are_removed_and_other_folders_stay() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("roomcast-memory-left");
        let other = parent.path().join("another-program");
        for folder in [&left, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join(DATABASE), "").unwrap();
        }
        let link = parent.path().join("roomcast-memory-link");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        remove_leftovers(parent.path());
        assert!(!left.exists());
        assert!(other.join(DATABASE).exists() && link.exists());
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1, "no lock is made");
    }
}
