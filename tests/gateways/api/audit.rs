//! The audit log: which acts are recorded, with what, and what happens if they cannot be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::rights::{body, document, full, routes};
use super::{Caller, QUICK, start, token};
use crate::client::Client;
use crate::guard::KEY;
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{ROOMCAST, Server, ServerProcess, UNLIMITED};
use crate::support::{Frame, RawClient};

/// Publishes data of users, and is therefore no administrative act.
const PUBLICATIONS: [&str; 12] = [
    "addReaction",
    "notify",
    "publishPortfolio",
    "publishPrices",
    "publishSignal",
    "publishToChannel",
    "publishToChannels",
    "publishTrade",
    "removeReaction",
    "sendMessage",
    "setUserStatus",
    "streamMessage",
];

/// Must be in no entry, file or log line.
const CANARY: &str = "canary-5f2c";

pub(super) fn entries(page: &Value) -> Vec<Value> {
    page["entries"].as_array().unwrap().clone()
}

/// Returns the newest entry of an operation.
pub(super) async fn newest(admin: &Caller, operation: &str) -> Value {
    let page = admin.get(&format!("/audit?operation={operation}")).await;
    let all = entries(&page);
    all.first()
        .unwrap_or_else(|| panic!("no {operation}"))
        .clone()
}

#[tokio::test]
async fn each_operation_that_changes_something_is_recorded() {
    let server = start();
    let document = document(&server).await;
    let admin = Caller::of(&server, "root", &["admin"]);
    let mut recorded = 0;
    for (method, path, _) in routes(&document) {
        if method == "GET" {
            continue;
        }
        let template = document["paths"].as_object().unwrap().iter();
        let known = routes_of(template);
        let operation = known(&method, &path);
        let answer = admin
            .send(&method, &full(&path), body(&method, &path))
            .await;
        let page = admin.get(&format!("/audit?operation={operation}")).await;
        let found = entries(&page);
        if PUBLICATIONS.contains(&&*operation) {
            assert!(found.is_empty(), "{operation} is no administrative act");
            continue;
        }
        let entry = found.first().unwrap_or_else(|| panic!("no {operation}"));
        let outcome = match answer.status {
            200..300 => "done",
            400..500 => "refused",
            _ => "failed",
        };
        assert_eq!(entry["outcome"], outcome, "{operation}: {entry}");
        assert_eq!(
            (&entry["userId"], &entry["via"]),
            (&json!("root"), &json!("http"))
        );
        assert_eq!(entry["address"], "127.0.0.1");
        recorded += 1;
    }
    assert!(recorded >= 19, "{recorded}");
}

/// Returns a function that finds the name of an operation by its method and an example of its path.
fn routes_of<'a>(
    paths: impl Iterator<Item = (&'a String, &'a Value)>,
) -> impl Fn(&str, &str) -> String {
    let known: Vec<(String, String, String)> = paths
        .flat_map(|(path, methods)| {
            let path = path.strip_prefix("/api/v1").unwrap().to_owned();
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| {
                let id = operation["operationId"].as_str().unwrap().to_owned();
                (method.to_uppercase(), path.clone(), id)
            })
        })
        .collect();
    move |method, path| {
        let fits = |template: &str| {
            let (template, path) = (template.split('/'), path.split('/'));
            template.clone().count() == path.clone().count()
                && template
                    .zip(path)
                    .all(|(part, given)| part.starts_with('{') || part == given)
        };
        // The template with the fewest variable parts is the one that is routed.
        let mut fitting: Vec<_> = known
            .iter()
            .filter(|(known, template, _)| known == method && fits(template))
            .collect();
        fitting.sort_by_key(|(_, template, _)| template.matches('{').count());
        fitting[0].2.clone()
    }
}

