//! A private server of another kind, which a script starts and kills.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use crate::port::free_port;

/// A private server, stopped on drop and when the test process ends.
pub struct Broker {
    port: u16,
    supervisor: Child,
    talk: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Broker {
    /// Starts a server with a script of this folder and additional command line options.
    pub fn start(script: &str, options: &str) -> Self {
        let port = free_port();
        // The tests of the library and of the server share this script.
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let mut scripts = folders.map(|folder| folder.join("tests/support").join(script));
        let script = scripts.find(|script| script.exists()).unwrap();
        let mut supervisor = Command::new(script)
            .arg(port.to_string())
            .env("OPTIONS", options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = supervisor.stdin.take().unwrap();
        let answers = BufReader::new(supervisor.stdout.take().unwrap());
        let broker = Self {
            port,
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
        assert!(answer.starts_with("ready "), "it does not start: {answer}");
    }

    pub fn kill(&self) {
        assert_eq!(self.tell("kill"), "killed");
    }

    /// Suspends the server: connections stay open, nothing answers.
    pub fn pause(&self) {
        assert_eq!(self.tell("pause"), "paused");
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

impl Drop for Broker {
    fn drop(&mut self) {
        self.talk.lock().unwrap().take();
        self.supervisor.wait().unwrap();
    }
}
