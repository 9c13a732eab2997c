//! Commands for operators: their checks and their output.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::config::key_set;
use crate::guard::{KEY, SECRET};
use crate::server::{ROOMCAST, ServerProcess};
use crate::starting::{OTHER_USER, as_another_user};

/// Runs a command to its end, and returns its exit code and output.
fn run(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> (i32, String) {
    run_program(&mut Command::new(ROOMCAST), folder, arguments, variables)
}

/// Runs a command with a prepared program.
fn run_program(
    program: &mut Command,
    folder: &Path,
    arguments: &str,
    variables: &[(&str, &str)],
) -> (i32, String) {
    within(program.args(arguments.split(' ')), folder, variables)
}

/// Runs a prepared command in a folder, and returns its exit code and output.
pub(crate) fn within(
    command: &mut Command,
    folder: &Path,
    variables: &[(&str, &str)],
) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .current_dir(folder)
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("XDG_STATE_HOME", folder)
        .env("NO_COLOR", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let output = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), output)
}

/// Starts a server that sends these bytes on each connection, and returns its address.
fn greeting(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(bytes);
            open.push(stream);
        }
    });
    address
}

/// Returns an address without a listener.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn misspelt_log_level_is_refused_with_the_nearest_level() {
    let folder = TempDir::new().unwrap();
    for (level, reason) in [
        ("verbos", "did you mean `debug`?"),
        ("info,roomcast=debg", "did you mean `debug`?"),
        ("info,roomcats=debug", "did you mean `roomcast`?"),
    ] {
        for command in ["check-config", "serve"] {
            let (code, output) = run(folder.path(), command, &[("ROOMCAST_LOG__LEVEL", level)]);
            assert_eq!(code, 2, "{command} {level}: {output}");
            assert!(
                output.contains("log.level: ") && output.contains(reason),
                "{output}"
            );
        }
    }
    let level = ("ROOMCAST_LOG__LEVEL", "warn,roomcast_server::http=debug");
    assert_eq!(run(folder.path(), "check-config", &[level]).0, 0);
}

#[test]
fn tool_reports_a_server_that_is_not_nats() {
    let folder = TempDir::new().unwrap();
    for (bytes, reason) in [
        (
            &b"SSH-2.0-x\r\n"[..],
            "is not a NATS server: it began with `SSH-2.0-x\\r\\n` and not with `INFO`",
        ),
        (b"", "hangs or is not a NATS server: it sent nothing"),
    ] {
        let address = greeting(bytes);
        let emit = format!("emit * news 1 --unsealed --adapter nats://{address}");
        let (code, output) = run(folder.path(), &emit, &[]);
        let fault = format!("the server at {address} {reason}");
        assert!(
            code == 1 && output.contains(&fault) && !output.contains("TLS"),
            "{output}"
        );
    }
}

#[test]
fn connections_are_tried_without_changing_anything() {
    let folder = TempDir::new().unwrap();
    let (code, output) = run(folder.path(), "check-config --connect", &[]);
    assert!(
        code == 0 && output.contains("ok      store.url: sqlite:chat.db"),
        "{output}"
    );
    let made: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");

    let down = nowhere();
    let url = |path: &str| format!("http://{down}/{path}?key=canary");
    let (keys, hooks, backend, market) = (url("keys"), url("hooks"), url("me"), url("orders"));
    fs::write(folder.path().join("chat.db"), "this is no database at all").unwrap();
    let (code, output) = run(
        folder.path(),
        "check-config --connect",
        &[
            ("ROOMCAST_AUTH__JWT__JWKS_URL", &keys),
            ("ROOMCAST_WEBHOOKS__URL", &hooks),
            ("ROOMCAST_WEBHOOKS__SECRET", KEY.1),
            ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
            ("ROOMCAST_AUTH__BACKEND__URL", &backend),
            ("ROOMCAST_AUTH__BACKEND__SECRETS", KEY.1),
            ("ROOMCAST_AUTH__BACKEND__ALLOW_PRIVATE", "true"),
            ("ROOMCAST_MARKET__EXECUTOR", "webhook"),
            ("ROOMCAST_MARKET__WEBHOOK__URL", &market),
            ("ROOMCAST_MARKET__WEBHOOK__ALLOW_PRIVATE", "true"),
        ],
    );
    assert_eq!(code, 1, "{output}");
    assert!(!output.contains("canary"), "{output}");
    for (key, fault, remedy) in [
        (
            "store.url",
            "not an SQLite database",
            "set store.url to another path",
        ),
        ("auth.jwt.jwks_url", "cannot connect", "check the address"),
        ("webhooks.url", "cannot connect", "check webhooks.url"),
        (
            "auth.backend.url",
            "cannot connect",
            "check auth.backend.url",
        ),
        (
            "market.webhook.url",
            "cannot connect",
            "check market.webhook.url",
        ),
    ] {
        let line = output
            .lines()
            .find(|line| line.starts_with(&format!("error   {key}: ")));
        let line = line.unwrap_or_else(|| panic!("no {key} in {output}"));
        assert!(line.contains(fault) && line.contains(remedy), "{line}");
    }
}

