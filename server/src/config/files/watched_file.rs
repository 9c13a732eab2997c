//! A file that is polled for changes. This module imports no other module.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Waits for changes of a file.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    /// The bits of the mode whose changes count.
    mode_bits: u32,
    last: Option<Stamp>,
    ticks: Interval,
}

/// A value that changes with the file: modification time, size, inode and mode. The inode detects a
/// replacement within the resolution of the clock.
type Stamp = (SystemTime, u64, u64, u32);

impl WatchedFile {
    /// Watches the content of a file, from its present state on.
    pub(crate) fn content(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), 0)
    }

    /// Watches the content and the mode of a file, from its present state on.
    pub(crate) fn content_and_mode(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), u32::MAX)
    }

    fn new(path: PathBuf, mode_bits: u32) -> Self {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut file = Self {
            path,
            mode_bits,
            last: None,
            ticks,
        };
        file.last = file.stamp();
        file
    }

    /// Waits for the next change.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.ticks.tick().await;
            // The stamp is taken before the caller reads the file, so that a change in between is
            // detected by the next check.
            let stamp = self.stamp();
            if stamp != self.last {
                self.last = stamp;
                return;
            }
        }
    }

    /// Lets the next check count as a change, if the file exists. A partially written file becomes
    /// valid soon, possibly with the same stamp if the clock is coarse.
    pub(crate) fn retry(&mut self) {
        self.last = None;
    }

    fn stamp(&self) -> Option<Stamp> {
        let file = fs::metadata(&self.path).ok()?;
        let mode = file.mode() & self.mode_bits;
        Some((file.modified().ok()?, file.len(), file.ino(), mode))
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
    async fn each_change_counts_once_and_a_failed_read_can_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut content = WatchedFile::content(&path);
        let mut with_mode = WatchedFile::content_and_mode(&path);
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
