//! The store that holds everything in memory and loses it when the process ends.
//!
//! It is for development and tests and behaves like the databases; one test suite verifies them
//! all. `tables` holds the data and limits its size; the other files implement changes and queries.
//! Only `store` uses this module. One lock protects everything, and no code waits for anything else
//! while it holds the lock.

mod annotations;
mod changes;
mod deletion;
mod inserting;
mod journals;
mod queries;
mod tables;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use self::tables::{Index, Tables};
use super::change::blocks::{BlockChange, Blocks};
use super::change::deliveries::{Deliveries, DeliveryChange, DeliveryOutcome};
use super::change::keys::{KeyChange, KeyState, Keys};
use super::change::logins::{Login, LoginChange, LoginOutcome, Logins, Revocation};
use super::change::{Authorship, Cursor, Invite, Invites, List, Search};
use super::lane::{self, Commits, EMISSION_LANES, Write};
use super::rows::{Membership, Messages, Page, Version};
use super::{
    Amend, Append, Appended, Current, Entry, JournalSweep, JournalView, Replace, StoreError, Time,
};
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

impl Memory {
    /// Creates an empty store.
    pub(super) fn new(config: &config::Store, metrics: Arc<Metrics>) -> (Self, Commits) {
        let (lanes, commits) = lane::commits(EMISSION_LANES, config.queue);
        let state = Tables {
            rooms: HashMap::new(),
            index: Index::default(),
            logins: Logins::default(),
            blocks: Blocks::default(),
            journals: HashMap::new(),
            keys: Keys::default(),
            deliveries: Deliveries::default(),
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
        // A queue slot is reserved first, because every stored change must be emitted.
        let place = lane.try_reserve()?;
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
        let mut state = self.open()?;
        let room = state.available_bytes();
        self.record(state.logins.apply(change, room))
    }

    pub(super) async fn change_keys(&self, change: KeyChange) -> Result<KeyState, StoreError> {
        let mut state = self.open()?;
        let room = state.available_bytes();
        self.record(state.keys.apply(change, room))
    }

    pub(super) async fn change_deliveries(
        &self,
        change: DeliveryChange,
    ) -> Result<DeliveryOutcome, StoreError> {
        let mut state = self.open()?;
        let room = state.available_bytes();
        self.record(state.deliveries.apply(change, room))
    }

    pub(super) async fn change_blocks(&self, change: BlockChange) -> Result<(), StoreError> {
        let mut state = self.open()?;
        // The guard limits the block list, so it needs no size check.
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
        let mut state = self.open()?;
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
        let mut state = self.open()?;
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

    pub(super) async fn conversation_ids(
        &self,
        user: &str,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        let state = self.0.state.lock();
        let rooms = state.rooms.iter().filter(|(_, room)| room.admits(user));
        Ok(rooms.map(|(id, _)| *id).take(limit).collect())
    }

    pub(super) async fn contacts(
        &self,
        user: &str,
        most_members: usize,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let state = self.0.state.lock();
        let rooms = state
            .rooms
            .values()
            .filter(|room| room.members.len() <= most_members && room.members.contains_key(user));
        let members = rooms.flat_map(|room| room.members.keys());
        let others: BTreeSet<String> = members
            .map(|member| member.to_string())
            .filter(|member| member != user)
            .collect();
        Ok(others.into_iter().take(limit).collect())
    }

    pub(super) async fn messages(
        &self,
        conversation: Uuid,
        user: Option<&str>,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        let state = self.0.state.lock();
        let room = state.room(conversation, user);
        Ok(room.map(|room| state.page(room, page, limit, user)))
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
        let mut state = self.open()?;
        self.record(state.append(append))
    }

    pub(super) async fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> Result<Vec<Appended>, StoreError> {
        let mut state = self.open()?;
        let appended = appends.into_iter().map(|append| state.append(append));
        let appended = appended.collect();
        self.record(appended)
    }

    pub(super) async fn replace(&self, replace: Replace) -> Result<Vec<Option<u64>>, StoreError> {
        let mut state = self.open()?;
        let replaced = state.replace_entries(&replace);
        self.record(replaced)
    }

    pub(super) async fn journal(&self, current: Current<'_>) -> Result<JournalView, StoreError> {
        Ok(self.0.state.lock().view(&current))
    }

    pub(super) async fn trim_journal(&self, journal: &str, before: u64) -> Result<(), StoreError> {
        self.open()?.trim_journal(journal, before);
        Ok(())
    }

    pub(super) async fn count_open(
        &self,
        journal: &str,
        now: Time,
    ) -> Result<(u64, u64), StoreError> {
        Ok(self.0.state.lock().count_open(journal, now))
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

    pub(super) async fn expire_journal(
        &self,
        journal: &str,
        before: Time,
        withdrawn_before: Time,
    ) -> Result<u64, StoreError> {
        let mut state = self.0.state.lock();
        Ok(state.expire_journal(journal, before, withdrawn_before))
    }

    pub(super) async fn amend(&self, amend: Amend) -> Result<Option<Entry>, StoreError> {
        let mut state = self.open()?;
        self.record(state.amend(amend))
    }

    pub(super) async fn sweep_journals(&self, sweep: JournalSweep) -> Result<u64, StoreError> {
        Ok(self.0.state.lock().sweep_journals(&sweep))
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.0.healthy.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self) {
        // Dropping the lanes lets the emitters end.
        self.0.state.lock().commits = None;
    }

    /// Returns the tables for a change, or an error if the store is closed.
    fn open(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        let state = self.0.state.lock();
        match state.commits {
            Some(_) => Ok(state),
            None => Err(StoreError::Closed),
        }
    }

    /// Records whether a change could be stored.
    fn record<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.0.healthy.store(result.is_ok(), Ordering::Relaxed);
        self.0.metrics.count(match result {
            Ok(_) => Counter::StoreCommits,
            Err(_) => Counter::StoreErrors,
        });
        result
    }
}

/// The default size limit, in bytes.
const DEFAULT_BYTES: u64 = 256 << 20;
