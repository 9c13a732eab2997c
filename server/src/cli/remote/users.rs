//! Commands about the data of a user: `export-user` and `erase-user`. Both repeat their call until
//! the server has no more to do.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use form_urlencoded::{Serializer, byte_serialize};
use http::Method;
use serde_json::{Map, Value, json};

use super::{Caller, Server, print, run};
use crate::cli::output::outln;
use crate::config::Settings;

/// Arguments of `export-user`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportUserArguments {
    /// Id of the user.
    user: String,
    #[command(flatten)]
    server: Server,
}

/// Arguments of `erase-user`.
#[derive(Clone, Debug, Args)]
pub(crate) struct EraseUserArguments {
    /// Id of the user.
    user: String,
    /// Whether the user's messages lose their author or their texts as well.
    #[arg(long)]
    messages: MessageErasure,
    #[command(flatten)]
    server: Server,
}

/// The treatment of the messages of a user who is erased.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MessageErasure {
    /// The texts stay, without their author.
    Anonymize,
    /// The texts are removed.
    Remove,
}

impl MessageErasure {
    fn as_str(self) -> &'static str {
        match self {
            Self::Anonymize => "anonymize",
            Self::Remove => "remove",
        }
    }
}

/// Returns the path of a user.
fn path_of(user: &str) -> String {
    // In a path, `+` is no space.
    let user: String = byte_serialize(user.as_bytes()).collect();
    format!("/users/{}", user.replace('+', "%20"))
}

/// Prints all stored data of a user, one line of JSON for each record.
pub(crate) fn export_user(settings: &Settings, arguments: &ExportUserArguments) -> ExitCode {
    run(async {
        let path = format!("{}/export", path_of(&arguments.user));
        let mut cursor: Option<String> = None;
        loop {
            let mut query = Serializer::new(String::new());
            query.extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
            let path = format!("{path}?{}", query.finish());
            // A token is valid for a minute, and an export may take longer.
            let caller = Caller::new(settings, &arguments.server)?;
            let page = caller.call(Method::GET, &path, String::new()).await?;
            let records = page.get("records").and_then(Value::as_array);
            for record in records.into_iter().flatten() {
                outln!("{record}");
            }
            cursor = cursor_of(&page);
            if cursor.is_none() {
                return Ok(());
            }
        }
    })
}

/// Erases a user, and prints how many records were erased.
pub(crate) fn erase_user(settings: &Settings, arguments: &EraseUserArguments) -> ExitCode {
    run(async {
        let path = path_of(&arguments.user);
        let mut cursor: Option<String> = None;
        let mut erased = Map::new();
        loop {
            let mut query = Serializer::new(String::new());
            query.append_pair("messages", arguments.messages.as_str());
            query.extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
            let path = format!("{path}?{}", query.finish());
            let caller = Caller::new(settings, &arguments.server)?;
            let answer = caller.call(Method::DELETE, &path, String::new()).await?;
            let counts = answer.get("erased").and_then(Value::as_object);
            for (kind, count) in counts.into_iter().flatten() {
                let before = erased.get(kind).and_then(Value::as_u64).unwrap_or(0);
                let count = count.as_u64().unwrap_or(0);
                erased.insert(kind.clone(), before.saturating_add(count).into());
            }
            cursor = cursor_of(&answer);
            if cursor.is_none() {
                let is_done = answer.get("done").and_then(Value::as_bool);
                return print(&json!({"done": is_done.unwrap_or(false), "erased": erased}));
            }
        }
    })
}

fn cursor_of(answer: &Value) -> Option<String> {
    let cursor = answer.get("cursor").and_then(Value::as_str);
    cursor.map(str::to_owned)
}
