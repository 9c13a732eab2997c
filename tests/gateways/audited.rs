//! The audit log of commands, and an audit file that does not take what is written.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guard::{KEY, Server};
#[cfg(all(feature = "postgres", feature = "redis"))]
use crate::nodes::Database;
use crate::server::ROOMCAST;
use crate::support::DEADLINE;

/// Maximum time for which a write of the file may delay an act.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a command as Carol with `sudo`, and returns its exit code and output.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(ROOMCAST)
        .args(arguments)
        .current_dir(folder)
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("ROOMCAST_AUDIT__FILE", "audit.log")
        .env("XDG_STATE_HOME", folder)
        .env("SUDO_USER", "carol")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let output = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), output)
}

/// Returns the new lines of the audit file, and checks that they are of this act by Carol.
fn lines(folder: &Path, seen: &mut usize, operation: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("audit.log")).unwrap();
    let all: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let new = all[*seen..].to_vec();
    *seen = all.len();
    for line in &new {
        assert_eq!(
            (&line["operation"], &line["via"]),
            (&json!(operation), &json!("command"))
        );
        let stated = line["statedUser"].as_str().unwrap();
        assert!(stated.contains("(carol)@"), "{line}");
        assert_eq!(line["id"], new[0]["id"]);
    }
    new
}

/// Returns the outcomes of lines: none before an act, and one after it.
fn outcomes(lines: &[Value]) -> Vec<&str> {
    let outcomes = lines.iter().map(|line| line["outcome"].as_str());
    outcomes.map(Option::unwrap_or_default).collect()
}

