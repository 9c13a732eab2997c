//! The export and the erasure of a user, on both backends, with the real server.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::client::Client;
#[cfg(feature = "postgres")]
use crate::erasure_tables::postgres_dump;
use crate::erasure_tables::{Dump, sqlite_dump};
use crate::guard::{KEY, Server, signed};
use crate::market::{call, client};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{LOBBY, ROOMCAST, ServerProcess, UNLIMITED};
use crate::trades::{Hook, Reply};

/// The user who is erased. No other text contains the id.
const ADA: &str = "ada \"canary\" 7";
/// The id in a path.
const ADA_PATH: &str = "ada%20%22canary%22%207";
/// What only this user has written.
const SECRET_TEXT: &str = "zebracanary";
const FAST_CALLS: (&str, &str) = ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0");

/// Declares the channels of the scene.
const BOARD: [(&str, &str); 3] = [
    ("ROOMCAST_CHANNELS__BOARD__PATTERN", "board:{n}"),
    ("ROOMCAST_CHANNELS__BOARD__FOLLOW", "users"),
    ("ROOMCAST_CHANNELS__BOARD__PUBLISH", "followers"),
];

/// Tables where the user is found after an erasure, and why.
const KEPT: [(&str, &str); 5] = [
    ("audit", "it records who has erased the user"),
    ("presences", "removed after the grace of the closed sockets"),
    ("revocations", "it refuses tokens of the user"),
    (
        "conversation_changes",
        "other servers read it; removed after an hour",
    ),
    (
        "changes",
        "other servers read it; removed after ten minutes",
    ),
];

/// Returns the tables that contain the user or the user's texts.
fn traces(dump: &Dump) -> BTreeSet<&str> {
    let quoted = ADA.replace('"', "\\\"");
    let has_trace = |row: &str| {
        [ADA, &quoted, SECRET_TEXT]
            .iter()
            .any(|trace| row.contains(trace))
    };
    let found = dump.iter().filter(|(_, row)| has_trace(row));
    found.map(|(table, _)| table.as_str()).collect()
}

fn assert_erased(dump: &Dump) {
    let kept: BTreeSet<&str> = KEPT.iter().map(|(table, _)| *table).collect();
    let found = traces(dump);
    assert!(found.is_subset(&kept), "{found:?}");
    assert!(found.contains("revocations"), "the revocation stays");
    assert!(found.contains("audit"), "the record of the erasure stays");
    let deliveries = dump_of(dump, "webhook_deliveries");
    assert!(
        deliveries.contains("\"userId\":\"bob\""),
        "events of other users are delivered"
    );
}

fn dump_of(dump: &Dump, table: &str) -> String {
    let rows = dump.iter().filter(|(of, _)| of == table);
    rows.map(|(_, row)| row.as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Calls the API as a service.
async fn service(server: &ServerProcess, route: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    call(server, "service", route, "", &body).await
}

async fn must(server: &ServerProcess, route: &str, body: Value) -> Value {
    let (status, answer) = service(server, route, &body).await;
    assert!((200..300).contains(&status), "{route}: {status} {answer}");
    answer
}

/// Returns all records of an export.
async fn export(server: &ServerProcess) -> Vec<Value> {
    let mut records = Vec::new();
    let mut cursor = String::new();
    loop {
        let route = format!("GET /users/{ADA_PATH}/export{cursor}");
        let page = must(server, &route, Value::Null).await;
        records.extend(page["records"].as_array().unwrap().iter().cloned());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("?cursor={next}"),
            None => return records,
        }
    }
}

fn kinds(records: &[Value]) -> BTreeSet<&str> {
    let kinds = records.iter().map(|record| record["kind"].as_str());
    kinds.map(Option::unwrap).collect()
}

/// Erases the user, and returns the last answer.
async fn erase(server: &ServerProcess, messages: &str) -> Value {
    let mut cursor = String::new();
    loop {
        let route = format!("DELETE /users/{ADA_PATH}?messages={messages}{cursor}");
        let answer = must(server, &route, Value::Null).await;
        match answer["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => {
                assert_eq!(answer["done"], true, "{answer}");
                return answer;
            }
        }
    }
}

