//! `roomcast audit`: the administrative acts that a running server and its cluster have recorded.

use std::fs;
use std::process::ExitCode;

use clap::Args;
use form_urlencoded::Serializer;
use http::Method;
use serde_json::Value;

use super::{Caller, Server, run};
use crate::cli::output::outln;
use crate::config::Settings;

/// Arguments of `audit`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct AuditArguments {
    /// Only acts of this user, or of this user of the operating system, as `ann@host`.
    #[arg(long)]
    user: Option<String>,
    /// Only acts with this name, such as `revoke` or `admin:kick`.
    #[arg(long)]
    operation: Option<String>,
    /// Maximum number of acts; the newest are printed first.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Role in the token that is signed for the call.
    #[arg(long, default_value = "admin", conflicts_with = "token")]
    role: String,
    #[command(flatten)]
    server: Server,
}

/// Prints the acts, one line of JSON for each.
pub(in crate::cli) fn audit(settings: &Settings, arguments: &AuditArguments) -> ExitCode {
    run(async {
        let caller = Caller::with_role(settings, &arguments.server, &arguments.role)?;
        let mut cursor: Option<String> = None;
        let mut left = arguments.limit;
        while left > 0 {
            let limit = left.min(MAX_PAGE).to_string();
            let mut query = Serializer::new("/audit?".to_owned());
            for (name, value) in [
                ("limit", Some(&limit)),
                ("userId", arguments.user.as_ref()),
                ("operation", arguments.operation.as_ref()),
                ("cursor", cursor.as_ref()),
            ] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            let page = caller
                .call(Method::GET, &query.finish(), String::new())
                .await?;
            let entries = page.get("entries").and_then(Value::as_array);
            for entry in entries.into_iter().flatten() {
                outln!("{entry}");
                left -= 1;
            }
            cursor = page
                .get("cursor")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    })
}

/// Returns the user of the operating system and the host, as `ann@host`. With `sudo`, the user who
/// called it follows: `root(ann)@host`.
///
/// A command states this name to the server, which records it beside the user of the token.
pub(in crate::cli) fn operator() -> String {
    let uid = rustix::process::getuid().as_raw();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    });
    let mut name = named.unwrap_or_else(|| format!("uid{uid}"));
    if let Ok(caller) = std::env::var("SUDO_USER") {
        name = format!("{name}({caller})");
    }
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let stated = format!("{name}@{host}");
    let visible = stated
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '?' });
    visible.take(MAX_NAME).collect()
}

/// The maximum of the server.
const MAX_PAGE: usize = 200;
/// Maximum length of a stated name.
const MAX_NAME: usize = 256;
