//! Users: where they are present, the export of their data and its erasure.

mod erasure;
mod export;
mod place;
mod presence;

pub(crate) use erasure::{EraseQuery, EraseUser, Erasure, erase_user};
pub(crate) use export::{ExportQuery, ExportUser, UserExport, export_user};
pub(crate) use presence::{FindUser, UserPresence, find_user};
