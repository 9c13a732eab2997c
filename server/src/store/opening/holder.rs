//! Finds the process that holds the lock of a database file, for the error message of a server that
//! cannot get it.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    process,
};

use rustix::fs::{major, minor};

/// The process that holds a lock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A server, described by its process and, if noted, its address.
    Server(String),
    /// A process that is not a server of this database.
    OtherProgram(String),
    /// A process that is not visible from here, such as one in another container.
    Unseen,
}

/// Finds the holder of the lock on a file in which servers note their process.
pub(super) fn find(file: &File) -> Holder {
    let mut note = String::new();
    let noted = file.take(MAX_NOTE_BYTES).read_to_string(&mut note);
    let note = note.trim();
    let noted = noted.ok().and_then(|_| noted_process(note));
    let Some(pid) = locking_process(file) else {
        // Without `/proc/locks`, the note counts if its process is a running server. In another
        // container, the holder may have the same process id as this process.
        return match noted {
            Some(pid) if pid != process::id() && is_server(pid) => Holder::Server(note.to_owned()),
            Some(_) | None => Holder::Unseen,
        };
    };
    match (is_server(pid), noted == Some(pid)) {
        (true, true) => Holder::Server(note.to_owned()),
        // The server has not written its note yet.
        (true, false) => Holder::Server(format!("process {pid}")),
        (false, _) => {
            let name = name(pid).unwrap_or_else(|| "?".into());
            let user = fs::metadata(format!("/proc/{pid}"));
            let user =
                user.map_or_else(|_| String::new(), |user| format!(" of user {}", user.uid()));
            Holder::OtherProgram(format!("process {pid} (`{name}`{user})"))
        }
    }
}

/// Returns the process of a note such as `process 12 at 127.0.0.1:3000`.
fn noted_process(note: &str) -> Option<u32> {
    let mut words = note.split(' ');
    (words.next() == Some("process"))
        .then(|| words.next()?.parse().ok())
        .flatten()
}

/// Returns the process that holds a lock on the file, as the kernel lists it.
fn locking_process(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let device = metadata.dev();
    let place = format!(
        "{:02x}:{:02x}:{}",
        major(device),
        minor(device),
        metadata.ino()
    );
    let inode = format!(":{}", metadata.ino());
    let holders = || {
        locks.lines().filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            // A process that waits for a lock has an arrow in the second column.
            match words.as_slice() {
                [_, "FLOCK", _, _, pid, place, ..] => Some((pid.parse().ok()?, *place)),
                _ => None,
            }
        })
    };
    let exact = holders().find(|(_, at)| *at == place);
    // Some file systems report a different device than the kernel lists.
    let found = exact.or_else(|| holders().find(|(_, at)| at.ends_with(&inode)));
    found.map(|(pid, _)| pid).filter(|pid| *pid != 0)
}

/// Returns whether a process runs the same program as this one.
fn is_server(pid: u32) -> bool {
    name(pid).is_some_and(|found| name(process::id()) == Some(found))
}

/// Returns the name of a running process.
fn name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// The maximum length in bytes that is read; longer than any process and address.
const MAX_NOTE_BYTES: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_of_a_dead_process_is_ignored() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut ended = process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        for note in [
            format!("process {} at 127.0.0.1:3000", ended.id()),
            "process".into(),
            "no note".into(),
            String::new(),
            // In another container, the holder may have the id of this process.
            format!("process {} at 127.0.0.1:3000", process::id()),
        ] {
            fs::write(file.path(), &note).unwrap();
            let opened = File::open(file.path()).unwrap();
            assert_eq!(find(&opened), Holder::Unseen, "{note}");
        }
    }

    #[test]
    fn the_process_that_has_locked_a_file_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "process 1 at 127.0.0.1:3000").unwrap();
        file.as_file().lock().unwrap();
        let opened = File::open(file.path()).unwrap();
        let own = format!("process {}", process::id());
        assert_eq!(find(&opened), Holder::Server(own));
    }
}
