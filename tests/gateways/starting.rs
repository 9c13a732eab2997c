//! How the server starts, or says why it does not.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::server::Binary;

/// Starts a server that cannot run, and waits until it has given up.
fn fails(folder: &Path, variables: &[(&str, &str)]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .current_dir(folder)
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("ROOMCAST_PROFILE", "development")
        .env("XDG_STATE_HOME", folder)
        .env("NO_COLOR", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let told = [stdout, stderr].concat();
    let told = String::from_utf8(told).unwrap();
    assert!(!status.success(), "{told}");
    told
}

#[test]
fn of_two_servers_on_one_database_file_the_second_is_refused_and_told_of_the_first() {
    let folder = TempDir::new().unwrap();
    let first = Binary::start(folder.path(), &[]);
    let by = format!("process {} at {}", first.pid(), first.address());
    for path in ["sqlite:chat.db", "sqlite:./chat.db"] {
        let told = fails(folder.path(), &[("ROOMCAST_STORE", path)]);
        assert!(told.contains(&by), "no {by} in {told}");
    }
    // Others may look at the database meanwhile.
    let export = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(["--store", "sqlite:chat.db", "migrate"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(export.success());
    // One that was killed holds nothing.
    drop(first);
    let second = Binary::start(folder.path(), &[]);
    second.terminate();
}

#[test]
fn a_server_whose_port_is_taken_makes_no_database() {
    let folder = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let told = fails(folder.path(), &[("ROOMCAST_LISTEN", &address)]);
    assert!(
        told.contains(&format!("cannot listen on {address}")),
        "{told}"
    );
    let made: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");
}

#[test]
fn a_default_start_warns_of_nothing_and_ends_with_the_address() {
    let folder = TempDir::new().unwrap();
    for migrations in [true, false] {
        let server = Binary::start(folder.path(), &[]);
        let log = server.early_log();
        let noisy = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        assert_eq!(log.lines().find(noisy), None, "{log}");
        let told = log.lines().filter(|line| line.contains("V1__chat")).count();
        assert_eq!(told, usize::from(migrations), "{log}");
        assert!(!log.contains("refinery"), "{log}");
        let last = log.lines().last().unwrap();
        let end = format!("listening on http://{}", server.address());
        assert!(last.ends_with(&end), "{last}");
        server.terminate();
    }
}

#[tokio::test]
async fn log_files_do_not_grow_without_end() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log/roomcast.log");
    let variables = [
        ("ROOMCAST_LOG__FILE", log.to_str().unwrap()),
        ("ROOMCAST_LOG__FILE_BYTES", "300"),
        ("ROOMCAST_LOG__FILES", "2"),
        // It fails after it has logged how many files may be open.
        ("ROOMCAST_STORE", "sqlite:no/such/folder/chat.db"),
    ];
    for _ in 0..5 {
        fails(folder.path(), &variables);
    }
    let mut names: Vec<_> = fs::read_dir(log.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["roomcast.log", "roomcast.log.1"]);
    let told = fails(folder.path(), &[("ROOMCAST_LOG__FILES", "0")]);
    assert!(told.contains("log.files"), "{told}");
}
