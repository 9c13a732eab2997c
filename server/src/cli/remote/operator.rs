//! The name of the operator who runs a command.

use std::fs;

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

/// Maximum length of a stated name.
const MAX_NAME: usize = 256;
