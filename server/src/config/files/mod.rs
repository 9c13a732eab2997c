//! Files that the configuration names: their modes, and changes of their content.

pub(crate) mod private_files;
mod watched_file;

pub(crate) use watched_file::WatchedFile;
