//! `GET /api/v1/recording` of the real server: who may record, and what is recorded of whom.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use crate::guard::{KEY, signed, token};
use crate::server::{LOBBY, Server, ServerProcess};
use crate::support::{DEADLINE, RawClient};
use crate::trace::{call, joined};

/// A text that masked recordings must not contain.
const CANARY: &str = "canary-of-the-text";

/// A response that is read while the server records.
struct Recording {
    stream: TcpStream,
    text: String,
}

impl Recording {
    /// Starts a recording of an admin, and waits for its first line.
    fn start(server: &ServerProcess, query: &str) -> Self {
        Self::start_by(server, query, &token("admin"))
    }

    /// Starts a recording with this token.
    fn start_by(server: &ServerProcess, query: &str, token: &str) -> Self {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!(
            "GET /api/v1/recording?{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let text = String::new();
        let mut recording = Self { stream, text };
        recording.until("recording", |_| true);
        recording
    }

    /// Returns the content of all lines of a kind.
    fn all(&self, kind: &str) -> Vec<Value> {
        let lines = self.text.lines().filter(|line| line.starts_with('{'));
        let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line.get(kind).cloned()).collect()
    }

    /// Waits for a line of a kind that fits.
    fn until(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            if let Some(line) = self.all(kind).into_iter().find(&fits) {
                return line;
            }
            assert!(start.elapsed() < DEADLINE, "no {kind} in {}", self.text);
            self.read();
        }
    }

    /// Reads what has arrived, or waits for it.
    fn read(&mut self) {
        let mut buffer = [0; 1 << 16];
        let read = tokio::task::block_in_place(|| self.stream.read(&mut buffer)).unwrap();
        assert!(read > 0, "the end of {}", self.text);
        self.text += &String::from_utf8_lossy(&buffer[..read]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_of_a_user_has_only_the_users_events_and_answers() {
    let server = Server::with(&[KEY]);
    let mut ann = joined(&server.binary, "ann").await;
    let mut bob = joined(&server.binary, "bob").await;
    let query = format!("userId={}&seconds=60", ann.user_id());
    let mut recording = Recording::start(&server.binary, &query);
    let header = recording.all("recording").remove(0);
    assert_eq!(
        (&header["masked"], &header["selection"]),
        (&json!(true), &json!("user"))
    );
    let opened = recording.until("open", |_| true);
    assert_eq!(opened["before"], true, "{opened}");
    let message = json!({"conversationId": LOBBY, "content": CANARY, "confirmDelivery": true});
    bob.must("message", message.clone()).await;
    ann.must("message", message).await;
    // Events that the catalogue does not know are texts of the client.
    ann.ask(CANARY, json!({CANARY: CANARY, "token": CANARY}))
        .await;
    ann.send("451-[\"message\",{\"_placeholder\":true,\"num\":0}]")
        .await;
    // An attachment can look like a packet.
    ann.send_binary(b"2[\"message\",\"canary-of-the-text\"]")
        .await;
    ann.must("leave_conversation", json!(LOBBY)).await;
    let left = recording.until("event", |line| line["event"] == "leave_conversation");
    recording.until("answer", |line| line["ack"] == left["ack"]);
    let events = recording.all("event");
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["message", "xxxxxx-xx-xxx-xxxx", "leave_conversation"]
    );
    assert_eq!(events[0]["args"][0]["content"], "xxxxxx-xx-xxx-xxxx");
    assert_eq!(events[0]["args"][0]["conversationId"], LOBBY);
    assert_eq!(events[1]["args"][0]["token"], "***");
    let answered = recording.until("answer", |line| line["ack"] == events[0]["ack"]);
    assert_eq!(answered["args"][0]["message"]["userId"], opened["user"]);
    assert_eq!(recording.all("skipped")[0]["reason"], "binary attachments");
    let ann_id = ann.user_id();
    ann.disconnect().await;
    recording.until("close", |_| true);
    for secret in [CANARY, &ann_id, &bob.user_id(), "the key of", "127.0.0.1"] {
        assert!(
            !recording.text.contains(secret),
            "{secret}: {}",
            recording.text
        );
    }
    assert_eq!(recording.all("open").len(), 1);
    drop(recording);
    for act in ["recording started", "recording ended"] {
        server.binary.expect_log(&["audit", act, &ann_id]);
    }
    assert!(!server.binary.log().contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_requires_its_permission_a_selection_and_valid_consent() {
    let server = Server::with(&[
        KEY,
        (
            "ROOMCAST_AUTH__ROLES__RECORDER__PERMISSIONS",
            "traffic:record",
        ),
    ]);
    let answer = |query: &str, role: &str| {
        let path = format!("/api/v1/recording?{query}");
        let (status, body) = call(&server.binary, &path, role);
        let code = body["error"]["code"].as_str().unwrap_or_default();
        (status, code.to_owned())
    };
    let forbidden = (403, "FORBIDDEN".to_owned());
    for role in ["user", "service"] {
        assert_eq!(answer("everyone=true&seconds=1", role), forbidden, "{role}");
    }
    assert_eq!(answer("everyone=true&seconds=1", "recorder").0, 200);
    let consent = "everyone=true&seconds=1&consent=they+agreed";
    assert_eq!(answer(consent, "recorder"), forbidden);
    assert_eq!(answer(consent, "admin").0, 200);
    let invalid = (400, "INVALID_PAYLOAD".to_owned());
    let long = format!("everyone=true&consent={}", "x".repeat(257));
    for query in [
        "",
        "everyone=false",
        "everyone=true&userId=ann",
        "userId=ann&socketId=x",
        "socketId=short",
        "everyone=true&seconds=0",
        "everyone=true&seconds=3601",
        "everyone=true&consent=",
        "everyone=true&consent=+",
        "everyone=true&other=1",
        &long,
    ] {
        assert_eq!(answer(query, "admin"), invalid, "{query}");
    }
    let (_, audit) = call(&server.binary, "/api/v1/audit?operation=record", "admin");
    let entries = audit["entries"].as_array().unwrap();
    let stated = |entry: &&Value| entry["request"]["consent"] == "they agreed";
    let entry = entries
        .iter()
        .find(|entry| stated(entry) && entry["outcome"] == "done");
    assert!(entry.is_some(), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_ends_when_its_caller_loses_the_access() {
    let server = Server::with(&[KEY]);
    let claims = json!({"sub": "ann", "roles": ["admin"], "jti": "one", "exp": 4_000_000_000_u64});
    let query = "everyone=true&seconds=60";
    let mut recording = Recording::start_by(&server.binary, query, &signed(&claims));
    let body = json!({"jti": "one"}).to_string();
    let bearer = format!("Bearer {}", token("service"));
    let mut client = RawClient::connect(server.address());
    client.send(format!(
        "POST /api/v1/revocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let response = tokio::task::block_in_place(|| client.response());
    assert_eq!(response.status, 200, "{}", response.body);
    let end = recording.until("end", |_| true);
    assert_eq!(end["reason"], "the credentials have been revoked");
    assert!(end["atMs"].as_f64().unwrap() < 30_000.0, "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_has_all_sockets_that_were_connected_before() {
    let server = Server::with(&[KEY]);
    let mut clients = Vec::new();
    // More than the queue has places.
    for n in 0..1300 {
        clients.push(server.binary.guest(&format!("u{n}")).await);
    }
    let mut recording = Recording::start(&server.binary, "everyone=true&seconds=60");
    let last = json!(1300);
    recording.until("open", |line| line["connection"] == last);
    let opened = recording.all("open");
    assert_eq!(opened.len(), 1300);
    assert!(opened.iter().all(|line| line["before"] == true));
    // Each of them is recorded from then on. The reader does not fall behind.
    let mut done = 0;
    for chunk in clients.chunks_mut(200) {
        for client in chunk {
            client.must("conversations", json!({})).await;
            done += 1;
        }
        while recording.all("answer").len() < done {
            recording.read();
        }
    }
    let mut numbers: Vec<_> = recording.all("event");
    numbers.retain(|line| line["event"] == "conversations");
    let numbers: std::collections::BTreeSet<_> = numbers
        .iter()
        .map(|line| line["connection"].as_u64())
        .collect();
    assert_eq!(numbers.len(), 1300);
    assert!(recording.all("dropped").is_empty());
}
