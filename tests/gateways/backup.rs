//! `roomcast backup` and `roomcast restore`, and the same with the programs of PostgreSQL.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

#[cfg(feature = "postgres")]
use crate::postgres::Postgres;
use crate::server::{GUESTS_AS_USERS, LOBBY, ROOMCAST, ServerProcess, UNLIMITED};

/// Returns the variables of these servers.
fn variables() -> Vec<(&'static str, &'static str)> {
    [&UNLIMITED[..], &[GUESTS_AS_USERS]].concat()
}

/// Runs a command with the database `chat.db` in `folder`, and returns its exit code and output.
fn run(folder: &Path, arguments: &[&str], store: &str) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(ROOMCAST)
        .args(arguments)
        .current_dir(folder)
        .env("ROOMCAST_STORE", store)
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("XDG_STATE_HOME", folder)
        .output()
        .unwrap();
    let output = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), output)
}

fn sqlite(folder: &Path, arguments: &[&str]) -> (i32, String) {
    run(folder, arguments, "sqlite:chat.db")
}

/// Removes the database with the files that SQLite has next to it.
fn destroy(folder: &Path) {
    for file in ["chat.db", "chat.db-wal", "chat.db-shm"] {
        let _ = fs::remove_file(folder.join(file));
    }
}

/// Sends messages one after the other until `stop` is set, and counts the acknowledged ones.
async fn chat_until(
    server: &ServerProcess,
    name: &str,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) {
    let mut client = server.guest(name).await;
    client.must("join_conversation", json!(LOBBY)).await;
    while !stop.load(Ordering::Relaxed) {
        let message = json!({"conversationId": LOBBY, "content": format!("of {name}")});
        let answer = client.must("message", message).await;
        let seq = answer["message"]["seq"].as_u64().unwrap();
        acknowledged.fetch_max(seq, Ordering::Relaxed);
    }
}

/// Waits until this many messages are acknowledged.
async fn until_acknowledged(acknowledged: &AtomicU64, count: u64) {
    while acknowledged.load(Ordering::Relaxed) < count {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await; // Poll interval.
    }
}

/// Returns the numbers of all messages of the Lobby.
async fn stored(server: &ServerProcess) -> Vec<u64> {
    let mut client = server.guest("reader").await;
    let join = json!({"conversationId": LOBBY, "lastSeq": 0});
    let mut page = client.must("join_conversation", join).await;
    let mut seqs = Vec::new();
    loop {
        let messages = page["messages"].as_array().unwrap();
        seqs.extend(
            messages
                .iter()
                .map(|message| message["seq"].as_u64().unwrap()),
        );
        if page["hasMore"] == false {
            return seqs;
        }
        let next = json!({"conversationId": LOBBY, "afterSeq": seqs.last(), "limit": 200});
        page = client.must("message_history", next).await;
    }
}

/// Chats while `back_up` runs, and returns the last messages acknowledged before and after it.
async fn back_up_under_load<T>(
    server: &ServerProcess,
    back_up: impl FnOnce() -> T + Send + 'static,
) -> (u64, u64, T)
where
    T: Send + 'static,
{
    let (stop, acknowledged) = (AtomicBool::new(false), Arc::<AtomicU64>::default());
    let chatting = async {
        tokio::join!(
            chat_until(server, "ann", &stop, &acknowledged),
            chat_until(server, "bob", &stop, &acknowledged),
            chat_until(server, "eve", &stop, &acknowledged)
        )
    };
    let backing_up = async {
        until_acknowledged(&acknowledged, 200).await;
        let before = acknowledged.load(Ordering::Relaxed);
        let done = tokio::task::spawn_blocking(back_up).await.unwrap();
        // The clients go on, so the backup lacks some messages.
        let after = acknowledged.load(Ordering::Relaxed);
        until_acknowledged(&acknowledged, after + 50).await;
        stop.store(true, Ordering::Relaxed);
        (before, done)
    };
    let (_, (before, done)) = tokio::join!(chatting, backing_up);
    (before, acknowledged.load(Ordering::Relaxed), done)
}

