//! Checks the modes of files: whether other users of the machine can read secrets, or replace the
//! database.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::{Finding, Status};
use crate::{
    config::{Settings, named_files},
    store::Store,
};

/// Checks the files that commands name, and all private files that are configured and exist.
/// Whether this user may read and write them is checked elsewhere.
pub(super) fn files(
    settings: &Settings,
    file: Option<&Path>,
    env_file: Option<&Path>,
) -> Vec<Finding> {
    let of_commands = [("configuration file", file), ("environment file", env_file)];
    let named = named_files(settings);
    let named = named.iter().filter(|named| named.is_private);
    let private_files = of_commands
        .into_iter()
        .chain(named.map(|named| (named.key, named.path)));
    let mut findings: Vec<_> = private_files
        .filter_map(|(subject, path)| private(subject, path?))
        .collect();
    // Other faults are reported when the store is tried.
    if let Ok(Some(folder)) = Store::unsafe_folder(&settings.store) {
        let folder = folder.display();
        let found = format!("every user of this machine can replace files in {folder}");
        let remedy = format!("run `chmod o-w {folder}`, or configure a path in another folder");
        findings.push(Finding::bad(Status::Error, "store.url", found, remedy));
    }
    findings
}

/// Checks that a file is private to its owner and group.
fn private(subject: &str, path: &Path) -> Option<Finding> {
    let metadata = path.metadata().ok()?;
    let shown = path.display();
    let mode = metadata.permissions().mode() & 0o777;
    let found = format!(
        "{shown} has mode {mode:04o} and belongs to user {}",
        metadata.uid()
    );
    let finding = if mode & 0o007 != 0 {
        let remedy = format!("every user of this machine has access: run `chmod o-rwx {shown}`");
        Finding::bad(Status::Error, subject, found, remedy)
    } else if mode & 0o020 != 0 {
        let remedy = format!("its group can change it: run `chmod g-w {shown}`");
        Finding::bad(Status::Warning, subject, found, remedy)
    } else {
        Finding::ok(subject, found)
    };
    Some(finding)
}
