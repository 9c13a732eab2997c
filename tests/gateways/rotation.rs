//! The steps of `docs/operations.md`, executed as an operator executes them.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::{KEY, Server, until};
use crate::market::{must, signal};
use crate::server::{LOBBY, ServerProcess};
use crate::support::{DEADLINE, RawClient};
use crate::trades::{Hook, Reply, header};

const OLD: &str = "the old secret of at least thirty-two bytes";
const NEW: &str = "the new secret of at least thirty-two bytes";
const SECRET: &str = "ROOMCAST_AUTH__JWT__SECRET";

fn claims(user: &str, role: &str) -> Value {
    json!({"sub": user, "roles": [role], "exp": 4_000_000_000_u64})
}

/// Returns a token, signed with what `sign` returns for its header and claims.
fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| BASE64.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", BASE64.encode(signature))
}

/// Returns a token signed with a shared secret, which may have a name.
fn sign_with(secret: &str, kid: Option<&str>, claims: &Value) -> String {
    let mut header = json!({"alg": "HS256", "typ": "JWT"});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    token(&header, claims, |message| {
        ring::hmac::sign(&key, message).as_ref().to_vec()
    })
}

pub(crate) async fn enters(server: &ServerProcess, token: &str) -> Result<Client, Value> {
    Client::connect(server.address(), &json!({"token": token})).await
}

#[track_caller]
pub(crate) fn assert_refused(entered: Result<Client, Value>) {
    match entered {
        Ok(_) => panic!("a credential that was replaced was accepted"),
        Err(error) => assert_eq!(error["data"]["code"], "UNAUTHENTICATED", "{error}"),
    }
}

/// Calls the HTTP API as a service, which must succeed.
async fn call(server: &ServerProcess, token: &str, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let request = format!(
        "POST /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let address = server.address();
    let called = tokio::task::spawn_blocking(move || {
        let mut client = RawClient::connect(address);
        client.send(request);
        client.response()
    });
    let response = called.await.unwrap();
    assert!(response.status < 300, "{response:?}");
    serde_json::from_str(&response.body).unwrap_or_default()
}

/// Ends all sockets of a role, with so short a revocation that no user stays out.
async fn end_sockets(server: &ServerProcess, token: &str, role: &str) {
    let soon = jiff::Timestamp::now().as_second() + 2;
    let until = jiff::Timestamp::from_second(soon).unwrap();
    let body = json!({"role": role, "until": until.to_string()});
    call(server, token, "revocations", &body).await;
}

#[tokio::test]
async fn a_replaced_token_secret_refuses_old_tokens_and_accepts_new_ones() {
    let server = Server::start(&[(SECRET, OLD)]);
    let [old, new] = [OLD, NEW].map(|secret| sign_with(secret, None, &claims("ann", "user")));
    enters(&server.binary, &old).await.unwrap();
    assert_refused(enters(&server.binary, &new).await);
    let server = server.stopped_and_started(&[(SECRET, NEW)]);
    assert_refused(enters(&server.binary, &old).await);
    enters(&server.binary, &new).await.unwrap();
}

#[tokio::test]
async fn a_key_removed_from_the_file_is_refused_and_its_sockets_are_ended() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("keys.json");
    let write = |kid: &str, secret: &str| {
        let key = json!({"kty": "oct", "alg": "HS256", "kid": kid, "k": BASE64.encode(secret)});
        let beside = file.with_extension("new");
        fs::write(&beside, json!({"keys": [key]}).to_string()).unwrap();
        fs::rename(beside, &file).unwrap();
    };
    write("old", OLD);
    let keys = ("ROOMCAST_AUTH__JWT__KEYS_FILE", file.to_str().unwrap());
    let server = Server::start(&[keys]);
    let old = sign_with(OLD, Some("old"), &claims("ann", "user"));
    let mut ann = enters(&server.binary, &old).await.unwrap();
    let coach = sign_with(OLD, Some("old"), &claims("carl", "coach"));
    let mut carl = enters(&server.binary, &coach).await.unwrap();
    write("new", NEW);
    server.binary.expect_log(&["key file reloaded"]);
    assert_refused(enters(&server.binary, &old).await);
    // Her socket stays connected until it is ended.
    ann.must("join_conversation", json!(LOBBY)).await;
    let service = sign_with(NEW, Some("new"), &claims("backend", "service"));
    end_sockets(&server.binary, &service, "user").await;
    assert_eq!(ann.event("error").await["code"], "TOKEN_REVOKED");
    assert_refused(enters(&server.binary, &old).await);
    // A role that inherits from `user` is a different role.
    carl.must("join_conversation", json!(LOBBY)).await;
    end_sockets(&server.binary, &service, "coach").await;
    assert_eq!(carl.event("error").await["code"], "TOKEN_REVOKED");
    // The revocation expires, so that the same user reconnects with a new token.
    let new = sign_with(NEW, Some("new"), &claims("ann", "user"));
    let start = std::time::Instant::now();
    while enters(&server.binary, &new).await.is_err() {
        assert!(start.elapsed().as_secs() < 20, "never let in again");
    }
}

