//! Recovery of PostgreSQL to a point in time, by the steps of `docs/backup.md`.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::client::Client;
use crate::postgres::Postgres;
use crate::server::{GUESTS_AS_USERS, LOBBY, ServerProcess, UNLIMITED};

/// More than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A PostgreSQL on restored files, stopped on drop.
struct Recovered(Child);

impl Drop for Recovered {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::QUIT);
        let _ = self.0.wait();
    }
}

/// Returns a command that runs as the user of PostgreSQL, which refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
        .arg(program);
    command
}

/// Returns the folder of PostgreSQL's programs, the newest of several.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders
        .filter(|folder| folder.join("postgres").exists())
        .max()
        .expect("no PostgreSQL: install the Debian package postgresql")
}

fn start(folder: &Path, url: &str) -> ServerProcess {
    let own = [GUESTS_AS_USERS, ("ROOMCAST_STORE", url)];
    ServerProcess::start(folder, &[&UNLIMITED[..], &own].concat())
}

async fn send(client: &mut Client, count: usize) {
    for n in 0..count {
        let message = json!({"conversationId": LOBBY, "content": n.to_string()});
        client.must("message", message).await;
    }
}

/// Waits until a query returns `t`.
fn until(postgres: &Postgres, query: &str) {
    let start = Instant::now();
    while postgres.sql("postgres", query) != "t" {
        assert!(start.elapsed() < DEADLINE, "{query}");
        std::thread::sleep(Duration::from_millis(50)); // Poll interval.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_recovers_postgresql_to_a_point_in_time() {
    let folder = TempDir::new().unwrap();
    let (archive, base) = (folder.path().join("archive"), folder.path().join("base"));
    fs::create_dir(&archive).unwrap();
    for open in [folder.path(), &archive] {
        fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
    }
    let files = TempDir::new().unwrap();
    let place = archive.display();
    let settings = format!(
        "wal_level = replica\narchive_mode = on\n\
         archive_command = 'test ! -f {place}/%f && cp %p {place}/%f'\n"
    );
    fs::write(files.path().join("extra.conf"), settings).unwrap();
    let postgres = Postgres::start_with(files.path());
    let url = postgres.database();
    let state = TempDir::new().unwrap();
    let server = start(state.path(), &url);
    let mut ann = server.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    send(&mut ann, 10).await;

    let port = postgres.port().to_string();
    let backed_up = as_postgres(&programs().join("pg_basebackup"))
        .args(["--host=127.0.0.1", "--username=roomcast", "--port", &port])
        .args(["--checkpoint=fast", "--wal-method=stream", "--pgdata"])
        .arg(&base)
        .output()
        .unwrap();
    assert!(backed_up.status.success(), "{backed_up:?}");
    send(&mut ann, 10).await;
    let target = postgres.sql("postgres", "SELECT clock_timestamp()");
    send(&mut ann, 10).await;
    let last = postgres.sql("postgres", "SELECT pg_walfile_name(pg_switch_wal())");
    until(
        &postgres,
        &format!("SELECT last_archived_wal >= '{last}' FROM pg_stat_archiver"),
    );
    drop(server);
    postgres.kill();

    let mut settings = OpenOptions::new()
        .append(true)
        .open(base.join("postgresql.conf"))
        .unwrap();
    write!(
        settings,
        "archive_mode = off\nunix_socket_directories = '{}'\n\
         restore_command = 'cp {place}/%f %p'\nrecovery_target_time = '{target}'\n\
         recovery_target_action = promote\n",
        folder.path().display()
    )
    .unwrap();
    let signal = base.join("recovery.signal");
    fs::write(&signal, "").unwrap();
    fs::set_permissions(&signal, Permissions::from_mode(0o666)).unwrap();
    let port = crate::port::free_port();
    let recovered = as_postgres(&programs().join("postgres"))
        .args(["-p", &port.to_string(), "-D"])
        .arg(&base)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _recovered = Recovered(recovered.unwrap());
    let is_recovered = || {
        let output = Command::new("psql")
            .args(["-X", "-A", "-t", "-h", "127.0.0.1", "-U", "roomcast"])
            .args(["-d", "postgres", "-p", &port.to_string()])
            .args(["-c", "SELECT NOT pg_is_in_recovery()"])
            .output();
        output.unwrap().stdout.starts_with(b"t")
    };
    let started = Instant::now();
    while !is_recovered() {
        assert!(started.elapsed() < DEADLINE, "PostgreSQL does not recover");
        std::thread::sleep(Duration::from_millis(50)); // Poll interval.
    }

    let (_, database) = url.rsplit_once('/').unwrap();
    let url = format!("postgres://roomcast@127.0.0.1:{port}/{database}");
    let server = start(state.path(), &url);
    let mut ann = server.guest("ann").await;
    let join = json!({"conversationId": LOBBY, "lastSeq": 0});
    let joined = ann.must("join_conversation", join).await;
    let messages = joined["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 20, "those before the point in time");
    let message = json!({"conversationId": LOBBY, "content": "after the recovery"});
    let sent = ann.must("message", message).await;
    assert_eq!(sent["message"]["seq"], 21);
}
