//! A store with a task that emits its commits.

#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roomcast_server::config;
use roomcast_server::metrics::Metrics;
use roomcast_server::store::{
    Commits, Committed, Conversation, Insert, Message, MessageKind, NewConversation, NewMessage,
    Origin, Store,
};
use serde_json::value::RawValue;
use tempfile::TempDir;
use uuid::Uuid;

/// The configuration of a test's store, and the folder of its database.
pub(crate) type Backend = (config::Store, Option<TempDir>);

/// Changes the history of migrations to that of a database of another program.
pub(crate) const OF_ANOTHER_PROGRAM: &str =
    "UPDATE refinery_schema_history SET name = 'chat', checksum = '1';
     INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
     SELECT 2, 'identity', applied_on, '2' FROM refinery_schema_history";

/// Runs each test on each backend.
macro_rules! on_every_backend {
    ($($test:ident,)+) => {
        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test] async fn $test() { super::$test(crate::harness::postgres()).await; })+
        }
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(crate::harness::sqlite()).await; })+
        }
    };
}

pub(crate) use on_every_backend;

/// An open store whose commits are recorded and resolved by a task.
pub(crate) struct Harness {
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    /// The new messages that were emitted, in order.
    pub(crate) emitted: Arc<Mutex<Vec<Arc<Message>>>>,
    /// The folder of the database, deleted together with the store.
    _folder: Option<TempDir>,
}

impl Harness {
    pub(crate) async fn new((config, folder): Backend) -> Self {
        let (mut harness, commits) = Self::undrained((config, folder)).await;
        harness.emitted = drain(commits);
        harness
    }

    /// Opens a store whose commits are not received yet.
    pub(crate) async fn undrained((config, folder): Backend) -> (Self, Commits) {
        let metrics = Arc::new(Metrics::default());
        let (store, commits) = Store::open(&config, Arc::clone(&metrics)).await.unwrap();
        let harness = Self {
            store,
            metrics,
            emitted: Arc::default(),
            _folder: folder,
        };
        (harness, commits)
    }

    /// Creates a conversation of these members, owned by the first.
    pub(crate) async fn conversation(&self, members: &[&str]) -> Uuid {
        let id = Uuid::new_v4();
        self.insert_conversation(id, members, false).await;
        id
    }

    /// Creates a conversation that admits every user.
    pub(crate) async fn open_conversation(&self) -> Uuid {
        let id = Uuid::new_v4();
        self.insert_conversation(id, &[], true).await;
        id
    }

    async fn insert_conversation(&self, id: Uuid, members: &[&str], is_open: bool) -> Conversation {
        let new = NewConversation {
            id,
            title: Some("A title".into()),
            owner_id: members.first().map(|&owner| owner.into()),
            member_ids: members.iter().map(|&member| member.into()).collect(),
            is_open,
        };
        self.store.insert_conversation(new).await.unwrap()
    }

    /// Sends a message and expects a new row.
    pub(crate) async fn send(&self, conversation: Uuid, user: &str, content: &str) -> Arc<Message> {
        let insert = self
            .store
            .insert_message(text(conversation, user, content), Origin::default());
        let Insert::Stored(message) = insert.await.unwrap() else {
            panic!("not stored");
        };
        message
    }

    /// Returns the `seq` and content of the messages emitted to one conversation.
    pub(crate) fn emitted_to(&self, conversation: Uuid) -> Vec<(u64, String)> {
        let emitted = self.emitted.lock().unwrap();
        emitted
            .iter()
            .filter(|message| message.conversation_id == conversation)
            .map(|message| (message.seq, message.content.clone()))
            .collect()
    }
}

/// Records and resolves commits, as the sequencer does.
pub(crate) fn drain(mut commits: Commits) -> Arc<Mutex<Vec<Arc<Message>>>> {
    let emitted: Arc<Mutex<Vec<Arc<Message>>>> = Arc::default();
    let recorded = Arc::clone(&emitted);
    tokio::spawn(async move {
        while let Some(commit) = commits.next().await {
            if let Committed::Message(message) = commit.event() {
                recorded.lock().unwrap().push(Arc::clone(message));
            }
            commit.resolve();
        }
    });
    emitted
}

/// Returns a plain message.
pub(crate) fn text(conversation: Uuid, user: &str, content: &str) -> NewMessage {
    NewMessage {
        conversation_id: conversation,
        user_id: user.into(),
        user_name: format!("{user}'s name"),
        content: content.into(),
        kind: MessageKind::User,
        metadata: RawValue::from_string("{}".into()).unwrap(),
        client_message_id: None,
        reply_to: None,
        mentions: Vec::new(),
        notice: None,
        holder: None,
    }
}

/// Returns a message that may be sent again.
pub(crate) fn retriable(conversation: Uuid, user: &str, client_message_id: &str) -> NewMessage {
    NewMessage {
        client_message_id: Some(client_message_id.into()),
        ..text(conversation, user, "retriable")
    }
}

/// Returns settings whose timeouts a slow machine does not reach.
fn patient() -> config::Store {
    const MINUTE: Duration = Duration::from_secs(60);
    config::Store {
        pool_timeout: MINUTE,
        statement_timeout: MINUTE,
        answer_timeout: MINUTE,
        ..config::Store::default()
    }
}

/// Returns a store in memory.
#[cfg(feature = "sqlite")]
pub(crate) fn memory() -> Backend {
    let config = config::Store {
        url: "memory:".into(),
        ..patient()
    };
    (config, None)
}

/// Returns a store in a new database on the shared server.
#[cfg(feature = "postgres")]
pub(crate) fn postgres() -> Backend {
    let config = config::Store {
        url: crate::server::shared().database(),
        ..patient()
    };
    (config, None)
}

/// Returns a store in a new database.
#[cfg(feature = "sqlite")]
pub(crate) fn sqlite() -> Backend {
    let folder = TempDir::new().unwrap();
    let config = config::Store {
        url: format!("sqlite:{}", folder.path().join("chat.db").display()),
        ..patient()
    };
    (config, Some(folder))
}

/// Runs SQL in the database of a store on the shared server.
#[cfg(feature = "postgres")]
pub(crate) fn sql(config: &config::Store, sql: &str) -> String {
    let (_, database) = config.url.rsplit_once('/').unwrap();
    crate::server::shared().sql(database, sql)
}

/// Returns the path of a SQLite database.
#[cfg(feature = "sqlite")]
pub(crate) fn file(config: &config::Store) -> PathBuf {
    config.url.strip_prefix("sqlite:").unwrap().into()
}
