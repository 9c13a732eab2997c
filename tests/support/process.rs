//! A server in its own process.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::{DEADLINE, RawClient, Response};

/// Metric of polls that wait for packets.
pub const POLLS_WAITING: &str = "roomcast_requests_waiting{for=\"packets\"}";
/// Metric of posts that wait for the rest of their body.
pub const POSTS_WAITING: &str = "roomcast_requests_waiting{for=\"body\"}";

/// A contract server on a free port of 127.0.0.1, stopped on drop.
pub struct TestServer {
    child: Child,
    address: SocketAddr,
    errors: Arc<Mutex<String>>,
}

impl TestServer {
    /// Starts an example of this package and waits until it listens.
    ///
    /// `TEST_SERVER_<EXAMPLE>` in the environment names a command to run instead, to compare with
    /// another server.
    pub fn start(example: &str) -> Self {
        Self::start_with(example, &[])
    }

    /// Starts an example with additional environment variables.
    pub fn start_with(example: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = match env::var(format!("TEST_SERVER_{}", example.to_uppercase())) {
            Ok(line) => {
                let mut words = line.split(' ');
                let mut command = Command::new(words.next().unwrap());
                command.args(words);
                command
            }
            Err(_) => Command::new(example_path(example)),
        };
        let mut child = command
            .env("PORT", "0")
            .env("LISTENER_NAMES", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));

        let errors = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&errors));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut sink = sink.lock().unwrap();
                sink.push_str(&line);
                sink.push('\n');
            }
        });
        let (sender, receiver) = mpsc::channel();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut line = String::new();
            // The main listener has no name.
            let mut named = Vec::new();
            while stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
                if let Some((name, port)) = line.trim_end().split_once(" on 127.0.0.1:") {
                    let port = port.parse().unwrap();
                    match name {
                        "listening" if named.contains(&port) => {}
                        "listening" => {
                            let _ = sender.send(port);
                        }
                        _ => named.push(port),
                    }
                }
                line.clear();
            }
            let _ = stdout.read_to_string(&mut line);
        });
        let Ok(port) = receiver.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            panic!("{example} does not listen: {}", errors.lock().unwrap());
        };
        Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            errors,
        }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects to it.
    pub fn connect(&self) -> RawClient {
        RawClient::connect(self.address)
    }

    /// Sends one GET on a new connection.
    pub fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// Waits until this many polls wait for packets. The server must serve its metrics at
    /// `/metrics`.
    pub fn until_polls_wait(&self, count: i64) {
        self.until(POLLS_WAITING, |polls| polls == count);
    }

    /// Waits until the sum of a metric's rows is as expected.
    pub fn until(&self, row: &str, is_expected: impl Fn(i64) -> bool) {
        let start = Instant::now();
        loop {
            let metrics = self.get("/metrics").body;
            let found: i64 = metrics
                .lines()
                .filter_map(|line| line.strip_prefix(row)?.trim().parse::<i64>().ok())
                .sum();
            if is_expected(found) {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "{row} is {found}: {metrics}");
            thread::sleep(Duration::from_millis(2)); // The pace of asking.
        }
    }

    /// Returns whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    }

    /// Waits until the process ends by itself, and returns its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < DEADLINE, "does not stop");
            thread::sleep(Duration::from_millis(5)); // The pace of asking.
        }
        self.child.wait().unwrap().code()
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the number of its open files, including connections.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .count()
    }

    /// Returns the resident memory of the process in bytes.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kibibytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes * 1024
    }

    /// Limits the server's open files to this many more than it has open now.
    pub fn limit_files(&self, more: u64) {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = Some(open.count() as u64 + more);
        prlimit(id, Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }

    /// Returns what it wrote to its error output.
    pub fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the server's error output ---\n{}", self.errors());
        }
    }
}

/// Returns the path of the example built beside this test: `target/<profile>/deps/<test>` →
/// `target/<profile>/examples`.
pub fn example_path(example: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join(example);
    assert!(
        path.exists(),
        "{} is not built: cargo build --examples",
        path.display()
    );
    path
}
