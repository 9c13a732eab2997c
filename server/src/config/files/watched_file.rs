//! A file that is polled for changes. This module imports no other module.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// The state of a file at a moment. If it is recorded before the file is read, a watch from this
/// state on misses no later change.
#[derive(Clone, Debug)]
pub(crate) struct FileState {
    path: PathBuf,
    /// The bits of the mode whose changes count.
    mode_bits: u32,
    /// `None` if there is no file.
    stamp: Option<Stamp>,
}

/// A value that changes with the file: modification time, size, inode and mode. The inode detects a
/// replacement within the resolution of the clock.
type Stamp = (SystemTime, u64, u64, u32);

impl FileState {
    /// Records the state of the content of a file.
    pub(crate) fn content(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), 0)
    }

    /// Records the state of the content and the mode of a file.
    pub(crate) fn content_and_mode(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), u32::MAX)
    }

    fn new(path: PathBuf, mode_bits: u32) -> Self {
        let mut state = Self {
            path,
            mode_bits,
            stamp: None,
        };
        state.stamp = state.current_stamp();
        state
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn current_stamp(&self) -> Option<Stamp> {
        let file = fs::metadata(&self.path).ok()?;
        let mode = file.mode() & self.mode_bits;
        Some((file.modified().ok()?, file.len(), file.ino(), mode))
    }
}

/// Waits for changes of a file.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    last: FileState,
    ticks: Interval,
}

impl WatchedFile {
    /// Watches a file from a recorded state on.
    pub(crate) fn since(last: FileState) -> Self {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { last, ticks }
    }

    /// Waits for the next change.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.ticks.tick().await;
            // The stamp is taken before the caller reads the file, so that a change in between is
            // detected by the next check.
            let stamp = self.last.current_stamp();
            if stamp != self.last.stamp {
                self.last.stamp = stamp;
                return;
            }
        }
    }

    /// Lets the next check count as a change, if the file exists. A partially written file becomes
    /// valid soon, possibly with the same stamp if the clock is coarse.
    pub(crate) fn retry(&mut self) {
        self.last.stamp = None;
    }
}

/// The interval between checks of the file.
const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Returns whether the next checks detect a change.
    async fn is_changed(file: &mut WatchedFile) -> bool {
        let checks = tokio::time::timeout(3 * INTERVAL, file.changed());
        checks.await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn change_between_the_recorded_state_and_the_watch_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let state = FileState::content(&path);
        fs::write(&path, "three").unwrap();
        let mut file = WatchedFile::since(state.clone());
        assert!(is_changed(&mut file).await);
        assert!(!is_changed(&mut file).await);
        fs::remove_file(&path).unwrap();
        assert!(is_changed(&mut WatchedFile::since(state)).await);
        let missing = FileState::content(&path);
        fs::write(&path, "one").unwrap();
        assert!(is_changed(&mut WatchedFile::since(missing)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_counts_once_and_a_failed_read_can_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut content = WatchedFile::since(FileState::content(&path));
        let mut with_mode = WatchedFile::since(FileState::content_and_mode(&path));
        for file in [&mut content, &mut with_mode] {
            assert!(!is_changed(file).await);
        }
        fs::write(&path, "three").unwrap();
        for file in [&mut content, &mut with_mode] {
            assert!(is_changed(file).await);
            assert!(!is_changed(file).await);
            // The stamp is the same.
            file.retry();
            assert!(is_changed(file).await);
            assert!(!is_changed(file).await);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(!is_changed(&mut content).await);
        assert!(is_changed(&mut with_mode).await);
        fs::remove_file(&path).unwrap();
        assert!(is_changed(&mut content).await);
        content.retry();
        assert!(!is_changed(&mut content).await, "there is nothing to read");
    }
}
