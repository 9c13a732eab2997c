//! Secrets of the cluster, the database and the broker.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::{NEW, OLD, hang_up_process};
use crate::client::Client;
use crate::guard::until;
#[cfg(all(feature = "nats", feature = "redis"))]
use crate::nats_server::NatsServer;
#[cfg(feature = "redis")]
use crate::nodes::Database;
#[cfg(feature = "redis")]
use crate::redis_server::RedisServer;
use crate::rotation::database::{END_SESSIONS, chat_role, guarded};
use crate::server::{GUESTS_AS_USERS, LOBBY, ROOMCAST, ServerProcess, UNLIMITED};

/// A server whose store and adapter are in its configuration file.
struct Member {
    process: ServerProcess,
    file: PathBuf,
    _folder: TempDir,
}

impl Member {
    fn start(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("roomcast.toml");
        fs::write(&file, text).unwrap();
        let configuration = [("ROOMCAST_CONFIG", file.to_str().unwrap()), GUESTS_AS_USERS];
        let variables = [UNLIMITED.as_slice(), &configuration].concat();
        // The variable would override the file.
        let mut command = Command::new("env");
        command.args(["-u", "ROOMCAST_STORE", ROOMCAST]);
        let process = ServerProcess::run(&mut command, folder.path(), &variables);
        Self {
            process,
            file,
            _folder: folder,
        }
    }

    /// Changes the file, reloads it, and waits for a line with all of these parts.
    fn reload(&self, text: &str, expected: &[&str]) {
        self.reload_as(text);
        self.process.expect_log(expected);
    }

    /// Changes the file, and waits until it was reloaded.
    fn reload_as(&self, text: &str) {
        fs::write(&self.file, text).unwrap();
        let count = || self.process.log().matches("configuration reloaded").count();
        let before = count();
        hang_up_process(&self.process);
        until(|| count() > before);
    }
}

/// Sends a message, which the other client must receive.
async fn assert_arrives(sender: &mut Client, receiver: &mut Client, content: &str) {
    let message = json!({"conversationId": LOBBY, "content": content});
    sender.must("message", message).await;
    while receiver.event("message").await["content"] != content {}
}

async fn in_lobby(member: &Member, name: &str) -> Client {
    let mut client = member.process.guest(name).await;
    client.must("join_conversation", json!(LOBBY)).await;
    client
}

