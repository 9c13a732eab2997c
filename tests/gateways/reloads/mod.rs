//! Secrets that a running server replaces on SIGHUP: the new secret is used, the old one is
//! refused, and connected clients stay connected. The steps are those of `docs/operations.md`. Each
//! reload is in the audit log.

mod audited;
#[cfg(feature = "postgres")]
mod cluster;

use std::fs;
use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::hmac;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::client::Client;
use crate::guard::{KEY, Server, signed_with, until};
use crate::market::{client, must, signal};
use crate::rotation::{assert_refused, development_token, enters, scrape};
use crate::security;
use crate::server::{LOBBY, ServerProcess};
use crate::trades::{FILLED, Hook, Reply, header, order, states};

const OLD: &str = "the-old-secret-of-at-least-thirty-two-bytes";
const NEW: &str = "the-new-secret-of-at-least-thirty-two-bytes";

/// A server with a configuration file.
struct Configured {
    server: Server,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Configured {
    fn start(text: &str) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("roomcast.toml");
        fs::write(&file, text).unwrap();
        let server = Server::start(&[KEY, ("ROOMCAST_CONFIG", file.to_str().unwrap())]);
        Self {
            server,
            file,
            _folder: folder,
        }
    }

    /// Changes the file, reloads it, and waits for a line with all of these parts.
    fn reload(&self, text: &str, expected: &[&str]) {
        fs::write(&self.file, text).unwrap();
        hang_up(&self.server);
        self.server.binary.expect_log(expected);
    }
}

fn hang_up(server: &Server) {
    hang_up_process(&server.binary);
}

