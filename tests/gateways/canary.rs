//! Canary secrets: no token and no secret is in a log, a trace, a backup, an alert, a webhook, the
//! audit log, metrics or an error.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

#[cfg(all(feature = "postgres", feature = "redis"))]
use crate::admins::Admin;
use crate::client::Client;
use crate::guard::signed_with;
use crate::server::{GUESTS_AS_USERS, LOBBY, ROOMCAST, ServerProcess, UNLIMITED};
use crate::support::{Frame, RawClient, Response};
use crate::trace::Trace;
use crate::trades::{Hook, Reply};

const TOKEN_SECRET: &str = "canary-of-the-secret-that-signs-tokens";
const HOOK_SECRET: &str = "canary-of-the-secret-that-signs-webhooks";
const FORMER_HOOK_SECRET: &str = "canary-of-the-former-webhook-secret";
const EXECUTOR_TOKEN: &str = "canary-of-the-token-for-the-executor";
const METRICS_TOKEN: &str = "canary-of-the-token-for-metrics";
const METRICS_FILE_TOKEN: &str = "canary-of-the-token-in-the-file-for-metrics";
const UI_PASSWORD: &str = "canary-of-the-password-of-the-admin-ui";
const BACKEND_SECRET: &str = "canary-of-the-secret-of-the-backend";
const GUEST_KEY: &str = "canary-of-the-key-of-a-guest";
const REQUEST_KEY: &str = "canary-of-an-idempotency-key";
/// The password in the URLs of services.
const PASSWORD: &str = "canary-of-a-password";
/// All of them and each part of a token that proves something begin with this text, or are tokens.
const CANARY: &str = "canary-of-";
/// A text that is stored by design.
const TEXT: &str = "a text that a backup contains";

