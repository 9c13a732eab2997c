//! Reserves a database file for one server, because other servers would miss the state that it
//! keeps in memory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Seek as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
};

use super::holder::{self, Holder};
use crate::{config::private_files, store::OpenError};

/// The exclusive right to serve a database file, until it is dropped or the process ends.
///
/// It is a lock on a file next to the database that names the holder. The file remains.
#[derive(Debug)]
pub struct Reservation(File);

impl Reservation {
    /// Locks a database file, unless another process has it.
    pub(super) fn of(database: &Path) -> Result<Self, OpenError> {
        let failed = |reason: String| OpenError::Database {
            database: database.display().to_string(),
            reason,
        };
        let path = lock_path(database);
        // Otherwise another user could open and lock the file, and no server would start.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = private_files::open(&path, &mut options)
            .map_err(|error| failed(format!("{}: {error}", path.display())))?;
        // The lock belongs to the open file, so the system releases it however the process ends.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let lock = path.display();
                return Err(match holder::find(&file) {
                    Holder::Server(by) => OpenError::Taken {
                        database: database.display().to_string(),
                        by,
                    },
                    Holder::OtherProgram(process) => failed(format!(
                        "{lock} is locked by {process}, which is no Roomcast server: end that process"
                    )),
                    Holder::Unseen => failed(format!(
                        "{lock} is locked by a process that cannot be seen from here, such as a \
                         server in another container: stop that server"
                    )),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(failed(format!(
                    "{} cannot be locked: {error}",
                    path.display()
                )));
            }
        }
        let reservation = Self(file);
        let noted = reservation.note(&format!("process {}", process::id()));
        noted.map_err(|error| failed(format!("{}: {error}", path.display())))?;
        Ok(reservation)
    }

    /// Notes the address of this server in the lock file.
    ///
    /// # Errors
    ///
    /// If the lock file cannot be written.
    pub fn listening(&self, address: SocketAddr) -> io::Result<()> {
        self.note(&format!("process {} at {address}", process::id()))
    }

    fn note(&self, text: &str) -> io::Result<()> {
        let mut file = &self.0;
        // The text is only for humans. It is written under the lock, so a partially written text is
        // not mistaken for another.
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    }
}

/// Returns the lock file of a database, which is the same for all paths to the database.
fn lock_path(database: &Path) -> PathBuf {
    // The database may not exist yet at the first start, but its folder does.
    let real = private_files::real_path(database);
    let mut path = real
        .unwrap_or_else(|_| database.to_owned())
        .into_os_string();
    path.push(".lock");
    path.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_database_is_reserved_once_by_whichever_path() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("chat.db");
        fs::create_dir(folder.path().join("a")).unwrap();
        let first = Reservation::of(&database).unwrap();
        first.listening("127.0.0.1:3000".parse().unwrap()).unwrap();
        let by = format!("process {} at 127.0.0.1:3000", process::id());
        for path in [database.clone(), folder.path().join("a/../chat.db")] {
            let taken = OpenError::Taken {
                database: path.display().to_string(),
                by: by.clone(),
            };
            assert_eq!(Reservation::of(&path).unwrap_err(), taken);
        }
        drop(first);
        Reservation::of(&database).unwrap();
    }
}