#[tokio::test]
async fn a_key_withdrawn_by_the_issuer_is_refused_after_a_restart() {
    let pairs = ["old", "new"].map(|kid| {
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = BASE64.encode(pair.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x});
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": kid});
        let signed = token(&header, &claims("ann", "user"), |message| {
            pair.sign(message).as_ref().to_vec()
        });
        let set: &'static str = json!({"keys": [jwk]}).to_string().leak();
        (signed, set)
    });
    let [(old, old_set), (new, new_set)] = pairs;
    let issuer = Hook::start(&[Reply::Answer(200, old_set)]);
    let url = issuer.url();
    let variables = [("ROOMCAST_AUTH__JWT__JWKS_URL", url.as_str())];
    let server = Server::start(&variables);
    enters(&server.binary, &old).await.unwrap();
    issuer.plan(Reply::Answer(200, new_set));
    let server = server.stopped_and_started(&variables);
    enters(&server.binary, &new).await.unwrap();
    assert_refused(enters(&server.binary, &old).await);
}

#[tokio::test]
async fn key_in_the_file_is_rotated_without_a_stop_or_a_refused_user() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("keys.json");
    let write = |keys: &[(&str, &str)]| {
        let keys = keys.iter().map(|(kid, secret)| {
            json!({"kty": "oct", "alg": "HS256", "kid": kid, "k": BASE64.encode(secret)})
        });
        let beside = file.with_extension("new");
        let keys = json!({"keys": keys.collect::<Vec<_>>()});
        fs::write(&beside, keys.to_string()).unwrap();
        fs::rename(beside, &file).unwrap();
    };
    write(&[("old", OLD)]);
    let keys = ("ROOMCAST_AUTH__JWT__KEYS_FILE", file.to_str().unwrap());
    let server = Server::start(&[keys]);
    let server = &server.binary;
    let old = sign_with(OLD, Some("old"), &claims("ann", "user"));
    let new = sign_with(NEW, Some("new"), &claims("ann", "user"));
    let loaded = r#"roomcast_auth_keys_loaded_timestamp_seconds{source="file"}"#;
    let first = server.metric(loaded).await;
    let mut ann = enters(server, &old).await.unwrap();
    write(&[("old", OLD), ("new", NEW)]);
    server.expect_log(&["key file reloaded"]);
    let second = server.metric(loaded).await;
    assert!(0 < first && first <= second, "{first}, {second}");
    enters(server, &old).await.unwrap();
    enters(server, &new).await.unwrap();
    // The issuer signs with the new key now, and clients renew their tokens.
    ann.must("auth:refresh", json!({"token": new})).await;
    write(&[("new", NEW)]);
    until_refused(server, &old).await;
    enters(server, &new).await.unwrap();
    ann.must("join_conversation", json!(LOBBY)).await;
}

