//! `roomcast export`: a conversation with all its messages, as JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::audit::{AuditTable, DatabaseAct};
use crate::cli::{
    self,
    output::{self, errln},
    progress::Progress,
};
use crate::config::private_files;
use crate::config::{self, Settings};
use crate::store::{Conversation, Membership, Message, Page, Store, Time, Version};

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Export {
    /// Id of the conversation.
    #[arg(long)]
    conversation: Uuid,
    /// Output file, which must not exist. Default: standard output.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// Include earlier versions of edited and deleted messages.
    #[arg(long)]
    versions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for the conversation, then one line per message.
    Ndjson,
    /// A single object.
    Json,
}

/// The header of an export.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    conversation: &'a Conversation,
    /// The `seq` of the last exported message.
    last_seq: u64,
    exported_at: Time,
}

/// A message as clients see it, with its earlier versions if requested.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    message: &'a Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<Version>>,
}

/// Writes the conversation, and prints the number of messages to standard error.
pub(in crate::cli) fn run(settings: &Settings, export: &Export) -> ExitCode {
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("roomcast: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let request = json!({"conversation": export.conversation, "output": export.output});
    // An export does not change the database, so only the file has it.
    let exported = DatabaseAct::around(
        settings,
        "export",
        &request,
        || runtime.block_on(write(&settings.store, export)),
        |_| AuditTable::Skip,
    );
    match exported {
        Ok(messages) => {
            errln!("roomcast: {messages} messages");
            ExitCode::SUCCESS
        }
        Err(error) => {
            errln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn write(config: &config::Store, export: &Export) -> Result<u64, String> {
    if config.url == "memory:" {
        return Err("the command cannot read a server's memory store: set store.url to its SQLite file or PostgreSQL".into());
    }
    let opened = Store::open(&config.unmigrated(), Arc::default()).await;
    let (store, _commits) = opened.map_err(|error| error.to_string())?;
    let result = match &export.output {
        Some(path) => to_file(&store, export, path).await,
        None => to(&store, export, io::stdout().lock()).await,
    };
    store.close().await;
    result
}

/// Writes to a temporary file first, so that the output file is complete or does not exist.
async fn to_file(store: &Store, export: &Export, path: &Path) -> Result<u64, String> {
    let shown = path.display();
    if path.exists() {
        return Err(format!("{shown} exists already"));
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let file = private(Path::new(&partial)).map_err(|error| format!("{shown}: {error}"))?;
    let written = to(store, export, &file).await;
    let saved = written.and_then(|messages| {
        let moved = file.sync_all().and_then(|()| fs::rename(&partial, path));
        moved
            .map(|()| messages)
            .map_err(|error| format!("{shown}: {error}"))
    });
    if saved.is_err() {
        // An incomplete export must not be mistaken for a complete one.
        let _ = fs::remove_file(&partial);
    }
    saved
}

/// Creates a new file that other users cannot read.
fn private(path: &Path) -> io::Result<File> {
    // A file left by a killed export can have other permissions or another owner.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => private_files::open(path, OpenOptions::new().write(true).create_new(true)),
    }
}

async fn to(store: &Store, export: &Export, out: impl Write) -> Result<u64, String> {
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            output::end(&error);
        }
        format!("cannot write: {error}")
    };
    let mut out = BufWriter::new(out);
    let id = export.conversation;
    let read = store.conversation(id).await;
    let Membership {
        conversation,
        last_seq,
        ..
    } = read
        .map_err(|error| error.to_string())?
        .ok_or("no such conversation")?;
    let head = Head {
        conversation: &conversation,
        last_seq,
        exported_at: Time::now(),
    };
    let head = json(&head)?;
    match export.format {
        Format::Ndjson => writeln!(out, "{head}"),
        // The messages become a field of the same object, so its closing brace is omitted here.
        Format::Json => write!(
            out,
            "{},\"messages\":[",
            head.strip_suffix('}').unwrap_or(&head)
        ),
    }
    .map_err(failed)?;

    let progress = Progress::towards(last_seq, "exporting");
    let mut written = 0;
    let mut after = 0;
    loop {
        let page = Page::Between {
            after,
            through: last_seq,
        };
        let read = store.history(id, page, PAGE).await;
        let page = read.map_err(|error| error.to_string())?;
        let page = page.ok_or("the conversation was deleted during the export")?;
        for message in &page.messages {
            // A conversation may begin after `seq` 1, because its first messages may have expired.
            // After that no number may be missing.
            if written > 0 && message.seq != after + 1 {
                return Err(format!("there is no message {}", after + 1));
            }
            let line = json(&Line {
                message,
                versions: versions(store, export, message).await?,
            })?;
            match export.format {
                Format::Ndjson => writeln!(out, "{line}"),
                Format::Json if written == 0 => write!(out, "\n{line}"),
                Format::Json => write!(out, ",\n{line}"),
            }
            .map_err(failed)?;
            written += 1;
            after = message.seq;
        }
        progress.reach(after);
        if !page.has_more || page.messages.is_empty() {
            break;
        }
    }
    if export.format == Format::Json {
        out.write_all(b"\n]}\n").map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(written)
}

async fn versions(
    store: &Store,
    export: &Export,
    message: &Message,
) -> Result<Option<Vec<Version>>, String> {
    let is_changed = message.edited_at.is_some() || message.deleted_at.is_some();
    if !export.versions || !is_changed {
        return Ok(None);
    }
    let versions = store.versions(message.id).await;
    versions.map(Some).map_err(|error| error.to_string())
}

fn json(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}

/// Messages read per query.
const PAGE: usize = 200;
