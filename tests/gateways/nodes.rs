//! Several servers, each a process of its own, on one PostgreSQL.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::documented;
use crate::postgres::{Postgres, shared};
use crate::server::{LOBBY, ServerProcess, UNLIMITED};

/// Number of clients that send at each server. Each sends [`MESSAGES`] messages.
const SENDERS: usize = 6;
const MESSAGES: usize = 25;

/// A database, and the settings that its servers share.
pub(crate) struct Database {
    url: String,
    folder: TempDir,
    /// Its own PostgreSQL server, or `None` if it uses the shared server.
    own: Option<Postgres>,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self {
            url: shared().database(),
            folder: TempDir::new().unwrap(),
            own: None,
        }
    }

    /// Creates a database on its own PostgreSQL server, so that no other test's transactions affect
    /// it.
    pub(crate) fn apart() -> Self {
        let server = Postgres::start();
        Self {
            url: server.database(),
            folder: TempDir::new().unwrap(),
            own: Some(server),
        }
    }

    fn server(&self) -> ServerProcess {
        self.server_with(&[])
    }

    /// Starts a server without an adapter, unless the variables configure one.
    pub(crate) fn server_with(&self, variables: &[(&str, &str)]) -> ServerProcess {
        let alone = [("ROOMCAST_ADAPTER__URL", "none")];
        let mut variables = [UNLIMITED.as_slice(), &alone, variables].concat();
        variables.push(("ROOMCAST_STORE", &self.url));
        ServerProcess::start(self.folder.path(), &variables)
    }

    /// Starts servers with these ids in one cluster on the broker. Waits until each knows all.
    pub(crate) async fn cluster<const N: usize>(
        &self,
        broker: &str,
        ids: [&str; N],
        variables: &[(&str, &str)],
    ) -> [ServerProcess; N] {
        let servers = ids.map(|id| {
            let own = [("ROOMCAST_ADAPTER__URL", broker), ("ROOMCAST_NODE__ID", id)];
            self.server_with(&[variables, &own].concat())
        });
        let all = i64::try_from(N).unwrap();
        for server in &servers {
            server
                .until_metric("roomcast_nodes", |count| count == all)
                .await;
            server.until_joined(true).await;
        }
        servers
    }

    /// Starts a server that uses another database role.
    pub(crate) fn server_as(&self, role: &str) -> ServerProcess {
        let url = self.url_as(role);
        let own = [
            ("ROOMCAST_ADAPTER__URL", "none"),
            ("ROOMCAST_STORE", &url),
            ("ROOMCAST_STORE__MIGRATE", "false"),
        ];
        ServerProcess::start(self.folder.path(), &[UNLIMITED.as_slice(), &own].concat())
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the folder of its servers.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its own PostgreSQL server.
    pub(crate) fn own(&mut self) -> &mut Postgres {
        self.own.as_mut().unwrap()
    }

    /// Returns its URL for another role.
    pub(crate) fn url_as(&self, role: &str) -> String {
        self.url.replace("//roomcast@", &format!("//{role}@"))
    }

    /// Creates a role with the grants in `docs/storage.md` for a role that does not own the tables.
    /// Then executes `more`, in which `{role}` stands for its name. Returns the name.
    pub(crate) fn restricted_role(&self, more: &str) -> String {
        let role = format!("chat_{}", uuid::Uuid::new_v4().simple());
        let mut grants = documented::of_a_server(self.name(), &role);
        // The table of the adapter is created when a server starts, or by a test.
        grants.retain(|grant| !grant.contains("socket_io_attachments"));
        self.sql(&format!(
            "CREATE ROLE {role} LOGIN; {}; {}",
            grants.join("; "),
            more.replace("{role}", &role)
        ));
        role
    }

    /// Connects as another client of the database.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        self.client_as("roomcast").await
    }

    /// Connects as another role.
    pub(crate) async fn client_as(&self, role: &str) -> tokio_postgres::Client {
        let url = self.url_as(role);
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        tokio::spawn(connection);
        client
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        let name = self.name();
        match &self.own {
            Some(server) => server.sql(name, sql),
            None => shared().sql(name, sql),
        }
    }

    /// Returns the name of the database.
    fn name(&self) -> &str {
        self.url.rsplit_once('/').unwrap().1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_number_messages_without_a_gap_and_show_them_in_order() {
    let database = Database::new();
    let servers = [database.server(), database.server()];
    let mut watchers = Vec::new();
    for (server, last) in servers.iter().zip(["last 0", "last 1"]) {
        let mut watcher = server.guest("watcher").await;
        watcher.must("join_conversation", json!(LOBBY)).await;
        watchers.push(watch(watcher, last));
    }
    let mut senders = Vec::new();
    for sender in 0..SENDERS * servers.len() {
        let mut client = servers[sender % 2].guest(&format!("u{sender}")).await;
        senders.push(tokio::spawn(async move {
            let mut seqs = Vec::new();
            // Several at a time, so that they share transactions.
            for burst in 0..MESSAGES / 5 {
                for n in 0..5 {
                    let content = format!("{sender}: {burst}.{n}");
                    let message = json!({"conversationId": LOBBY, "content": content});
                    client.request("message", message).await;
                }
                for _ in 0..5 {
                    let (_, answer) = client.any_answer().await.unwrap();
                    assert_eq!(answer["success"], true, "{answer}");
                    seqs.push(answer["message"]["seq"].as_u64().unwrap());
                }
            }
            assert!(seqs.is_sorted(), "{seqs:?}");
            seqs
        }));
    }
    let mut seqs = Vec::new();
    for sender in senders {
        seqs.extend(sender.await.unwrap());
    }
    seqs.sort_unstable();
    let sent = (SENDERS * servers.len() * MESSAGES) as u64;
    assert_eq!(seqs, (1..=sent).collect::<Vec<_>>());

    // Messages of the other server arrive at the latest with the next message of the client's own
    // server.
    for (n, (server, watcher)) in servers.iter().zip(watchers).enumerate() {
        let mut client = server.guest("closer").await;
        let message = json!({"conversationId": LOBBY, "content": format!("last {n}")});
        let answer = client.must("message", message).await;
        let last = answer["message"]["seq"].as_u64().unwrap();
        let seen = watcher.await.unwrap();
        assert_eq!(seen, (1..=last).collect::<Vec<_>>(), "once and in order");
    }
}

/// Returns the `seq` of all messages that a member receives up to the message with this content.
fn watch(mut client: Client, last: &'static str) -> JoinHandle<Vec<u64>> {
    tokio::spawn(async move {
        let mut seqs = Vec::new();
        loop {
            let message = client.event("message").await;
            seqs.push(message["seq"].as_u64().unwrap());
            if message["content"] == last {
                return seqs;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn message_sent_to_two_servers_is_stored_once_with_equal_answers() {
    let database = Database::new();
    let servers = [database.server(), database.server()];
    // The same user at both servers: the key identifies it.
    let mut here = servers[0].guest("ann").await;
    let mut there = servers[1].guest("ann").await;
    assert_eq!(here.user_id(), there.user_id());
    for n in 0..30 {
        let message = json!({"conversationId": LOBBY, "content": n.to_string(),
            "clientMessageId": format!("message {n}")});
        let (first, second) = tokio::join!(
            here.ask("message", message.clone()),
            there.ask("message", message)
        );
        assert_eq!(first["success"], true, "{first}");
        assert_eq!(first, second);
    }
    assert_eq!(database.sql("SELECT count(*) FROM messages"), "30");
    assert_eq!(
        database.sql("SELECT sum(last_seq) FROM conversations"),
        "30"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_concurrently_started_processes_migrates_and_all_work() {
    let database = Database::new();
    let (url, folder) = (&database.url, database.folder.path());
    thread::scope(|scope| {
        let migrating: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| migrate(folder, url)))
            .collect();
        let starting: Vec<_> = (0..2).map(|_| scope.spawn(|| database.server())).collect();
        let applied = migrating
            .into_iter()
            .map(|process| process.join().unwrap())
            .filter(|output| output.contains("applied"))
            .count();
        let logs = starting.into_iter().map(|server| {
            let server = server.join().unwrap();
            server.early_log().to_owned()
        });
        let busy = logs
            .filter(|log| log.contains("migrated the database"))
            .count();
        assert!(applied + busy <= 1, "{applied} and {busy}");
    });
    assert_eq!(migrate(folder, url).trim(), "nothing to migrate");
}

/// Runs `roomcast migrate` and returns its output.
fn migrate(folder: &Path, url: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .arg("migrate")
        .current_dir(folder)
        .env("ROOMCAST_STORE", url)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_work_while_a_newer_version_changes_the_tables() {
    let database = Database::new();
    let old = database.server();
    let mut ann = old.guest("ann").await;
    let join = json!({"conversationId": LOBBY, "lastSeq": 0});
    ann.must("join_conversation", join.clone()).await;
    ann.must("message", content("before")).await;
    database.sql(
        "ALTER TABLE messages ADD COLUMN later text;
         ALTER TABLE conversations ADD COLUMN later text NOT NULL DEFAULT '';
         INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
         SELECT 999, 'later', applied_on, checksum FROM refinery_schema_history WHERE version = 1",
    );
    // As many times as there may be connections with prepared statements.
    for n in 0..12 {
        ann.must("message", content(&n.to_string())).await;
        ann.must("join_conversation", join.clone()).await;
        ann.must("message_history", json!({"conversationId": LOBBY}))
            .await;
        ann.must("conversations", json!({})).await;
    }
    let beside = database.server();
    let mut bob = beside.guest("bob").await;
    let answer = bob.must("join_conversation", join).await;
    assert_eq!(answer["messages"].as_array().unwrap().len(), 13);
    database.sql("UPDATE roomcast_schema SET oldest = 999");
    ann.must("message", content("still here")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_knows_ascii_letters_only_is_warned_of_at_start() {
    let name = "ascii_letters";
    let url = {
        let server = shared();
        server.sql(
            "postgres",
            &format!(
                "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
            ),
        );
        format!("postgres://roomcast@127.0.0.1:{}/{name}", server.port())
    };
    let folder = TempDir::new().unwrap();
    let all = ServerProcess::start(folder.path(), &[("ROOMCAST_STORE", &url)]);
    assert!(all.early_log().contains("search finds only ASCII words"));
    // Everything else works.
    let mut ann = all.guest("ann").await;
    let answer = ann.must("message", content("Ärger Ελλάδα 🚀")).await;
    assert_eq!(answer["message"]["content"], "Ärger Ελλάδα 🚀");

    let database = Database::new();
    assert!(!database.server().early_log().contains("search finds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn role_without_adapter_table_right_connects_and_warns_once() {
    let database = Database::new();
    migrate(database.folder.path(), &database.url);
    let role = database.restricted_role("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = database.url_as(&role);
    let servers = [(); 2].map(|()| {
        let own = [
            ("ROOMCAST_STORE", url.as_str()),
            ("ROOMCAST_STORE__MIGRATE", "false"),
        ];
        let variables = [UNLIMITED.as_slice(), &own].concat();
        ServerProcess::start(database.folder.path(), &variables)
    });
    for server in &servers {
        server.expect_log(&["other servers receive changes immediately"]);
    }
    let mut ann = servers[0].guest("ann").await;
    let mut bob = servers[1].guest("bob").await;
    for client in [&mut ann, &mut bob] {
        client.must("join_conversation", json!(LOBBY)).await;
    }
    let typing = json!({"conversationId": LOBBY, "isTyping": true});
    ann.must("typing", typing).await;
    assert_eq!(bob.event("typing").await["userId"], ann.user_id());
    ann.must("message", content(&"x".repeat(7_900))).await;
    let message = bob.event("message").await;
    assert_eq!(message["content"].as_str().unwrap().len(), 7_900);
    for server in &servers {
        server.expect_log(&["ERROR", "is missing and cannot be created"]);
        let log = [server.early_log(), &server.log()].concat();
        let errors: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{log}");
        for part in ["is missing and cannot be created", "permission denied"] {
            assert!(errors[0].contains(part), "{errors:?}");
        }
    }
}

fn content(text: &str) -> Value {
    json!({"conversationId": LOBBY, "content": text})
}
