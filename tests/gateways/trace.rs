//! `roomcast trace`: the command and the real server.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::guard::{KEY, signed, token};
use crate::server::{LOBBY, ROOMCAST, Server, ServerProcess};
use crate::support::{DEADLINE, RawClient};

/// A text that masked traces must not contain.
const CANARY: &str = "canary-of-the-text";

/// A running command.
pub(crate) struct Trace {
    command: Child,
    lines: Receiver<String>,
    pub(crate) seen: Vec<Value>,
}

impl Trace {
    /// Starts the command, and waits until the server traces.
    pub(crate) fn start(server: &ServerProcess, arguments: &[&str]) -> Self {
        Self::start_with(server, arguments, &[KEY])
    }

    /// Starts the command with these variables, and waits until the server traces.
    pub(crate) fn start_with(
        server: &ServerProcess,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(ROOMCAST)
            .args(["trace", "--url", &format!("http://{}", server.address())])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = BufReader::new(command.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in output.lines() {
                let _ = send.send(line.unwrap());
            }
        });
        let mut trace = Self {
            command,
            lines,
            seen: Vec::new(),
        };
        trace.until("tracing", |_| true);
        trace
    }

    /// Waits for a line of a step that fits.
    pub(crate) fn until(&mut self, step: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        let is_wanted = |line: &&Value| line["step"] == step && fits(line);
        if let Some(found) = self.seen.iter().find(is_wanted) {
            return found.clone();
        }
        loop {
            let left = DEADLINE.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    self.seen.push(line.clone());
                    if is_wanted(&&line) {
                        return line;
                    }
                }
                Err(_) => panic!("no line {step} among {:#?}", self.seen),
            }
        }
    }

    /// Returns the exit code of a command that ends by itself.
    fn exit_code(&mut self) -> i32 {
        self.command.wait().unwrap().code().unwrap()
    }

    pub(crate) fn text(&self) -> String {
        Value::from(self.seen.clone()).to_string()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.command.kill();
        let _ = self.command.wait();
    }
}

fn message(content: &str) -> Value {
    json!({"conversationId": LOBBY, "content": content, "confirmDelivery": true})
}

/// Returns the id that a guest of this name has.
async fn user_id(server: &ServerProcess, name: &str) -> String {
    let guest = server.guest(name).await;
    let id = guest.user_id();
    guest.disconnect().await;
    id
}