async fn until_two_nodes(members: &[Member]) {
    for member in members {
        let nodes = "roomcast_nodes";
        member.process.until_metric(nodes, |count| count == 2).await;
    }
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn cluster_secret_is_rotated_by_reloads_without_a_lost_message() {
    let (redis, database) = (RedisServer::start(), Database::new());
    let write = |secrets: &[&str]| {
        format!(
            "[store]\nurl = \"{}\"\n[adapter]\nurl = \"redis://127.0.0.1:{}\"\nsecret = {}\n",
            database.url(),
            redis.port(),
            json!(secrets)
        )
    };
    let members = [Member::start(&write(&[OLD])), Member::start(&write(&[OLD]))];
    until_two_nodes(&members).await;
    let mut ann = in_lobby(&members[0], "ann").await;
    let mut bob = in_lobby(&members[1], "bob").await;
    for (step, secrets) in [&[OLD, NEW][..], &[NEW, OLD], &[NEW]].iter().enumerate() {
        for (number, member) in members.iter().enumerate() {
            member.reload_as(&write(secrets));
            let content = format!("{step} {number}");
            assert_arrives(&mut ann, &mut bob, &content).await;
            assert_arrives(&mut bob, &mut ann, &content).await;
        }
    }
    for member in &members {
        assert_eq!(member.process.metric(UNKNOWN_KEY).await, 0);
        assert_eq!(member.process.metric("roomcast_nodes").await, 2);
    }
    // A server with the old secret alone is not heard.
    let outdated = Member::start(&write(&[OLD]));
    members[0]
        .process
        .until_metric(UNKNOWN_KEY, |count| count > 0)
        .await;
    assert_eq!(members[0].process.metric("roomcast_nodes").await, 2);
    // Without the key, the secrets would be those of the table.
    let table = write(&[NEW])
        .lines()
        .filter(|line| !line.starts_with("secret"))
        .collect::<Vec<_>>()
        .join("\n");
    let restart = ["WARN", "changed keys need a restart", "adapter.secret"];
    members[0].reload(&table, &restart);
    drop(outdated);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_password_is_rotated_by_a_reload_without_a_stop() {
    let (postgres, _files) = guarded();
    let (url, name) = chat_role(&postgres);
    let write = |password: &str| {
        let url = url.replace("//roomcast@", &format!("//chat:{password}@"));
        format!("[store]\nurl = \"{url}\"\n")
    };
    let member = Member::start(&write("old"));
    let server = &member.process;
    server.until_joined(true).await;
    let mut ann = in_lobby(&member, "ann").await;
    // A different database needs a restart, and the new password with it.
    let elsewhere = write("new").replace(&format!("/{name}"), "/elsewhere");
    member.reload(
        &elsewhere,
        &["WARN", "changed keys need a restart", "store.url"],
    );

    postgres.sql(&name, "ALTER ROLE chat PASSWORD 'new'");
    let reloaded = ["INFO", "configuration reloaded", "changed=\"store.url\""];
    member.reload(&write("new"), &reloaded);
    // Store and adapter reconnect with the new password.
    postgres.sql(&name, END_SESSIONS);
    let kept = json!({"conversationId": LOBBY, "content": "kept"});
    ann.retry_until_stored("message", kept).await;
    server.until_joined(true).await;
    let history = json!({"conversationId": LOBBY});
    let history = ann.must("message_history", history).await;
    assert_eq!(history["messages"][0]["content"], "kept");
    let refused = write("old");
    let refused = refused.split('"').nth(1).unwrap();
    let refused = tokio_postgres::connect(refused, tokio_postgres::NoTls).await;
    assert!(
        refused.is_err(),
        "the old password still opens the database"
    );
    let log = server.log();
    assert!(!log.contains("chat:"), "{log}");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn redis_password_is_rotated_by_a_reload_without_a_stop() {
    let (redis, database) = (RedisServer::start(), Database::new());
    redis.ask(&["CONFIG", "SET", "requirepass", "old"]);
    let write = |password: &str| {
        let (store, port) = (database.url(), redis.port());
        format!(
            "[store]\nurl = \"{store}\"\n\
             [adapter]\nurl = \"redis://:{password}@127.0.0.1:{port}\"\n"
        )
    };
    let members = [Member::start(&write("old")), Member::start(&write("old"))];
    until_two_nodes(&members).await;
    let mut ann = in_lobby(&members[0], "ann").await;
    let mut bob = in_lobby(&members[1], "bob").await;
    let reloaded = ["INFO", "configuration reloaded", "changed=\"adapter.url\""];
    members[0].reload(&write("new"), &reloaded);
    redis.ask(&["-a", "old", "CONFIG", "SET", "requirepass", "new"]);
    for kind in ["normal", "pubsub"] {
        redis.ask(&["-a", "new", "CLIENT", "KILL", "TYPE", kind]);
    }
    // The old password is refused, and the new one admits.
    members[1].process.until_joined(false).await;
    members[0].process.until_joined(true).await;
    members[1].reload(&write("new"), &reloaded);
    until_two_nodes(&members).await;
    assert_arrives(&mut ann, &mut bob, "after").await;
}

#[cfg(all(feature = "nats", feature = "redis"))]
#[tokio::test(flavor = "multi_thread")]
async fn nats_password_is_rotated_by_a_reload_without_a_stop() {
    let folder = TempDir::new().unwrap();
    let [configuration, pid] = ["nats.conf", "nats.pid"].map(|name| folder.path().join(name));
    let permit = |password: &str| {
        let text = format!(
            "pid_file: \"{}\"\nauthorization {{ user: chat, password: {password} }}\n",
            pid.display()
        );
        fs::write(&configuration, text).unwrap();
    };
    permit("old");
    // Without JetStream: if the command line has it, a reload of NATS 2.9 switches it off.
    let nats = NatsServer::start_with(&format!("-c {}", configuration.display()));
    let database = Database::new();
    let write = |password: &str| {
        let (store, port) = (database.url(), nats.port());
        format!(
            "[store]\nurl = \"{store}\"\n\
             [adapter]\nurl = \"nats://chat:{password}@127.0.0.1:{port}\"\n"
        )
    };
    let members = [Member::start(&write("old")), Member::start(&write("old"))];
    until_two_nodes(&members).await;
    let mut ann = in_lobby(&members[0], "ann").await;
    let mut bob = in_lobby(&members[1], "bob").await;
    let reloaded = ["INFO", "configuration reloaded", "changed=\"adapter.url\""];
    members[0].reload(&write("new"), &reloaded);
    permit("new");
    let reload = format!("reload={}", pid.display());
    let mut signal = Command::new("nats-server");
    assert!(
        signal
            .args(["--signal", &reload])
            .status()
            .unwrap()
            .success()
    );
    // NATS ends the connections with the old password, and refuses it.
    members[1].process.until_joined(false).await;
    members[0].process.until_joined(true).await;
    members[1].reload(&write("new"), &reloaded);
    until_two_nodes(&members).await;
    assert_arrives(&mut ann, &mut bob, "after").await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn cluster_secret_in_the_table_is_rotated_by_reloads_without_a_stop() {
    let (redis, database) = (RedisServer::start(), Database::new());
    let text = format!(
        "[store]\nurl = \"{}\"\n[adapter]\nurl = \"redis://127.0.0.1:{}\"\n",
        database.url(),
        redis.port()
    );
    let members = [Member::start(&text), Member::start(&text)];
    until_two_nodes(&members).await;
    let mut ann = in_lobby(&members[0], "ann").await;
    let mut bob = in_lobby(&members[1], "bob").await;
    let unread = "could not read the secrets of the cluster again";
    for (step, sql) in [
        // An empty table changes nothing.
        "CREATE TABLE saved AS TABLE cluster_secrets; DELETE FROM cluster_secrets",
        "INSERT INTO cluster_secrets TABLE saved; INSERT INTO cluster_secrets (position, secret) \
         VALUES (2, decode(repeat('5a', 32), 'hex'))",
        "UPDATE cluster_secrets SET position = 3 WHERE position = 1",
        "DELETE FROM cluster_secrets WHERE position = 3",
    ]
    .into_iter()
    .enumerate()
    {
        database.sql(sql);
        for (number, member) in members.iter().enumerate() {
            member.reload_as(&text);
            assert!(member.process.log().contains(unread));
            let content = format!("{step} {number}");
            assert_arrives(&mut ann, &mut bob, &content).await;
            assert_arrives(&mut bob, &mut ann, &content).await;
        }
    }
    for member in &members {
        assert_eq!(member.process.metric(UNKNOWN_KEY).await, 0);
        assert_eq!(member.process.log().matches(unread).count(), 1);
    }
    // A server that knows the second secret alone takes part.
    let third = Member::start(&text);
    let nodes = "roomcast_nodes";
    third.process.until_metric(nodes, |count| count == 3).await;
    let mut carl = in_lobby(&third, "carl").await;
    assert_arrives(&mut ann, &mut carl, "third").await;
}

/// The messages that were sealed with an unknown secret.
#[cfg(feature = "redis")]
const UNKNOWN_KEY: &str = "roomcast_cluster_received_total{result=\"unknown_key\"}";