/// Returns the variables that set a secret in each place that a server without cluster has.
fn secrets(hook: &str) -> Vec<(&'static str, String)> {
    let trusted = format!("{hook}&key={PASSWORD}");
    [
        ("ROOMCAST_AUTH__JWT__SECRET", TOKEN_SECRET),
        ("ROOMCAST_WEBHOOKS__URL", hook),
        ("ROOMCAST_WEBHOOKS__SECRET", HOOK_SECRET),
        ("ROOMCAST_WEBHOOKS__PREVIOUS_SECRET", FORMER_HOOK_SECRET),
        ("ROOMCAST_WEBHOOKS__EVENTS", "message,admin:alert"),
        ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_WEBHOOKS__RETRY_DELAY", "1m"),
        ("ROOMCAST_MARKET__EXECUTOR", "webhook"),
        ("ROOMCAST_MARKET__WEBHOOK__URL", hook),
        ("ROOMCAST_MARKET__WEBHOOK__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_MARKET__WEBHOOK__TOKEN", EXECUTOR_TOKEN),
        ("ROOMCAST_SERVER__METRICS_TOKEN", METRICS_TOKEN),
        ("ROOMCAST_AUTH__BACKEND__URL", trusted.as_str()),
        ("ROOMCAST_AUTH__BACKEND__SECRETS", BACKEND_SECRET),
        ("ROOMCAST_AUTH__BACKEND__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0"),
        ("ROOMCAST_LOG__LEVEL", "debug"),
        GUESTS_AS_USERS,
    ]
    .into_iter()
    .chain(UNLIMITED)
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

fn start(folder: &Path, variables: &[(&'static str, String)]) -> ServerProcess {
    let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
    ServerProcess::start(folder, &variables)
}

fn token(user: &str, role: &str) -> String {
    let claims = json!({"sub": user, "roles": [role], "exp": 4_000_000_000_u64, "jti": user});
    signed_with(TOKEN_SECRET, &claims)
}

/// Calls the HTTP API with a token and these headers, and returns the whole response.
fn send(server: &ServerProcess, token: &str, headers: &str, call: (&str, &str, Value)) -> Response {
    let (method, path, body) = call;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let mut client = RawClient::connect(server.address());
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    tokio::task::block_in_place(|| client.response())
}

fn must(server: &ServerProcess, token: &str, headers: &str, call: (&str, &str, Value)) -> Value {
    let shown = format!("{} {}", call.0, call.1);
    let answer = send(server, token, headers, call);
    assert!(
        (200..300).contains(&answer.status),
        "{shown}: {}",
        answer.body
    );
    serde_json::from_str(&answer.body).unwrap_or_default()
}

/// Asserts that a text or a file contains none of the secrets, in several spellings.
fn assert_clean(place: &str, bytes: &[u8], secrets: &[String]) {
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    for secret in secrets {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for spelling in [secret.clone(), secret.to_uppercase(), hex] {
            assert!(
                !contains(spelling.as_bytes()),
                "{place} contains {spelling}"
            );
        }
    }
    assert!(!contains(CANARY.as_bytes()), "{place} contains a canary");
}

/// Uses every secret that clients can have, and returns those that the server has created.
async fn use_secrets(server: &ServerProcess) -> Vec<String> {
    let auth = json!({"name": "ann", "guestKey": GUEST_KEY});
    let mut ann = Client::connect(server.address(), &auth).await.unwrap();
    ann.must("join_conversation", json!(LOBBY)).await;
    ann.must("message", json!({"conversationId": LOBBY, "content": TEXT}))
        .await;
    let admin = token("root", "admin");
    let key = format!("Idempotency-Key: {REQUEST_KEY}\r\n");
    let new = json!({"userId": "bob", "ttlSeconds": 600});
    let login = must(server, &admin, &key, ("POST", "/api/v1/sessions", new));
    let login = login["sessionId"].as_str().unwrap().to_owned();
    let auth = json!({"sessionId": login});
    let mut bob = Client::connect(server.address(), &auth).await.unwrap();
    bob.must("auth:refresh", json!({})).await;
    let with_token = json!({"token": token("carl", "user")});
    let mut carl = Client::connect(server.address(), &with_token)
        .await
        .unwrap();
    carl.must("auth:refresh", with_token.clone()).await;
    let room = bob.create(json!({"title": "T", "memberIds": []})).await;
    let about = json!({"conversationId": room});
    let invite = bob.must("create_invite", about).await;
    let invite = invite["token"].as_str().unwrap().to_owned();
    carl.must("join_invite", json!({"token": invite})).await;
    // A login that was ended, and one that was never created.
    let new = json!({"userId": "eve", "ttlSeconds": 600});
    let ended = must(server, &admin, "", ("POST", "/api/v1/sessions", new));
    let ended = ended["sessionId"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/sessions/{ended}");
    must(server, &admin, "", ("DELETE", &path, Value::Null));
    let unknown = json!({"sessionId": format!("{CANARY}an-unknown-login")});
    must(server, &admin, "", ("POST", "/api/v1/revocations", unknown));
    // The executor fails, so the trade stays open.
    let mut trader = Client::connect(server.address(), &json!({"token": token("dan", "admin")}))
        .await
        .unwrap();
    let order = json!({"symbol": "AAPL", "side": "buy", "quantity": 2});
    trader.ask("execute:trade", order).await;
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let tokens = [admin, token("carl", "user"), token("dan", "admin")];
    let mut found = tokens
        .iter()
        .map(|token| signature(token))
        .collect::<Vec<_>>();
    found.extend([login, ended, invite]);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_contains_no_token_and_no_secret() {
    let folder = TempDir::new().unwrap();
    // Deliveries that fail are stored.
    let hook = Hook::start(&[Reply::Answer(500, "")]);
    let server = start(folder.path(), &secrets(&hook.url()));
    let found = use_secrets(&server).await;
    let start = std::time::Instant::now();
    while hook.requests().is_empty() {
        assert!(start.elapsed() < crate::support::DEADLINE);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // Poll interval.
    }
    let output = Command::new(ROOMCAST)
        .args(["backup", "chat.backup", "--json"])
        .current_dir(folder.path())
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("ROOMCAST_AUTH__JWT__SECRET", TOKEN_SECRET)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_clean(
        "the output",
        &[output.stdout, output.stderr].concat(),
        &found,
    );
    let backup = fs::read(folder.path().join("chat.backup")).unwrap();
    assert_clean("the backup", &backup, &found);
    // The search finds what is stored: texts, and the hashes of ids.
    let text = String::from_utf8_lossy(&backup);
    for stored in [TEXT, &roomcast_server::auth::secret_hash(&found[3])] {
        assert!(text.contains(stored), "the backup lacks {stored}");
    }
    let log = [server.early_log(), &server.log()].concat();
    assert_clean("the log", log.as_bytes(), &found);
    for request in hook.requests() {
        // Only the executor gets its token, in the header for it.
        let shown = request.replace(&format!("Bearer {EXECUTOR_TOKEN}"), "");
        assert_clean("a webhook", shown.as_bytes(), &[]);
    }
}

/// Connects the admin UI with this login, and returns what the server sends until it answers.
fn admin_ui(server: &ServerProcess, login: &Value) -> String {
    let mut client = RawClient::connect(server.address());
    let target = "/socket.io/?EIO=4&transport=websocket";
    assert_eq!(client.upgrade(target).status, 101);
    client.send_text(format!("40/admin-ui,{login}"));
    let mut sent = String::new();
    while !sent.contains("44/admin-ui,") && !sent.contains("[\"session\",") {
        let Frame::Text(text) = client.message() else {
            panic!("the connection ended after {sent}");
        };
        sent.push_str(&text);
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_audit_log_and_admin_ui_contain_no_secret() {
    let folder = TempDir::new().unwrap();
    let hook = Hook::start(&[Reply::Answer(500, "")]);
    let file = folder.path().join("metrics-token");
    fs::write(&file, METRICS_FILE_TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut variables = secrets(&hook.url());
    let password_hash = bcrypt::hash(UI_PASSWORD, 10).unwrap();
    variables.extend([
        (
            "ROOMCAST_SERVER__METRICS_TOKEN_FILE",
            "metrics-token".to_owned(),
        ),
        ("ROOMCAST_ADMIN_UI__ENABLED", "true".to_owned()),
        ("ROOMCAST_ADMIN_UI__USERNAME", "ops".to_owned()),
        ("ROOMCAST_ADMIN_UI__PASSWORD_HASH", password_hash.clone()),
        ("ROOMCAST_AUDIT__FILE", "audit.log".to_owned()),
    ]);
    let server = start(folder.path(), &variables);
    let key = [("ROOMCAST_AUTH__JWT__SECRET", TOKEN_SECRET)];
    let mut masked = Trace::start_with(&server, &["--user", "bob"], &key);
    let mut unmasked = Trace::start_with(&server, &["--user", "carl", "--unmasked"], &key);
    let mut found = use_secrets(&server).await;
    let places = tokio::task::block_in_place(|| {
        let login = json!({"username": "ops", "password": UI_PASSWORD});
        let opened = admin_ui(&server, &login);
        let session = opened.split_once("[\"session\",\"");
        let (_, session) = session.unwrap_or_else(|| panic!("no session in {opened}"));
        let session = session.split('"').next().unwrap().to_owned();
        assert_eq!(session.len(), 32, "{opened}");
        let resumed = admin_ui(&server, &json!({"sessionId": session}));
        let mut places = vec![("the admin UI", resumed.replace(&session, ""))];
        for wrong in [
            json!({"username": "ops", "password": format!("{UI_PASSWORD}x")}),
            json!({"sessionId": format!("{CANARY}an-unknown-session")}),
            json!({"username": [UI_PASSWORD], "password": {"x": UI_PASSWORD}}),
        ] {
            places.push(("a refused login", admin_ui(&server, &wrong)));
        }
        found.push(session);
        for trace in [&mut masked, &mut unmasked] {
            trace.until("disconnected", |_| true);
        }
        places
    });
    for token in [METRICS_TOKEN, METRICS_FILE_TOKEN] {
        let scraped = send(&server, token, "", ("GET", "/metrics", Value::Null));
        assert_eq!(scraped.status, 200, "{token}");
        assert_clean("a scrape", scraped.body.as_bytes(), &found);
    }
    let admin = token("root", "admin");
    let audit = send(&server, &admin, "", ("GET", "/api/v1/audit", Value::Null));
    assert_eq!(audit.status, 200, "{}", audit.body);
    let [table, file] = [
        ("the audit table", audit.body),
        (
            "the audit file",
            fs::read_to_string(folder.path().join("audit.log")).unwrap(),
        ),
    ];
    // The search is in what is recorded.
    for (place, text) in [&table, &file] {
        for act in ["endSession", "revoke", "trace"] {
            assert!(text.contains(act), "{place} lacks {act}: {text}");
        }
    }
    let traces = [
        ("a masked trace", masked.text()),
        ("an unmasked trace", unmasked.text()),
    ];
    for (place, text) in &traces {
        assert!(text.contains("auth:refresh"), "{place}: {text}");
    }
    let log = [server.early_log(), &server.log()].concat();
    found.push(password_hash);
    let all = places
        .into_iter()
        .chain(traces)
        .chain([table, file, ("the log", log)]);
    for (place, text) in all {
        assert!(!text.is_empty(), "{place}");
        assert_clean(place, text.as_bytes(), &found);
    }
}

/// Runs a command with these variables, and returns its output.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(ROOMCAST)
        .args(arguments)
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?} succeeds");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_contain_no_token_and_no_secret() {
    let folder = TempDir::new().unwrap();
    let hook = Hook::start(&[Reply::Answer(500, "")]);
    let server = start(folder.path(), &secrets(&hook.url()));
    let admin = token("root", "admin");
    let expired = json!({"sub": "ann", "roles": ["admin"], "exp": 1});
    let expired = signed_with(TOKEN_SECRET, &expired);
    let forged = json!({"sub": "ann", "roles": ["admin"], "exp": 4_000_000_000_u64});
    let forged = signed_with("another secret of at least 32 bytes", &forged);
    let canary = |name: &str| format!("{CANARY}{name}");
    let wrong = canary("a-wrong-token");
    let secrets = [expired.clone(), forged.clone()];
    let mut errors = Vec::new();

    for token in [&wrong, &expired, &forged, &format!("{admin}x")] {
        let answer = send(&server, token, "", ("GET", "/api/v1/rooms", Value::Null));
        assert_eq!(answer.status, 401);
        errors.push(answer.body);
        let answer = send(&server, token, "", ("GET", "/metrics", Value::Null));
        assert!((400..500).contains(&answer.status), "{}", answer.status);
        errors.push(answer.body);
        let auth = json!({"token": token});
        errors.push(
            Client::connect(server.address(), &auth)
                .await
                .err()
                .unwrap()
                .to_string(),
        );
        let url = format!("http://{}", server.address());
        let variables = [("ROOMCAST_TOKEN", token.as_str())];
        errors.push(run(folder.path(), &["sockets", "--url", &url], &variables));
    }
    let login = canary("a-login");
    let path = format!("/api/v1/sessions/{login}");
    let long = login.repeat(50);
    let key = format!("Idempotency-Key: {REQUEST_KEY}\r\n");
    let block = |reason: &str| json!({"cidr": "192.0.2.0/24", "seconds": 60, "reason": reason});
    must(
        &server,
        &admin,
        &key,
        ("POST", "/api/v1/blocks", block("one")),
    );
    for (headers, call) in [
        ("", ("GET", &*path, Value::Null)),
        (
            "",
            ("POST", "/api/v1/revocations", json!({"sessionId": [login]})),
        ),
        (
            "",
            (
                "POST",
                "/api/v1/revocations",
                json!({"sessionId": login, "jti": login}),
            ),
        ),
        ("", ("POST", "/api/v1/revocations", json!(login))),
        (
            "",
            (
                "POST",
                "/api/v1/sessions",
                json!({"userId": "a", "data": login, "ttlSeconds": 1}),
            ),
        ),
        (&*key, ("POST", "/api/v1/blocks", block("two"))),
    ] {
        let shown = format!("{} {}", call.0, call.1);
        let answer = send(&server, &admin, headers, call);
        assert!(
            (400..500).contains(&answer.status),
            "{shown}: {}",
            answer.body
        );
        errors.push(answer.body);
    }
    for auth in [
        json!({"sessionId": login}),
        json!({"sessionId": long}),
        json!({"token": [wrong]}),
        json!({"name": "ann", "guestKey": canary("key").repeat(99)}),
        json!({"name": "ann", "guestKey": [canary("key")]}),
    ] {
        let refused = Client::connect(server.address(), &auth).await;
        let error = refused.err().unwrap_or_else(|| panic!("{auth} admits"));
        errors.push(error.to_string());
    }
    let auth = json!({"name": "ann", "guestKey": GUEST_KEY});
    let mut ann = Client::connect(server.address(), &auth).await.unwrap();
    for event in ["auth:refresh", "join_invite", "preview_invite"] {
        for payload in [
            json!({"token": wrong}),
            json!({"token": [wrong]}),
            json!({"token": long}),
            json!({"token": {"token": wrong}}),
            json!([wrong]),
            json!(wrong),
        ] {
            let answer = ann.ask(event, payload.clone()).await;
            assert_eq!(answer["success"], false, "{event} {payload}");
            errors.push(answer.to_string());
        }
    }
    for scheme in ["redis", "nats"] {
        let url = format!("{scheme}://user:{PASSWORD}@127.0.0.1:1");
        let arguments = ["emit", "news", "[]", "--adapter", &url];
        errors.push(run(folder.path(), &arguments, &[]));
    }
    let store = format!("postgres://user:{PASSWORD}@127.0.0.1:1/chat");
    for command in ["migrate", "serve"] {
        let variables = [
            ("ROOMCAST_STORE", &*store),
            ("ROOMCAST_STORE__CONNECT_TIMEOUT", "1s"),
        ];
        errors.push(run(folder.path(), &[command], &variables));
    }
    for error in &errors {
        assert!(!error.is_empty());
        assert_clean("an error", error.as_bytes(), &secrets);
    }
    let log = [server.early_log(), &server.log()].concat();
    assert_clean("the log", log.as_bytes(), &secrets);
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_their_webhooks_contain_no_secret() {
    let redis = crate::redis_server::RedisServer::start();
    redis.ask(&["CONFIG", "SET", "requirepass", PASSWORD]);
    let broker = format!("redis://:{PASSWORD}@127.0.0.1:{}", redis.port());
    let database = crate::nodes::Database::apart();
    let hook = Hook::start(&[Reply::Answer(204, "")]);
    let mut variables = secrets(&hook.url());
    variables.push(("ROOMCAST_ADAPTER__URL", broker));
    variables.push((
        "ROOMCAST_ADAPTER__SECRET",
        format!("{CANARY}the-secret-of-the-cluster"),
    ));
    variables.push(("ROOMCAST_NODE__ID", "one".to_owned()));
    let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let server = database.server_with(&variables);
    server.until_joined(true).await;
    let admin = Admin::connect_as(server.address(), &token("root", "admin")).await;
    redis.kill();
    admin
        .until_alert("one", "RoomcastAdapterUnavailable", "unavailable")
        .await;
    redis.restart();
    redis.ask(&["CONFIG", "SET", "requirepass", PASSWORD]);
    admin
        .until_alert("one", "RoomcastAdapterUnavailable", "ok")
        .await;
    let stored = "SELECT count(*) FROM journal_entries WHERE journal = 'alerts' AND NOT is_open";
    let start = std::time::Instant::now();
    while database.sql(stored).trim() == "0" || hook.requests().len() < 2 {
        assert!(start.elapsed() < crate::support::DEADLINE);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await; // Poll interval.
    }
    let stored = "SELECT string_agg(entries::text, ' ') FROM journal_entries entries";
    let stored = database.sql(stored);
    assert!(stored.contains("adapter"), "{stored}");
    assert_clean("a stored alert", stored.as_bytes(), &[]);
    let sent = Value::from(admin.alerts()).to_string();
    assert_clean("an alert", sent.as_bytes(), &[]);
    let requests = hook.requests();
    assert!(
        requests
            .iter()
            .any(|request| request.contains("RoomcastAdapterUnavailable"))
    );
    assert_clean("a webhook", requests.concat().as_bytes(), &[]);
    let log = [server.early_log(), &server.log()].concat();
    assert_clean("the log", log.as_bytes(), &[]);
}