#[cfg(all(feature = "nats", feature = "postgres", feature = "redis"))]
#[test]
fn an_adapter_that_does_not_work_is_named_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let redis = crate::redis_server::RedisServer::start();
    redis.ask(&["CONFIG", "SET", "requirepass", "right"]);
    let down = crate::support::UnusedAddress::new();
    // An adapter needs a shared store. The store is checked separately, and is down as well.
    let store = format!("postgres://x@{}/chat", down.address());
    let with = |password: &str| format!("redis://:{password}@127.0.0.1:{}", redis.port());
    for (url, fault) in [
        (
            format!("redis://:canary@{}", down.address()),
            Some("refused"),
        ),
        (
            format!("nats://ann:canary@{}", down.address()),
            Some("refused"),
        ),
        (with("canary"), Some("WRONGPASS")),
        (with("right"), None),
    ] {
        let variables = [
            ("ROOMCAST_STORE", &*store),
            ("ROOMCAST_ADAPTER__URL", &*url),
        ];
        let (code, output) = run(folder.path(), "check-config --connect", &variables);
        assert!(code == 1 && !output.contains("canary"), "{url}: {output}");
        let outcome = if fault.is_some() { "error" } else { "ok" };
        let start = format!("{outcome:8}adapter.url: ");
        let line = output.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{url}: {output}"));
        if let Some(fault) = fault {
            let remedy = "check the address and the credentials in adapter.url";
            assert!(line.contains(fault) && line.contains(remedy), "{line}");
        }
    }
}

#[test]
fn files_without_rights_are_named_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    // Another user may enter the folder.
    set_mode(folder.path(), 0o755);
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let keys = folder.path().join("keys.json");
    fs::write(&keys, key_set(SECRET, "HS256")).unwrap();
    // Only the group of the other user may read the file.
    if geteuid().is_root() {
        chown(&keys, None, Some(OTHER_USER)).unwrap();
    }
    let log = closed.join("log/roomcast.log");
    let check = || {
        let variables = [
            ("ROOMCAST_STORE", "memory:"),
            ("ROOMCAST_LOG__FILE", log.to_str().unwrap()),
            ("ROOMCAST_AUTH__JWT__KEYS_FILE", keys.to_str().unwrap()),
        ];
        let mut program = as_another_user(ROOMCAST);
        run_program(
            &mut program,
            folder.path(),
            "check-config --connect",
            &variables,
        )
    };
    // Root ignores modes, so the modes are those for another user.
    set_mode(&closed, 0o555);
    set_mode(&keys, 0o000);
    let (code, output) = check();
    let fault = format!("auth.jwt.keys_file: {}: Permission denied", keys.display());
    assert!(code == 2 && output.contains(&fault), "{output}");

    set_mode(&keys, 0o440);
    let (code, output) = check();
    assert_eq!(code, 1, "{output}");
    let start = format!("error   log.file: {}: ", log.display());
    let line = output.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("no {start} in {output}"));
    for part in [
        &*format!("{}: Permission denied", closed.display()),
        "the right to write there",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(output.contains("ok      auth.jwt.keys_file: "), "{output}");

    set_mode(&closed, 0o1777);
    let (code, output) = check();
    assert!(
        code == 0 && output.contains("ok      log.file: "),
        "{output}"
    );
}

