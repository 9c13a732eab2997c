//! Files that the configuration names: their list, their modes, and changes of their content.

mod named_files;
pub(crate) mod private_files;
mod watched_file;

pub(crate) use named_files::{FileAccess, NamedFile, named_files};
pub(crate) use watched_file::{FileState, WatchedFile};
