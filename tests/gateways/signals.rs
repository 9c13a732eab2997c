//! Signals and closed pipes.

use std::io::{PipeWriter, pipe};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::client::Client;
use crate::guard::{KEY, SECRET, signed_with};
use crate::server::{LOBBY, ROOMCAST, Server, ServerProcess};
use crate::support::{DEADLINE, RawClient};

const SURVIVED: [(Signal, &str); 4] = [
    (Signal::USR1, "SIGUSR1"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::XFSZ, "SIGXFSZ"),
];

#[test]
fn a_server_survives_signals_and_logs_them_seldom() {
    let folder = TempDir::new().unwrap();
    let server = ServerProcess::start(folder.path(), &[]);
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    for (signal, name) in SURVIVED {
        kill_process(pid, signal).unwrap();
        server.expect_log(&["INFO", "signal ignored", name]);
        for _ in 0..1000 {
            kill_process(pid, signal).unwrap();
        }
        let answer = RawClient::connect(server.address()).get("/health/live");
        assert_eq!(answer.status, 200, "{name}");
    }
    let lines = server.log().matches("signal ignored").count();
    assert!(lines < 40, "{lines} lines");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_applies_a_valid_configuration_and_names_what_needs_a_restart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("roomcast.toml");
    let write = |secret: &str, level: &str, more: &str| {
        let text =
            format!("{more}\n[auth.jwt]\nsecret = \"{secret}\"\n[log]\nlevel = \"{level}\"\n");
        std::fs::write(&path, text).unwrap();
    };
    write(SECRET, "info", "");
    let server = ServerProcess::start(
        folder.path(),
        &[("ROOMCAST_CONFIG", path.to_str().unwrap())],
    );
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    let enter = async |secret: &str| {
        let claims = json!({"sub": "ann", "roles": ["user"], "exp": 4_000_000_000_u64});
        let auth = json!({"token": signed_with(secret, &claims)});
        Client::connect(server.address(), &auth).await.is_ok()
    };
    let other = SECRET.replace('a', "b");
    assert!(enter(SECRET).await && !enter(&other).await);

    // A file with one mistake changes nothing, although its other values are valid.
    write(&other, "debug", "[chat]\npage = 0\nmembrs = 1");
    kill_process(pid, Signal::HUP).unwrap();
    server.expect_log(&["ERROR", "configuration not reloaded", "chat.page is zero"]);
    server.expect_log(&[
        "ERROR",
        "configuration not reloaded",
        "line 3: unknown key `chat.membrs`",
    ]);
    assert!(enter(SECRET).await && !enter(&other).await);
    assert!(!server.log().contains("DEBUG"));

    // Some keys of tokens need a restart. Without them, nobody could connect.
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, "{\"keys\": []}").unwrap();
    let text = format!("[auth.jwt]\nkeys_file = \"{}\"\n", keys.display());
    std::fs::write(&path, text).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    server.expect_log(&[
        "ERROR",
        "other keys of the section have changed as well",
        "auth.jwt.keys_file",
    ]);
    assert!(enter(SECRET).await);

    write(&other, "debug", "[chat]\npage = 100");
    kill_process(pid, Signal::HUP).unwrap();
    server.expect_log(&["WARN", "changed keys need a restart", "chat.page"]);
    server.expect_log(&[
        "INFO",
        "configuration reloaded",
        "auth.jwt.secret, log.level",
    ]);
    assert!(enter(&other).await && !enter(SECRET).await);
    server.expect_log(&["DEBUG"]);

    // The limits of users apply as well.
    write(&other, "info", "[limits]\nconnections_per_user = 1");
    kill_process(pid, Signal::HUP).unwrap();
    server.expect_log(&[
        "INFO",
        "configuration reloaded",
        "limits.connections_per_user",
    ]);
    let claims = json!({"sub": "ann", "roles": ["user"], "exp": 4_000_000_000_u64});
    let auth = json!({"token": signed_with(&other, &claims)});
    let _ann = Client::connect(server.address(), &auth).await.unwrap();
    assert!(!enter(&other).await);

    for _ in 0..1000 {
        kill_process(pid, Signal::HUP).unwrap();
    }
    server.expect_log(&["INFO", "configuration reloaded", "changed=\"\""]);
    let log = server.log();
    assert!(log.matches("configuration reloaded").count() < 40, "{log}");
    assert!(!log.contains(SECRET) && !log.contains(&other), "{log}");
    server.terminate();
}

