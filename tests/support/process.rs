//! The harness for programs: a server in its own process, which a test can signal, kill, measure
//! and limit. A test that must see both ends of a connection uses [`crate::local::Local`] instead,
//! a server of the library in the test's own process.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
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

/// Maximum time until a program listens, which may have to migrate its database first.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Lines that a program has written.
type Lines = Arc<Mutex<String>>;

/// A server in its own process, on a free port of 127.0.0.1, killed on drop.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    /// The address of its metrics, if they have one.
    admin: Option<SocketAddr>,
    /// The output before it listened.
    early: String,
    log: Lines,
}

impl ServerProcess {
    /// Starts an example of this package, a contract server, and waits until it listens.
    ///
    /// `TEST_SERVER_<EXAMPLE>` in the environment names a command to run instead, to compare with
    /// another server.
    pub fn example(example: &str) -> Self {
        Self::example_with(example, &[])
    }

    /// Starts an example with additional environment variables.
    pub fn example_with(example: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = match env::var(format!("TEST_SERVER_{}", example.to_uppercase())) {
            Ok(line) => {
                let mut words = line.split(' ');
                let mut command = Command::new(words.next().unwrap());
                command.args(words);
                command
            }
            Err(_) => Command::new(example_path(example)),
        };
        command.env("PORT", "0").env("LISTENER_NAMES", "1");
        command
            .envs(variables.iter().copied())
            .stderr(Stdio::piped());
        // The main listener has no name.
        let mut named = Vec::new();
        Self::spawn(&mut command, move |line| {
            let (name, port) = line.split_once(" on 127.0.0.1:")?;
            let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
            if name != "listening" {
                named.push(address);
                return None;
            }
            (!named.contains(&address)).then_some((address, None))
        })
    }

    /// Starts the chat server with its database and state in `folder` and these variables, and
    /// waits until it listens.
    pub fn start(folder: &Path, variables: &[(&str, &str)]) -> Self {
        Self::run(&mut Command::new(built("roomcast")), folder, variables)
    }

    /// Starts the chat server with a command that executes its program.
    pub fn run(command: &mut Command, folder: &Path, variables: &[(&str, &str)]) -> Self {
        command
            .current_dir(folder)
            .env("ROOMCAST_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_SERVER__ADMIN_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_STORE", "sqlite:chat.db")
            .env("ROOMCAST_PROFILE", "development")
            .env("NO_COLOR", "1")
            .env("XDG_STATE_HOME", folder)
            .envs(variables.iter().copied());
        let mut admin = None;
        Self::spawn(command, move |line| {
            admin = admin.or_else(|| address_after(line, "admin listener ready"));
            Some((address_after(line, "listening on")?, admin))
        })
    }

    /// Starts a program, and waits until `find` finds its address, and that of its metrics, in a
    /// line of its output.
    pub fn spawn(
        command: &mut Command,
        mut find: impl FnMut(&str) -> Option<(SocketAddr, Option<SocketAddr>)> + Send + 'static,
    ) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let (early, log) = (Lines::default(), Lines::default());
        // An unread pipe would block the server eventually.
        if let Some(errors) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || lines_of(errors).for_each(|line| append(&log, &line)));
        }
        let output = lines_of(child.stdout.take().unwrap());
        let (sender, found) = mpsc::channel();
        let sinks = (Arc::clone(&early), Arc::clone(&log));
        thread::spawn(move || {
            let mut listens = false;
            for line in output {
                append(if listens { &sinks.1 } else { &sinks.0 }, &line);
                if !listens && let Some(addresses) = find(&line) {
                    listens = sender.send(addresses).is_ok();
                }
            }
        });
        let Ok((address, admin)) = found.recv_timeout(START_DEADLINE) else {
            let (_, _) = (child.kill(), child.wait());
            let output = [early, log].map(|lines| lines.lock().unwrap().clone());
            panic!("{command:?} does not listen: {}", output.concat());
        };
        let early = early.lock().unwrap().clone();
        Self {
            child,
            address,
            admin,
            early,
            log,
        }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of its metrics.
    pub fn admin(&self) -> SocketAddr {
        self.admin.unwrap_or(self.address)
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
            let metrics = RawClient::connect(self.admin()).get("/metrics").body;
            let found: i64 = metrics
                .lines()
                .filter_map(|line| line.strip_prefix(row)?.trim().parse::<i64>().ok())
                .sum();
            if is_expected(found) {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "{row} is {found}: {metrics}");
            thread::sleep(Duration::from_millis(2)); // Poll interval.
        }
    }

    /// Returns its output before it listened.
    pub fn early_log(&self) -> &str {
        &self.early
    }

    /// Returns its output since it listens. That of a contract server includes its errors.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged a line with all of these parts, before or after it listened.
    pub fn expect_log(&self, parts: &[&str]) {
        let start = Instant::now();
        loop {
            let log = [self.early_log(), &self.log()].concat();
            if log
                .lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
            {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "no {parts:?} in {log}");
            thread::sleep(Duration::from_millis(10)); // Poll interval.
        }
    }

    /// Returns whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Suspends the process: connections stay open, nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        // Its threads run until the one that gets the signal is scheduled.
        let start = Instant::now();
        while !self.is_suspended() {
            assert!(start.elapsed() < DEADLINE, "is not suspended");
            thread::sleep(Duration::from_millis(1)); // Poll interval.
        }
    }

    /// Returns whether all threads are stopped, by their states in proc(5).
    fn is_suspended(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        threads.flatten().all(|thread| {
            // A thread that has ended meanwhile has no file.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map(|(_, state)| state);
            state.is_none_or(|state| state.starts_with('T'))
        })
    }

    /// Resumes the process.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it with SIGTERM, and waits until it has ended.
    pub fn terminate(mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }

    /// Waits until the process ends by itself, and returns its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < 3 * DEADLINE, "does not stop");
            thread::sleep(Duration::from_millis(5)); // Poll interval.
        }
        self.child.wait().unwrap().code()
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the number of its open files, including connections.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count()
    }

    /// Returns the resident memory of the process in bytes.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kibibytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes * 1024
    }

    /// Limits the server's open files to this many more than it has open now.
    pub fn limit_files(&self, more: u64) {
        let id = Some(Pid::from_child(&self.child));
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = Some(self.open_files() as u64 + more);
        prlimit(id, Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = [self.early_log(), &self.log()].concat();
            eprintln!("--- the server's output ---\n{log}");
        }
    }
}

fn lines_of(output: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(output).lines().map_while(Result::ok)
}

fn append(lines: &Lines, line: &str) {
    let mut lines = lines.lock().unwrap();
    lines.push_str(line);
    lines.push('\n');
}

/// Returns the address after these words and `http://` or `https://` in a line.
pub fn address_after(line: &str, words: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(words)?;
    let (_, address) = rest.split_once("://")?;
    let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
    address[..end.unwrap_or(address.len())].parse().ok()
}

/// Returns the path of an example.
pub fn example_path(example: &str) -> PathBuf {
    built(&format!("examples/{example}"))
}

/// Returns the path of a program built beside this test, which is `target/<profile>/deps/<test>`.
fn built(program: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(program);
    let shown = path.display();
    assert!(
        path.exists(),
        "{shown} is not built: cargo build --workspace --bins --examples"
    );
    path
}
