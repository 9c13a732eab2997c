//! A private PostgreSQL server, and databases in it.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::port::free_port;

/// More than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A private server, stopped on drop and when the test process ends.
pub struct Postgres {
    port: u16,
    supervisor: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pid: i32,
}

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
        let port = free_port();
        // The tests of the library and of the server share this script.
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let mut scripts = folders.map(|folder| folder.join("tests/support/postgres.sh"));
        let script = scripts.find(|script| script.exists()).unwrap();
        let mut supervisor = Command::new(script)
            .args([&port.to_string(), fsync])
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = supervisor.stdin.take();
        let answers = BufReader::new(supervisor.stdout.take().unwrap());
        let mut postgres = Self {
            port,
            supervisor,
            commands,
            answers,
            pid: 0,
        };
        postgres.restart();
        postgres
    }

    /// Starts the server again after it was killed.
    pub fn restart(&mut self) {
        let answer = self.tell("start");
        let pid = answer.strip_prefix("ready ");
        self.pid = pid
            .and_then(|pid| pid.parse().ok())
            .unwrap_or_else(|| panic!("PostgreSQL does not start: {answer}"));
    }

    /// Kills the server and all its processes, as a crash of the machine would.
    pub fn kill(&mut self) {
        // Suspended first, so that it starts no new processes. Its children would otherwise
        // continue for a moment.
        let first = Pid::from_raw(self.pid).unwrap();
        kill_process(first, Signal::STOP).unwrap();
        let all = self.processes();
        for &pid in all.iter().filter(|pid| **pid != first) {
            let _ = kill_process(pid, Signal::KILL);
        }
        assert_eq!(self.tell("kill"), "killed");
        let start = Instant::now();
        while all.iter().any(|&pid| is_running(pid)) {
            assert!(start.elapsed() < DEADLINE, "PostgreSQL does not die");
            thread::sleep(Duration::from_millis(1)); // The pace of asking.
        }
    }

    /// Suspends all processes of the server: connections stay open, nothing answers.
    pub fn pause(&self) {
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::STOP);
        }
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
        format!("postgres://roomcast@127.0.0.1:{}/{name}", self.port)
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL in a database with `psql`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", "127.0.0.1", "-U", "roomcast", "-d", database, "-p"])
            .arg(self.port.to_string())
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

    fn tell(&mut self, command: &str) -> String {
        let mut commands = self.commands.as_ref().unwrap();
        writeln!(commands, "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().into()
    }

    /// Returns the server's first process and its children.
    pub fn processes(&self) -> Vec<Pid> {
        let mut processes = vec![self.pid];
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|n| n.parse::<i32>().ok())
            else {
                continue;
            };
            if stat(pid).is_some_and(|(_, parent)| parent == self.pid) {
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
        drop(self.commands.take());
        let _ = self.supervisor.wait();
    }
}

/// Returns the server that all tests of a process share, started by the first.
pub fn shared() -> &'static Mutex<Postgres> {
    static SHARED: OnceLock<Mutex<Postgres>> = OnceLock::new();
    SHARED.get_or_init(|| Mutex::new(Postgres::start()))
}
