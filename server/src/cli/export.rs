//! `roomcast export`: a conversation with all its messages, as JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use super::output::{self, errln};
use crate::config::private_files;
use crate::config::{self, Settings};
use crate::store::{Conversation, Membership, Message, Page, Store, Time, Version};

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub(super) struct Export {
    /// The conversation's id.
    #[arg(long)]
    conversation: Uuid,
    /// The file, which must not exist yet. Default: standard output.
    #[arg(long)]
    output: Option<PathBuf>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// With what messages were before they were edited or deleted.
    #[arg(long)]
    versions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for the conversation, then one for each message.
    Ndjson,
    /// One object.
    Json,
}

/// The beginning: what is exported, and how far.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    conversation: &'a Conversation,
    /// The `seq` of the last message there was at the time.
    last_seq: u64,
    exported_at: Time,
}

/// A message as clients see it, and what it was before if that is wanted.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    message: &'a Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<Version>>,
}

/// Writes the conversation, and how many messages it has to the error output.
pub(super) fn run(settings: &Settings, export: &Export) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("roomcast: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(write(&settings.store, export)) {
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
        return Err("a store in memory is in the memory of its server alone (store.url)".into());
    }
    // Reading changes nothing, not even the version of the tables.
    let config = config::Store {
        migrate: false,
        ..config.clone()
    };
    let opened = Store::open(&config, Arc::default()).await;
    let (store, _commits) = opened.map_err(|error| error.to_string())?;
    let result = match &export.output {
        Some(path) => to_file(&store, export, path).await,
        None => to(&store, export, io::stdout().lock()).await,
    };
    store.close().await;
    result
}

/// Writes beside the file first, so that it is there as a whole or not at all.
async fn to_file(store: &Store, export: &Export, path: &Path) -> Result<u64, String> {
    let shown = path.display();
    if path.exists() {
        return Err(format!("{shown} exists already"));
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let file = private(Path::new(&partial)).map_err(|error| format!("{shown}: {error}"))?;
    let written = to(store, export, &file).await;
    let kept = written.and_then(|messages| {
        let moved = file.sync_all().and_then(|()| fs::rename(&partial, path));
        moved
            .map(|()| messages)
            .map_err(|error| format!("{shown}: {error}"))
    });
    if kept.is_err() {
        // Half an export must not be taken for a whole one.
        let _ = fs::remove_file(&partial);
    }
    kept
}

/// Makes a new file that other users cannot read.
fn private(path: &Path) -> io::Result<File> {
    // What an export that was killed has left may have other rights, or belong to another user.
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
        // The object goes on with the messages.
        Format::Json => write!(
            out,
            "{},\"messages\":[",
            head.strip_suffix('}').unwrap_or(&head)
        ),
    }
    .map_err(failed)?;

    let mut written = 0;
    let mut after = 0;
    loop {
        let page = Page::Between {
            after,
            through: last_seq,
        };
        let read = store.history(id, page, PAGE).await;
        let page = read.map_err(|error| error.to_string())?;
        let page = page.ok_or("the conversation is gone")?;
        for message in &page.messages {
            // The beginning of the conversation may have expired.
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

/// Messages that are read at a time.
const PAGE: usize = 200;
