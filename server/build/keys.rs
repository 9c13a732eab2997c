//! Collects the fields of the configuration from its sources: names, types and doc comments.
//!
//! `print-config --commented` prints them. The library's options come from macros, and its types
//! implement no schema, so this module reads the source text line by line. A test in
//! `server/src/cli/settings/reference.rs` checks that each key was found.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

/// The folders and files with the types of the configuration.
const SOURCES: [&str; 9] = [
    "src/config",
    "src/config/admin",
    "src/config/auth",
    "src/config/events",
    "src/config/network",
    "src/config/outgoing",
    "../src/config",
    "../protocol/src/socket/parser/mod.rs",
    "../protocol/src/engine/handshake.rs",
];

/// A struct or enum.
struct Definition {
    name: String,
    /// The rule of serde that renames the variants of an enum.
    renaming: String,
    members: Vec<Member>,
}

/// A field or variant.
struct Member {
    name: String,
    /// The type of a field, empty for a variant.
    kind: String,
    doc: String,
}

/// Writes `keys.rs` into a folder.
pub(crate) fn collect(out: &Path) -> io::Result<()> {
    let mut definitions = Vec::new();
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        let source = Path::new(source);
        let mut files = vec![source.to_owned()];
        if source.is_dir() {
            let entries = fs::read_dir(source)?.map(|entry| entry.map(|entry| entry.path()));
            files = entries.collect::<io::Result<Vec<PathBuf>>>()?;
        }
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            read(&fs::read_to_string(file)?, &mut definitions);
        }
    }
    let mut text = String::from("const DEFINITIONS: &[Definition] = &[\n");
    definitions.retain(|definition| definition.name != "Self");
    for definition in &definitions {
        let Definition { name, renaming, .. } = definition;
        let _ = writeln!(
            text,
            "    Definition {{ name: {name:?}, renaming: {renaming:?}, members: &["
        );
        for Member { name, kind, doc } in &definition.members {
            let _ = writeln!(
                text,
                "        Member {{ name: {name:?}, kind: {kind:?}, doc: {doc:?} }},"
            );
        }
        text.push_str("    ] },\n");
    }
    text.push_str("];\n");
    fs::write(out.join("keys.rs"), text)
}

/// Adds the definitions of a source.
fn read(source: &str, definitions: &mut Vec<Definition>) {
    let mut open: Option<Definition> = None;
    let (mut doc, mut renaming) = (String::new(), String::new());
    for line in source.lines() {
        let line = line.trim();
        if line == "mod tests {" {
            break;
        }
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
            continue;
        }
        if line.starts_with("#[") {
            if let Some((_, rest)) = line.split_once("rename_all = \"") {
                renaming = rest.split('"').next().unwrap_or_default().to_owned();
            }
            continue;
        }
        if let Some(name) = opened(line) {
            definitions.extend(open.take());
            open = Some(Definition {
                name: name.to_owned(),
                renaming: std::mem::take(&mut renaming),
                members: Vec::new(),
            });
        } else if line.starts_with('}') {
            definitions.extend(open.take());
        } else if let Some(definition) = &mut open
            && let Some((name, kind)) = member(line)
        {
            definition.members.push(Member {
                name: name.to_owned(),
                kind: kind.to_owned(),
                doc: plain(&doc),
            });
        }
        doc.clear();
    }
}

/// Returns the name of the struct or enum that a line opens: `pub struct Name {`, `Name {` in the
/// macro `options!`, or `group: Name {` in the macro `groups!`.
fn opened(line: &str) -> Option<&str> {
    let head = line.strip_suffix(" {")?;
    let name = ["pub struct ", "pub enum "]
        .iter()
        .find_map(|keyword| head.strip_prefix(keyword));
    let name = name.unwrap_or_else(|| head.split_once(": ").map_or(head, |(_, name)| name));
    let is_name = name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
    is_name.then_some(name)
}

/// Returns the name of a field with its type, or the name of a variant.
fn member(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    if let Some((name, rest)) = line.split_once(": ") {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.chars().all(is_name) {
            return None;
        }
        // A comma within angle brackets belongs to the type.
        let mut depth = 0_usize;
        let end = rest.find(|c| {
            match c {
                '<' => depth += 1,
                '>' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(c, ',' | '=' | ';')
        });
        return end.map(|end| (name, rest[..end].trim()));
    }
    let name = line.strip_suffix(',')?;
    let is_variant =
        name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
    is_variant.then_some((name, ""))
}

/// Removes the targets of links from a doc comment, and shows names of variants as in files.
fn plain(doc: &str) -> String {
    let mut text = String::new();
    let mut rest = doc.trim();
    while let Some((before, after)) = rest.split_once("](") {
        let (head, label) = before.rsplit_once('[').unwrap_or((before, ""));
        text.push_str(head);
        text.push_str(label);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let text = text.replace("[`", "`").replace("`]", "`");
    let code = text.split('`').enumerate().map(|(index, part)| {
        match part.rsplit_once("::").filter(|_| index % 2 == 1) {
            Some((_, name)) => name.to_lowercase(),
            None => part.to_owned(),
        }
    });
    code.collect::<Vec<_>>().join("`")
}