/// A conversation with a user who has left traces everywhere.
struct Scene {
    ada: Client,
    bob: Client,
    conversation: Value,
    /// The ids of the messages of the user, in the order of `seq`.
    messages: Vec<Value>,
    session: Value,
}

impl Scene {
    async fn at(server: &ServerProcess) -> Self {
        let new = json!({"userId": ADA, "ttlSeconds": 3600, "data": {"name": "Ada zebracanary"}});
        let session = must(server, "POST /sessions", new).await["sessionId"].clone();
        let auth = json!({"sessionId": session});
        let mut ada = Client::connect(server.address(), &auth).await.unwrap();
        let mut bob = client(server, "bob", "user").await;
        bob.must("subscribe:notifications", json!({})).await;
        let conversation = ada
            .create(json!({"title": "Engines", "memberIds": ["bob"]}))
            .await;
        ada.create(json!({"title": "zebracanary alone", "memberIds": []}))
            .await;
        let about = json!({"conversationId": conversation});
        for one in [&mut ada, &mut bob] {
            one.must("join_conversation", about.clone()).await;
            one.must("join_conversation", json!(LOBBY)).await;
        }
        let mut scene = Self {
            ada,
            bob,
            conversation: conversation.clone(),
            messages: Vec::new(),
            session,
        };
        scene.chat().await;
        scene.published(server).await;
        scene
    }

    /// Sends a message of the user to the conversation.
    async fn send(&mut self, mut message: Value) -> Value {
        message["conversationId"] = self.conversation.clone();
        let sent = self.ada.must("message", message).await;
        let id = sent["message"]["id"].clone();
        self.messages.push(id.clone());
        id
    }

    async fn chat(&mut self) {
        let text = format!("{SECRET_TEXT} first");
        let metadata = json!({"imageUrl": "https://x.example/zebracanary.png"});
        let mentioning = json!({"content": text, "mentions": ["bob"], "metadata": metadata,
            "clientMessageId": "c1"});
        let first = self.send(mentioning).await;
        let edited = self.send(json!({"content": text})).await;
        let edit = json!({"messageId": edited, "content": format!("{SECRET_TEXT} again")});
        self.ada.must("edit_message", edit).await;
        let deleted = self.send(json!({"content": text})).await;
        let delete = json!({"messageId": deleted});
        self.ada.must("delete_message", delete).await;
        let conversation = self.conversation.clone();
        let reply = json!({"conversationId": conversation, "content": "hello", "mentions": [ADA],
            "replyTo": first});
        let by_bob = self.bob.must("message", reply).await["message"].clone();
        let reaction = json!({"messageId": by_bob["id"], "emoji": "👍"});
        self.ada.must("add_reaction", reaction.clone()).await;
        self.bob.must("add_reaction", reaction).await;
        let pin = json!({"messageId": by_bob["id"]});
        self.ada.must("pin_message", pin).await;
        let read = json!({"conversationId": conversation, "seq": 4});
        self.ada.must("mark_read", read).await;
        let level = json!({"conversationId": conversation, "level": "mentions"});
        self.ada.must("set_notification_level", level).await;
        let status = json!({"status": "busy", "text": SECRET_TEXT});
        self.ada.must("set_status", status).await;
        let invite = json!({"conversationId": conversation});
        self.ada.must("create_invite", invite).await;
        for (by, channel, data) in [
            ("ada", "board:1", SECRET_TEXT),
            ("bob", "board:1", "of bob"),
            ("ada", "board:2", SECRET_TEXT),
        ] {
            let event = json!({"channel": channel, "event": "note", "data": data, "id": "e1"});
            let by = if by == "ada" {
                &mut self.ada
            } else {
                &mut self.bob
            };
            by.must("channel:publish", event).await;
        }
    }

