//! Commands for operators: what they check, and what they say.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use tempfile::TempDir;

use crate::guard::KEY;
use crate::server::{Binary, ROOMCAST};

/// Runs a command to its end: its exit code, and all that it has printed.
fn run(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(ROOMCAST)
        .args(arguments.split(' '))
        .current_dir(folder)
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("XDG_STATE_HOME", folder)
        .env("NO_COLOR", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), said)
}

/// A server that greets each connection with these bytes, and where it is.
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

/// An address at which nothing listens.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn a_misspelt_log_level_is_refused_with_the_nearest_one() {
    let folder = TempDir::new().unwrap();
    for (level, reason) in [
        ("verbos", "did you mean `debug`?"),
        ("info,roomcast=debg", "did you mean `debug`?"),
        ("info,roomcats=debug", "did you mean `roomcast`?"),
    ] {
        for command in ["check-config", "serve"] {
            let (code, said) = run(folder.path(), command, &[("ROOMCAST_LOG__LEVEL", level)]);
            assert_eq!(code, 2, "{command} {level}: {said}");
            assert!(
                said.contains("log.level: ") && said.contains(reason),
                "{said}"
            );
        }
    }
    let level = ("ROOMCAST_LOG__LEVEL", "warn,roomcast_server::http=debug");
    assert_eq!(run(folder.path(), "check-config", &[level]).0, 0);
}

#[test]
fn a_server_that_is_not_nats_is_named_as_such() {
    let folder = TempDir::new().unwrap();
    for (bytes, reason) in [
        (
            &b"SSH-2.0-x\r\n"[..],
            "is no NATS server: it began with `SSH-2.0-x\\r\\n` and not with `INFO`",
        ),
        (b"", "hangs or is no NATS server: it sent nothing"),
    ] {
        let address = greeting(bytes);
        let emit = format!("emit * news 1 --unsealed --adapter nats://{address}");
        let (code, said) = run(folder.path(), &emit, &[]);
        let fault = format!("the server at {address} {reason}");
        assert!(
            code == 1 && said.contains(&fault) && !said.contains("TLS"),
            "{said}"
        );
    }
}

#[test]
fn connections_are_tried_without_changing_anything() {
    let folder = TempDir::new().unwrap();
    let (code, said) = run(folder.path(), "check-config --connect", &[]);
    assert!(
        code == 0 && said.contains("ok      store.url: sqlite:chat.db"),
        "{said}"
    );
    let made: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");

    let down = nowhere();
    let url = |path: &str| format!("http://{down}/{path}?key=canary");
    let (keys, hooks, backend, market) = (url("keys"), url("hooks"), url("me"), url("orders"));
    std::fs::write(folder.path().join("chat.db"), "this is no database at all").unwrap();
    let (code, said) = run(
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
    assert_eq!(code, 1, "{said}");
    assert!(!said.contains("canary"), "{said}");
    for (key, fault, remedy) in [
        (
            "store.url",
            "no SQLite database",
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
        let line = said
            .lines()
            .find(|line| line.starts_with(&format!("failed  {key}: ")));
        let line = line.unwrap_or_else(|| panic!("no {key} in {said}"));
        assert!(line.contains(fault) && line.contains(remedy), "{line}");
    }
}

#[test]
fn what_can_be_reached_is_told_to_be_fine() {
    let folder = TempDir::new().unwrap();
    let server = Binary::start(folder.path(), &[]);
    let hooks = format!("http://{}/", server.address());
    let log = folder.path().join("log/roomcast.log");
    let variables = [
        ("ROOMCAST_WEBHOOKS__URL", &*hooks),
        ("ROOMCAST_WEBHOOKS__SECRET", KEY.1),
        ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_LOG__FILE", log.to_str().unwrap()),
    ];
    let (code, said) = run(folder.path(), "check-config --connect", &variables);
    assert_eq!(code, 0, "{said}");
    for key in ["store.url", "webhooks.url", "log.file"] {
        assert!(
            said.contains(&format!("ok      {key}: ")),
            "{key} in {said}"
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
    std::fs::write(&cert, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let variables = [
        KEY,
        ("ROOMCAST_SERVER__TLS__CERT_FILE", cert.to_str().unwrap()),
        ("ROOMCAST_SERVER__TLS__KEY_FILE", key.to_str().unwrap()),
    ];
    let server = Binary::start(folder.path(), &variables);
    let url = format!("https://localhost:{}", server.address().port());
    for command in ["nodes", "sockets", "emit * news 1", "call GET /rooms"] {
        let plain = format!("{command} --url {url}");
        let (code, said) = run(folder.path(), &plain, &[KEY]);
        assert!(
            code == 1 && said.contains("certificate"),
            "{command}: {said}"
        );
        let (code, said) = run(folder.path(), &format!("{plain} --cacert cert.pem"), &[KEY]);
        assert_eq!(code, 0, "{command}: {said}");
    }
    let missing = format!("nodes --url {url} --cacert none.pem");
    let (code, said) = run(folder.path(), &missing, &[KEY]);
    assert!(code == 1 && said.contains("--cacert none.pem: "), "{said}");
}

#[cfg(feature = "postgres")]
#[test]
fn a_role_that_may_not_migrate_is_told_the_missing_right() {
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
        let (code, said) = store(&bare, command);
        assert!(
            code == 1 && said.contains(right) && said.contains(grant),
            "{said}"
        );
    }
    sql(
        "GRANT USAGE, CREATE ON SCHEMA public TO bare; GRANT USAGE, CREATE ON SCHEMA public TO \"The Owner\"",
    );
    let (code, said) = store(&owner, "migrate");
    assert_eq!(code, 0, "{said}");
    let (code, said) = store(&owner, "check-config --connect");
    assert!(
        code == 0 && said.contains("ok      store.url") && said.contains("ok      adapter.url"),
        "{said}"
    );
    // The tables belong to another role now.
    for command in ["migrate", "check-config --connect"] {
        let (code, said) = store(&bare, command);
        let remedy =
            "run `roomcast migrate` as \"The Owner\" and give this server `store.migrate = false`";
        assert!(code == 1 && said.contains(remedy), "{command}: {said}");
    }
    let down = format!("postgres://bare:x@{}/{name}", nowhere());
    let (code, said) = store(&down, "check-config --connect");
    assert!(
        code == 1 && said.contains("failed  store.url") && !said.contains(":x@"),
        "{said}"
    );
}