/// Performs acts with secrets in all places, and returns the acting admin.
async fn act(server: &ServerProcess) -> Caller {
    let address = server.address();
    let admin = Caller::at(address, "root", &["admin"]);
    let new = json!({"userId": "ann", "roles": ["user"], "ttlSeconds": 600, "data": {"name": "Ann", "key": CANARY}});
    let login = admin.must(201, "POST", "/sessions", new).await;
    let made = newest(&admin, "makeSession").await;
    assert_eq!(made["request"]["data"], "(masked)");
    assert_eq!(made["after"]["sessionId"], "(masked)", "{made}");
    let id = login["sessionId"].as_str().unwrap();
    admin
        .must(204, "DELETE", &format!("/sessions/{id}"), Value::Null)
        .await;
    let ended = newest(&admin, "endSession").await;
    assert!(!ended.to_string().contains(id), "{ended}");
    assert_eq!(ended["before"]["userId"], "ann", "{ended}");
    assert_eq!(
        (&ended["after"], &ended["outcome"]),
        (&Value::Null, &json!("done"))
    );

    let new = json!({"title": "before", "memberIds": ["ann", "bob"]});
    let made = admin.must(201, "POST", "/conversations", new).await;
    let room = made["conversation"]["id"].as_str().unwrap().to_owned();
    let path = format!("/conversations/{room}");
    admin
        .must(200, "PATCH", &path, json!({"title": "after"}))
        .await;
    let renamed = newest(&admin, "renameConversation").await;
    assert_eq!(renamed["before"]["title"], "before", "{renamed}");
    assert_eq!(renamed["after"]["title"], "after", "{renamed}");
    assert_eq!(renamed["target"], path);
    let member = format!("{path}/members/bob");
    admin.must(200, "DELETE", &member, Value::Null).await;
    let removed = newest(&admin, "removeMember").await;
    assert!(
        removed["before"]["memberIds"].to_string().contains("bob"),
        "{removed}"
    );
    assert!(
        !removed["after"]["memberIds"].to_string().contains("bob"),
        "{removed}"
    );
    assert_eq!(removed["target"], member);

    let text = json!({"content": format!("hello {CANARY}")});
    let sent = admin
        .must(201, "POST", &format!("{path}/messages"), text)
        .await;
    let message = format!("/messages/{}", sent["message"]["id"].as_str().unwrap());
    let edit = json!({"content": format!("changed {CANARY}")});
    admin.must(200, "PATCH", &message, edit).await;
    let edited = newest(&admin, "editMessage").await;
    assert_eq!(
        (&edited["before"]["version"], &edited["after"]["version"]),
        (&json!(1), &json!(2))
    );
    admin.must(200, "DELETE", &message, Value::Null).await;
    let deleted = newest(&admin, "deleteMessage").await;
    assert_eq!(deleted["before"]["isDeleted"], false, "{deleted}");
    assert_eq!(deleted["after"]["isDeleted"], true, "{deleted}");
    admin.must(200, "DELETE", &path, Value::Null).await;
    let deleted = newest(&admin, "deleteConversation").await;
    assert_eq!(
        (&deleted["before"]["title"], &deleted["after"]),
        (&json!("after"), &Value::Null)
    );

    admin
        .must(
            200,
            "PUT",
            "/log-level",
            json!({"level": "info,roomcast=warn"}),
        )
        .await;
    let set = newest(&admin, "setLogLevel").await;
    assert_eq!(set["before"], json!({"level": "info"}), "{set}");
    assert_eq!(set["after"]["level"], "info,roomcast=warn", "{set}");
    admin.get("/users/ann/export").await;
    let exported = newest(&admin, "exportUser").await;
    assert_eq!(exported["target"], "/users/ann/export", "{exported}");
    assert_eq!(exported["outcome"], "done", "{exported}");
    admin
        .must(400, "GET", "/trace?userId=ann&seconds=0", Value::Null)
        .await;
    let traced = newest(&admin, "trace").await;
    assert_eq!(traced["request"]["userId"], "ann", "{traced}");
    assert_eq!(traced["outcome"], "refused", "{traced}");

    let block = json!({"cidr": "192.0.2.0/24", "seconds": 600, "reason": "a flood"});
    let block = admin.must(201, "POST", "/blocks", block).await;
    let path = format!("/blocks/{}", block["id"].as_str().unwrap());
    admin.must(204, "DELETE", &path, Value::Null).await;
    let removed = newest(&admin, "removeBlock").await;
    assert_eq!(removed["before"]["cidr"], "192.0.2.0/24", "{removed}");
    assert_eq!(removed["after"], Value::Null);

    let auth = json!({"token": token("bob", &["user"])});
    let _bob = Client::connect(address, &auth).await.unwrap();
    let event = json!({"event": "news", "users": ["bob"], "args": [CANARY]});
    admin.must(200, "POST", "/emit", event).await;
    let emitted = newest(&admin, "emit").await;
    assert_eq!(emitted["request"]["args"], "(masked)", "{emitted}");
    assert_eq!(emitted["request"]["users"], json!(["bob"]));
    assert_eq!(emitted["after"]["queued"], 1, "{emitted}");
    admin
        .must(200, "DELETE", "/users/bob/sockets", Value::Null)
        .await;
    let closed = newest(&admin, "closeUser").await;
    assert_eq!(closed["before"]["connections"], 1, "{closed}");
    admin
        .must(200, "POST", "/revocations", json!({"sessionId": CANARY}))
        .await;
    assert_eq!(
        newest(&admin, "revoke").await["request"]["sessionId"],
        "(masked)"
    );

    // An error can repeat what the caller sent.
    let wrong = json!({"userId": "ann", "ttlSeconds": CANARY});
    admin.must(400, "POST", "/sessions", wrong).await;
    let refused = newest(&admin, "makeSession").await;
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(
        refused["after"],
        json!({"error": "INVALID_PAYLOAD"}),
        "{refused}"
    );
    admin
}

