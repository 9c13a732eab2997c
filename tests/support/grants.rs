//! The documented grants for roles that do not own the tables.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;

/// Returns the statements of `docs/storage.md` that create the table of the adapter and grant a
/// server's role its rights, for the database of this name.
pub fn of_a_server(database: &str, role: &str) -> Vec<String> {
    let blocks = sql_blocks("docs/storage.md", "### A role that does not own the tables");
    let documented = blocks.iter().flat_map(|block| statements(block));
    documented
        .map(|statement| fitted(&statement, "chat", database, role))
        .collect()
}

/// Returns the statements of `docs/publications.md` that grant a role the rights of a publishing
/// service.
pub fn of_a_publisher(role: &str) -> Vec<String> {
    let blocks = sql_blocks("docs/publications.md", "## Rights");
    let documented = statements(&blocks[0]);
    documented
        .iter()
        .map(|statement| fitted(statement, "shop", "", role))
        .collect()
}

/// Adapts a documented statement to this role and database. The documentation names both the same.
fn fitted(statement: &str, documented: &str, database: &str, role: &str) -> String {
    if !statement.starts_with("GRANT ") {
        return statement.to_owned();
    }
    let (what, to) = statement.rsplit_once(" TO ").unwrap();
    assert_eq!(to, documented, "{statement}");
    match what.strip_suffix(&format!(" ON DATABASE {documented}")) {
        Some(what) => format!("{what} ON DATABASE {database} TO {role}"),
        None => format!("{what} TO {role}"),
    }
}

/// Reads a file of the project.
pub fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// Returns the lines of a section of a document, up to the next section of its level.
pub fn section(document: &str, heading: &str) -> String {
    let level = depth(heading);
    let lines = document.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !(1..=level).contains(&depth(line)));
    let section: Vec<&str> = lines.collect();
    assert!(!section.is_empty(), "there is no section {heading}");
    section.join("\n")
}

/// Returns the level of a heading; 0 for other lines.
fn depth(line: &str) -> usize {
    line.chars().take_while(|c| *c == '#').count()
}

/// Returns the SQL blocks of a section.
fn sql_blocks(path: &str, heading: &str) -> Vec<String> {
    let section = section(&document(path), heading);
    let blocks = section.split("```sql\n").skip(1);
    let blocks: Vec<String> = blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect();
    assert!(!blocks.is_empty(), "{path} has no SQL below {heading}");
    blocks
}

/// Returns the statements of a block, each on one line and without comments.
fn statements(block: &str) -> Vec<String> {
    let lines = block.lines().filter(|line| !line.starts_with("--"));
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    let text = words.join(" ");
    text.split(';')
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}