#[test]
fn reachable_services_are_reported_as_ok() {
    let folder = TempDir::new().unwrap();
    let server = ServerProcess::start(folder.path(), &[]);
    let hooks = format!("http://{}/", server.address());
    let log = folder.path().join("log/roomcast.log");
    let variables = [
        ("ROOMCAST_WEBHOOKS__URL", &*hooks),
        ("ROOMCAST_WEBHOOKS__SECRET", KEY.1),
        ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_LOG__FILE", log.to_str().unwrap()),
    ];
    let (code, output) = run(folder.path(), "check-config --connect", &variables);
    assert_eq!(code, 0, "{output}");
    for key in ["store.url", "webhooks.url", "log.file"] {
        assert!(
            output.contains(&format!("ok      {key}: ")),
            "{key} in {output}"
        );
    }
    server.terminate();
}

#[test]
fn commands_trust_the_certificates_of_a_file() {
    let folder = TempDir::new().unwrap();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    fs::write(&cert, issued.cert.pem()).unwrap();
    fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let variables = [
        KEY,
        ("ROOMCAST_SERVER__TLS__CERT_FILE", cert.to_str().unwrap()),
        ("ROOMCAST_SERVER__TLS__KEY_FILE", key.to_str().unwrap()),
    ];
    let server = ServerProcess::start(folder.path(), &variables);
    let url = format!("https://localhost:{}", server.address().port());
    for command in ["nodes", "sockets", "emit * news 1", "call GET /rooms"] {
        let plain = format!("{command} --url {url}");
        let (code, output) = run(folder.path(), &plain, &[KEY]);
        assert!(
            code == 1 && output.contains("certificate"),
            "{command}: {output}"
        );
        let (code, output) = run(folder.path(), &format!("{plain} --cacert cert.pem"), &[KEY]);
        assert_eq!(code, 0, "{command}: {output}");
    }
    let missing = format!("nodes --url {url} --cacert none.pem");
    let (code, output) = run(folder.path(), &missing, &[KEY]);
    assert!(
        code == 1 && output.contains("--cacert none.pem: "),
        "{output}"
    );
}

#[cfg(feature = "postgres")]
#[test]
fn role_without_migration_right_gets_the_missing_right_named() {
    let postgres = crate::postgres::Postgres::start();
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let sql = |text: &str| postgres.sql(name, text);
    sql(
        "CREATE ROLE bare LOGIN PASSWORD 'x'; CREATE ROLE \"The Owner\" LOGIN PASSWORD 'x';
         REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    );
    let folder = TempDir::new().unwrap();
    let of = |role: &str| format!("postgres://{role}:x@127.0.0.1:{}/{name}", postgres.port());
    let (bare, owner) = (of("bare"), of("The%20Owner"));
    let store = |url: &str, command: &str| run(folder.path(), command, &[("ROOMCAST_STORE", url)]);

    let right = "the role bare lacks the right CREATE on the schema public";
    let grant = "`GRANT USAGE, CREATE ON SCHEMA public TO bare`";
    for command in ["migrate", "check-config --connect"] {
        let (code, output) = store(&bare, command);
        assert!(
            code == 1 && output.contains(right) && output.contains(grant),
            "{output}"
        );
    }
    sql(
        "GRANT USAGE, CREATE ON SCHEMA public TO bare; GRANT USAGE, CREATE ON SCHEMA public TO \"The Owner\"",
    );
    let (code, output) = store(&owner, "migrate");
    assert_eq!(code, 0, "{output}");
    let (code, output) = store(&owner, "check-config --connect");
    assert!(
        code == 0 && output.contains("ok      store.url") && output.contains("ok      adapter.url"),
        "{output}"
    );
    // The tables belong to another role now.
    for command in ["migrate", "check-config --connect"] {
        let (code, output) = store(&bare, command);
        let remedy =
            "run `roomcast migrate` as \"The Owner\" and give this server `store.migrate = false`";
        assert!(code == 1 && output.contains(remedy), "{command}: {output}");
    }
    let down = format!("postgres://bare:x@{}/{name}", nowhere());
    let (code, output) = store(&down, "check-config --connect");
    assert!(
        code == 1 && output.contains("error   store.url") && !output.contains(":x@"),
        "{output}"
    );
}
