//! `roomcast backup` and `roomcast restore`: an SQLite database and its copy in a file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::audit::{AuditTable, DatabaseAct};
use crate::cli::{
    output::{fail, outln},
    progress::Progress,
};
use crate::config::Settings;
use crate::store::{CopyProgress, DatabaseCopy, FormerDatabase, Store};

/// Arguments of `backup`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct BackUp {
    /// Output file, which must not exist.
    file: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Arguments of `restore`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Restore {
    /// File of `roomcast backup`.
    file: PathBuf,
    /// Replace an existing database, and rename it to the same name with `.before-restore`.
    #[arg(long)]
    force: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Copies the database to a file.
pub(in crate::cli) fn back_up(settings: &Settings, arguments: &BackUp) -> ExitCode {
    let request = json!({"file": arguments.file});
    // A backup does not change the database, so only the file has it.
    let copied = DatabaseAct::around(
        settings,
        "backup",
        &request,
        || Store::backup(&settings.store, &arguments.file, &mut progress()),
        |_| AuditTable::Skip,
    );
    report("backed up", copied, arguments.json)
}

/// Makes a backup the database.
pub(in crate::cli) fn restore(settings: &Settings, arguments: &Restore) -> ExitCode {
    let former = if arguments.force {
        FormerDatabase::Rename
    } else {
        FormerDatabase::Refuse
    };
    let request = json!({"file": arguments.file, "replaces": arguments.force});
    let copied = DatabaseAct::around(
        settings,
        "restore",
        &request,
        || Store::restore(&settings.store, &arguments.file, former, &mut progress()),
        // An older database has no table for it before its next start.
        |copy| match copy.pending_migrations {
            0 => AuditTable::Insert,
            _ => AuditTable::Skip,
        },
    );
    report("restored", copied, arguments.json)
}

/// Returns a function that shows the progress on a terminal.
fn progress() -> impl FnMut(CopyProgress) {
    let mut shown = Progress::unknown("opening");
    let mut all_pages = None;
    move |progress| match progress {
        CopyProgress::Copying { done, all } => {
            if all_pages.replace(all) != Some(all) {
                shown = Progress::towards(all.into(), "copying");
            }
            shown.reach(done.into());
        }
        CopyProgress::Checking => shown = Progress::unknown("checking"),
    }
}

/// Prints the result.
fn report(done: &str, copied: Result<DatabaseCopy, String>, json: bool) -> ExitCode {
    let copy = match copied {
        Ok(copy) => copy,
        Err(error) => return fail(json, error, 1),
    };
    if json {
        match serde_json::to_string(&copy) {
            Ok(text) => outln!("{text}"),
            Err(error) => return fail(json, error, 1),
        }
        return ExitCode::SUCCESS;
    }
    outln!(
        "{done} to {}: {} bytes, schema version {}, {} conversations, {} messages",
        copy.file.display(),
        copy.bytes,
        copy.schema_version,
        copy.conversations,
        copy.messages
    );
    if let Some(former) = copy.former {
        outln!("the former database is {}", former.display());
    }
    if copy.pending_migrations > 0 {
        let count = copy.pending_migrations;
        outln!(
            "its tables are older than this program: {count} migrations are applied at the next start"
        );
    }
    ExitCode::SUCCESS
}
