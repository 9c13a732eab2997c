//! The store in memory: its temporary file, and who removes it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::server::{GUESTS_AS_USERS, LOBBY, ServerProcess};

/// Starts a server whose store has no room in shared memory, so that `folder` gets its file.
fn start(folder: &Path) -> ServerProcess {
    let temporary = folder.to_str().unwrap();
    let variables = [
        ("ROOMCAST_STORE", "memory:"),
        ("ROOMCAST_STORE__MAX_BYTES", "1000000000000000"),
        ("TMPDIR", temporary),
        GUESTS_AS_USERS,
    ];
    ServerProcess::start(folder, &variables)
}

/// Returns the folders of temporary databases in `folder`.
fn temporary_folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let names = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().unwrap().starts_with("roomcast-memory-")
    });
    names.map(|entry| entry.path()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_store_is_a_private_file_that_ends_with_its_server() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let mut ann = server.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    let sent = json!({"conversationId": LOBBY, "content": "hello"});
    ann.must("message", sent).await;

    let folders = temporary_folders(folder.path());
    let [temporary] = folders.as_slice() else {
        panic!("{folders:?}");
    };
    assert_eq!(mode(temporary), 0o700);
    let files = fs::read_dir(temporary)
        .unwrap()
        .map(|file| file.unwrap().path());
    let files: Vec<_> = files.collect();
    assert!(files.contains(&temporary.join("chat.db")), "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    server.terminate();
    assert!(temporary_folders(folder.path()).is_empty());
}

#[test]
fn next_start_removes_the_file_of_a_killed_server_alone() {
    let folder = TempDir::new().unwrap();
    let killed = start(folder.path());
    let left = temporary_folders(folder.path());
    drop(killed);
    assert_eq!(temporary_folders(folder.path()), left);

    let running = start(folder.path());
    let own = temporary_folders(folder.path());
    assert!(own.len() == 1 && own != left, "{own:?}");
    let second = start(folder.path());
    let both = temporary_folders(folder.path());
    assert!(both.len() == 2 && both.contains(&own[0]), "{both:?}");
    second.terminate();
    assert_eq!(temporary_folders(folder.path()), own);
    running.terminate();
    assert!(temporary_folders(folder.path()).is_empty());
}
