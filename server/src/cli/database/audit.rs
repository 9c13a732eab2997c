//! The audit log of commands: the file, and the acts on a database without a server.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::Value;

use crate::cli::log::Rotating;
use crate::config::{Profile, Settings, private_files};
use crate::service::audit::{AuditFile, Requester, line, new_entry};
use crate::store::{AuditEntry, Store, Time};

/// Opens the configured file of the audit log.
pub(in crate::cli) fn open_file(settings: &Settings) -> Result<Option<AuditFile>, String> {
    let audit = &settings.audit;
    let Some(path) = &audit.file else {
        return Ok(None);
    };
    let failed = |error| format!("audit.file: {}: {error}", path.display());
    let open = private_files::make_folder_of(path).map_err(failed)?;
    if let (Some(folder), Profile::Production) = (open, settings.profile()) {
        return Err(private_files::open_folder_fault("audit.file", &folder));
    }
    let writer = writer_of_pipe(path).map_err(failed)?;
    let file = Rotating::open(path, audit.file_bytes, audit.files).map_err(failed)?;
    drop(writer);
    Ok(Some(Box::new(file)))
}

/// Opens a pipe for writing if it has a reader. Opening it otherwise would wait for one. The reader
/// sees the end of the pipe if this writer ends before another one has opened it.
fn writer_of_pipe(path: &Path) -> io::Result<Option<File>> {
    let is_pipe = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    if !is_pipe {
        return Ok(None);
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path);
    opened
        .map(Some)
        .map_err(|error| io::Error::other(format!("a pipe without a reader: {error}")))
}

/// An act of a command on the database, which is in the file and not in the table yet.
pub(in crate::cli) struct DatabaseAct {
    entry: AuditEntry,
    file: Option<AuditFile>,
}

impl DatabaseAct {
    /// Writes the act to the file before it is performed.
    pub(in crate::cli) fn begin(
        settings: &Settings,
        operation: &str,
        request: &Value,
    ) -> Result<Self, String> {
        let requester = Requester {
            stated: Some(crate::cli::remote::operator()),
            ..Requester::default()
        };
        let node = settings.node.id.clone().unwrap_or_default();
        let mut entry = new_entry(requester, node, "command", operation);
        entry.request = request.clone();
        let mut act = Self {
            entry,
            file: open_file(settings)?,
        };
        act.write()?;
        Ok(act)
    }

    /// Performs an act that only reads the database, or replaces it, between its two records.
    pub(in crate::cli) fn around<T, E: std::fmt::Display>(
        settings: &Settings,
        operation: &str,
        request: &Value,
        act: impl FnOnce() -> Result<T, E>,
        table: impl FnOnce(&T) -> AuditTable,
    ) -> Result<T, String> {
        let started = Self::begin(settings, operation, request)?;
        let done = act().map_err(|error| error.to_string());
        let table = done.as_ref().map_or(AuditTable::Skip, table);
        let runtime = crate::cli::runtime().map_err(|error| error.to_string())?;
        let recorded = started.end(settings, done.is_ok(), &Value::Null, table);
        let recorded = runtime.block_on(recorded);
        let done = done?;
        recorded.map_err(|error| {
            format!("{operation} is done, and could not be recorded in the audit log: {error}")
        })?;
        Ok(done)
    }

    /// Records the outcome in the file, and the whole act in the table.
    pub(in crate::cli) async fn end(
        mut self,
        settings: &Settings,
        is_done: bool,
        after: &Value,
        table: AuditTable,
    ) -> Result<(), String> {
        self.entry.outcome = Some(if is_done { "done" } else { "failed" }.to_owned());
        self.entry.after = after.clone();
        self.entry.finished_at = Some(Time::now());
        self.write()?;
        if table == AuditTable::Skip || settings.store.url == "memory:" {
            return Ok(());
        }
        self.store(settings).await
    }

    /// Stores the act in the table.
    pub(in crate::cli) async fn store(&self, settings: &Settings) -> Result<(), String> {
        let config = settings.store.unmigrated();
        let opened = Store::open(&config, std::sync::Arc::default()).await;
        let (store, _commits) = opened.map_err(|error| error.to_string())?;
        let stored = store.record_act(self.entry.clone()).await;
        store.close().await;
        stored.map_err(|error| error.to_string())
    }

    fn write(&mut self) -> Result<(), String> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let written = file.write_all(line(&self.entry).as_bytes());
        written.map_err(|error| format!("audit.file: {error}"))
    }
}

/// Whether an act is also stored in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum AuditTable {
    Insert,
    /// The command only reads the database, or its tables are those of another version.
    Skip,
}
