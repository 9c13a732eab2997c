//! A private PostgreSQL server, and databases in it.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::broker::{Broker, suspend};

/// More than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A transaction of a `psql` session, which is rolled back on drop: at once, because no process has
/// to start first.
pub struct Transaction(Child);

impl Transaction {
    /// Begins it in the database of a URL, and waits until these statements have been executed.
    #[must_use]
    pub fn begin(url: &str, statements: &str) -> Self {
        let mut session = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = session.stdin.as_mut().unwrap();
        writeln!(input, "BEGIN; {statements}; SELECT 'begun';").unwrap();
        let mut answer = String::new();
        let mut answers = BufReader::new(session.stdout.take().unwrap());
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "begun\n");
        Self(session)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // The session ends with its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A private server, stopped on drop and when the test process ends.
pub struct Postgres(Broker);

impl Postgres {
    /// Creates and starts a server. Its commits survive everything except a crash of the machine.
    #[must_use]
    pub fn start() -> Self {
        Self::start_as("off", None)
    }

    /// Starts a server that flushes each commit to disk, as in production.
    #[must_use]
    pub fn start_durable() -> Self {
        Self::start_as("on", None)
    }

    /// Starts a server as [`Postgres::start`] does, with the files of a folder: `server.crt`,
    /// `server.key`, `pg_hba.conf`, and `extra.conf` with more settings.
    #[must_use]
    pub fn start_with(files: &Path) -> Self {
        Self::start_as("off", Some(files))
    }

    fn start_as(fsync: &str, files: Option<&Path>) -> Self {
        let args = [Some(OsStr::new(fsync)), files.map(AsRef::as_ref)];
        let args: Vec<_> = args.into_iter().flatten().collect();
        Self(Broker::start_with("postgres.sh", &args, ""))
    }

    /// Kills the server and all its processes, as a crash of the machine would.
    pub fn kill(&self) {
        // Suspended first, so that it starts no new processes. Its children would otherwise
        // continue for a moment.
        let first = Pid::from_raw(self.pid()).unwrap();
        suspend(&[first]);
        let all = self.processes();
        for &pid in all.iter().filter(|pid| **pid != first) {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.0.kill();
        let start = Instant::now();
        while all.iter().any(|&pid| is_running(pid)) {
            assert!(start.elapsed() < DEADLINE, "PostgreSQL does not die");
            thread::sleep(Duration::from_millis(1)); // Poll interval.
        }
    }

    /// Suspends all processes of the server: connections stay open, nothing answers.
    pub fn pause(&self) {
        suspend(&self.processes());
    }

    /// Resumes all processes of the server.
    pub fn resume(&self) {
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// Creates a database and returns its URL.
    #[must_use]
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://roomcast@127.0.0.1:{}/{name}", self.port())
    }

    /// Runs SQL in a database with `psql`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", "127.0.0.1", "-U", "roomcast", "-d", database, "-p"])
            .arg(self.port().to_string())
            .args(["-c", sql])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().into()
    }

    /// Returns the server's first process and its children.
    pub fn processes(&self) -> Vec<Pid> {
        let mut processes = vec![self.pid()];
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|n| n.parse::<i32>().ok())
            else {
                continue;
            };
            if stat(pid).is_some_and(|(_, parent)| parent == self.pid()) {
                processes.push(pid);
            }
        }
        processes.into_iter().filter_map(Pid::from_raw).collect()
    }
}

/// Returns the state of a process as one letter, and the id of its parent.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, can contain any character.
    let mut rest = stat.rsplit(") ").next()?.split(' ');
    let state = rest.next()?.chars().next()?;
    Some((state, rest.next()?.parse().ok()?))
}

/// Returns whether a process is running. An ended process may remain until its parent has waited
/// for it.
fn is_running(pid: Pid) -> bool {
    stat(pid.as_raw_nonzero().get()).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.resume();
    }
}

impl Deref for Postgres {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}

/// Returns a server for all tests of the process that do not disturb it, started by the first.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::start)
}