/// Checks a restored server, whose clients have seen messages up to `seen`.
async fn assert_restored(server: &ServerProcess, before: u64, seen: u64) {
    let seqs = stored(server).await;
    let last = seqs.len() as u64;
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "no gap and no double");
    assert!(last >= before, "{last} of at least {before} messages");
    assert!(last < seen, "the messages after the backup are lost");

    // A client that asks for the last message that it has seen gets no message, so it notices that
    // the history differs, and starts again with what exists.
    let mut ann = server.guest("ann").await;
    let join = json!({"conversationId": LOBBY, "lastSeq": seen - 1});
    let joined = ann.must("join_conversation", join).await;
    assert_eq!(
        (&joined["messages"], &joined["hasMore"]),
        (&json!([]), &json!(false))
    );
    // New messages arrive live, under the numbers after those of the backup.
    let mut bob = server.guest("bob").await;
    bob.must("join_conversation", json!(LOBBY)).await;
    let message = json!({"conversationId": LOBBY, "content": "after the restore"});
    bob.must("message", message).await;
    assert_eq!(ann.event("message").await["seq"], last + 1);
    assert_eq!(stored(server).await.last(), Some(&(last + 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_under_load_restores_every_message_acknowledged_before() {
    let folder = TempDir::new().unwrap();
    let server = ServerProcess::start(folder.path(), &variables());
    let place = folder.path().to_owned();
    let (before, seen, (code, output)) = back_up_under_load(&server, move || {
        sqlite(&place, &["backup", "chat.backup", "--json"])
    })
    .await;
    assert_eq!(code, 0, "{output}");
    let summary: Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
    let messages = summary["messages"].as_u64().unwrap();
    assert!(
        messages >= before && messages < seen,
        "{summary} of {before} to {seen}"
    );
    assert_eq!(summary["pendingMigrations"], 0);
    let backup = folder.path().join("chat.backup");
    let metadata = fs::metadata(&backup).unwrap();
    assert_eq!(summary["bytes"], metadata.len());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let names = fs::read_dir(folder.path()).unwrap().flatten();
    let left: Vec<_> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("chat.backup"))
        .collect();
    assert_eq!(left, ["chat.backup"], "one file without companions");

    let (code, output) = sqlite(folder.path(), &["restore", "chat.backup", "--force"]);
    assert!(
        code == 1 && output.contains("is in use by process"),
        "{output}"
    );
    drop(server);
    destroy(folder.path());
    // What a lost database may leave must not become a part of the new one.
    fs::write(folder.path().join("chat.db-wal"), "left").unwrap();
    let (code, output) = sqlite(folder.path(), &["restore", "chat.backup"]);
    assert!(
        code == 0 && output.contains(&format!("{messages} messages")),
        "{output}"
    );
    assert!(!folder.path().join("chat.db-wal").exists());
    let server = ServerProcess::start(folder.path(), &variables());
    assert_restored(&server, before, seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_keeps_the_former_database_with_its_write_ahead_log() {
    let folder = TempDir::new().unwrap();
    let server = ServerProcess::start(folder.path(), &variables());
    let mut ann = server.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    assert_eq!(sqlite(folder.path(), &["backup", "empty"]).0, 0);
    let message = json!({"conversationId": LOBBY, "content": "later"});
    ann.must("message", message).await;
    drop(server);

    let (code, output) = sqlite(folder.path(), &["restore", "empty"]);
    assert!(code == 1 && output.contains("add --force"), "{output}");
    let (code, output) = sqlite(folder.path(), &["restore", "empty", "--force"]);
    assert!(code == 0 && output.contains(" 0 messages"), "{output}");
    // Positions in the former database are recognised by its id.
    let id_of = |file: &str| -> String {
        let database = rusqlite::Connection::open(folder.path().join(file)).unwrap();
        let select = "SELECT store_id FROM roomcast_schema";
        database.query_row(select, [], |row| row.get(0)).unwrap()
    };
    assert_ne!(id_of("chat.db"), id_of("empty"));
    assert_eq!(id_of("chat.db").len(), id_of("empty").len());
    // Nothing of it is overwritten, even if its parts are not together.
    let former = |suffix: &str| {
        folder
            .path()
            .join(format!("chat.db.before-restore{suffix}"))
    };
    fs::rename(former(""), folder.path().join("moved")).unwrap();
    let (code, output) = sqlite(folder.path(), &["restore", "empty", "--force"]);
    assert!(
        code == 1 && output.contains("chat.db.before-restore-wal"),
        "{output}"
    );
    fs::rename(folder.path().join("moved"), former("")).unwrap();
    let (code, output) = sqlite(folder.path(), &["restore", "empty", "--force"]);
    assert!(
        code == 1 && output.contains("before an earlier restore"),
        "{output}"
    );
    // The message was in the write-ahead log of the killed server.
    let former = "sqlite:chat.db.before-restore";
    let (code, output) = run(folder.path(), &["backup", "former"], former);
    assert!(code == 0 && output.contains(" 1 messages"), "{output}");
}

#[test]
fn unusable_backups_are_refused_and_nothing_is_changed() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert_eq!(sqlite(folder.path(), &["migrate"]).0, 0);
    assert_eq!(sqlite(folder.path(), &["backup", "good"]).0, 0);
    let (code, output) = sqlite(folder.path(), &["backup", "good"]);
    assert!(
        code == 1 && output.contains("choose another name"),
        "{output}"
    );

    fs::copy(path("good"), path("newer")).unwrap();
    let newer = rusqlite::Connection::open(path("newer")).unwrap();
    let added = "INSERT INTO refinery_schema_history SELECT 999, 'x', applied_on, checksum \
                 FROM refinery_schema_history LIMIT 1";
    assert_eq!(newer.execute(added, []).unwrap(), 1);
    drop(newer);
    fs::copy(path("good"), path("divergent")).unwrap();
    let divergent = rusqlite::Connection::open(path("divergent")).unwrap();
    let renamed = "UPDATE refinery_schema_history SET name = 'chat'";
    assert_eq!(divergent.execute(renamed, []).unwrap(), 1);
    drop(divergent);
    let other = rusqlite::Connection::open(path("other")).unwrap();
    other.execute_batch("CREATE TABLE messages (a)").unwrap();
    drop(other);
    let mut bytes = fs::read(path("good")).unwrap();
    bytes[8192..].iter_mut().for_each(|byte| *byte = 0xff);
    fs::write(path("bad"), &bytes).unwrap();
    fs::write(path("text"), "no database at all").unwrap();
    destroy(folder.path());
    for (name, reason) in [
        ("newer", "version 999, this program knows versions up to"),
        (
            "divergent",
            "its migration V1__chat is not one of this version",
        ),
        ("other", "not a database of Roomcast"),
        ("bad", "the database is damaged"),
        ("text", "file is not a database"),
        ("missing", "unable to open"),
    ] {
        let (code, output) = sqlite(folder.path(), &["restore", name]);
        assert!(code == 1 && output.contains(reason), "{name}: {output}");
        let left = fs::read_dir(folder.path()).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        let is_changed = left.iter().any(|name| {
            name.to_str().is_some_and(|name| {
                name.starts_with("chat.db") && name != "chat.db.lock" || name == "missing"
            })
        });
        assert!(!is_changed, "{name}: {left:?}");
    }
    let (code, output) = run(folder.path(), &["backup", "b"], "memory:");
    assert!(
        code == 1 && output.contains("a store in memory"),
        "{output}"
    );
    let postgres = "postgres://u:canary@127.0.0.1:1/d";
    for arguments in [["backup", "b"], ["restore", "good"]] {
        let (code, output) = run(folder.path(), &arguments, postgres);
        assert!(code == 1 && output.contains("pg_dump"), "{output}");
        assert!(!output.contains("canary"), "{output}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn pg_dump_under_load_restores_every_message_acknowledged_before() {
    // Another server of PostgreSQL, which has counted fewer transactions.
    let (first, second) = (Postgres::start(), Postgres::start());
    let (from, to) = (first.database(), second.database());
    let folder = TempDir::new().unwrap();
    let with = |url: &str| {
        let mut variables: Vec<_> = variables()
            .into_iter()
            .map(|(k, v)| (k, v.to_owned()))
            .collect();
        variables.push(("ROOMCAST_STORE", url.to_owned()));
        variables
    };
    let start = |url: &str| {
        let variables = with(url);
        let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
        ServerProcess::start(folder.path(), &variables)
    };
    let server = start(&from);
    let dump = folder.path().join("chat.dump");
    let (source, file) = (from.clone(), dump.clone());
    let (before, seen, dumped) = back_up_under_load(&server, move || {
        let mut program = Command::new("pg_dump");
        program
            .args(["--format=custom", "--dbname", &source, "--file"])
            .arg(file);
        program.output().unwrap()
    })
    .await;
    assert!(dumped.status.success(), "{dumped:?}");
    drop(server);
    let restored = Command::new("pg_restore")
        .args(["--exit-on-error", "--single-transaction", "--dbname", &to])
        .arg(&dump)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let server = start(&to);
    assert_restored(&server, before, seen).await;
}