    /// Publishes data of the user.
    async fn published(&self, server: &ServerProcess) {
        let portfolio = json!({"userId": ADA, "totalValue": 1.0, "cash": 1.0, "positions": []});
        must(server, "POST /portfolios", portfolio).await;
        let trade = json!({"tradeId": "t1", "userId": ADA, "symbol": "AAPL", "side": "buy",
            "status": "executed", "quantity": 2, "executedPrice": 190.5});
        must(server, "POST /trades", trade).await;
        let notification = json!({"notificationId": "n1", "userId": ADA, "type": "info",
            "priority": "low", "title": SECRET_TEXT, "message": "text"});
        must(server, "POST /notifications", notification).await;
        let id = self.conversation.as_str().unwrap();
        let message = json!({"userId": ADA, "content": format!("{SECRET_TEXT} by a service")});
        let route = format!("POST /conversations/{id}/messages");
        let key = "Idempotency-Key: k1\r\n";
        let sent = call(server, "service", &route, key, &message.to_string()).await;
        assert_eq!(sent.0, 201, "{sent:?}");
    }
}

/// Returns the variables of a server whose webhooks fail, so that deliveries wait.
fn variables(url: &str) -> Vec<(&str, &str)> {
    [
        UNLIMITED.as_slice(),
        &[
            KEY,
            FAST_CALLS,
            ("ROOMCAST_WEBHOOKS__URL", url),
            (
                "ROOMCAST_WEBHOOKS__SECRET",
                "a secret of at least thirty-two bytes",
            ),
            (
                "ROOMCAST_WEBHOOKS__EVENTS",
                "message,connect,disconnect,portfolio:update,notification:new",
            ),
            ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
            ("ROOMCAST_WEBHOOKS__RETRY_DELAY", "1m"),
        ],
        &BOARD,
    ]
    .concat()
}

/// The kinds of records that the scene leaves on both backends.
const EVERYWHERE: [&str; 18] = [
    "channelEvent",
    "delivery",
    "invitation",
    "membership",
    "mention",
    "message",
    "messageVersion",
    "notification",
    "notificationLevel",
    "ownership",
    "pin",
    "portfolio",
    "reaction",
    "readMark",
    "response",
    "session",
    "status",
    "trade",
];