fn hang_up_process(process: &ServerProcess) {
    let pid = i32::try_from(process.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
}

/// Expects that a client which was connected before the reload is still served.
async fn assert_connected(client: &mut Client) {
    client.must("join_conversation", json!(LOBBY)).await;
}

/// Returns the secrets that have signed a delivery.
fn signers(delivery: &str) -> Vec<&'static str> {
    let (_, body) = delivery.split_once("\r\n\r\n").unwrap();
    let signature = header(delivery, "roomcast-signature").unwrap();
    let (time, proofs) = signature.split_once(',').unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let is_signer = |secret: &&str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let proof = hmac::sign(&key, format!("{time}.{body}").as_bytes());
        let proof = proof.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let proof = format!("v1={}", proof.collect::<String>());
        proofs.split(',').any(|found| found == proof)
    };
    [OLD, NEW].into_iter().filter(is_signer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_secret_is_rotated_by_reloads_without_a_stop() {
    let hook = Hook::start(&[Reply::Answer(401, "")]);
    let write = |secrets: &str| {
        let url = hook.url();
        format!(
            "[webhooks]\nurl = \"{url}\"\n{secrets}\nevents = [\"signal:new\"]\n\
             allow_private = true\nretry_delay = \"100ms\"\n"
        )
    };
    let server = Configured::start(&write(&format!("secret = \"{OLD}\"")));
    let binary = &server.server.binary;
    let mut ann = client(binary, "ann", "user").await;
    must(binary, "/signals", signal("waits", None)).await;
    let until_signed = |expected: &[&str]| {
        let is_expected = |request: &String| signers(request) == expected;
        until(|| hook.requests().last().is_some_and(is_expected));
    };
    until_signed(&[OLD]);

    // A new receiver never gets a signature with the secret of the previous one, nor the other way
    // round: a changed URL needs a restart, and the secret with it.
    let other = write(&format!("secret = \"{NEW}\"")).replace("x=1", "x=2");
    let unchanged = ["ERROR", "configuration not reloaded", "webhooks.url"];
    server.reload(&other, &unchanged);
    // A mistake elsewhere changes nothing.
    let invalid = write(&format!("secret = \"{NEW}\"")) + "[chat]\npage = 0\n";
    let unchanged = ["ERROR", "configuration not reloaded", "chat.page is zero"];
    server.reload(&invalid, &unchanged);
    until_signed(&[OLD]);

    let both = write(&format!("secret = \"{NEW}\"\nprevious_secret = \"{OLD}\""));
    let reloaded = "changed=\"webhooks.previous_secret, webhooks.secret\"";
    server.reload(&both, &["INFO", "configuration reloaded", reloaded]);
    until_signed(&[OLD, NEW]);
    let new = write(&format!("secret = \"{NEW}\""));
    let reloaded = "changed=\"webhooks.previous_secret\"";
    server.reload(&new, &["INFO", "configuration reloaded", reloaded]);
    until_signed(&[NEW]);
    hook.plan(Reply::Answer(204, ""));
    let delivered = "roomcast_webhook_deliveries_total{result=\"delivered\"}";
    binary.until_metric(delivered, |count| count == 1).await;
    assert_connected(&mut ann).await;
    let log = binary.log();
    assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn executor_token_is_rotated_by_a_reload_without_a_stop() {
    let hook = Hook::start(&[Reply::Answer(200, FILLED)]);
    let write = |token: &str| {
        let url = hook.url();
        format!(
            "[market]\nexecutor = \"webhook\"\n[market.webhook]\nurl = \"{url}\"\n\
             allow_private = true\ntoken = \"{token}\"\n"
        )
    };
    let server = Configured::start(&write(OLD));
    let mut ann = client(&server.server.binary, "ann", "admin").await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    let last_token = || header(hook.requests().last().unwrap(), "authorization");
    ann.must("execute:trade", order("AAPL")).await;
    states(&mut ann, &["pending", "executed"]).await;
    assert_eq!(last_token(), Some(format!("Bearer {OLD}")));

    let invalid = write("two\\nlines");
    let unchanged = [
        "ERROR",
        "configuration not reloaded",
        "market.webhook.token",
    ];
    server.reload(&invalid, &unchanged);
    let reloaded = "changed=\"market.webhook.token\"";
    server.reload(&write(NEW), &["INFO", "configuration reloaded", reloaded]);
    ann.must("execute:trade", order("AAPL")).await;
    states(&mut ann, &["pending", "executed"]).await;
    assert_eq!(last_token(), Some(format!("Bearer {NEW}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_secret_is_rotated_by_reloads_without_a_stop() {
    let backend = Hook::start(&[Reply::Answer(200, r#"{"userId":"ann","roles":["user"]}"#)]);
    let write = |secrets: &[&str]| {
        let (url, secrets) = (backend.url(), json!(secrets));
        format!(
            "[auth.backend]\nurl = \"{url}\"\nsecrets = {secrets}\nallow_private = true\n\
             recheck = \"100ms\"\n"
        )
    };
    let server = Configured::start(&write(&[OLD]));
    let binary = &server.server.binary;
    let cookie = |secret: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let proof = STANDARD_NO_PAD.encode(hmac::sign(&key, b"session-of-ann"));
        let proof = proof.replace('+', "%2B").replace('/', "%2F");
        format!("Cookie: connect.sid=s%3Asession-of-ann.{proof}\r\nSec-Fetch-Site: same-origin\r\n")
    };
    let is_admitted = |secret: &str| security::connect(binary, &cookie(secret)).starts_with("40{");
    let (mut ann, answer) = security::connected(binary, &cookie(OLD));
    assert!(answer.starts_with("40{"), "{answer}");
    assert!(is_admitted(OLD) && !is_admitted(NEW));

    let reloaded = [
        "INFO",
        "configuration reloaded",
        "changed=\"auth.backend.secrets\"",
    ];
    server.reload(&write(&[NEW, OLD]), &reloaded);
    assert!(is_admitted(OLD) && is_admitted(NEW));
    server.reload(&write(&[NEW]), &reloaded);
    until(|| !is_admitted(OLD));
    assert!(is_admitted(NEW));
    // Her socket stays connected: the backend still confirms her session.
    let queries = backend.requests().len();
    until(|| backend.requests().len() > queries);
    ann.send_text(format!("421[\"join_conversation\",\"{LOBBY}\"]"));
    while !security::text(&mut ann).starts_with("431[{\"success\":true") {}
}

#[tokio::test]
async fn metrics_token_is_rotated_by_a_reload_without_a_stop() {
    let write = |token: &str| format!("[server]\nmetrics_token = \"{token}\"\n");
    let server = Configured::start(&write(OLD));
    let binary = &server.server.binary;
    let mut ann = client(binary, "ann", "user").await;
    assert_eq!(
        (scrape(binary, OLD).await, scrape(binary, NEW).await),
        (200, 401)
    );
    let reloaded = "changed=\"server.metrics_token\"";
    server.reload(&write(NEW), &["INFO", "configuration reloaded", reloaded]);
    assert_eq!(
        (scrape(binary, OLD).await, scrape(binary, NEW).await),
        (401, 200)
    );
    // Without any token, the route does not exist.
    let restart = [
        "WARN",
        "changed keys need a restart",
        "server.metrics_token",
    ];
    server.reload("", &restart);
    assert_eq!(scrape(binary, NEW).await, 200);
    assert_connected(&mut ann).await;
}

#[tokio::test]
async fn secret_in_the_environment_file_is_rotated_by_a_reload() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("roomcast.env");
    let write = |secret: &str| {
        let text = format!("# Secrets\nROOMCAST_AUTH__JWT__SECRET={secret}\n");
        fs::write(&file, text).unwrap();
    };
    write(OLD);
    let server = Server::start(&[KEY, ("ROOMCAST_ENV_FILE", file.to_str().unwrap())]);
    let binary = &server.binary;
    let claims = json!({"sub": "ann", "roles": ["user"], "exp": 4_000_000_000_u64});
    let [old, new] = [OLD, NEW].map(|secret| signed_with(secret, &claims));
    let mut ann = enters(binary, &old).await.unwrap();
    assert_refused(enters(binary, &new).await);
    fs::write(&file, format!("ROOMCAST_AUTH__JWT__SECRET=\"{NEW}\"\n")).unwrap();
    hang_up(&server);
    let unchanged = ["ERROR", "configuration not reloaded", "line 1: expected"];
    binary.expect_log(&unchanged);
    enters(binary, &old).await.unwrap();
    write(NEW);
    hang_up(&server);
    let reloaded = "changed=\"auth.jwt.secret\"";
    binary.expect_log(&["INFO", "configuration reloaded", reloaded]);
    assert_refused(enters(binary, &old).await);
    enters(binary, &new).await.unwrap();
    assert_connected(&mut ann).await;
    let log = binary.log();
    assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
}

#[tokio::test]
async fn development_key_is_rotated_by_a_reload_without_a_stop() {
    let server = Server::start(&[]);
    let old = development_token(server.folder());
    let mut ann = enters(&server.binary, &old).await.unwrap();
    let key = server.folder().join("roomcast/development.key");
    // A key that cannot be used replaces nothing.
    let good = fs::read(&key).unwrap();
    fs::write(&key, "short").unwrap();
    hang_up(&server);
    let unchanged = ["ERROR", "configuration not reloaded", "too short"];
    server.binary.expect_log(&unchanged);
    enters(&server.binary, &old).await.unwrap();
    fs::write(&key, good).unwrap();

    fs::remove_file(&key).unwrap();
    hang_up(&server);
    server
        .binary
        .expect_log(&["INFO", "configuration reloaded"]);
    assert_refused(enters(&server.binary, &old).await);
    let new = development_token(server.folder());
    enters(&server.binary, &new).await.unwrap();
    assert_connected(&mut ann).await;
}
