//! `docs/upgrading.md` lists each migration, and `docs/operations.md` names each secret of the
//! configuration.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::read;

#[test]
fn every_migration_has_a_row_and_every_row_a_migration() {
    let document = read("docs/upgrading.md");
    for (heading, folder) in [("## PostgreSQL", "postgres"), ("## SQLite", "sqlite")] {
        let (_, section) = document.split_once(&format!("\n{heading}\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| V"));
        let listed: BTreeSet<String> = rows
            .map(|row| row.split(' ').next().unwrap().to_owned())
            .collect();
        let files = fs::read_dir(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("migrations")
                .join(folder),
        );
        let migrations: BTreeSet<String> = files
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| Some(name.strip_prefix('V')?.split_once("__")?.0.to_owned()))
            .collect();
        assert!(!migrations.is_empty());
        assert_eq!(listed, migrations, "docs/upgrading.md, {heading}");
    }
}

#[test]
fn every_secret_of_the_configuration_has_steps_of_rotation() {
    let document = read("docs/operations.md");
    let mut found = 0;
    for (file, section) in [
        ("admin/ui.rs", "admin_ui"),
        ("auth/mod.rs", "auth.jwt"),
        ("auth/backend.rs", "auth.backend"),
        ("network/cluster.rs", "adapter"),
        ("market.rs", "market.webhook"),
        ("mod.rs", "server"),
        ("outgoing/ask.rs", "ask"),
        ("outgoing/webhooks.rs", "webhooks"),
    ] {
        for field in secrets(&read(&format!("server/src/config/{file}"))) {
            let key = format!("`{section}.{field}`");
            // The previous secret of webhooks is named in the row of the present one.
            assert!(document.contains(&key), "docs/operations.md has no {key}");
            found += 1;
        }
    }
    assert_eq!(
        found,
        all_secrets(),
        "a file with secrets is not in the list above"
    );
}

/// Returns the names of the public fields that contain secrets.
fn secrets(source: &str) -> Vec<&str> {
    let fields = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub "));
    let fields = fields.filter_map(|field| field.split_once(": "));
    fields
        .filter(|(_, kind)| kind.trim_end_matches(',').ends_with("<Secret>"))
        .map(|(name, _)| name)
        .collect()
}

/// Returns the number of fields of the whole configuration that contain secrets.
fn all_secrets() -> usize {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("server/src/config");
    let folders = [
        config.clone(),
        config.join("admin"),
        config.join("auth"),
        config.join("network"),
        config.join("outgoing"),
    ];
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let sources = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap());
    sources.map(|source| secrets(&source).len()).sum()
}
