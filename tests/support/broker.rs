//! A private server of another kind, a broker or a database, which a script starts and kills.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::port::free_port;

/// More than a signal takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A private server, stopped on drop and when the test process ends.
pub struct Broker {
    port: u16,
    /// The id of the server's first process.
    pid: AtomicI32,
    supervisor: Child,
    talk: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Broker {
    /// Starts a server with a script of this folder and additional command line options.
    pub fn start(script: &str, options: &str) -> Self {
        Self::start_with(script, &[], options)
    }

    /// Starts a server with arguments for the script, and additional command line options.
    pub fn start_with(script: &str, args: &[&OsStr], options: &str) -> Self {
        let port = free_port();
        // The tests of the library and of the server share this script.
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let mut scripts = folders.map(|folder| folder.join("tests/support").join(script));
        let script = scripts.find(|script| script.exists()).unwrap();
        let mut supervisor = Command::new(script)
            .arg(port.to_string())
            .args(args)
            .env("OPTIONS", options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = supervisor.stdin.take().unwrap();
        let answers = BufReader::new(supervisor.stdout.take().unwrap());
        let broker = Self {
            port,
            pid: AtomicI32::new(0),
            supervisor,
            talk: Mutex::new(Some((commands, answers))),
        };
        broker.restart();
        broker
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again after it was killed.
    pub fn restart(&self) {
        let answer = self.tell("start");
        let pid = answer.strip_prefix("ready ");
        let pid = pid.unwrap_or_else(|| panic!("it does not start: {answer}"));
        self.pid.store(pid.parse().unwrap(), Ordering::Relaxed);
    }

    /// Returns the id of the server's first process.
    pub fn pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    pub fn kill(&self) {
        assert_eq!(self.tell("kill"), "killed");
    }

    /// Suspends the server: connections stay open, nothing answers.
    pub fn pause(&self) {
        assert_eq!(self.tell("pause"), "paused");
        await_suspension(&[Pid::from_raw(self.pid()).unwrap()]);
    }

    pub fn resume(&self) {
        assert_eq!(self.tell("resume"), "resumed");
    }

    fn tell(&self, command: &str) -> String {
        let mut talk = self.talk.lock().unwrap();
        let (commands, answers) = talk.as_mut().unwrap();
        writeln!(commands, "{command}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

/// Suspends processes.
pub fn suspend(pids: &[Pid]) {
    for &pid in pids {
        // A process that has ended counts as suspended.
        let _ = kill_process(pid, Signal::STOP);
    }
    await_suspension(pids);
}

/// Waits until all threads of these processes are stopped or have ended, by their states in
/// proc(5). They run until the thread that gets the signal is scheduled.
fn await_suspension(pids: &[Pid]) {
    let is_stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, state)| state);
        state.is_none_or(|state| state.starts_with(['T', 't', 'Z', 'X']))
    };
    let is_suspended = |pid: &Pid| {
        let threads = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
        threads.map_or(true, |threads| threads.flatten().all(is_stopped))
    };
    let start = Instant::now();
    while !pids.iter().all(is_suspended) {
        assert!(start.elapsed() < DEADLINE, "{pids:?} are not suspended");
        thread::sleep(Duration::from_millis(1)); // Poll interval.
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.talk.lock().unwrap().take();
        self.supervisor.wait().unwrap();
    }
}
