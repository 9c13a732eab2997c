//! `roomcast check-config --connect` names what prevents the server from running here and what to
//! do, and accepts what works.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::config::key_set;
use crate::guard::SECRET;
use crate::postgres::Postgres;
use crate::server::{ROOMCAST, ServerProcess};
use crate::tools::within;

const CHECK: [&str; 2] = ["check-config", "--connect"];

/// Runs the command, and returns its exit code and output.
fn check(folder: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    within(Command::new(ROOMCAST).args(CHECK), folder, variables)
}

/// Returns whether a line begins with a status and a subject, and contains a part.
fn reports(output: &str, beginning: &str, part: &str) -> bool {
    let mut lines = output.lines();
    lines.any(|line| line.starts_with(beginning) && line.contains(part))
}

#[track_caller]
fn expect(outcome: &(i32, String), code: i32, beginning: &str, part: &str) {
    let (found, output) = outcome;
    assert_eq!(*found, code, "{output}");
    assert!(
        reports(output, beginning, part),
        "{beginning} {part} in {output}"
    );
}

#[test]
fn check_accepts_a_working_server_beside_its_database() {
    let folder = TempDir::new().unwrap();
    let outcome = check(folder.path(), &[]);
    for (beginning, part) in [
        ("the configuration is valid", ""),
        ("ok      server.listen:", "is free"),
        ("ok      store.url:", "works"),
        ("ok      database schema:", "this server has version"),
    ] {
        expect(&outcome, 0, beginning, part);
    }
    let server = ServerProcess::start(folder.path(), &[]);
    let address = server.address().to_string();
    let running = [
        ("ROOMCAST_LISTEN", &*address),
        ("ROOMCAST_SERVER__ADMIN_LISTEN", "off"),
    ];
    let outcome = check(folder.path(), &running);
    expect(
        &outcome,
        0,
        "ok      server.listen:",
        "in use by a running roomcast",
    );
    let json = within(
        Command::new(ROOMCAST).args(CHECK).arg("--json"),
        folder.path(),
        &running,
    );
    let report: Value = serde_json::from_str(&json.1).unwrap();
    assert_eq!((json.0, &report["valid"]), (0, &true.into()));
    let findings = report["findings"].as_array().unwrap();
    let works = |finding: &Value| finding["subject"] == "store.url" && finding["status"] == "ok";
    assert!(findings.iter().any(works), "{report}");
}

#[test]
fn check_names_busy_ports_open_secrets_and_low_limits() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let outcome = check(path, &[("ROOMCAST_LISTEN", &address)]);
    expect(
        &outcome,
        1,
        "error   server.listen:",
        "names the program: stop it, or set",
    );
    let outcome = check(path, &[("ROOMCAST_SERVER__ADMIN_LISTEN", &address)]);
    expect(&outcome, 1, "error   server.admin_listen:", &address);
    let outcome = check(
        path,
        &[
            ("ROOMCAST_SERVER__ADMIN_LISTEN", "192.0.2.1:9464"),
            (
                "ROOMCAST_SERVER__METRICS_TOKEN",
                "0123456789abcdef0123456789abcdef",
            ),
        ],
    );
    expect(
        &outcome,
        1,
        "error   server.admin_listen:",
        "an address of this machine",
    );

    let keys = path.join("keys.json");
    fs::write(&keys, key_set(SECRET, "HS256")).unwrap();
    let file = ("ROOMCAST_AUTH__JWT__KEYS_FILE", keys.to_str().unwrap());
    fs::set_permissions(&keys, Permissions::from_mode(0o644)).unwrap();
    expect(
        &check(path, &[file]),
        1,
        "error   auth.jwt.keys_file:",
        "chmod o-rwx",
    );
    fs::set_permissions(&keys, Permissions::from_mode(0o660)).unwrap();
    expect(
        &check(path, &[file]),
        0,
        "warning auth.jwt.keys_file:",
        "chmod g-w",
    );
    fs::set_permissions(&keys, Permissions::from_mode(0o600)).unwrap();
    expect(
        &check(path, &[file]),
        0,
        "ok      auth.jwt.keys_file:",
        "0600",
    );

    let limited = format!("ulimit -n 256 && exec {ROOMCAST} check-config --connect");
    let many = ("ROOMCAST_LIMITS__CONNECTIONS", "5000");
    let outcome = within(Command::new("bash").args(["-c", &limited]), path, &[many]);
    expect(&outcome, 1, "error   open files:", "set LimitNOFILE=5128");
    let outcome = within(Command::new("bash").args(["-c", &limited]), path, &[]);
    expect(&outcome, 0, "warning open files:", "at most 256");

    // The settings belong to a network namespace.
    let kernel =
        format!("echo 16 > /proc/sys/net/core/somaxconn && exec {ROOMCAST} check-config --connect");
    let outcome = within(
        Command::new("unshare").args(["-rn", "sh", "-c", &kernel]),
        path,
        &[],
    );
    assert!(
        reports(&outcome.1, "warning net.core.somaxconn: 16", "sysctl -w"),
        "{}",
        outcome.1
    );
    let outcome = check(path, &[("ROOMCAST_CHAT__PAGE", "0")]);
    assert!(
        outcome.0 == 2 && outcome.1.contains("chat.page is zero"),
        "{}",
        outcome.1
    );
}

