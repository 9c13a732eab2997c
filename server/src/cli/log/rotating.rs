//! A log file with limited size and a limited number of older files.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::config::private_files;

/// A log file that is rotated when it is full: `FILE` becomes `FILE.1`, which becomes `FILE.2`, and
/// the oldest is deleted.
#[derive(Debug)]
pub(in crate::cli) struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Unlimited for a pipe or a device, which cannot be rotated.
    max_bytes: u64,
    files: usize,
}

impl Rotating {
    /// Opens the file for appending, or creates it and its folder.
    pub(in crate::cli) fn open(path: &Path, max_bytes: u64, files: usize) -> io::Result<Self> {
        private_files::make_folder(private_files::folder_of(path))?;
        let file = private_files::open(path, OpenOptions::new().create(true).append(true))?;
        let metadata = file.metadata()?;
        let log = Self {
            path: path.to_owned(),
            bytes: metadata.len(),
            file,
            max_bytes: if metadata.is_file() {
                max_bytes
            } else {
                u64::MAX
            },
            files: files.max(1),
        };
        for number in 1.. {
            // Other programs may have created or copied the files. The numbers have no gaps.
            let file = log.numbered(number);
            if !file.exists() {
                break;
            }
            private_files::restrict(&file)?;
        }
        Ok(log)
    }

    fn rotate(&mut self) -> io::Result<()> {
        // After a failure, the next attempt waits for as many bytes: each one would move the older
        // files on, and the last of them would be lost.
        self.bytes = 0;
        for number in (1..self.files).rev() {
            let from = self.numbered(number - 1);
            if from.exists() {
                fs::rename(from, self.numbered(number))?;
            }
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        self.file = private_files::open(&self.path, &mut options)?;
        if self.files == 1 {
            // A single file has no older files, so it is truncated.
            self.file.set_len(0)?;
        }
        self.bytes = self.file.metadata()?.len();
        Ok(())
    }

    /// Returns the path of the file with this number; 0 is the current one.
    fn numbered(&self, number: usize) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Each call writes one or more complete lines.
impl Write for Rotating {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let bytes = lines.len() as u64;
        if self.bytes > 0 && self.bytes.saturating_add(bytes) > self.max_bytes {
            // If rotation fails, the current file is used further: an oversized log is better than
            // none.
            let _ = self.rotate();
        }
        self.file.write_all(lines)?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(folder: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let mut all: Vec<_> = entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn log_files_are_rotated_by_size_and_limited_in_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/roomcast.log");
        let mut log = Rotating::open(&path, 10, 3).unwrap();
        for line in ["1234\n", "5678\n", "abcd\n", "a long line\n", "x\n", "y\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let files = |all: &[(&str, &str)]| {
            let all = all
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            all.collect::<Vec<_>>()
        };
        let expected = files(&[
            ("roomcast.log", "x\ny\n"),
            ("roomcast.log.1", "a long line\n"),
            ("roomcast.log.2", "abcd\n"),
        ]);
        assert_eq!(lines(path.parent().unwrap()), expected);
        // A restarted server appends to the file.
        drop(log);
        let mut log = Rotating::open(&path, 10, 3).unwrap();
        log.write_all(b"1234567\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1234567\n");
        let oldest = fs::read_to_string(folder.path().join("a/roomcast.log.2")).unwrap();
        assert_eq!(oldest, "a long line\n");
    }

    #[test]
    fn failed_rotation_loses_no_line_and_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let (path, older) = (folder.path().join("log"), folder.path().join("log.1"));
        fs::create_dir(&older).unwrap();
        let mut log = Rotating::open(&path, 10, 2).unwrap();
        for line in ["1234\n", "5678\n", "abcd\n", "efgh\n", "ijkl\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let written = "1234\n5678\nabcd\nefgh\nijkl\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), written);
        fs::remove_dir(&older).unwrap();
        for line in ["mnop\n", "qrst\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let all = [&older, &path].map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(all.concat(), format!("{written}mnop\nqrst\n"));
        assert!(all[1].len() <= 10, "{all:?}");
    }

    #[test]
    fn single_log_file_is_truncated_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Rotating::open(&folder.path().join("log"), 4, 1).unwrap();
        for line in ["123\n", "456\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(
            lines(folder.path()),
            [("log".to_owned(), "456\n".to_owned())]
        );
    }
}
