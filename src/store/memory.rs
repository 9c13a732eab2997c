//! The store that keeps everything in memory and loses it at the end of the process.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::blocks::{BlockChange, Blocks};
use super::lane::{self, Commit, Commits, Outcome, Reply};
use super::logins::{Login, LoginChange, LoginOutcome, Logins, Revocation};
use super::rows::{
    Conversation, Insert, Membership, Message, Messages, NewConversation, NewMessage, Origin, Page,
    PageBuilder,
};
use super::{StoreError, Time};
use crate::config;
use crate::metrics::{Counter, Metrics};
use crate::network::Block;

/// A handle to a store in memory.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    healthy: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The lane is this state's lock: whoever holds it stores and hands on, so both happen in one order.
#[derive(Debug)]
struct State {
    rooms: HashMap<Uuid, Room>,
    /// User and client's id of every message that has one.
    sent: HashMap<(String, String), Arc<Message>>,
    logins: Logins,
    blocks: Blocks,
    /// Roughly what all but the logins takes; with them at most `max_bytes`.
    bytes: u64,
    max_bytes: u64,
    /// None after closing.
    commits: Option<mpsc::Sender<Commit>>,
}

#[derive(Debug)]
struct Room {
    conversation: Conversation,
    members: BTreeSet<String>,
    is_open: bool,
    /// The message with `seq` n is at n - 1.
    messages: Vec<Arc<Message>>,
}

impl Room {
    fn admits(&self, user: &str) -> bool {
        self.is_open || self.members.contains(user)
    }

    fn last_seq(&self) -> u64 {
        self.messages.len() as u64
    }
}

impl Memory {
    /// An empty store.
    pub(super) fn new(config: &config::Store, metrics: Arc<Metrics>) -> (Self, Commits) {
        let (sender, commits) = lane::commits(config.queue);
        let state = State {
            rooms: HashMap::new(),
            sent: HashMap::new(),
            logins: Logins::default(),
            blocks: Blocks::default(),
            bytes: 0,
            max_bytes: config.max_bytes.unwrap_or(DEFAULT_BYTES),
            commits: Some(sender),
        };
        let inner = Inner {
            state: Mutex::new(state),
            healthy: AtomicBool::new(true),
            metrics,
        };
        (Self(Arc::new(inner)), commits)
    }

    pub(super) fn submit_message(
        &self,
        message: NewMessage,
        origin: Origin,
        reply: Reply<Insert>,
    ) -> Result<(), StoreError> {
        let mut state = self.0.state.lock();
        let commits = state.commits.clone().ok_or(StoreError::Closed)?;
        // A place is reserved first, since what is stored must also be emitted.
        let place = commits.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(()) => StoreError::Closed,
        })?;
        let outcome = self.record(state.insert_message(message))?;
        if let Outcome::Row {
            repeated: false, ..
        } = outcome
        {
            self.0.metrics.count(Counter::MessagesStored);
        }
        if let Some(commit) = outcome.commit(origin, reply) {
            place.send(commit);
        }
        Ok(())
    }

    pub(super) fn submit_conversation(
        &self,
        conversation: NewConversation,
        reply: Reply<Conversation>,
    ) -> Result<(), StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        let conversation = self.record(state.insert_conversation(conversation))?;
        reply.send(Ok(conversation));
        Ok(())
    }

    pub(super) fn submit_logins(
        &self,
        change: LoginChange,
        reply: Reply<LoginOutcome>,
    ) -> Result<(), StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        let taken = state.bytes.saturating_add(state.logins.bytes());
        let room = state.max_bytes.saturating_sub(taken);
        let outcome = self.record(state.logins.apply(change, room))?;
        reply.send(Ok(outcome));
        Ok(())
    }

    pub(super) fn submit_blocks(
        &self,
        change: BlockChange,
        reply: Reply<()>,
    ) -> Result<(), StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        state.blocks.apply(change);
        self.record(Ok(()))?;
        reply.send(Ok(()));
        Ok(())
    }

    pub(super) async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        Ok(self.0.state.lock().blocks.list())
    }

    pub(super) async fn login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        Ok(self.0.state.lock().logins.login(id_hash))
    }

    pub(super) async fn logins_of(&self, user: &str) -> Result<Vec<Login>, StoreError> {
        Ok(self.0.state.lock().logins.of_user(user))
    }

    pub(super) async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        Ok(self.0.state.lock().logins.revocations())
    }

    pub(super) async fn membership(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<Option<Membership>, StoreError> {
        let state = self.0.state.lock();
        Ok(state.room(conversation, user).map(|room| Membership {
            conversation: room.conversation.clone(),
            last_seq: room.last_seq(),
        }))
    }

    pub(super) async fn is_member(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.0.state.lock().room(conversation, user).is_some())
    }

    pub(super) async fn messages(
        &self,
        conversation: Uuid,
        user: &str,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        let state = self.0.state.lock();
        Ok(state
            .room(conversation, user)
            .map(|room| room.page(page, limit)))
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.0.healthy.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self) {
        self.0.state.lock().commits = None;
    }

    /// Notes whether a change could be stored.
    fn record<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.0.healthy.store(result.is_ok(), Ordering::Relaxed);
        self.0.metrics.count(match result {
            Ok(_) => Counter::StoreCommits,
            Err(_) => Counter::StoreErrors,
        });
        result
    }
}