#[test]
fn check_names_every_private_file_that_other_users_can_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    // The server does not start with an open file of the token: the configuration is refused.
    let values = [
        ("--env-file", "environment file", "ROOMCAST_LOG=info\n", 1),
        ("ROOMCAST_AUDIT__FILE", "audit.file", "", 1),
        ("ROOMCAST_LOG__FILE", "log.file", "", 1),
        (
            "ROOMCAST_SERVER__METRICS_TOKEN_FILE",
            "server.metrics_token_file",
            "0123456789abcdef0123456789abcdef\n",
            2,
        ),
        (
            "ROOMCAST_OTLP__HEADERS_FILE",
            "otlp.headers_file",
            "authorization: canary\n",
            1,
        ),
    ];
    for (variable, subject, content, code) in values {
        let file = path.join(subject.replace(' ', "-"));
        fs::write(&file, content).unwrap();
        let shown = file.to_str().unwrap();
        let run = || {
            let mut command = Command::new(ROOMCAST);
            command.args(CHECK);
            if variable == "--env-file" {
                return within(command.args([variable, shown]), path, &[]);
            }
            within(&mut command, path, &[(variable, shown)])
        };
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let beginning = match code {
            1 => format!("error   {subject}:"),
            _ => format!("roomcast: {variable}: {subject}:"),
        };
        expect(&run(), code, &beginning, "run `chmod o-rwx");
        for (mode, status, part) in [
            (0o660, "warning", format!("run `chmod g-w {shown}`")),
            (0o640, "ok     ", "0640".to_owned()),
        ] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            expect(&run(), 0, &format!("{status} {subject}:"), &part);
        }
        assert!(!run().1.contains("canary"));
    }
}

#[test]
fn check_names_files_that_the_server_cannot_write() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for (variable, key) in [
        ("ROOMCAST_AUDIT__FILE", "audit.file"),
        ("ROOMCAST_LOG__FILE", "log.file"),
    ] {
        for (file, fault) in [
            ("file/log", "file is not a folder"),
            (".", ". is a folder: name a file"),
        ] {
            let outcome = check(folder.path(), &[(variable, file)]);
            expect(&outcome, 1, &format!("error   {key}: {file}:"), fault);
        }
        let outcome = check(folder.path(), &[(variable, "new/log")]);
        expect(&outcome, 0, &format!("ok      {key}: new/log"), "works");
    }
    assert!(!folder.path().join("new").exists());
}

#[test]
fn check_names_faults_of_database_broker_and_clock() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let postgres = Postgres::start();
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let outcome = check(path, &[("ROOMCAST_STORE", &url)]);
    expect(
        &outcome,
        0,
        "warning database schema:",
        "tables of version 0",
    );
    expect(&outcome, 0, "ok      clock:", "the clock of the database");
    let unmigrated = [
        ("ROOMCAST_STORE", &*url),
        ("ROOMCAST_STORE__MIGRATE", "false"),
    ];
    expect(
        &check(path, &unmigrated),
        1,
        "error   store.url:",
        "run `roomcast migrate`",
    );

    postgres.sql(
        name,
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
         'SELECT pg_catalog.clock_timestamp() - interval ''5 minutes'''",
    );
    let separator = if url.contains('?') { '&' } else { '?' };
    let slow = format!("{url}{separator}options=-csearch_path%3Dpublic,pg_catalog");
    let outcome = check(path, &[("ROOMCAST_STORE", &slow)]);
    expect(
        &outcome,
        1,
        "error   clock: 300.0 s ahead of",
        "synchronize both machines",
    );

    let nowhere = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let broker = format!("redis://:canary@{nowhere}");
    let variables = [
        ("ROOMCAST_STORE", &*url),
        ("ROOMCAST_ADAPTER__URL", &*broker),
    ];
    let outcome = check(path, &variables);
    expect(
        &outcome,
        1,
        "error   adapter.url:",
        "check the address and the credentials",
    );
    let down = format!("postgres://roomcast:canary@{nowhere}/chat");
    let outcome = check(path, &[("ROOMCAST_STORE", &down)]);
    expect(&outcome, 1, "error   store.url:", "");
    assert!(!outcome.1.contains("canary"), "{}", outcome.1);
}
