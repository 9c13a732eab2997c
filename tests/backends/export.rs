//! The command `roomcast export` while a store is open.

use std::process::{Command, Output};

use roomcast_server::store::{Actor, Delete, Edit, Origin};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::{self, Backend, Harness};

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_exported_from_postgresql() {
    is_exported(harness::postgres()).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_exported_from_sqlite() {
    is_exported(harness::sqlite()).await;
}

async fn is_exported(backend: Backend) {
    let url = backend.0.url.clone();
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann", "bob"]).await;
    let foreign = harness.conversation(&["ann"]).await;
    harness.send(foreign, "ann", "elsewhere").await;
    // More than one page.
    let mut sent = Vec::new();
    for n in 1..=450 {
        sent.push(
            harness
                .send(id, "ann", &format!("number {n} \"ä\"\n"))
                .await,
        );
    }
    change(&harness, sent[1].id, sent[2].id).await;

    let lines = lines(&run(&url, id, &[]));
    assert_eq!(lines[0]["conversation"]["id"], id.to_string());
    assert_eq!(
        lines[0]["conversation"]["memberIds"],
        serde_json::json!(["ann", "bob"])
    );
    assert_eq!(lines[0]["lastSeq"], 450);
    let seqs: Vec<_> = lines[1..]
        .iter()
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=450).collect::<Vec<_>>());
    assert_eq!(lines[1]["content"], "number 1 \"ä\"\n");
    assert_eq!(lines[2]["content"], "edited");
    assert_eq!(
        (&lines[3]["content"], lines[3]["deletedAt"].is_string()),
        (&Value::from(""), true)
    );
    assert!(lines.iter().all(|line| line.get("versions").is_none()));

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("out.json");
    let path = file.to_str().unwrap();
    let arguments = ["--format", "json", "--versions", "--output", path];
    let output = run(&url, id, &arguments);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    let whole: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let messages = whole["messages"].as_array().unwrap();
    assert_eq!(
        (messages.len(), &whole["lastSeq"]),
        (450, &Value::from(450))
    );
    assert!(messages[0].get("versions").is_none());
    assert_eq!(messages[1]["versions"][0]["content"], "number 2 \"ä\"\n");
    assert_eq!(messages[2]["versions"][0]["replacedBy"], "ann");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
    }
    // The export overwrites nothing and leaves nothing else in the folder.
    let again = run(&url, id, &arguments);
    assert!(!again.status.success() && stderr(&again).contains("exists already"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let unknown = run(
        &url,
        Uuid::new_v4(),
        &["--output", folder.path().join("x").to_str().unwrap()],
    );
    assert!(!unknown.status.success() && stderr(&unknown).contains("no such conversation"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn export_of_a_partly_expired_conversation_has_its_remaining_messages() {
    let backend = harness::sqlite();
    let url = backend.0.url.clone();
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    assert_eq!(
        lines(&run(&url, id, &[])).len(),
        1,
        "nothing but the conversation"
    );
    for n in 0..5 {
        harness.send(id, "ann", &n.to_string()).await;
    }
    let soon: roomcast_server::store::Time = "2100-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(harness.store.expire(soon, 3).await.unwrap(), 3);
    let lines = lines(&run(&url, id, &[]));
    let seqs: Vec<_> = lines[1..]
        .iter()
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [4, 5]);
}

#[test]
fn export_of_a_missing_store_creates_none() {
    let folder = TempDir::new().unwrap();
    for (url, reason) in [
        ("memory:".to_owned(), "memory"),
        (
            format!("sqlite:{}", folder.path().join("none.db").display()),
            "none.db",
        ),
    ] {
        let output = run(&url, Uuid::new_v4(), &[]);
        assert!(!output.status.success(), "{url}");
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

async fn change(harness: &Harness, edited: Uuid, deleted: Uuid) {
    let by = Actor {
        user_id: "ann".into(),
        is_admin: false,
    };
    let edit = Edit {
        message_id: edited,
        by: by.clone(),
        content: "edited".into(),
        version: None,
    };
    harness
        .store
        .edit_message(edit, Origin::default())
        .await
        .unwrap();
    let delete = Delete {
        message_id: deleted,
        by,
    };
    harness
        .store
        .delete_message(delete, Origin::default())
        .await
        .unwrap();
}

fn run(url: &str, conversation: Uuid, arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .current_dir(folder.path())
        .env("ROOMCAST_STORE", url)
        .env("XDG_STATE_HOME", folder.path())
        .args(["export", "--conversation", &conversation.to_string()])
        .args(arguments)
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", stderr(output));
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