/// Kicks a user as an admin in the namespace `/admin`, and returns the answer.
fn kick(server: &ServerProcess) -> String {
    let mut client = RawClient::connect(server.address());
    let target = "/socket.io/?EIO=4&transport=websocket";
    assert_eq!(client.upgrade(target).status, 101);
    let auth = json!({"token": token("eve", &["admin"])});
    client.send_text(format!("40/admin,{auth}"));
    client.send_text(r#"42/admin,7["admin:kick",{"userId":"bob"}]"#);
    loop {
        if let Frame::Text(text) = client.message()
            && text.starts_with("43/admin,7")
        {
            return text;
        }
    }
}

/// Runs a command, and returns whether it succeeds, and its output.
fn run(server: &ServerProcess, folder: &Path, arguments: &[&str]) -> (bool, String) {
    let url = format!("http://{}", server.address());
    let output = Command::new(ROOMCAST)
        .args(arguments)
        .args(["--url", &url])
        .current_dir(folder)
        .envs([KEY, ("ROOMCAST_STORE", "memory:")])
        .env("SUDO_USER", "carol")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// Checks a server on either backend, whose audit file this is.
async fn check(server: ServerProcess, file: &Path, folder: &Path, dump: impl Fn() -> String) {
    let admin = act(&server).await;
    let answer = tokio::task::block_in_place(|| kick(&server));
    assert!(answer.contains("disconnected"), "{answer}");
    let kicked = newest(&admin, "admin:kick").await;
    assert_eq!(
        (&kicked["userId"], &kicked["via"]),
        (&json!("eve"), &json!("socket"))
    );
    assert_eq!(
        kicked["connectionId"].as_str().unwrap().len(),
        16,
        "{kicked}"
    );
    assert_eq!(kicked["request"]["userId"], "bob");

    let called = ["call", "DELETE", "/users/dora/sockets"];
    let (works, output) = tokio::task::block_in_place(|| run(&server, folder, &called));
    assert!(works, "{output}");
    let called = newest(&admin, "closeUser").await;
    assert_eq!(called["userId"], "roomcast-command", "{called}");
    let stated = called["statedUser"].as_str().unwrap();
    assert!(stated.contains("(carol)@"), "{stated}");
    let listed = ["audit", "--user", stated, "--limit", "5"];
    let (works, output) = tokio::task::block_in_place(|| run(&server, folder, &listed));
    assert!(works, "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
    let line: Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
    assert_eq!(line, called);

    // Services have no access by default.
    let service = Caller::at(server.address(), "backend", &["service"]);
    service
        .refused(403, "FORBIDDEN", ("GET", "/audit", Value::Null))
        .await;
    let first = admin.get("/audit?limit=2").await;
    assert_eq!(
        (entries(&first).len(), &first["hasMore"]),
        (2, &json!(true))
    );
    let next = format!(
        "/audit?limit=200&cursor={}",
        first["cursor"].as_str().unwrap()
    );
    let rest = entries(&admin.get(&next).await);
    let all = entries(&first).into_iter().chain(rest);
    let ids: Vec<_> = all
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.reverse();
    assert_eq!(ids, sorted, "each entry is listed once, the newest first");

    let lines = fs::read_to_string(file).unwrap();
    let written: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for id in &ids {
        let of_entry = written.iter().filter(|line| line["id"] == **id);
        let outcomes: Vec<_> = of_entry.map(|line| !line["outcome"].is_null()).collect();
        assert_eq!(outcomes, [false, true], "{id}: before and after the act");
    }
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let log = [server.early_log(), &server.log()].concat();
    for (place, text) in [("file", lines), ("table", dump()), ("log", log)] {
        assert!(!text.contains(CANARY), "{place} has a secret");
        assert!(!text.contains(&admin.token), "{place} has a token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_are_recorded_in_sqlite_and_the_file_without_secrets() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("audit/audit.log");
    let variables = [
        KEY,
        QUICK,
        ("ROOMCAST_LOG__LEVEL", "info"),
        ("ROOMCAST_AUDIT__FILE", file.to_str().unwrap()),
    ];
    let all = [UNLIMITED.as_slice(), &variables].concat();
    let server = ServerProcess::start(folder.path(), &all);
    let path = folder.path().join("chat.db");
    let dump = || {
        let database = rusqlite::Connection::open(&path).unwrap();
        let query = "SELECT group_concat(concat_ws(' ', target, request, state_before, state_after)) FROM audit";
        database.query_row(query, [], |row| row.get(0)).unwrap()
    };
    check(server, &file, folder.path(), dump).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn acts_are_recorded_in_postgresql_and_the_file_without_secrets() {
    let database = Database::new();
    let file = database.folder().join("audit.log");
    let variables = [
        KEY,
        QUICK,
        ("ROOMCAST_LOG__LEVEL", "info"),
        ("ROOMCAST_AUDIT__FILE", file.to_str().unwrap()),
    ];
    let server = database.server_with(&variables);
    let dump = || database.sql("SELECT string_agg(audit::text, ' ') FROM audit");
    check(server, &file, database.folder(), dump).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_that_cannot_be_recorded_are_refused() {
    let block = json!({"cidr": "192.0.2.0/24", "reason": "a flood"});
    // The disk of the file is full.
    let server = Server::with(&[KEY, QUICK, ("ROOMCAST_AUDIT__FILE", "/dev/full")]);
    let admin = Caller::of(&server, "root", &["admin"]);
    let refused = ("POST", "/blocks", block.clone());
    admin.refused(503, "STORE_UNAVAILABLE", refused).await;
    assert_eq!(admin.get("/blocks").await["blocks"], json!([]));
    let answer = tokio::task::block_in_place(|| kick(&server.binary));
    assert!(answer.contains("STORE_UNAVAILABLE"), "{answer}");
    let count = server.metric("roomcast_audit_entries_total{result=\"refused\"}");
    assert_eq!(count.await, 2);

    // The table is gone.
    let server = start();
    let admin = Caller::of(&server, "root", &["admin"]);
    let drop = server
        .database()
        .execute_batch("ALTER TABLE audit RENAME TO gone");
    drop.unwrap();
    let refused = ("POST", "/blocks", block);
    admin.refused(503, "STORE_UNAVAILABLE", refused).await;
    assert_eq!(admin.get("/blocks").await["blocks"], json!([]));
    // What is no administrative act still works.
    let price = json!({"symbol": "S", "price": 1});
    admin.must(200, "POST", "/prices", price).await;
}

#[tokio::test]
async fn callers_without_the_permission_leave_no_entries() {
    let server = Server::with(&[
        KEY,
        QUICK,
        ("ROOMCAST_AUTH__ROLES__FEED__PERMISSIONS", "prices:publish"),
    ]);
    let feed = Caller::of(&server, "feed", &["feed"]);
    for (method, path) in [
        ("DELETE", "/users/ann?messages=remove"),
        ("GET", "/users/ann/export"),
    ] {
        feed.must(403, method, path, Value::Null).await;
    }
    let admin = Caller::of(&server, "root", &["admin"]);
    assert_eq!(admin.get("/audit?userId=feed").await["entries"], json!([]));
}

#[tokio::test]
async fn stated_user_is_accepted_whole_or_refused() {
    let server = start();
    let admin = Caller::of(&server, "root", &["admin"]);
    let long = "x".repeat(257);
    for (name, is_accepted) in [("ann@host", true), ("", false), (&*long, false)] {
        let caller = Caller {
            headers: format!("Roomcast-Stated-User: {name}\r\n"),
            ..admin.clone()
        };
        let answer = caller.send("DELETE", "/users/ann/sockets", "").await;
        assert_eq!(answer.status == 200, is_accepted, "{name:?}");
        assert!(is_accepted || answer.status == 400, "{name:?}");
    }
    assert_eq!(newest(&admin, "closeUser").await["statedUser"], "ann@host");
}
