//! The table of `docs/command-line.md` has all commands of the program.

use crate::read;

#[test]
fn table_of_commands_has_exactly_the_commands_of_the_program() {
    let reference = read("docs/reference/commands.md");
    let headings = reference
        .lines()
        .filter_map(|line| line.strip_prefix("## `roomcast ")?.strip_suffix('`'));
    let mut commands: Vec<_> = headings.collect();
    let document = read("docs/command-line.md");
    let (_, table) = document.split_once("\n| command | what it does |").unwrap();
    let rows = table.split("\n\n").next().unwrap().lines();
    let mut listed: Vec<_> = rows
        .filter_map(|row| row.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| cell.trim_end_matches('`').split("`, `"))
        .collect();
    commands.sort_unstable();
    listed.sort_unstable();
    assert!(commands.contains(&"serve"), "{commands:?}");
    assert_eq!(listed, commands, "docs/command-line.md, table of commands");
}
