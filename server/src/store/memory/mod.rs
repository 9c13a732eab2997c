//! The store that keeps everything in memory and loses it at the end of the process.

mod changes;
mod deletion;
mod journals;
mod queries;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::blocks::{BlockChange, Blocks};
use super::change::keys::{Begun, KeyChange, Keys};
use super::change::{Authorship, Cursor, DeletedConversation, Invite, Invites, List, Search};
use super::lane::{self, Commit, Commits, Done, EMISSION_LANES, Lanes, Outcome, Write};
use super::logins::{Login, LoginChange, LoginOutcome, Logins, Revocation};
use super::rows::{
    Conversation, Membership, Message, Messages, NewConversation, NewMessage, Page, Revision,
    Version,
};
use super::{Append, Appended, Current, Entry, JournalSweep, JournalView, StoreError, Time};
use crate::config;
use crate::metrics::{Counter, Metrics};
use roomcast::network::Block;

/// A handle to a store in memory.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<MemoryInner>);

#[derive(Debug)]
struct MemoryInner {
    state: Mutex<Tables>,
    healthy: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The lane is this state's lock: whoever holds it stores and hands on, so both happen in one order.
#[derive(Debug)]
struct Tables {
    rooms: HashMap<Uuid, Room>,
    index: Index,
    logins: Logins,
    blocks: Blocks,
    journals: HashMap<String, journals::Journal>,
    keys: Keys,
    invites: Invites,
    /// Roughly what all but the logins, keys of requests and invitations takes; with them at most `max_bytes`.
    bytes: u64,
    max_bytes: u64,
    /// None after closing.
    commits: Option<Lanes<Commit>>,
}

/// What is known of messages beside the conversations that they are in.
#[derive(Debug, Default)]
struct Index {
    /// Where each message is: conversation and `seq`.
    places: HashMap<Uuid, (Uuid, u64)>,
    /// User and client's id of every message that has one, and where it is.
    sent: HashMap<(String, String), (Uuid, u64)>,
    /// What messages were before.
    versions: HashMap<Uuid, Vec<Version>>,
}

impl Index {
    /// Forgets a message that is removed, and says what all of it took.
    fn forget(&mut self, stored: Stored) -> usize {
        let Stored {
            message,
            client_message_id,
        } = stored;
        let mut bytes = size(
            &message.content,
            &message.metadata,
            &message.user_id,
            &message.user_name,
        );
        self.places.remove(&message.id);
        for version in self.versions.remove(&message.id).unwrap_or_default() {
            bytes += version.content.len() + ENTRY_BYTES;
        }
        if let Some(id) = client_message_id {
            bytes += 3 * id.len();
            self.sent.remove(&(message.user_id.clone(), id));
        }
        bytes
    }
}

#[derive(Debug)]
struct Room {
    conversation: Conversation,
    /// Once it is deleted: there is no member any more, and no conversation for anybody else.
    deleted: Option<DeletedConversation>,
    members: BTreeSet<String>,
    is_open: bool,
    /// How many changes there were beside messages.
    changes: u64,
    /// How many messages have expired: the message with `seq` n is at n - 1 - expired.
    expired: u64,
    messages: VecDeque<Stored>,
    /// Up to where each user has read.
    reads: HashMap<String, u64>,
}

#[derive(Debug)]
struct Stored {
    message: Arc<Message>,
    client_message_id: Option<String>,
}

impl Room {
    fn admits(&self, user: &str) -> bool {
        self.is_open || self.members.contains(user)
    }

    fn last_seq(&self) -> u64 {
        self.expired + self.messages.len() as u64
    }

    /// The index of a `seq`, or of the first one after it.
    fn index(&self, seq: u64) -> usize {
        usize::try_from(seq.saturating_sub(self.expired).saturating_sub(1))
            .unwrap_or(usize::MAX)
            .min(self.messages.len())
    }

    fn message(&self, seq: u64) -> Option<&Arc<Message>> {
        let index = seq.checked_sub(self.expired)?.checked_sub(1)?;
        let stored = self.messages.get(usize::try_from(index).ok()?)?;
        Some(&stored.message)
    }
}

impl Memory {
    /// An empty store.
    pub(super) fn new(config: &config::Store, metrics: Arc<Metrics>) -> (Self, Commits) {
        let (lanes, commits) = lane::commits(EMISSION_LANES, config.queue);
        let state = Tables {
            rooms: HashMap::new(),
            index: Index::default(),
            logins: Logins::default(),
            blocks: Blocks::default(),
            journals: HashMap::new(),
            keys: Keys::default(),
            invites: Invites::default(),
            bytes: 0,
            max_bytes: config.max_bytes.unwrap_or(DEFAULT_BYTES),
            commits: Some(lanes),
        };
        let inner = MemoryInner {
            state: Mutex::new(state),
            healthy: AtomicBool::new(true),
            metrics,
        };
        (Self(Arc::new(inner)), commits)
    }

