//! Log lines of connections and requests, on the real server.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::guard::{KEY, signed, until};
use crate::server::{LOBBY, ServerProcess, UNLIMITED};
use crate::support::websocket::masked;
use crate::support::{Frame, RawClient, Response};

/// Must be in no line.
const CANARY: &str = "canary-77d1";

fn start(folder: &TempDir, variables: &[(&str, &str)]) -> ServerProcess {
    let own = [
        KEY,
        ("ROOMCAST_LOG__FORMAT", "json"),
        ("ROOMCAST_NODE__ID", "node-1"),
    ];
    let all = [UNLIMITED.as_slice(), &own, variables].concat();
    ServerProcess::start(folder.path(), &all)
}

fn token(user: &str, role: &str) -> String {
    signed(&json!({"sub": user, "roles": [role], "exp": 4_000_000_000_u64}))
}

/// Returns the lines of the log so far.
fn lines(server: &ServerProcess) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn open(server: &ServerProcess) -> RawClient {
    let mut client = RawClient::connect(server.address());
    let target = "/socket.io/?EIO=4&transport=websocket";
    assert_eq!(client.upgrade(target).status, 101);
    assert!(matches!(client.frame(), Frame::Text(open) if open.starts_with("0{")));
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_a_connection_has_its_id_user_socket_node_and_address() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, &[("ROOMCAST_LOG__LEVEL", "debug")]);
    let auth = json!({"token": token("zoe", "user")});
    let mut zoe = Client::connect(server.address(), &auth).await.unwrap();
    zoe.must("join_conversation", json!(LOBBY)).await;
    let text = format!("hello {CANARY}");
    let sent = json!({"conversationId": LOBBY, "content": text});
    let stored = zoe.must("message", sent).await;
    // Refusals by the content, by a permission, and of an unknown event.
    zoe.ask("message", json!({"conversationId": 7})).await;
    let rename = json!({"conversationId": LOBBY, "title": "mine"});
    zoe.ask("update_conversation", rename).await;
    zoe.ask("no_such_event", json!({})).await;
    zoe.ask("auth:refresh", json!({"token": CANARY})).await;
    zoe.ask("auth:refresh", json!({"token": token("zoe", "user")}))
        .await;
    drop(zoe);
    tokio::task::block_in_place(|| {
        // A refused client, and one that breaks the protocol.
        let mut refused = open(&server);
        refused.send_text(format!("40{}", json!({"token": CANARY})));
        while !matches!(refused.message(), Frame::Text(text) if text.starts_with("44")) {}
        let mut broken = open(&server);
        broken.send_text(format!("40{}", json!({"token": token("yan", "user")})));
        while !matches!(broken.message(), Frame::Text(text) if text.starts_with("40{")) {}
        broken.send(masked(0x81, "4?"));
        let has_ended = |user: &str| {
            let of_user = |line: &Value| line["user"] == user && line["message"] == "disconnected";
            lines(&server).iter().any(of_user)
        };
        until(|| has_ended("zoe") && has_ended("yan"));
    });

    let lines = lines(&server);
    let text = server.log();
    assert!(!text.contains(CANARY), "a line has a secret");
    let connected = |user: &str| {
        let mut joined = lines.iter().filter(|line| line["message"] == "connected");
        joined.find(|line| line["user"] == user).unwrap().clone()
    };
    for user in ["zoe", "yan"] {
        let joined = connected(user);
        let (id, socket) = (&joined["connection"], &joined["socket"]);
        let own: Vec<&Value> = lines
            .iter()
            .filter(|line| {
                // Each line that names anything of the connection is one of its lines.
                let text = line.to_string();
                [&joined["address"], socket]
                    .iter()
                    .any(|value| text.contains(value.as_str().unwrap()))
                    || line["user"] == user
                    || line["connection"] == *id
            })
            .collect();
        let mut is_joined = false;
        for line in &own {
            assert_eq!(line["connection"], *id, "{line}");
            assert_eq!(line["address"], joined["address"], "{line}");
            assert_eq!(line["node"], "node-1", "{line}");
            is_joined |= line["message"] == "connected";
            if is_joined {
                assert_eq!(
                    (&line["user"], &line["socket"]),
                    (&json!(user), socket),
                    "{line}"
                );
            }
        }
        for event in [
            "connection opened",
            "authenticated",
            "connected",
            "disconnected",
        ] {
            let count = own.iter().filter(|line| line["message"] == event).count();
            assert_eq!(count, 1, "{user}: {event}");
        }
    }
    for event in [
        "event",
        "an event was refused",
        "refresh refused",
        "credentials refreshed",
    ] {
        assert!(
            text.contains(&format!("\"message\":\"{event}\"")),
            "{event}"
        );
    }
    let broken = "a packet cannot be decoded";
    assert!(text.contains(broken), "{text}");
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "refused")
        .collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0]["connection"].is_string() && refused[0]["reason"].is_string());
    // A message is followed by its id, conversation and number.
    for event in ["message stored", "message emitted"] {
        let line = lines.iter().find(|line| line["message"] == event);
        let line = line.unwrap_or_else(|| panic!("no {event}"));
        assert_eq!(line["message_id"], stored["message"]["id"], "{line}");
        assert_eq!(
            (&line["conversation"], &line["seq"]),
            (&json!(LOBBY), &stored["message"]["seq"])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_a_client_chose_hide_no_field_of_a_line() {
    let folder = TempDir::new().unwrap();
    let human = [
        ("ROOMCAST_LOG__FORMAT", "human"),
        ("ROOMCAST_LOG__LEVEL", "debug"),
    ];
    let server = start(&folder, &human);
    let auth = json!({"token": token("zoe", "user")});
    let mut zoe = Client::connect(server.address(), &auth).await.unwrap();
    let name = "of connection=1 user=eve socket=2 address=3 node=4";
    zoe.ask(name, json!({})).await;
    let refused = ["an event was refused", name];
    server.expect_log(&refused);
    let log = server.log();
    let is_it = |line: &&str| refused.iter().all(|part| line.contains(part));
    let line = log.lines().find(is_it).unwrap();
    let own = line.replace(name, "");
    for field in ["connection", "user", "socket", "address", "node"] {
        assert_eq!(own.matches(&format!(" {field}=")).count(), 1, "{line}");
    }
    assert!(
        own.contains(" user=\"zoe\"") && own.contains(" node=\"node-1\""),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_message_has_a_line_with_its_id_and_number() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, &[("ROOMCAST_LOG__LEVEL", "debug")]);
    let auth = json!({"token": token("zoe", "user")});
    let mut zoe = Client::connect(server.address(), &auth).await.unwrap();
    let room = zoe.create(json!({"title": "T", "memberIds": []})).await;
    let sent = json!({"conversationId": room, "content": CANARY});
    let message = zoe.must("message", sent).await["message"].clone();
    let id = &message["id"];
    let (edit, emoji) = (
        json!({"messageId": id, "content": CANARY.repeat(2)}),
        json!({"messageId": id, "emoji": "👍"}),
    );
    let about = json!({"messageId": id});
    let changes = [
        ("edit_message", edit, "message edited"),
        ("add_reaction", emoji.clone(), "reaction added"),
        ("remove_reaction", emoji, "reaction removed"),
        ("pin_message", about.clone(), "message pinned"),
        ("unpin_message", about.clone(), "message unpinned"),
        ("delete_message", about, "message deleted"),
    ];
    for (event, payload, line) in &changes {
        zoe.must(event, payload.clone()).await;
        tokio::task::block_in_place(|| until(|| server.log().contains(line)));
    }
    // A repeated request changes nothing.
    let (event, payload, _) = changes.last().unwrap();
    zoe.must(event, payload.clone()).await;
    zoe.ask("no_such_event", json!({})).await;
    let is_last = |log: String| log.contains("an event was refused");
    tokio::task::block_in_place(|| until(|| is_last(server.log())));
    let lines = lines(&server);
    let connected = lines.iter().find(|line| line["message"] == "connected");
    let connection = &connected.unwrap()["connection"];
    for (_, _, message_of_line) in changes {
        let own = lines
            .iter()
            .filter(|line| line["message"] == message_of_line);
        let own: Vec<_> = own.collect();
        assert_eq!(own.len(), 1, "{message_of_line}: {own:?}");
        let line = own[0];
        assert_eq!(
            (&line["message_id"], &line["conversation"]),
            (id, &room),
            "{line}"
        );
        assert_eq!(
            (&line["seq"], &line["level"]),
            (&message["seq"], &json!("DEBUG")),
            "{line}"
        );
        assert_eq!(
            (&line["user"], &line["connection"]),
            (&json!("zoe"), connection),
            "{line}"
        );
    }
    assert!(!server.log().contains(CANARY), "a line has a text");
}

/// Sends a request of a session by polling.
fn poll(server: &ServerProcess, method: &str, sid: &str, body: &str) -> Response {
    let mut client = RawClient::connect(server.address());
    client.send(format!(
        "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.response()
}

#[test]
fn upgrades_and_refused_requests_have_the_id_of_their_connection() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, &[("ROOMCAST_LOG__LEVEL", "debug")]);
    let opened = poll(&server, "GET", "", "");
    let open: Value = serde_json::from_str(&opened.body[1..]).unwrap();
    let sid = open["sid"].as_str().unwrap();
    let query = format!("&sid={sid}");
    let connect = format!("40{}", json!({"token": token("zoe", "user")}));
    assert_eq!(poll(&server, "POST", &query, &connect).status, 200);
    assert_eq!(poll(&server, "GET", &query, "").status, 200);
    let mut socket = RawClient::connect(server.address());
    socket.send(format!(
        "GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: localhost\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(socket.response().status, 101);
    socket.send_text("2probe");
    assert!(matches!(socket.frame(), Frame::Text(text) if text == "3probe"));
    socket.send_text("5");
    let with = |message: &str| {
        let all = lines(&server).into_iter();
        all.filter(|line| line["message"] == message)
            .collect::<Vec<_>>()
    };
    until(|| with("transport upgraded to WebSocket").len() == 1);
    let connection = with("connection opened")[0]["connection"].clone();
    assert!(connection.is_string());
    let upgraded = &with("transport upgraded to WebSocket")[0];
    assert_eq!(upgraded["connection"], connection, "{upgraded}");
    assert_eq!(upgraded["level"], "DEBUG", "{upgraded}");
    // The session no longer polls, and the other one does not exist.
    assert_eq!(poll(&server, "GET", &query, "").status, 400);
    assert_eq!(
        poll(&server, "GET", "&sid=AAAAAAAAAAAAAAAAAAAA", "").status,
        400
    );
    until(|| with("request refused").len() == 2);
    let refused = with("request refused");
    assert_eq!(refused[0]["connection"], connection, "{refused:?}");
    assert_eq!(refused[1].get("connection"), None, "{refused:?}");
    assert!(!server.log().contains(sid), "a session id is a secret");
}

#[test]
fn access_log_has_routes_without_queries_only_if_enabled() {
    let folder = TempDir::new().unwrap();
    for (is_enabled, value) in [(false, "false"), (true, "true")] {
        let server = start(&folder, &[("ROOMCAST_LOG__ACCESS", value)]);
        let mut client = RawClient::connect(server.address());
        let token = token("root", "admin");
        client.send(format!(
            "GET /api/v1/users/ann/presence HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        assert_eq!(client.response().status, 200);
        client.send(format!(
            "GET /nothing?token={CANARY} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        assert_eq!(client.response().status, 404);
        let requests = || {
            let all = lines(&server).into_iter();
            all.filter(|line| line["message"] == "request")
                .collect::<Vec<_>>()
        };
        if !is_enabled {
            let pause = std::time::Duration::from_millis(300);
            std::thread::sleep(pause); // Lines that are on their way arrive.
            assert!(requests().is_empty());
            server.terminate();
            continue;
        }
        until(|| requests().len() == 2);
        let found = requests();
        assert_eq!(found[0]["path"], "/api/v1/users/{id}/presence");
        assert_eq!(
            (&found[0]["method"], &found[0]["status"]),
            (&json!("GET"), &json!(200))
        );
        assert_eq!(found[0]["user"], "root");
        assert!(found[0]["bytes"].as_u64() > Some(0) && found[0]["duration_us"].is_u64());
        assert!(
            found[0]["address"]
                .as_str()
                .unwrap()
                .starts_with("127.0.0.1:")
        );
        assert_eq!(
            (&found[1]["path"], &found[1]["status"]),
            (&json!("unknown"), &json!(404))
        );
        let log = server.log();
        assert!(!log.contains(CANARY) && !log.contains(&token));
    }
}