/// Returns the user's messages as `bob` reads them, after checking that no `seq` is missing.
async fn history(scene: &mut Scene) -> Vec<Value> {
    let about = json!({"conversationId": scene.conversation});
    let page = scene.bob.must("message_history", about).await;
    let messages = page["messages"].as_array().unwrap().clone();
    let seqs: Vec<u64> = messages
        .iter()
        .map(|one| one["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5], "no seq is missing");
    messages
}

async fn erase_with_texts(server: &ServerProcess, mut scene: Scene) {
    let records = export(server).await;
    let found = kinds(&records);
    let expected: BTreeSet<&str> = EVERYWHERE.into_iter().collect();
    assert_eq!(&found - &BTreeSet::from(["publication"]), expected);
    let text = |n: usize| records.iter().filter(|one| one["kind"] == "message").nth(n);
    assert_eq!(
        text(0).unwrap()["data"]["content"],
        format!("{SECRET_TEXT} first")
    );
    assert_eq!(
        text(0).unwrap()["body"]["imageUrl"],
        "https://x.example/zebracanary.png"
    );

    let events = records.iter().filter(|one| one["kind"] == "channelEvent");
    let events: Vec<_> = events.map(|one| &one["data"]["journal"]).collect();
    assert_eq!(events, ["channel:board:1", "channel:board:2"]);
    let status = records.iter().find(|one| one["kind"] == "status").unwrap();
    assert_eq!(status["data"]["status"], "busy");
    assert_eq!(status["data"]["text"], SECRET_TEXT);

    scene.bob.events_until_now("message_deleted").await;
    assert_eq!(scene.bob.event("status").await["status"], "busy");
    erase(server, "remove").await;
    let reset = scene.bob.event("status").await;
    assert_eq!(
        (&reset["userId"], &reset["status"]),
        (&json!(ADA), &json!("online"))
    );
    assert_eq!(scene.ada.event("error").await["code"], "TOKEN_REVOKED");
    let mut deleted = BTreeSet::new();
    while deleted.len() < 3 {
        let event = scene.bob.event("message_deleted").await;
        assert_eq!(event["deletedBy"], "erased");
        deleted.insert(event["seq"].as_u64().unwrap());
    }
    assert_eq!(deleted, BTreeSet::from([1, 2, 5]));
    let mut updated = scene.bob.event("conversation_updated").await;
    while updated["conversation"]["memberIds"] != json!(["bob"]) {
        updated = scene.bob.event("conversation_updated").await;
    }
    assert_eq!(updated["conversation"]["ownerId"], "bob");
    for message in history(&mut scene).await {
        if message["seq"] == 4 {
            assert_eq!(message["mentions"], json!(["erased"]));
            assert_eq!(message["reactions"][0]["userIds"], json!(["bob"]));
            assert_eq!(message["replyTo"]["userId"], "erased");
        } else {
            assert_eq!(message["userId"], "erased", "{message}");
            assert_eq!(message["userName"], "Erased user");
            assert_eq!(message["content"], "");
            assert!(message["deletedAt"].is_string());
        }
    }
    let board = json!({"channel": "board:1"});
    let board = scene.bob.must("channel:history", board).await["events"].clone();
    assert_eq!(board[0]["data"], "of bob");
    assert_eq!(board.as_array().unwrap().len(), 1, "{board}");
    let notifications = scene.bob.must("subscribe:notifications", json!({})).await;
    assert_eq!(notifications["snapshot"]["notifications"], json!([]));
    for auth in [
        json!({"sessionId": scene.session}),
        json!({"token": signed(&json!({"sub": ADA, "exp": 4_000_000_000_u64}))}),
        json!({"token": signed(&json!({"sub": "erased", "exp": 4_000_000_000_u64}))}),
    ] {
        let refused = Client::connect(server.address(), &auth).await;
        assert!(refused.is_err(), "{auth}");
    }
    // The last event of the user's socket is delivered after the erasure.
    let left = export(server).await;
    assert_eq!(kinds(&left), BTreeSet::from(["delivery", "revocation"]));
    let again = erase(server, "remove").await;
    assert_eq!(again["erased"], json!({"delivery": 1}));
    assert_eq!(kinds(&export(server).await), BTreeSet::from(["revocation"]));
    let again = erase(server, "remove").await;
    assert_eq!(again["erased"], json!({}), "nothing is left to erase");
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_user_is_in_no_table_but_those_kept_on_sqlite() {
    let hook = Hook::start(&[Reply::Answer(500, "")]);
    let url = hook.url();
    let server = Server::start(&variables(&url));
    let scene = Scene::at(&server.binary).await;
    let file = server.folder().join("chat.db");
    let before = sqlite_dump(&file);
    assert!(traces(&before).len() >= 12, "{:?}", traces(&before));
    erase_with_texts(&server.binary, scene).await;
    assert_erased(&sqlite_dump(&file));
    server.binary.expect_log(&["user erased", "by=\"backend\""]);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn erased_user_is_in_no_table_but_those_kept_on_postgres() {
    let hook = Hook::start(&[Reply::Answer(500, "")]);
    let url = hook.url();
    let database = Database::new();
    let server = database.server_with(&variables(&url));
    let scene = Scene::at(&server).await;
    database.sql(&format!(
        "SELECT roomcast_publish_to_user('{ADA}', 'news', '{{\"text\": \"{SECRET_TEXT}\"}}', 'k1')"
    ));
    let found = export(&server).await;
    assert!(kinds(&found).contains("publication"));
    erase_with_texts(&server, scene).await;
    assert_erased(&postgres_dump(&database).await);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn anonymized_messages_keep_their_texts_and_other_servers_emit_them() {
    let database = Database::new();
    let variables = [&[KEY, FAST_CALLS], BOARD.as_slice()].concat();
    let (here, there) = (
        database.server_with(&variables),
        database.server_with(&variables),
    );
    let mut scene = Scene::at(&there).await;
    scene.bob.events_until_now("message_edited").await;
    erase(&here, "anonymize").await;
    assert_eq!(scene.ada.event("error").await["code"], "TOKEN_REVOKED");
    let mut edited = BTreeSet::new();
    while edited.len() < 3 {
        let event = scene.bob.event("message_edited").await;
        assert_eq!(event["userId"], "erased", "{event}");
        assert_eq!(event["userName"], "Erased user");
        edited.insert(event["seq"].as_u64().unwrap());
    }
    // The third is deleted, and the fourth is of another user.
    assert_eq!(edited, BTreeSet::from([1, 2, 5]));
    let messages = history(&mut scene).await;
    let contents: Vec<&str> = messages
        .iter()
        .map(|one| one["content"].as_str().unwrap())
        .collect();
    let expected = ["first", "again", "", "hello", "by a service"];
    for (content, end) in contents.iter().zip(expected) {
        assert!(content.ends_with(end), "{contents:?}");
    }
    let users: Vec<&str> = messages
        .iter()
        .map(|one| one["userId"].as_str().unwrap())
        .collect();
    assert_eq!(users, ["erased", "erased", "erased", "bob", "erased"]);
    let versions = database.sql("SELECT count(*) FROM message_versions");
    assert_eq!(versions.trim(), "0", "earlier texts are removed");
    // Only the texts are left.
    let client = database.client().await;
    client
        .execute("UPDATE messages SET content = '', metadata = '{}'", &[])
        .await
        .unwrap();
    let dump = postgres_dump(&database).await;
    let kept: BTreeSet<&str> = KEPT.iter().map(|(table, _)| *table).collect();
    assert!(traces(&dump).is_subset(&kept), "{:?}", traces(&dump));
}

/// Returns the statements that insert many messages of the user into the Lobby. `numbers` is a
/// query of the numbers, and `id` the id of the message with the number `n`.
fn insert_many(numbers: &str, id: &str) -> String {
    format!(
        "{numbers} INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content,
             type, metadata, version, created_at)
         SELECT {id}, '{LOBBY}', n, '{ADA}', 'Ada', '{SECRET_TEXT} ' || n, 'user', '{{}}', 1,
             '2026-01-01T00:00:00.000Z' FROM numbers;
         UPDATE conversations SET last_seq = {MANY} WHERE id = '{LOBBY}'"
    )
}

fn insert_many_into(file: &Path) {
    let numbers = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {MANY})"
    );
    let id = "printf('%08x-0000-7000-8000-000000000000', n)";
    let database = rusqlite::Connection::open(file).unwrap();
    database.execute_batch(&insert_many(&numbers, id)).unwrap();
}

/// Begins an erasure and returns when a part of the messages is erased.
fn erase_partly(server: &ServerProcess, erased: impl Fn() -> u64) {
    let claims = json!({"sub": "backend", "roles": ["service"], "exp": 4_000_000_000_u64});
    let request = format!(
        "DELETE /api/v1/users/{ADA_PATH}?messages=remove HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {}\r\n\r\n",
        signed(&claims)
    );
    let mut client = server.connect();
    client.send(request);
    let start = std::time::Instant::now();
    while erased() == 0 {
        assert!(start.elapsed().as_secs() < 20, "nothing is erased");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_erasure_is_completed_by_repeating_it_on_sqlite() {
    let variables = [UNLIMITED.as_slice(), &[KEY, FAST_CALLS]].concat();
    let server = Server::start(&variables);
    let file = server.folder().join("chat.db");
    insert_many_into(&file);
    let erased = || {
        let database = rusqlite::Connection::open(&file).unwrap();
        let sql = "SELECT count(*) FROM messages WHERE user_id = 'erased'";
        let count: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
        u64::try_from(count).unwrap()
    };
    erase_partly(&server.binary, erased);
    let server = server.restarted(&variables);
    assert!(erased() < MANY, "it was killed in the middle");
    erase(&server.binary, "remove").await;
    assert_eq!(erased(), MANY);
    let kept = BTreeSet::from(["audit", "revocations"]);
    assert_eq!(traces(&sqlite_dump(&file)), kept);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn killed_erasure_is_completed_by_repeating_it_on_postgres() {
    let database = Database::new();
    let server = database.server_with(&[KEY, FAST_CALLS]);
    let numbers = format!("WITH numbers AS (SELECT generate_series(1, {MANY}) AS n)");
    let id = "(lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid";
    database.sql(&insert_many(&numbers, id));
    let erased = || {
        let count = database.sql("SELECT count(*) FROM messages WHERE user_id = 'erased'");
        count.trim().parse::<u64>().unwrap()
    };
    erase_partly(&server, erased);
    drop(server);
    assert!(erased() < MANY, "it was killed in the middle");
    let server = database.server_with(&[KEY, FAST_CALLS]);
    erase(&server, "remove").await;
    assert_eq!(erased(), MANY);
    let dump = postgres_dump(&database).await;
    let kept: BTreeSet<&str> = KEPT.iter().map(|(table, _)| *table).collect();
    assert!(traces(&dump).is_subset(&kept), "{:?}", traces(&dump));
}

#[tokio::test(flavor = "multi_thread")]
async fn export_and_erasure_need_the_permission_and_valid_input() {
    let server = Server::start(&[UNLIMITED.as_slice(), &[KEY, FAST_CALLS]].concat());
    let server = &server.binary;
    let export = format!("GET /users/{ADA_PATH}/export");
    let erase = format!("DELETE /users/{ADA_PATH}?messages=remove");
    for (role, route, status) in [
        ("user", export.as_str(), 403),
        ("user", &erase, 403),
        ("admin", &export, 200),
        ("service", "GET /users/ann/export?cursor=x", 400),
        ("service", "GET /users/%00/export", 400),
        ("service", "DELETE /users/ann", 400),
        ("service", "DELETE /users/ann?messages=all", 400),
        ("service", "DELETE /users/ann?messages=remove&cursor=x", 400),
        ("service", "DELETE /users/erased?messages=remove", 400),
        ("service", "DELETE /users/backend?messages=remove", 409),
        // A user without data is erased like any other.
        ("service", &erase, 200),
        ("admin", &erase, 200),
    ] {
        let (got, answer) = call(server, role, route, "", "").await;
        assert_eq!(got, status, "{role} {route}: {answer}");
    }
}

/// Runs a command against a server.
fn command(server: &ServerProcess, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(ROOMCAST)
        .args(arguments)
        .args(["--url", &format!("http://{}", server.address())])
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder)
        .env(KEY.0, KEY.1)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_export_and_erase_a_user_to_the_end() {
    let server = Server::start(&[UNLIMITED.as_slice(), &[KEY, FAST_CALLS]].concat());
    insert_many_into(&server.folder().join("chat.db"));
    let (binary, folder) = (&server.binary, server.folder());
    let exported = command(binary, folder, &["export-user", ADA]);
    assert!(exported.status.success(), "{exported:?}");
    let lines = String::from_utf8(exported.stdout).unwrap();
    let messages = lines.lines().filter(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["kind"] == "message"
    });
    assert_eq!(messages.count() as u64, MANY);
    assert!(
        !command(binary, folder, &["erase-user", ADA])
            .status
            .success()
    );
    let erased = command(binary, folder, &["erase-user", ADA, "--messages", "remove"]);
    assert!(erased.status.success(), "{erased:?}");
    let answer: Value = serde_json::from_slice(&erased.stdout).unwrap();
    assert_eq!(answer["done"], true);
    assert_eq!(answer["erased"]["message"], MANY);
    let left = command(binary, folder, &["export-user", ADA]);
    let lines = String::from_utf8(left.stdout).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains("\"kind\":\"revocation\""));
}

/// Messages in the tests of long erasures: several windows.
const MANY: u64 = 6000;
