//! Each sleep in a test has a comment with its reason.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::source_tree::root;

/// Calls that sleep, in the languages of the tests.
const SLEEPS: [&str; 3] = ["sleep(", "setTimeout(", "waitForTimeout("];

/// Starts of a comment at the end of a line.
const COMMENTS: [&str; 2] = [" // ", " # "];

/// Folders of tests and of the programs that they start.
const FOLDERS: [&str; 4] = ["tests", "src/engine/tests", "protocol/tests", "web/test"];

#[test]
fn a_sleep_in_a_test_has_a_reason_beside_it() {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut files);
    }
    assert!(files.len() > 100, "{} files of tests", files.len());
    let mut wrong = Vec::new();
    files.retain(|file| !file.ends_with(file!())); // Its own examples have none on purpose.
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let shown = file.strip_prefix(root()).unwrap().display();
        let lines = unexplained(&source);
        wrong.extend(lines.iter().map(|line| format!("{shown}:{line}")));
    }
    assert!(wrong.is_empty(), "sleeps without a reason: {wrong:#?}");
}

#[test]
fn a_reason_stands_on_the_line_or_directly_above_it() {
    let source = "sleep(1); // The pace.\n# The pace.\nsleep(1)\n\nsleep(1);\n// The pace.\n\n\
                  await sleep(1);\nSELECT pg_sleep(1);\nfn sleep() {}\n";
    assert_eq!(unexplained(source), [5, 8]);
}

/// Returns the lines that sleep without a comment, counted from 1.
fn unexplained(source: &str) -> Vec<usize> {
    let mut above = "";
    let mut found = Vec::new();
    for (number, line) in (1..).zip(source.lines()) {
        let is_explained = COMMENTS
            .iter()
            .any(|c| line.contains(c) || above.starts_with(c.trim_start()));
        if sleeps(line) && !is_explained {
            found.push(number);
        }
        above = line.trim_start();
    }
    found
}

fn sleeps(line: &str) -> bool {
    SLEEPS.iter().any(|sleep| {
        line.match_indices(sleep).any(|(at, _)| {
            let before = &line[..at];
            let is_whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            is_whole && !before.ends_with("fn ")
        })
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, files);
        } else if path
            .extension()
            .is_some_and(|end| ["rs", "mjs", "ts", "py", "sh"].iter().any(|of| end == *of))
        {
            files.push(path);
        }
    }
}