#[tokio::test]
async fn key_of_the_issuer_is_rotated_without_a_stop() {
    let pairs = ["old", "new"].map(|kid| {
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = BASE64.encode(pair.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x});
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": kid});
        let signed = token(&header, &claims("ann", "user"), |message| {
            pair.sign(message).as_ref().to_vec()
        });
        (signed, jwk)
    });
    let [(old, old_key), (new, new_key)] = pairs;
    let set = |keys: &[&Value]| -> &'static str { json!({"keys": keys}).to_string().leak() };
    let issuer = Hook::start(&[Reply::Answer(200, set(&[&old_key]))]);
    let url = issuer.url();
    let server = Server::start(&[
        ("ROOMCAST_AUTH__JWT__JWKS_URL", url.as_str()),
        ("ROOMCAST_AUTH__JWT__JWKS_REFRESH", "1s"),
    ]);
    let server = &server.binary;
    let mut ann = enters(server, &old).await.unwrap();
    let loaded = r#"roomcast_auth_keys_loaded_timestamp_seconds{source="url"}"#;
    let first = server.metric(loaded).await;
    assert!(first > 0);
    // Each refresh counts.
    let start = std::time::Instant::now();
    while server.metric(loaded).await <= first {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await; // Poll interval.
    }
    issuer.plan(Reply::Answer(200, set(&[&old_key, &new_key])));
    until_entered(server, &new).await;
    enters(server, &old).await.unwrap();
    issuer.plan(Reply::Answer(200, set(&[&new_key])));
    until_refused(server, &old).await;
    enters(server, &new).await.unwrap();
    ann.must("auth:refresh", json!({"token": new})).await;
    ann.must("join_conversation", json!(LOBBY)).await;
}

/// Waits until a token is refused.
async fn until_refused(server: &ServerProcess, token: &str) {
    let start = std::time::Instant::now();
    while enters(server, token).await.is_ok() {
        assert!(start.elapsed().as_secs() < 20, "the old key stays valid");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await; // Poll interval.
    }
}

/// Waits until a token is accepted.
async fn until_entered(server: &ServerProcess, token: &str) {
    let start = std::time::Instant::now();
    while enters(server, token).await.is_err() {
        assert!(start.elapsed().as_secs() < 20, "never let in");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await; // Poll interval.
    }
}

/// Returns a token of a user, signed with the development key of the server in this folder.
pub(crate) fn development_token(folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(["token", "--sub", "ann", "--role", "user"])
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder)
        .env("ROOMCAST_PROFILE", "development")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_removed_development_key_is_replaced_at_the_next_start() {
    let server = Server::start(&[]);
    let old = development_token(server.folder());
    enters(&server.binary, &old).await.unwrap();
    fs::remove_file(server.folder().join("roomcast/development.key")).unwrap();
    let server = server.stopped_and_started(&[]);
    assert_refused(enters(&server.binary, &old).await);
    enters(&server.binary, &development_token(server.folder()))
        .await
        .unwrap();
}

#[tokio::test]
async fn login_sessions_deleted_from_the_database_are_refused_after_a_restart() {
    let server = Server::start(&[KEY]);
    let service = crate::guard::token("service");
    let body = json!({"userId": "ann", "ttlSeconds": 3600});
    let made = call(&server.binary, &service, "sessions", &body).await;
    let auth = json!({"sessionId": made["sessionId"]});
    Client::connect(server.binary.address(), &auth)
        .await
        .unwrap();
    let delete = |database: &rusqlite::Connection| {
        let deleted = database.execute("DELETE FROM sessions", []).unwrap();
        assert_eq!(deleted, 1);
    };
    let server = server.restarted_after(delete, &[KEY]);
    assert_refused(Client::connect(server.binary.address(), &auth).await);
}