/// Connects a guest that has joined the lobby.
pub(crate) async fn joined(server: &ServerProcess, name: &str) -> Client {
    let mut guest = server.guest(name).await;
    guest.must("join_conversation", json!(LOBBY)).await;
    guest
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_of_a_user_shows_each_step_of_a_message_without_its_text() {
    let server = Server::with(&[KEY]);
    let id = user_id(&server.binary, "ann").await;
    let mut trace = Trace::start(&server.binary, &["--user", &id]);
    let mut bob = joined(&server.binary, "bob").await;
    let mut ann = joined(&server.binary, "ann").await;
    let stored = ann.must("message", message(CANARY)).await;
    let (_, ack) = bob.event_to_answer("message").await;
    bob.acknowledge(ack.unwrap()).await;
    let opening = trace.until("connected", |_| true);
    assert_eq!(opening["user"], id);
    assert_eq!(opening["address"], "127.0.0.0/24");
    let is_message = |line: &Value| line["event"] == "message";
    let received = trace.until("received", is_message);
    assert!(received["bytes"].as_u64().unwrap() > CANARY.len() as u64);
    let started = trace.until("handler_started", is_message);
    assert_eq!(started["ackId"], received["ackId"]);
    let line = trace.until("stored", |_| true);
    let message_id = stored["message"]["id"].clone();
    assert_eq!(line["messageId"], message_id, "{stored}");
    assert_eq!(line["conversation"], LOBBY);
    assert_eq!(line["seq"], stored["message"]["seq"]);
    let emitted = trace.until("emitted", |line| line["messageId"] == message_id);
    assert_eq!(emitted["to"][0]["user"], bob.user_id());
    assert_eq!(
        (&emitted["recipients"], &emitted["queued"]),
        (&json!(1), &json!(1))
    );
    let ended = trace.until("handler_ended", is_message);
    assert_eq!(ended["outcome"], "done");
    assert!(ended["ms"].as_f64().unwrap() > 0.0);
    trace.until("acknowledged", |line| line["ackId"] == received["ackId"]);
    trace.until("delivered", |_| true);
    let confirmed = trace.until("confirmations", |_| true);
    assert_eq!(confirmed["delivered"], 1);
    let refused = ann
        .refused("message", json!({"conversationId": 7}), "INVALID_PAYLOAD")
        .await;
    assert_eq!(refused["code"], "INVALID_PAYLOAD");
    trace.until("handler_ended", |line| line["outcome"] == "INVALID_PAYLOAD");
    ann.disconnect().await;
    trace.until("disconnected", |_| true);
    for secret in [CANARY, "127.0.0.1", "the key of"] {
        assert!(!trace.text().contains(secret), "{}", trace.text());
    }
    // Steps of other users are not in the trace.
    let is_foreign = |line: &&Value| line["user"].is_string() && line["user"] != id;
    assert_eq!(trace.seen.iter().find(is_foreign), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_trace_shows_confirmations_and_unmasked_texts_but_no_secrets() {
    let server = Server::with(&[KEY]);
    let mut ann = joined(&server.binary, "ann").await;
    let mut bob = joined(&server.binary, "bob").await;
    let list = format!("/api/v1/sockets?userId={}", bob.user_id());
    let socket = call(&server.binary, &list, "admin").1["sockets"][0]["id"].clone();
    let socket = socket.as_str().unwrap();
    let mut trace = Trace::start(&server.binary, &["--socket", socket, "--unmasked"]);
    let found = trace.until("found", |_| true);
    assert_eq!(found["address"], "127.0.0.1");
    ann.must("message", message(CANARY)).await;
    let queued = trace.until("queued", |line| line["event"] == "message");
    assert_eq!(queued["payload"][0]["content"], CANARY);
    let (_, ack) = bob.event_to_answer("message").await;
    bob.acknowledge(ack.unwrap()).await;
    trace.until("confirmed", |line| line["ackId"] == queued["ackId"]);
    let secret = "canary-of-a-token";
    bob.ask("auth:refresh", json!({"token": secret})).await;
    trace.until("received", |line| line["event"] == "auth:refresh");
    bob.ask("join_invite", json!({"token": secret})).await;
    trace.until("handler_ended", |line| line["event"] == "join_invite");
    assert!(!trace.text().contains(secret), "{}", trace.text());
    bob.vanish();
    trace.until("closed", |line| line["reason"].is_string());
    // The server logs who traced what.
    drop(trace);
    for act in ["trace started", "trace ended"] {
        server
            .binary
            .expect_log(&["audit", act, "roomcast-command", socket]);
    }
    let log = server.binary.log();
    assert!(!log.contains(CANARY) && !log.contains(secret));
}

/// Reads a path of the HTTP API as a user with this role.
pub(crate) fn call(server: &ServerProcess, path: &str, role: &str) -> (u16, Value) {
    let bearer = format!("Bearer {}", token(role));
    let mut client = RawClient::connect(server.address());
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\r\n"
    ));
    let response = tokio::task::block_in_place(|| client.response());
    let body = serde_json::from_str(&response.body).unwrap_or_default();
    (response.status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_refuses_callers_without_permission_and_invalid_queries() {
    let server = Server::with(&[KEY]);
    let refused = |query: &str, role: &str| {
        let (status, body) = call(&server.binary, &format!("/api/v1/trace?{query}"), role);
        (
            status,
            body["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let invalid = (400, "INVALID_PAYLOAD".to_owned());
    let forbidden = (403, "FORBIDDEN".to_owned());
    assert_eq!(refused("userId=ann", "user"), forbidden);
    assert_eq!(refused("userId=ann&unmasked=true", "service"), forbidden);
    for query in [
        "",
        "userId=ann&socketId=x",
        "socketId=short",
        "conversationId=7",
        "userId=ann&seconds=0",
        "userId=ann&seconds=3601",
        "userId=ann&unmasked=maybe",
        "userId=ann&other=1",
        "userId=",
    ] {
        assert_eq!(refused(query, "admin"), invalid, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_limited_in_number_and_end_in_time() {
    let server = Server::with(&[KEY]);
    let traces: Vec<_> = (0..8)
        .map(|_| Trace::start(&server.binary, &["--conversation", LOBBY]))
        .collect();
    let (status, body) = call(&server.binary, "/api/v1/trace?userId=ann", "service");
    assert_eq!(
        (status, &body["error"]["code"]),
        (429, &json!("RATE_LIMITED"))
    );
    drop(traces);
    let start = Instant::now();
    // The server notices at the next line that the commands have ended.
    while call(
        &server.binary,
        "/api/v1/trace?userId=ann&seconds=1",
        "service",
    )
    .0 != 200
    {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    }
    let mut trace = Trace::start(&server.binary, &["--user", "ann", "--for", "1s"]);
    let ended = trace.until("ended", |_| true);
    assert_eq!(
        (trace.exit_code(), &ended["reason"]),
        (0, &json!("the time is over"))
    );
    // A stopped server ends the stream.
    let mut trace = Trace::start(&server.binary, &["--user", "ann"]);
    server.binary.terminate();
    let ended = trace.until("ended", |_| true);
    assert_eq!(ended["reason"], "the server shuts down");
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_ends_when_its_caller_is_revoked_or_its_token_expires() {
    let variables = [
        KEY,
        crate::server::GUESTS_AS_USERS,
        ("ROOMCAST_AUTH__JWT__LEEWAY", "0s"),
        ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0"),
        ("ROOMCAST_LOG__LEVEL", "info"),
    ];
    let variables = [crate::server::UNLIMITED.as_slice(), &variables].concat();
    let server = crate::guard::Server::start(&variables);
    let seconds = |more| jiff::Timestamp::now().as_second() + more;
    // The reader may be slower than the server.
    let since = |line: &Value, before: i64| {
        let at: jiff::Timestamp = line["at"].as_str().unwrap().parse().unwrap();
        at.as_second() - before
    };
    let follow = |user: &str, more: i64| {
        let claims = json!({"sub": user, "roles": ["admin"], "jti": user, "exp": seconds(more)});
        let variables = [("ROOMCAST_TOKEN", signed(&claims))];
        let variables = variables.each_ref().map(|(name, token)| (*name, &**token));
        let arguments = ["--conversation", LOBBY, "--unmasked"];
        Trace::start_with(&server.binary, &arguments, &variables)
    };
    let mut traces = ["by-user", "by-token", "remains"].map(|user| follow(user, 600));
    // The stream ends although there are always lines.
    let mut ann = joined(&server.binary, "ann").await;
    let busy = tokio::spawn(async move {
        loop {
            ann.must("message", message(CANARY)).await;
            // Frequent, and not so fast that the readers of the lines fall behind.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    traces[0].until("stored", |_| true);
    for (index, revoked) in [
        (0, json!({"userId": "by-user"})),
        (1, json!({"jti": "by-token"})),
    ] {
        let (status, answer) = server.call("POST", "/revocations", "admin", &revoked.to_string());
        assert_eq!(status, 200, "{answer}");
        let revoked_at = seconds(0);
        let ended = traces[index].until("ended", |_| true);
        assert_eq!(ended["reason"], "the credentials have been revoked");
        assert!(since(&ended, revoked_at) < 20, "{ended}");
        assert_eq!(traces[index].exit_code(), 0);
    }
    // Long enough for the command to start on a loaded machine.
    let expires_at = seconds(15);
    let mut expiring = follow("expires", 15);
    let ended = expiring.until("ended", |_| true);
    assert_eq!(ended["reason"], "the credentials have expired");
    assert!((0..20).contains(&since(&ended, expires_at)), "{ended}");
    busy.abort();
    // A trace of another caller continues, until its role is revoked.
    assert_eq!(server.metric("roomcast_tracers"), 1);
    let role = json!({"role": "admin"}).to_string();
    let (status, answer) = server.call("POST", "/revocations", "service", &role);
    assert_eq!(status, 200, "{answer}");
    let ended = traces[2].until("ended", |_| true);
    assert_eq!(ended["reason"], "the credentials have been revoked");
    server.binary.expect_log(&["trace ended", "remains"]);
    let start = Instant::now();
    while server.metric("roomcast_tracers") != 0 {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    }
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[tokio::test(flavor = "multi_thread")]
async fn trace_contains_the_steps_of_all_servers_of_the_cluster() {
    let redis = crate::redis_server::RedisServer::start();
    let database = crate::nodes::Database::new();
    let variables = [KEY, crate::server::GUESTS_AS_USERS];
    let ids = ["one", "two"];
    let [one, two] = database.cluster(&redis.url(), ids, &variables).await;
    let mut by_room = Trace::start(&one, &["--conversation", LOBBY]);
    by_room.until("tracing", |line| line["node"] == "two");
    let mut ann = joined(&two, "ann").await;
    let mut bob = joined(&one, "bob").await;
    let mut by_user = Trace::start(&one, &["--user", &ann.user_id()]);
    by_user.until("found", |line| line["node"] == "two");
    let stored = ann.must("message", message(CANARY)).await;
    bob.event("message").await;
    let message_id = stored["message"]["id"].clone();
    let is_it = |line: &Value| line["messageId"] == message_id;
    by_room.until("stored", |line| is_it(line) && line["node"] == "two");
    by_room.until("announced", |line| line["node"] == "one");
    by_room.until("emitted", |line| {
        is_it(line) && line["node"] == "one" && line["to"][0]["user"] == bob.user_id()
    });
    by_user.until("received", |line| {
        line["event"] == "message" && line["node"] == "two"
    });
    by_user.until("delivered", |line| line["node"] == "two");
    assert!(!by_room.text().contains(CANARY) && !by_user.text().contains(CANARY));
    // The other server stops when the operator does.
    drop((by_room, by_user));
    let start = Instant::now();
    while two.metric("roomcast_tracers").await != 0 {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    }
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[tokio::test(flavor = "multi_thread")]
async fn trace_of_three_servers_contains_each_step_once() {
    let redis = crate::redis_server::RedisServer::start();
    let database = crate::nodes::Database::new();
    let variables = [KEY, crate::server::GUESTS_AS_USERS];
    let ids = ["one", "two", "three"];
    let servers = database.cluster(&redis.url(), ids, &variables).await;
    let mut trace = Trace::start(&servers[0], &["--conversation", LOBBY]);
    for node in ["two", "three"] {
        trace.until("tracing", |line| line["node"] == node);
    }
    let mut ann = joined(&servers[1], "ann").await;
    // Servers send lines every 100 ms, so lines that came back would be here before the last.
    for _ in 0..10 {
        let stored = ann.must("message", message("hello")).await;
        trace.until("stored", |line| {
            line["messageId"] == stored["message"]["id"]
        });
    }
    let stored = trace.seen.iter().filter(|line| line["step"] == "stored");
    assert_eq!(stored.count(), 10);
    let tracing = trace.seen.iter().filter(|line| line["step"] == "tracing");
    assert_eq!(tracing.count(), 3);
}

/// The trace that the tests name.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[cfg(all(feature = "postgres", feature = "redis"))]
#[tokio::test(flavor = "multi_thread")]
async fn trace_id_goes_through_handler_store_other_server_and_webhook() {
    let redis = crate::redis_server::RedisServer::start();
    let database = crate::nodes::Database::new();
    let hook = crate::trades::Hook::start(&[crate::trades::Reply::Answer(200, "")]);
    let receiver = hook.url();
    let variables = [
        KEY,
        crate::server::GUESTS_AS_USERS,
        ("ROOMCAST_WEBHOOKS__URL", receiver.as_str()),
        ("ROOMCAST_WEBHOOKS__SECRET", crate::guard::SECRET),
        ("ROOMCAST_WEBHOOKS__EVENTS", "message"),
        ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_LOG__LEVEL", "info,roomcast_server=debug"),
    ];
    let ids = ["one", "two"];
    let [one, two] = database.cluster(&redis.url(), ids, &variables).await;
    let mut bob = joined(&two, "bob").await;
    let mut ann = joined(&one, "ann").await;
    let payload = json!({"conversationId": LOBBY, "content": CANARY});
    let metadata = json!({"traceparent": format!("00-{TRACE_ID}-00f067aa0ba902b7-01")});
    let answer = ann
        .ask_raw("message", &format!(",{payload},{metadata}"))
        .await;
    assert_eq!(answer["success"], true, "{answer}");
    bob.event("message").await;
    one.expect_log(&[TRACE_ID, "handled a traced event", "outcome=\"done\""]);
    for step in ["stored", "emitted"] {
        one.expect_log(&[TRACE_ID, "step of a traced event", step, "seq=", LOBBY]);
    }
    for step in ["announced", "emitted"] {
        two.expect_log(&[TRACE_ID, "step of a traced event", step, "seq=", LOBBY]);
    }
    // The other server reads a long message from the store, which does not contain the trace.
    let long = "4bf92f3577b34da6a3ce929d0e0e4738";
    let payload =
        json!({"conversationId": LOBBY, "content": CANARY.to_owned() + &"x".repeat(3000)});
    let metadata = json!({"traceparent": format!("00-{long}-00f067aa0ba902b7-01")});
    let answer = ann
        .ask_raw("message", &format!(",{payload},{metadata}"))
        .await;
    assert_eq!(answer["success"], true, "{answer}");
    bob.event("message").await;
    for step in ["step=\"announced\"", "step=\"emitted\""] {
        two.expect_log(&[long, "step of a traced event", step, LOBBY]);
    }
    let start = Instant::now();
    while hook.requests().is_empty() {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
    let request = hook.requests()[0].clone();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let header = crate::trades::header(head, "traceparent").unwrap();
    assert!(header.starts_with(&format!("00-{TRACE_ID}-")), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    let traced = body["events"][0]["traceparent"].as_str().unwrap();
    assert!(traced.contains(TRACE_ID) && !traced.contains("00f067aa0ba902b7"));
    for server in [&one, &two] {
        assert!(!server.log().contains(CANARY));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_named_at_connect_is_used_and_invalid_traces_are_restarted() {
    let server = Server::with(&[KEY, ("ROOMCAST_LOG__LEVEL", "info,roomcast_server=debug")]);
    let auth = json!({
        "name": "ann",
        "guestKey": "the key of ann and more",
        "traceparent": format!("00-{TRACE_ID}-00f067aa0ba902b7-00"),
    });
    let mut ann = Client::connect(server.binary.address(), &auth)
        .await
        .unwrap();
    ann.must("join_conversation", json!(LOBBY)).await;
    server
        .binary
        .expect_log(&[TRACE_ID, "handled a traced event", "join_conversation"]);
    // A restarted trace has another id, and the event is handled.
    let metadata =
        json!({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"});
    let payload = json!({"conversationId": LOBBY, "content": "x"});
    let answer = ann
        .ask_raw("message", &format!(",{payload},{metadata}"))
        .await;
    assert_eq!(answer["success"], true, "{answer}");
    server.binary.expect_log(&["trace_id", "step=\"stored\""]);
    let log = server.binary.log();
    let stored = log.lines().filter(|line| line.contains("step=\"stored\""));
    assert!(stored.clone().count() > 0 && !stored.clone().any(|line| line.contains(TRACE_ID)));
    // Other second arguments are still refused.
    for other in [
        "{}",
        "null",
        r#"{"traceparent":7}"#,
        r#"{"traceparent":"x"},1"#,
    ] {
        let answer = ann.ask_raw("message", &format!(",{payload},{other}")).await;
        assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD", "{other}");
    }
}

/// The command names its mistakes without a server.
#[test]
fn trace_command_needs_one_selection_and_a_valid_duration() {
    let folder = TempDir::new().unwrap();
    for (arguments, reason) in [
        (&["trace"][..], "required"),
        (
            &["trace", "--user", "a", "--socket", "b"],
            "cannot be used with",
        ),
        (&["trace", "--user", "a", "--for", "2h"], "from 1s to 1h"),
        (&["trace", "--user", "a", "--for", "soon"], "invalid value"),
        (&["trace", "--conversation", "x"], "invalid value"),
    ] {
        let (code, output) = run(folder.path(), arguments);
        assert!(
            code == 2 && output.contains(reason),
            "{arguments:?}: {output}"
        );
    }
}

fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(ROOMCAST)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), text)
}