/// Returns the entries of the table as operation, outcome, request and the state after.
fn table(folder: &Path) -> Vec<[Option<String>; 4]> {
    let database = rusqlite::Connection::open(folder.join("chat.db")).unwrap();
    let query = "SELECT operation, outcome, request, state_after FROM audit ORDER BY id";
    let mut statement = database.prepare(query).unwrap();
    let rows = statement.query_map([], |row| {
        Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn migrate_backup_and_restore_are_recorded_by_name() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let mut seen = 0;
    assert_eq!(run(folder, &["migrate"], &[]).0, 0);
    let migrated = lines(folder, &mut seen, "migrate");
    assert_eq!(outcomes(&migrated), ["", "done"]);
    let applied = migrated[1]["after"]["migrations"].as_array().unwrap();
    assert_eq!(applied[0], "V1__schema", "{migrated:?}");
    let [operation, outcome, _, after] = table(folder).remove(0);
    assert_eq!(
        (operation.as_deref(), outcome.as_deref()),
        (Some("migrate"), Some("done"))
    );
    assert!(after.unwrap().contains("migrations"));
    // Nothing has changed, so only the file has the second run.
    assert_eq!(run(folder, &["migrate"], &[]).0, 0);
    assert_eq!(outcomes(&lines(folder, &mut seen, "migrate")), ["", "done"]);
    assert_eq!(table(folder).len(), 1);

    assert_eq!(run(folder, &["backup", "copy"], &[]).0, 0);
    assert_eq!(outcomes(&lines(folder, &mut seen, "backup")), ["", "done"]);
    assert_eq!(run(folder, &["restore", "missing", "--force"], &[]).0, 1);
    let failed = lines(folder, &mut seen, "restore");
    assert_eq!(outcomes(&failed), ["", "failed"]);
    assert_eq!(table(folder).len(), 1);
    assert_eq!(run(folder, &["restore", "copy", "--force"], &[]).0, 0);
    let restored = lines(folder, &mut seen, "restore");
    assert_eq!(outcomes(&restored), ["", "done"]);
    let request = json!({"file": "copy", "replaces": true});
    assert_eq!(restored[1]["request"], request);
    let [operation, outcome, stored, _] = table(folder).remove(1);
    assert_eq!(
        (operation.as_deref(), outcome.as_deref()),
        (Some("restore"), Some("done"))
    );
    let stored: Value = serde_json::from_str(&stored.unwrap()).unwrap();
    assert_eq!(stored, request);
}

#[test]
fn commands_that_cannot_be_recorded_change_nothing() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let full = [("ROOMCAST_AUDIT__FILE", "/dev/full")];
    let (code, output) = run(folder, &["migrate"], &full);
    assert!(code == 1 && output.contains("audit.file"), "{output}");
    assert!(!folder.join("chat.db").exists());
    assert_eq!(run(folder, &["migrate"], &[]).0, 0);
    assert_eq!(run(folder, &["backup", "copy"], &[]).0, 0);
    let before = table(folder).len();
    let (code, output) = run(folder, &["restore", "copy", "--force"], &full);
    assert!(code == 1 && output.contains("audit.file"), "{output}");
    assert!(!folder.join("chat.db.before-restore").exists());
    assert_eq!(table(folder).len(), before);
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[test]
fn emit_through_the_adapter_is_recorded_before_it_is_sent() {
    const CANARY: &str = "canary-of-an-argument";
    let redis = crate::redis_server::RedisServer::start();
    let database = Database::new();
    let folder = database.folder();
    let (broker, url) = (redis.url(), database.url());
    let store = [("ROOMCAST_STORE", url)];
    assert_eq!(run(folder, &["migrate"], &store).0, 0);
    let argument = json!(CANARY).to_string();
    let emit = ["emit", "*", "news", &*argument, "--adapter", &*broker];
    let mut seen = 2;
    let (code, output) = run(folder, &emit, &store);
    assert_eq!(code, 0, "{output}");
    let sent = lines(folder, &mut seen, "emit");
    assert_eq!(outcomes(&sent), ["", "done"]);
    let query = "SELECT outcome || ' ' || stated_user || ' ' || request FROM audit \
                 WHERE operation = 'emit'";
    let stored = database.sql(query);
    for part in ["done ", "(carol)@", "news"] {
        assert!(stored.contains(part), "{stored}");
    }
    let text = [Value::from(sent).to_string(), stored].concat();
    assert!(!text.contains(CANARY), "{text}");
    // Beside a SQLite database, only the file has it.
    let unsealed = [&emit[..], &["--unsealed"]].concat();
    let (code, output) = run(folder, &unsealed, &[]);
    let lines = lines(folder, &mut seen, "emit");
    assert_eq!(lines.len(), 2, "{code} {output}");
    assert!(!folder.join("chat.db").exists());
    // Without the table, nothing is sent.
    database.sql("ALTER TABLE audit RENAME TO gone");
    let channels = || redis.ask(&["INFO", "commandstats"]);
    let count = |stats: &str| {
        stats
            .lines()
            .find(|line| line.contains("publish"))
            .map(str::to_owned)
    };
    let before = count(&channels());
    let (code, output) = run(folder, &emit, &store);
    assert_eq!(code, 1, "{output}");
    assert_eq!(count(&channels()), before);
    database.sql("ALTER TABLE gone RENAME TO audit");
}

/// Creates a pipe in `folder`, which has room for 64 KiB.
fn pipe(folder: &Path) -> File {
    let path = folder.join("audit.pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // A pipe without a writer is opened for reading and writing, so that this does not wait.
    File::options().read(true).write(true).open(&path).unwrap()
}

/// Returns the request to block a network, one for each number.
fn network(n: usize) -> String {
    let cidr = format!("10.0.{}.{}/32", n / 256, n % 256);
    json!({"cidr": cidr, "reason": "a flood"}).to_string()
}

/// More acts than have room in the pipe.
const MANY: usize = 1000;

#[test]
fn audit_file_that_hangs_delays_only_acts_and_not_the_shutdown() {
    let folder = TempDir::new().unwrap();
    let mut pipe = pipe(folder.path());
    let file = folder.path().join("audit.pipe");
    let variables = [
        KEY,
        ("ROOMCAST_AUDIT__FILE", file.to_str().unwrap()),
        ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0"),
    ];
    let server = Server::start(&variables);
    let block = |n: usize| server.call("POST", "/blocks", "admin", &network(n));
    let mut done = 0;
    let refused = loop {
        let start = Instant::now();
        let (status, answer) = block(done);
        assert!(start.elapsed() < 3 * FILE_TIMEOUT, "{answer}");
        if status != 201 {
            assert_eq!(
                (status, &answer["error"]["code"]),
                (503, &json!("STORE_UNAVAILABLE"))
            );
            break done;
        }
        done += 1;
        assert!(done < MANY, "the pipe takes everything");
    };
    assert!(refused > 0);
    // Acts wait for their turn and are refused, and everything else goes on.
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|n| scope.spawn(move || (n, block(MANY + n))))
            .collect();
        let start = Instant::now();
        let (status, listed) = server.call("GET", "/blocks", "admin", "");
        assert_eq!(status, 200);
        assert!(start.elapsed() < FILE_TIMEOUT, "{:?}", start.elapsed());
        assert!(listed["blocks"].as_array().is_some(), "{listed}");
        for waiting in waiting {
            let (n, (status, answer)) = waiting.join().unwrap();
            assert_eq!(status, 503, "{n}: {answer}");
        }
        assert!(start.elapsed() < 3 * FILE_TIMEOUT, "{:?}", start.elapsed());
    });
    // With a reader, acts are recorded again.
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while pipe.read(&mut bytes).is_ok() {}
    });
    let start = Instant::now();
    while block(2 * MANY).0 != 201 {
        assert!(start.elapsed() < DEADLINE);
    }
    let (_, audit) = server.call("GET", "/audit?limit=200&operation=addBlock", "admin", "");
    let entries = audit["entries"].as_array().unwrap();
    let of = |outcome: &str| {
        entries
            .iter()
            .filter(|entry| entry["outcome"] == outcome)
            .count()
    };
    assert_eq!(of("done") + of("refused"), entries.len(), "{entries:#?}");
    assert!(of("refused") > 8, "{entries:#?}");
    drop(server);
    drop(reader);
}

#[test]
fn server_stops_in_time_although_its_audit_file_hangs() {
    let folder = TempDir::new().unwrap();
    let _pipe = pipe(folder.path());
    let file = folder.path().join("audit.pipe");
    let variables = [
        KEY,
        ("ROOMCAST_AUDIT__FILE", file.to_str().unwrap()),
        ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0"),
    ];
    let mut server = Server::start(&variables);
    let mut n = 0;
    while server.call("POST", "/blocks", "admin", &network(n)).0 == 201 {
        n += 1;
        assert!(n < MANY, "the pipe takes everything");
    }
    let start = Instant::now();
    server.binary.signal(rustix::process::Signal::TERM);
    assert_eq!(server.binary.exit_code(), Some(0));
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
}

#[test]
fn pipe_without_a_reader_is_refused_as_audit_file() {
    let folder = TempDir::new().unwrap();
    drop(pipe(folder.path()));
    let variables = [
        ("ROOMCAST_AUDIT__FILE", "audit.pipe"),
        ("ROOMCAST_LISTEN", "127.0.0.1:0"),
    ];
    let start = Instant::now();
    let (code, output) = run(folder.path(), &["serve"], &variables);
    assert!(start.elapsed() < DEADLINE);
    assert!(
        code == 2 && output.contains("audit.file"),
        "{code} {output}"
    );
}