/// Returns whether a delivery is signed with this secret and with no other secret.
fn is_signed_with(delivery: &str, secret: &str) -> bool {
    let (_, body) = delivery.split_once("\r\n\r\n").unwrap();
    let signature = header(delivery, "roomcast-signature").unwrap();
    let (time, proof) = signature.split_once(',').unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let expected = ring::hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let expected = expected.as_ref().iter().map(|byte| format!("{byte:02x}"));
    proof == format!("v1={}", expected.collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_delivery_is_signed_with_the_new_webhook_secret() {
    let hook = Hook::start(&[Reply::Answer(401, "")]);
    let url = hook.url();
    let variables = |secret| {
        [
            KEY,
            ("ROOMCAST_WEBHOOKS__URL", &*url),
            ("ROOMCAST_WEBHOOKS__SECRET", secret),
            ("ROOMCAST_WEBHOOKS__EVENTS", "signal:new"),
            ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
            ("ROOMCAST_WEBHOOKS__RETRY_DELAY", "100ms"),
            // An attempt that the restart interrupts is repeated 10 s after this time.
            ("ROOMCAST_WEBHOOKS__TIMEOUT", "1s"),
        ]
    };
    let server = Server::start(&variables(OLD));
    must(&server.binary, "/signals", signal("waits", None)).await;
    until(|| !hook.requests().is_empty());
    assert!(is_signed_with(&hook.requests()[0], OLD));
    let server = server.stopped_and_started(&variables(NEW));
    let any_signed_with_new =
        |requests: Vec<String>| requests.iter().any(|one| is_signed_with(one, NEW));
    until(|| any_signed_with_new(hook.requests()));
    // The receiver knows the new secret now.
    hook.plan(Reply::Answer(204, ""));
    let delivered = "roomcast_webhook_deliveries_total{result=\"delivered\"}";
    server
        .binary
        .until_metric(delivered, |count| count == 1)
        .await;
    let requests = hook.requests();
    let accepted = requests.last().unwrap();
    assert!(accepted.contains("waits") && is_signed_with(accepted, NEW));
}

/// Requests the metrics with this token and returns the status.
pub(crate) async fn scrape(server: &ServerProcess, token: &str) -> u16 {
    let address = server.address();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let task = tokio::task::spawn_blocking(move || {
        let mut client = RawClient::connect(address);
        client.send(request);
        client.response().status
    });
    task.await.unwrap()
}

#[tokio::test]
async fn replaced_metrics_token_is_accepted_and_the_old_refused() {
    const VARIABLE: &str = "ROOMCAST_SERVER__METRICS_TOKEN";
    let [old, new] = [OLD, NEW].map(|secret| secret.replace(' ', "-"));
    let server = Server::start(&[KEY, (VARIABLE, &old)]);
    assert_eq!(scrape(&server.binary, &old).await, 200);
    assert_eq!(scrape(&server.binary, &new).await, 401);
    let server = server.stopped_and_started(&[KEY, (VARIABLE, &new)]);
    assert_eq!(scrape(&server.binary, &old).await, 401);
    assert_eq!(scrape(&server.binary, &new).await, 200);
}

#[cfg(feature = "postgres")]
pub(crate) mod database {
    use std::fs;
    #[cfg(all(feature = "nats", feature = "redis"))]
    use std::process::Command;

    use serde_json::json;
    use tempfile::TempDir;

    #[cfg(all(feature = "nats", feature = "redis"))]
    use crate::nats_server::NatsServer;
    #[cfg(feature = "redis")]
    use crate::nodes::Database;
    use crate::postgres::Postgres;
    #[cfg(feature = "redis")]
    use crate::redis_server::RedisServer;
    use crate::server::{LOBBY, ServerProcess, UNLIMITED};

    /// Starts a PostgreSQL that requires a password of the role `chat`.
    pub(crate) fn guarded() -> (Postgres, TempDir) {
        let files = TempDir::new().unwrap();
        let rules =
            "host all roomcast 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(files.path().join("pg_hba.conf"), rules).unwrap();
        (Postgres::start_with(files.path()), files)
    }

    /// Ends the sessions of the role `chat`.
    pub(crate) const END_SESSIONS: &str =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'chat'";

    /// Creates a database of the role `chat`, whose password is `old`. Returns the URL with the
    /// role `roomcast`, and the name.
    pub(crate) fn chat_role(postgres: &Postgres) -> (String, String) {
        let url = postgres.database();
        let name = url.rsplit_once('/').unwrap().1.to_owned();
        postgres.sql(&name, "CREATE ROLE chat LOGIN PASSWORD 'old'");
        postgres.sql(
            &name,
            &format!("ALTER DATABASE \"{name}\" OWNER TO chat; ALTER SCHEMA public OWNER TO chat"),
        );
        (url, name)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn replaced_database_password_works_and_the_old_is_refused() {
        let (postgres, _files) = guarded();
        let (url, name) = chat_role(&postgres);
        let with = |password: &str| url.replace("//roomcast@", &format!("//chat:{password}@"));
        let folder = TempDir::new().unwrap();
        let start = |password: &str| {
            let url = with(password);
            let store = [("ROOMCAST_STORE", url.as_str())];
            ServerProcess::start(folder.path(), &[UNLIMITED.as_slice(), &store].concat())
        };
        let server = start("old");
        let mut ann = server.guest("ann").await;
        ann.must("join_conversation", json!(LOBBY)).await;
        ann.must(
            "message",
            json!({"conversationId": LOBBY, "content": "kept"}),
        )
        .await;
        postgres.sql(&name, "ALTER ROLE chat PASSWORD 'new'");
        postgres.sql(&name, END_SESSIONS);
        // Sessions with the old password are ended, including those of this server.
        server.until_joined(false).await;
        drop(server);
        let server = start("new");
        server.until_joined(true).await;
        let mut ann = server.guest("ann").await;
        ann.must("join_conversation", json!(LOBBY)).await;
        let history = ann
            .must("message_history", json!({"conversationId": LOBBY}))
            .await;
        assert_eq!(history["messages"][0]["content"], "kept");
        let refused = tokio_postgres::connect(&with("old"), tokio_postgres::NoTls).await;
        assert!(
            refused.is_err(),
            "the old password still opens the database"
        );
    }

    #[cfg(feature = "redis")]
    #[tokio::test(flavor = "multi_thread")]
    async fn a_replaced_broker_password_joins_servers_and_the_old_one_does_not() {
        let redis = RedisServer::start();
        redis.ask(&["CONFIG", "SET", "requirepass", "old"]);
        let database = Database::new();
        let start = |password: &str| {
            let url = format!("redis://:{password}@127.0.0.1:{}", redis.port());
            database.server_with(&[("ROOMCAST_ADAPTER__URL", &url)])
        };
        let server = start("old");
        server.until_joined(true).await;
        redis.ask(&["-a", "old", "CONFIG", "SET", "requirepass", "new"]);
        for kind in ["normal", "pubsub"] {
            redis.ask(&["-a", "new", "CLIENT", "KILL", "TYPE", kind]);
        }
        server.until_joined(false).await;
        drop(server);
        let servers = [start("new"), start("new")];
        for server in &servers {
            server
                .until_metric("roomcast_nodes", |nodes| nodes == 2)
                .await;
        }
    }

    #[cfg(all(feature = "nats", feature = "redis"))]
    #[tokio::test(flavor = "multi_thread")]
    async fn a_replaced_nats_password_joins_servers_and_the_old_one_does_not() {
        let folder = TempDir::new().unwrap();
        let [configuration, pid] = ["nats.conf", "nats.pid"].map(|name| folder.path().join(name));
        let write = |password: &str| {
            let text = format!(
                "pid_file: \"{}\"\nauthorization {{ user: chat, password: {password} }}\n",
                pid.display()
            );
            fs::write(&configuration, text).unwrap();
        };
        write("old");
        // Without JetStream: if the command line has it, a reload of NATS 2.9 switches it off.
        let nats = NatsServer::start_with(&format!("-c {}", configuration.display()));
        let database = Database::new();
        let start = |password: &str| {
            let url = format!("nats://chat:{password}@127.0.0.1:{}", nats.port());
            database.server_with(&[("ROOMCAST_ADAPTER__URL", &url)])
        };
        let server = start("old");
        server.until_joined(true).await;
        write("new");
        let reload = format!("reload={}", pid.display());
        let reloaded = Command::new("nats-server")
            .args(["--signal", &reload])
            .status()
            .unwrap();
        assert!(reloaded.success());
        // NATS closes the connections with the old password.
        server.until_joined(false).await;
        drop(server);
        let servers = [start("new"), start("new")];
        for server in &servers {
            server
                .until_metric("roomcast_nodes", |nodes| nodes == 2)
                .await;
        }
    }
}
