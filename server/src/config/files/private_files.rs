//! Files that only the server's own user may read and write. This module imports no other module.
//!
//! The database, its lock, the log, exports and the development key have mode 0600, regardless of
//! the umask. A file of another user is refused, because that user could read and change it.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

/// Opens a file with these options. A new file gets mode 0600, and an existing one is restricted.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = match options.mode(MODE).open(path) {
        // A wrong owner is the more useful error.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            restrict(path)?;
            return Err(error);
        }
        opened => opened?,
    };
    if let Some(mode) = excess(&file.metadata()?)? {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

/// Removes the permissions of all other users from a file, if it exists.
///
/// # Errors
///
/// If it belongs to another user, unless this process runs as root.
pub(crate) fn restrict(path: &Path) -> io::Result<()> {
    // The file is not opened, because closing a second descriptor would release SQLite's locks on
    // it.
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    match excess(&metadata)? {
        Some(mode) => fs::set_permissions(path, Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

/// Creates an empty file of mode 0600, or restricts an existing one.
#[cfg(any(test, feature = "sqlite"))]
pub(crate) fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(MODE).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => restrict(path),
        Err(error) => Err(error),
    }
}

/// Creates a folder and its missing parents with mode 0700.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Returns the folder through which every user of the machine could replace a file in `folder`: a
/// world-writable one without the sticky bit. The owner and the group of a folder are trusted.
pub(crate) fn open_folder(folder: &Path) -> io::Result<Option<PathBuf>> {
    for folder in fs::canonicalize(folder)?.ancestors() {
        let mode = fs::metadata(folder)?.mode();
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Ok(Some(folder.to_owned()));
        }
    }
    Ok(None)
}

/// Creates the folder of a file if it is missing. Returns the folder through which every user of
/// the machine could replace the file, as [`open_folder`] does.
pub(crate) fn make_folder_of(file: &Path) -> io::Result<Option<PathBuf>> {
    let folder = folder_of(file);
    make_folder(folder)?;
    open_folder(folder)
}

/// Returns the fault of the file of a configuration key that every user could replace, with a
/// remedy.
pub(crate) fn open_folder_fault(key: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "{key}: every user of this machine can replace files in {folder}: run `chmod o-w \
         {folder}`, or configure a path in another folder"
    )
}

/// Returns the path without symbolic links. The file need not exist, but its folder must.
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path).or_else(|_| {
        let name = path.file_name().unwrap_or_default();
        Ok(fs::canonicalize(folder_of(path))?.join(name))
    })
}

/// Returns the folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns the restricted mode of a file if other users have permissions.
fn excess(metadata: &Metadata) -> io::Result<Option<u32>> {
    // A log can be a pipe or a terminal, whose permissions the server must not change.
    if !metadata.is_file() {
        return Ok(None);
    }
    let (own, owner) = (geteuid(), metadata.uid());
    if owner != own.as_raw() && !own.is_root() {
        let own = own.as_raw();
        let reason = format!(
            "it belongs to user {owner} and this process runs as user {own}: give it to user {own} \
             (chown), or configure another path"
        );
        return Err(io::Error::new(ErrorKind::PermissionDenied, reason));
    }
    let mode = metadata.mode() & PERMISSIONS;
    Ok((mode & !MODE != 0).then_some(mode & MODE))
}

/// Read and write permission for the owner.
const MODE: u32 = 0o600;
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;
/// Every user may create, rename and remove files in the folder.
const OTHERS_WRITE: u32 = 0o002;
/// Only the owner of a file may rename or remove the file.
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & PERMISSIONS
    }

    #[test]
    fn new_files_are_private_and_existing_files_are_restricted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        make(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        for restrict_again in [
            |path: &Path| restrict(path).unwrap(),
            |path: &Path| make(path).unwrap(),
            |path: &Path| drop(open(path, OpenOptions::new().append(true)).unwrap()),
        ] {
            for (before, after) in [(0o666, 0o600), (0o440, 0o400), (0o4755, 0o600)] {
                fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
                // Only root may write to a file that is read-only.
                if before != 0o440 || geteuid().is_root() {
                    restrict_again(&path);
                    assert_eq!(mode(&path), after, "{before:o}");
                }
            }
        }
        restrict(&folder.path().join("missing")).unwrap();
        open(Path::new("/dev/null"), OpenOptions::new().append(true)).unwrap();
    }

    #[test]
    fn world_writable_folder_requires_the_sticky_bit() {
        let folder = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(folder.path()).unwrap();
        let below = real.join("below");
        make_folder(&below).unwrap();
        assert_eq!(mode(&below), 0o700);
        for (mode, found) in [
            (0o755, false),
            (0o1777, false),
            (0o775, false),
            (0o757, true),
        ] {
            fs::set_permissions(&real, Permissions::from_mode(mode)).unwrap();
            let expected = found.then(|| real.clone());
            assert_eq!(open_folder(&below).unwrap(), expected, "{mode:o}");
        }
    }
}
