//! The real server, one for each test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use roomcast_server::config;
use roomcast_server::store::{Commits, NewConversation, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::client::Client;
pub(crate) use crate::support::ServerProcess;

/// The conversation that admits every user.
pub(crate) const LOBBY: &str = "00000000-0000-4000-8000-000000000001";

/// The program.
pub(crate) const ROOMCAST: &str = env!("CARGO_BIN_EXE_roomcast");

/// Guests can do everything that users can, so that most tests need no tokens.
pub(crate) const GUESTS_AS_USERS: (&str, &str) = ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "user");

/// Tests act faster than people do.
pub(crate) const UNLIMITED: [(&str, &str); 9] = [
    ("ROOMCAST_LIMITS__MESSAGES_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__TYPING_PER_SECOND", "0"),
    ("ROOMCAST_LIMITS__CHANGES_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__CHANNEL_EVENTS_PER_MINUTE", "0"),
    ("ROOMCAST_LIMITS__REQUESTS_PER_SECOND", "0"),
    ("ROOMCAST_LIMITS__CONNECTIONS_PER_USER", "0"),
    ("ROOMCAST_LIMITS__JOINS_PER_ADDRESS", "0"),
    ("ROOMCAST_LIMITS__JOINS_PER_USER", "0"),
    ("ROOMCAST_ENGINE__JOINS_PER_MINUTE", "0"),
];

impl ServerProcess {
    /// Returns the value of this metric.
    pub(crate) async fn metric(&self, name: &str) -> i64 {
        crate::support::http::metric(&self.metrics().await, name)
    }

    /// Returns all metrics as text.
    pub(crate) async fn metrics(&self) -> String {
        let address = self.admin();
        let request = move || crate::support::RawClient::connect(address).get("/metrics");
        tokio::task::spawn_blocking(request).await.unwrap().body
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
            tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
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
            tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
        }
    }

    /// Connects a guest whose id depends only on the name.
    pub(crate) async fn guest(&self, name: &str) -> Client {
        let auth = json!({"name": name, "guestKey": format!("the key of {name:>8}")});
        Client::connect(self.address(), &auth).await.unwrap()
    }
}

/// A server with its own folder.
pub(crate) struct Server {
    pub(crate) binary: ServerProcess,
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
        let binary = ServerProcess::start(folder.path(), &all);
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
        self.binary.address()
    }

    /// Returns the value of this metric.
    pub(crate) async fn metric(&self, name: &str) -> i64 {
        self.binary.metric(name).await
    }

    pub(crate) async fn connect(&self, auth: &Value) -> Result<Client, Value> {
        Client::connect(self.binary.address(), auth).await
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
