//! The real server, one for each test.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use roomcast_server::config;
use roomcast_server::store::{Commits, NewConversation, Store};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::client::Client;

/// The conversation that admits every user.
pub(crate) const LOBBY: &str = "00000000-0000-4000-8000-000000000001";

/// The program.
pub(crate) const ROOMCAST: &str = env!("CARGO_BIN_EXE_roomcast");

/// Guests can do everything that users can, so that most tests need no tokens.
const GUESTS_AS_USERS: (&str, &str) = ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "user");

/// Tests act faster than people do.
pub(crate) const UNLIMITED: [(&str, &str); 8] = [
    ("ROOMCAST_LIMITS__MESSAGES_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__TYPING_PER_SECOND", "0"),
    ("ROOMCAST_LIMITS__CHANGES_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__REQUESTS_PER_SECOND", "0"),
    ("ROOMCAST_LIMITS__CONNECTIONS_PER_USER", "0"),
    ("ROOMCAST_LIMITS__JOINS_PER_ADDRESS", "0"),
    ("ROOMCAST_LIMITS__JOINS_PER_USER", "0"),
    ("ROOMCAST_ENGINE__JOINS_PER_MINUTE", "0"),
];

/// Returns the address after these words and `http://` or `https://` in a line.
pub(crate) fn address_after(line: &str, words: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(words)?;
    let (_, address) = rest.split_once("://")?;
    let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
    address[..end.unwrap_or(address.len())].parse().ok()
}

/// The binary, killed on drop.
pub(crate) struct Binary {
    process: Child,
    address: SocketAddr,
    /// The address of its metrics.
    admin: Option<SocketAddr>,
    /// The log before it listened.
    early: String,
    log: Arc<Mutex<String>>,
}

impl Binary {
    /// Starts it with a database in `folder` and these variables, and waits until it listens.
    pub(crate) fn start(folder: &Path, variables: &[(&str, &str)]) -> Self {
        Self::run(&mut Command::new(ROOMCAST), folder, variables)
    }