    pub(super) fn submit(&self, write: Write) -> Result<(), StoreError> {
        let mut state = self.0.state.lock();
        let lanes = state.commits.as_ref().ok_or(StoreError::Closed)?;
        let lane = lanes.of(write.conversation_id()).clone();
        // A place is reserved first, since what is stored must also be emitted.
        let place = lane.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(()) => StoreError::Closed,
        })?;
        let done = self.record(state.apply(&write))?;
        let revision = state.step(write.conversation_id(), &done);
        if done.is_new_message() {
            self.0.metrics.count(Counter::MessagesStored);
        }
        if let Some(commit) = write.settle(done, revision) {
            place.send(commit);
        }
        Ok(())
    }

    pub(super) async fn change_logins(
        &self,
        change: LoginChange,
    ) -> Result<LoginOutcome, StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        let room = state.room_left();
        self.record(state.logins.apply(change, room))
    }

    pub(super) async fn change_keys(&self, change: KeyChange) -> Result<Begun, StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        let room = state.room_left();
        self.record(state.keys.apply(change, room))
    }

    pub(super) async fn change_blocks(&self, change: BlockChange) -> Result<(), StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        state.blocks.apply(change);
        self.record(Ok(()))
    }

    pub(super) async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        Ok(self.0.state.lock().blocks.list())
    }

    pub(super) async fn insert_invite(
        &self,
        invite: Invite,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        if state.bytes >= state.max() {
            return self.record(Err(StoreError::Failed));
        }
        let is_kept = state.invites.insert(invite, limit, Time::now());
        self.record(Ok(is_kept))
    }

    pub(super) async fn invite(&self, token_hash: &str) -> Result<Option<Invite>, StoreError> {
        let state = self.0.state.lock();
        let found = state.invites.find(token_hash, Time::now());
        Ok(found.filter(|invite| state.room(invite.conversation_id, None).is_some()))
    }

    pub(super) async fn delete_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        Ok(state.invites.remove(conversation, Time::now()))
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
        user: Option<&str>,
    ) -> Result<Option<Membership>, StoreError> {
        let state = self.0.state.lock();
        Ok(state.room(conversation, user).map(|room| Membership {
            conversation: room.conversation.clone(),
            last_seq: room.last_seq(),
            changes: room.changes,
            is_open: room.is_open,
        }))
    }

    pub(super) async fn is_member(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.0.state.lock().room(conversation, Some(user)).is_some())
    }

    pub(super) async fn conversations(
        &self,
        user: &str,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<List, StoreError> {
        Ok(self.0.state.lock().conversations(user, before, limit))
    }

    pub(super) async fn messages(
        &self,
        conversation: Uuid,
        user: Option<&str>,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        let state = self.0.state.lock();
        Ok(state
            .room(conversation, user)
            .map(|room| room.page(page, limit)))
    }

    pub(super) async fn search(
        &self,
        user: &str,
        search: Search,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        Ok(self.0.state.lock().search(user, &search, limit))
    }

    pub(super) async fn versions(&self, message: Uuid) -> Result<Vec<Version>, StoreError> {
        let state = self.0.state.lock();
        Ok(state
            .index
            .versions
            .get(&message)
            .cloned()
            .unwrap_or_default())
    }

    pub(super) async fn conversation_of(&self, message: Uuid) -> Result<Option<Uuid>, StoreError> {
        let state = self.0.state.lock();
        Ok(state
            .index
            .places
            .get(&message)
            .map(|(conversation, _)| *conversation))
    }

    pub(super) async fn authorship(&self, message: Uuid) -> Result<Option<Authorship>, StoreError> {
        let state = self.0.state.lock();
        let found = state.index.places.get(&message).and_then(|(id, seq)| {
            let message = state.room(*id, None)?.message(*seq)?;
            Some(Authorship {
                conversation_id: *id,
                user_id: message.user_id.clone(),
                is_deleted: message.deleted_at.is_some(),
            })
        });
        Ok(found)
    }

    pub(super) async fn expire(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        Ok(self.0.state.lock().expire(time, limit))
    }

    pub(super) async fn purge(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        Ok(self.0.state.lock().purge(time, limit))
    }

    pub(super) async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let mut state = self.0.state.lock();
        if state.commits.is_none() {
            return Err(StoreError::Closed);
        }
        self.record(state.append(append))
    }

    pub(super) async fn journal(&self, current: Current<'_>) -> Result<JournalView, StoreError> {
        Ok(self.0.state.lock().view(&current))
    }

    pub(super) async fn journal_after(
        &self,
        journal: &str,
        after: u64,
        through: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let state = self.0.state.lock();
        Ok(state.entries_after(journal, after, through, limit))
    }

    pub(super) async fn journal_entry(
        &self,
        journal: &str,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        let state = self.0.state.lock();
        let journal = state.journals.get(journal);
        Ok(journal.and_then(|journal| journal.current(key).cloned()))
    }

    pub(super) async fn sweep_journals(&self, sweep: JournalSweep) -> Result<u64, StoreError> {
        Ok(self.0.state.lock().sweep_journals(&sweep))
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

impl Tables {
    /// A conversation as a user sees it, or whoever is a member.
    fn room(&self, conversation: Uuid, user: Option<&str>) -> Option<&Room> {
        self.rooms
            .get(&conversation)
            .filter(|room| room.deleted.is_none() && user.is_none_or(|user| room.admits(user)))
    }

    /// Counts a change, and says how far its conversation has come.
    fn step(&mut self, conversation: Uuid, done: &Done) -> Revision {
        let Some(room) = self.rooms.get_mut(&conversation) else {
            return Revision::default();
        };
        room.changes += u64::from(done.is_change());
        Revision {
            seq: room.last_seq(),
            changes: room.changes,
        }
    }

    fn room_left(&self) -> u64 {
        self.max().saturating_sub(self.bytes)
    }

    /// What all but the logins, the keys of requests and the invitations may take.
    fn max(&self) -> u64 {
        let others = self.logins.bytes() + self.keys.bytes() + self.invites.bytes();
        self.max_bytes.saturating_sub(others)
    }

    fn apply(&mut self, write: &Write) -> Result<Done, StoreError> {
        let now = Time::now();
        Ok(match write {
            Write::Message { message, .. } => {
                Done::Message(self.insert_message(message.clone(), now)?)
            }
            Write::Conversation { conversation, .. } => {
                Done::Conversation(self.insert_conversation(conversation.clone(), now)?)
            }
            Write::Edit { edit, .. } => Done::Changed(self.edit(edit, now)?),
            Write::Delete { delete, .. } => Done::Changed(self.delete(delete, now)?),
            Write::Member { change, invite, .. } => {
                Done::Member(self.change_member(change, invite.as_deref(), now)?)
            }
            Write::Rename { rename, .. } => Done::Member(self.rename(rename, now)?),
            Write::Deletion { deletion, .. } => {
                Done::Deletion(self.delete_conversation(deletion, now))
            }
            Write::Read { read, .. } => Done::Read(self.mark_read(read)?),
        })
    }

    fn insert_message(&mut self, new: NewMessage, now: Time) -> Result<Outcome, StoreError> {
        let max = self.max();
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
        if let Some(&(conversation, seq)) = key.as_ref().and_then(|key| self.index.sent.get(key)) {
            return Ok(match room.message(seq) {
                Some(message) if conversation == new.conversation_id => Outcome::Row {
                    message: Arc::clone(message),
                    repeated: true,
                },
                Some(_) | None => Outcome::Conflict,
            });
        }
        let bytes = size(&new.content, &new.metadata, &new.user_id, &new.user_name)
            + new.client_message_id.as_ref().map_or(0, |id| 3 * id.len());
        self.bytes = add(self.bytes, bytes, max)?;
        let client_message_id = new.client_message_id.clone();
        let message = Arc::new(new.stored(room.last_seq() + 1, now));
        let place = (message.conversation_id, message.seq);
        room.messages.push_back(Stored {
            message: Arc::clone(&message),
            client_message_id,
        });
        self.index.places.insert(message.id, place);
        if let Some(key) = key {
            self.index.sent.insert(key, place);
        }
        Ok(Outcome::Row {
            message,
            repeated: false,
        })
    }

    fn insert_conversation(
        &mut self,
        new: NewConversation,
        now: Time,
    ) -> Result<Conversation, StoreError> {
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
        self.bytes = add(self.bytes, bytes + ENTRY_BYTES, self.max())?;
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
            deleted: None,
            members,
            is_open: new.is_open,
            changes: 0,
            expired: 0,
            messages: VecDeque::new(),
            reads: HashMap::new(),
        };
        self.rooms.insert(new.id, room);
        Ok(conversation)
    }
}

/// What a message takes, roughly.
fn size(content: &str, metadata: &RawValue, user_id: &str, user_name: &str) -> usize {
    content.len()
        + metadata.get().len()
        + 2 * user_id.len()
        + user_name.len()
        + size_of::<Stored>()
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