/// Runs `roomcast log-level` for a server, and returns whether it succeeds, with its output.
fn log_level(server: &ServerProcess, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(ROOMCAST)
        .arg("log-level")
        .args(arguments)
        .args(["--url", &format!("http://{}", server.address())])
        .envs([KEY])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn log_level_of_a_module_is_set_until_reset_or_reload() {
    let folder = TempDir::new().unwrap();
    let server = ServerProcess::start(folder.path(), &[KEY]);
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    let shown = |level: &str| format!("\"level\": \"{level}\"\n}}");
    assert!(log_level(&server, &[]).1.contains(&shown("info")));

    let quiet = "info,roomcast_server::server=warn";
    assert!(log_level(&server, &[quiet]).1.contains(&shown(quiet)));
    server.expect_log(&["WARN", "log level set", "roomcast-command", quiet]);
    kill_process(pid, Signal::USR1).unwrap();

    for (wrong, reason) in [
        ("roomcast=debg", "debug"),
        (&"a".repeat(1025), "at most 1024 bytes"),
    ] {
        let (is_done, output) = log_level(&server, &[wrong]);
        assert!(!is_done && output.contains(reason), "{output}");
    }
    assert!(log_level(&server, &["--reset"]).1.contains(&shown("info")));
    kill_process(pid, Signal::USR2).unwrap();
    server.expect_log(&["INFO", "signal ignored", "SIGUSR2"]);
    assert!(!server.log().contains("SIGUSR1"));

    // The new filter excludes warnings, but not the one about the filter itself.
    assert!(log_level(&server, &["error"]).0);
    server.expect_log(&["WARN", "log level set", "level=\"error\""]);
    kill_process(pid, Signal::HUP).unwrap();
    let is_reset = async || log_level(&server, &[]).1.contains(&shown("info"));
    tokio::time::timeout(DEADLINE, async {
        while !is_reset().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the reload restores the configured level");
    server.terminate();
}

/// Returns a pipe without a reader.
fn closed() -> PipeWriter {
    let (_, writer) = pipe().unwrap();
    writer
}

/// Runs a command whose output, and possibly whose error output, has no reader.
fn run(arguments: &[&str], folder: &TempDir, url: &str, errors: Stdio) -> Output {
    Command::new(ROOMCAST)
        .args(arguments)
        .current_dir(folder.path())
        .envs([KEY])
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("ROOMCAST_LISTEN", url.trim_start_matches("http://"))
        .env("XDG_STATE_HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(closed())
        .stderr(errors)
        .output()
        .unwrap()
}

#[tokio::test]
async fn commands_end_quietly_if_their_output_is_closed() {
    let server = Server::with(&[KEY]);
    let _ann = server.in_lobby("ann").await;
    let url = format!("http://{}", server.address());
    let folder = TempDir::new().unwrap();
    let migrated = Command::new(ROOMCAST)
        .args(["--store", "sqlite:chat.db", "migrate"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(migrated.success());
    let bench = format!("bench echo {url} --clients 1 --duration 0.2 --warmup 0");
    let export = format!("export --conversation {LOBBY}");
    let emit = format!("emit * news 1 --url {url}");
    let (sockets, nodes) = (format!("sockets --url {url}"), format!("nodes --url {url}"));
    let call = format!("call GET /rooms --url {url}");
    let mut commands = vec![
        "--help",
        "--version",
        "check-config",
        "print-config",
        "migrate",
        "token --sub ann",
        "catalog",
        "catalog --format asyncapi",
        "catalog --format typescript",
        "catalog --format json-schema",
        "catalog --format openapi",
        "explain --user ann --event conversations",
        "completions bash",
        "man",
        &emit,
        &sockets,
        &nodes,
        &call,
        &bench,
    ];
    // The database of a command has no Lobby.
    commands.push(&export);
    for command in commands {
        let arguments: Vec<_> = command.split(' ').collect();
        let is_found = !command.starts_with("export");
        let Output { status, stderr, .. } = run(&arguments, &folder, &url, Stdio::piped());
        let log = String::from_utf8(stderr).unwrap();
        assert!(
            !log.contains("panicked") && !log.contains("Broken pipe"),
            "{command}: {log}"
        );
        assert_eq!(status.success(), is_found, "{command}: {status} {log}");
        // A panic ends a process with exit code 101.
        let status = run(&arguments, &folder, &url, closed().into()).status;
        assert!(matches!(status.code(), Some(0..=2)), "{command}: {status}");
    }
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[tokio::test(flavor = "multi_thread")]
async fn server_whose_id_is_in_use_drains_and_ends_like_after_a_signal() {
    let redis = crate::redis_server::RedisServer::start();
    let database = crate::nodes::Database::new();
    let url = redis.url();
    let variables = [
        ("ROOMCAST_ADAPTER__URL", url.as_str()),
        ("ROOMCAST_NODE__ID", "one"),
        ("ROOMCAST_SERVER__DRAIN", "1h"),
    ];
    // Two servers that meet only after both have started.
    redis.kill();
    let mut servers = [(); 2].map(|()| database.server_with(&variables));
    let mut clients = Vec::new();
    for server in &servers {
        for n in 0..5 {
            clients.push(server.guest(&format!("guest {n}")).await);
        }
    }
    redis.restart();
    let is_draining = |server: &ServerProcess| {
        let answer = RawClient::connect(server.address()).get("/health/ready");
        answer.status == 503 && answer.body.contains("\"draining\":true")
    };
    let start = std::time::Instant::now();
    let leaving = loop {
        assert!(start.elapsed() < 2 * DEADLINE, "no server leaves");
        if let Some(leaving) = servers.iter().position(is_draining) {
            break leaving;
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    };
    // As a second signal, it ends the server without the rest of the hour.
    servers[leaving].signal(Signal::TERM);
    assert_eq!(servers[leaving].exit_code(), Some(1));
    assert!(!is_draining(&servers[1 - leaving]));
}