    /// Starts it with a command that executes the binary.
    pub(crate) fn run(command: &mut Command, folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut process = command
            .current_dir(folder)
            .env("ROOMCAST_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_SERVER__ADMIN_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_STORE", "sqlite:chat.db")
            .env("ROOMCAST_PROFILE", "development")
            .env("NO_COLOR", "1")
            .env("XDG_STATE_HOME", folder)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let (mut early, mut admin) = (String::new(), None);
        let address = log.by_ref().map(Result::unwrap).find_map(|line| {
            early.push_str(&line);
            early.push('\n');
            admin = admin.or_else(|| address_after(&line, "admin listener ready"));
            address_after(&line, "listening on")
        });
        // An unread pipe would block the server eventually.
        let kept = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&kept);
        std::thread::spawn(move || {
            for line in log.map_while(Result::ok) {
                let mut sink = sink.lock().unwrap();
                sink.push_str(&line);
                sink.push('\n');
            }
        });
        Self {
            process,
            address: address.unwrap_or_else(|| panic!("it does not listen: {early}")),
            admin,
            early,
            log: kept,
        }
    }

    /// Returns its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of its metrics.
    pub(crate) fn admin(&self) -> SocketAddr {
        let log = &self.early;
        self.admin
            .unwrap_or_else(|| panic!("no admin listener: {log}"))
    }

    /// Returns its log before it listened.
    pub(crate) fn early_log(&self) -> &str {
        &self.early
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Suspends the process: connections stay open, nothing answers.
    #[cfg(feature = "postgres")]
    pub(crate) fn pause(&self) {
        kill_process(Pid::from_child(&self.process), Signal::STOP).unwrap();
    }

    /// Resumes the process.
    #[cfg(feature = "postgres")]
    pub(crate) fn resume(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).unwrap();
    }

    /// Stops it with SIGTERM, and waits until it has ended.
    pub(crate) fn terminate(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }

    /// Waits until it has ended by itself, and returns its exit code.
    #[cfg(debug_assertions)]
    pub(crate) fn exit_code(mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }

    /// Returns its log since it listens.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged a line with all of these parts, before or after it listened.
    pub(crate) fn expect_log(&self, parts: &[&str]) {
        let start = Instant::now();
        loop {
            let log = [self.early_log(), &self.log()].concat();
            if log
                .lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
            {
                return;
            }
            assert!(start.elapsed().as_secs() < 20, "no {parts:?} in {log}");
            std::thread::sleep(Duration::from_millis(10)); // The pace of asking.
        }
    }

    /// Returns the value of this metric.
    pub(crate) async fn metric(&self, name: &str) -> i64 {
        crate::support::http::metric(&self.metrics().await, name)
    }

    /// Returns all metrics as text.
    pub(crate) async fn metrics(&self) -> String {
        let address = self.admin();
        let asked = move || crate::support::RawClient::connect(address).get("/metrics");
        tokio::task::spawn_blocking(asked).await.unwrap().body
    }

    /// Waits until this metric is as expected, because metrics may lag behind what a client sees.
    pub(crate) async fn until_metric(&self, name: &str, is_expected: impl Fn(i64) -> bool) {
        let start = Instant::now();
        loop {
            let found = self.metric(name).await;
            if is_expected(found) {
                return;
            }
            assert!(start.elapsed().as_secs() < 20, "{name} is {found}");
            tokio::time::sleep(Duration::from_millis(20)).await; // The pace of asking.
        }
    }

    /// Waits until its adapter is up or down.
    #[cfg(feature = "postgres")]
    pub(crate) async fn until_joined(&self, is_joined: bool) {
        let start = Instant::now();
        while self.metric("roomcast_adapter_up").await != i64::from(is_joined) {
            assert!(
                start.elapsed().as_secs() < 60,
                "the adapter is up: {}",
                !is_joined
            );
            tokio::time::sleep(Duration::from_millis(20)).await; // The pace of asking.
        }
    }

    /// Connects a guest whose id depends only on the name.
    pub(crate) async fn guest(&self, name: &str) -> Client {
        let auth = json!({"name": name, "guestKey": format!("the key of {name:>8}")});
        Client::connect(self.address, &auth).await.unwrap()
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server with its own folder.
pub(crate) struct Server {
    pub(crate) binary: Binary,
    /// The server's database, opened beside it for operations without an event.
    pub(crate) store: Store,
    _commits: Commits,
    folder: TempDir,
}

impl Server {
    /// Starts a server with a short grace.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let mut all = UNLIMITED.to_vec();
        all.extend(variables);
        Self::limited(&all)
    }

    /// Kills the server, and starts it on the same database with other variables.
    pub(crate) fn restart(self, variables: &[(&str, &str)]) -> Self {
        let Self { binary, folder, .. } = self;
        drop(binary);
        let mut all = UNLIMITED.to_vec();
        all.extend(variables);
        Self::in_folder(folder, &all)
    }

    /// Starts a server with its default limits.
    pub(crate) fn limited(variables: &[(&str, &str)]) -> Self {
        Self::in_folder(TempDir::new().unwrap(), variables)
    }

    fn in_folder(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        let mut all = vec![("ROOMCAST_PRESENCE__GRACE", "200ms"), GUESTS_AS_USERS];
        all.extend(variables);
        let binary = Binary::start(folder.path(), &all);
        let config = config::Store {
            url: format!("sqlite:{}", folder.path().join("chat.db").display()),
            ..config::Store::default()
        };
        // SQLite opens without waiting.
        let opened = Store::open(&config, Arc::default()).now_or_never();
        let (store, commits) = opened.unwrap().unwrap();
        Self {
            binary,
            store,
            _commits: commits,
            folder,
        }
    }

    pub(crate) async fn guest(&self, name: &str) -> Client {
        self.binary.guest(name).await
    }

    /// Connects a guest who joins the Lobby.
    pub(crate) async fn in_lobby(&self, name: &str) -> Client {
        let mut client = self.guest(name).await;
        client.must("join_conversation", json!(LOBBY)).await;
        client
    }

    /// Returns its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.binary.address
    }

    /// Returns the value of this metric.
    pub(crate) async fn metric(&self, name: &str) -> i64 {
        self.binary.metric(name).await
    }

    pub(crate) async fn connect(&self, auth: &Value) -> Result<Client, Value> {
        Client::connect(self.binary.address, auth).await
    }

    /// Connects to the server's database, as another process would.
    pub(crate) fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("chat.db")).unwrap()
    }

    /// Creates a conversation of these clients.
    pub(crate) async fn conversation(&self, members: &[&Client]) -> String {
        let id = Uuid::new_v4();
        let new = NewConversation {
            id,
            title: None,
            owner_id: None,
            member_ids: members.iter().map(|client| client.user_id()).collect(),
            is_open: false,
        };
        self.store.insert_conversation(new).await.unwrap();
        id.to_string()
    }
}