impl State {
    fn room(&self, conversation: Uuid, user: &str) -> Option<&Room> {
        self.rooms
            .get(&conversation)
            .filter(|room| room.admits(user))
    }

    fn insert_message(&mut self, new: NewMessage) -> Result<Outcome, StoreError> {
        let Some(room) = self.rooms.get_mut(&new.conversation_id) else {
            return Ok(Outcome::Absent);
        };
        if !room.admits(&new.user_id) {
            return Ok(Outcome::Absent);
        }
        let key = new
            .client_message_id
            .clone()
            .map(|id| (new.user_id.clone(), id));
        if let Some(message) = key.as_ref().and_then(|key| self.sent.get(key)) {
            return Ok(if message.conversation_id == new.conversation_id {
                Outcome::Row {
                    message: Arc::clone(message),
                    repeated: true,
                }
            } else {
                Outcome::Conflict
            });
        }
        let max = self.max_bytes.saturating_sub(self.logins.bytes());
        self.bytes = add(self.bytes, size_of_message(&new), max)?;
        let message = Arc::new(new.stored(room.last_seq() + 1, Time::now()));
        room.messages.push(Arc::clone(&message));
        if let Some(key) = key {
            self.sent.insert(key, Arc::clone(&message));
        }
        Ok(Outcome::Row {
            message,
            repeated: false,
        })
    }

    fn insert_conversation(&mut self, new: NewConversation) -> Result<Conversation, StoreError> {
        if let Some(room) = self.rooms.get(&new.id) {
            return Ok(room.conversation.clone());
        }
        let members: BTreeSet<String> = new
            .member_ids
            .into_iter()
            .chain(new.owner_id.clone())
            .collect();
        let bytes = members
            .iter()
            .map(|member| 2 * member.len() + ENTRY_BYTES)
            .sum::<usize>();
        let max = self.max_bytes.saturating_sub(self.logins.bytes());
        self.bytes = add(self.bytes, bytes + ENTRY_BYTES, max)?;
        let now = Time::now();
        let conversation = Conversation {
            id: new.id,
            title: new.title,
            owner_id: new.owner_id,
            member_ids: members.iter().cloned().collect(),
            created_at: now,
            updated_at: now,
        };
        let room = Room {
            conversation: conversation.clone(),
            members,
            is_open: new.is_open,
            messages: Vec::new(),
        };
        self.rooms.insert(new.id, room);
        Ok(conversation)
    }
}

impl Room {
    fn page(&self, page: Page, limit: usize) -> Messages {
        let index = |seq: u64| {
            usize::try_from(seq)
                .unwrap_or(usize::MAX)
                .min(self.messages.len())
        };
        let (from, to, descending) = match page {
            Page::Newest => (0, self.messages.len(), true),
            Page::Before(seq) => (0, index(seq.saturating_sub(1)), true),
            Page::After(seq) => (index(seq), self.messages.len(), false),
            Page::Between { after, through } => (index(after), index(through), false),
        };
        let range = self
            .messages
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .cloned();
        let mut builder = PageBuilder::new(limit);
        if descending {
            let _ = range.rev().all(|message| builder.push(message));
        } else {
            let _ = { range }.all(|message| builder.push(message));
        }
        builder.finish(descending)
    }
}

/// What a message takes, roughly.
fn size_of_message(new: &NewMessage) -> usize {
    new.content.len()
        + new.metadata.get().len()
        + 2 * new.user_id.len()
        + new.user_name.len()
        + new.client_message_id.as_ref().map_or(0, String::len)
        + size_of::<Message>()
        + ENTRY_BYTES
}

/// The new sum, unless it is over the limit.
fn add(bytes: u64, more: usize, max: u64) -> Result<u64, StoreError> {
    let sum = bytes.saturating_add(more as u64);
    if sum > max {
        Err(StoreError::Failed)
    } else {
        Ok(sum)
    }
}

/// What an entry of a table takes beside its contents, roughly.
const ENTRY_BYTES: usize = 64;

/// How much is kept if the configuration does not say.
const DEFAULT_BYTES: u64 = 256 << 20;
