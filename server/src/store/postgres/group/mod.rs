//! Stores a group of changes in one transaction.
//!
//! The transaction first locks the rows of all conversations in the order of their ids, so that two
//! servers cannot deadlock. The lock holder assigns the next `seq`.
//!
//! The number of statements does not depend on the number of messages. One statement each locks,
//! checks members, finds repetitions, inserts and updates the counters; then follows one commit.
//! Other changes run one by one, and triggers number them.

mod references;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};
use uuid::Uuid;

use self::references::References;
use super::failure::Failure;
use super::in_doubt::{InDoubtCommit, Witness};
use super::sql::{record, signed, unsigned};
use crate::store::Time;
use crate::store::change::annotations::postgres::{annotate, show};
use crate::store::change::conversations::postgres::{changes_of, insert_conversation, rename};
use crate::store::change::deletion::postgres::delete_conversation;
use crate::store::change::erasure::postgres::erase_author;
use crate::store::change::members::postgres::change_member;
use crate::store::change::messages::postgres::{
    NewRows, change_text, message_columns, remove_text,
};
use crate::store::change::messages::streams::postgres as streams;
use crate::store::change::read_marks::postgres::mark_read;
use crate::store::change::{
    Committed, Insert, MemberChange, Message, NewConversation, NewMessage, Revision,
};
use crate::store::write::{Done, MemberOperation, Write};
use roomcast::internal::{chain, while_awake};

/// How a transaction failed.
#[derive(Debug)]
pub(super) enum Aborted {
    /// Nothing of it is stored.
    Before(Failure),
    /// The connection was lost after the commit was sent: the transaction may be stored.
    Committing(InDoubtCommit),
}

/// Stores a group in one transaction, and returns each outcome with the revision of its
/// conversation.
///
/// Each step may take `patience`.
pub(super) async fn transact(
    client: &ClientWrapper,
    group: &[Write],
    patience: Duration,
) -> Result<Vec<(Done, Revision)>, Aborted> {
    let now = Time::now();
    let before = Aborted::Before;
    let mut locked = within(patience, begin(client, group))
        .await
        .map_err(before)?;
    let mut done: Vec<Option<(Done, Revision)>> = group.iter().map(|_| None).collect();
    // The changes are made one after the other, which is the order of their numbers and of their
    // emission. Only the message rows are inserted together at the end, because no earlier
    // statement reads them.
    let mut rows = NewRows::default();
    for (write, done) in group.iter().zip(&mut done) {
        let applied = apply(client, &mut locked, write, now, &mut rows);
        let Some(outcome) = within(patience, applied).await.map_err(before)? else {
            continue;
        };
        let id = write.conversation_id();
        let revision = locked.revision(id);
        // The revision was read before this, because later changes no longer find the conversation.
        if let Some(Committed::ConversationDeleted { .. }) = outcome.event() {
            locked.forget(id);
        }
        *done = Some((outcome, revision));
    }
    within(patience, rows.insert(client, now))
        .await
        .map_err(before)?;
    // The journals are locked after the conversations and in the order of their names, as in every
    // transaction.
    within(patience, locked.references.insert(client))
        .await
        .map_err(before)?;
    let reads = group.iter().zip(&mut done).filter_map(|(write, done)| {
        let Write::Read(read) = write else {
            return None;
        };
        let locked = &locked;
        Some(async move {
            let mark = mark_read(client, locked, &read.operation).await?;
            *done = Some((read.done(mark), locked.revision(write.conversation_id())));
            Ok::<(), Error>(())
        })
    });
    within(patience, try_join_all(reads))
        .await
        .map_err(before)?;
    let done: Vec<(Done, Revision)> = done.into_iter().flatten().collect();
    // The witness is chosen before the commit is sent, because the connection may be lost
    // afterwards.
    let witness = Witness::new(&done, locked.created, now, locked.began);
    commit(client, locked, done, witness, patience).await
}

/// Applies a change, except a read mark, which returns `None`.
///
/// Read marks are stored last and together: they depend on the messages of the group, and nothing
/// depends on them.
async fn apply(
    client: &ClientWrapper,
    locked: &mut LockedRows,
    write: &Write,
    now: Time,
    rows: &mut NewRows,
) -> Result<Option<Done>, Error> {
    let id = write.conversation_id();
    if !matches!(
        write,
        Write::Message(_) | Write::Conversation(_) | Write::Read(_)
    ) {
        // A trigger numbers the change after the last message in the database, so the row must
        // include the messages of this group.
        locked.count(client, Some(id)).await?;
    }
    let done = match write {
        Write::Message(new) => new.done(locked.place(&new.operation, now, rows)),
        Write::Conversation(new) => {
            let (stored, is_new) = insert_conversation(client, &new.operation, now).await?;
            // Later changes of the group may be in this conversation, which no other server can
            // see yet.
            locked.learn(&new.operation, is_new);
            new.done(stored)
        }
        Write::Edit(edit) => edit.done(change_text(client, locked, &edit.operation, now).await?),
        Write::Finish(end) => end.done(streams::finish(client, locked, &end.operation, now).await?),
        Write::Delete(delete) => {
            delete.done(remove_text(client, locked, &delete.operation, now).await?)
        }
        Write::Erase(erase) => {
            erase.done(erase_author(client, locked, &erase.operation, now).await?)
        }
        Write::Annotate(asked) => {
            asked.done(annotate(client, locked, &asked.operation, now).await?)
        }
        Write::Rename(asked) => asked.done(rename(client, locked, &asked.operation, now).await?),
        Write::Member(member) => {
            let MemberOperation { change, invite } = &member.operation;
            let changed = change_member(client, locked, change, invite.as_deref(), now).await?;
            if let Some(conversation) = changed.done() {
                locked.set_member(change);
                if let Some(room) = locked.rooms.get_mut(&id) {
                    room.owner.clone_from(&conversation.owner_id);
                }
            }
            member.done(changed)
        }
        Write::Deletion(deletion) => {
            let removed = delete_conversation(client, locked, &deletion.operation, now).await?;
            deletion.done(removed)
        }
        Write::Read(_) => return Ok(None),
    };
    if let Some(Committed::Edited(message) | Committed::Deleted { message, .. }) = done.event() {
        locked.references.learn(message);
    }
    if done.is_change()
        && let Some(room) = locked.rooms.get_mut(&id)
    {
        // The trigger decides whether it counts the change, so the number is read back.
        room.changes = changes_of(client, id).await?;
    }
    Ok(Some(done))
}

async fn commit(
    client: &ClientWrapper,
    mut locked: LockedRows,
    done: Vec<(Done, Revision)>,
    witness: Option<Witness>,
    patience: Duration,
) -> Result<Vec<(Done, Revision)>, Aborted> {
    // The transaction's number and process were read with the locks, in case the commit gets no
    // response.
    let (transaction, process) = (locked.transaction.clone(), locked.process);
    let count = locked.count(client, None);
    let commit = client.batch_execute("COMMIT");
    // Both are sent together: if counting fails, the commit becomes a rollback.
    let answer = while_awake(patience, async { tokio::join!(biased; count, commit) }).await;
    let reason = match answer {
        Some((Ok(()), Ok(()))) => return Ok(done),
        Some((Err(error), _) | (Ok(()), Err(error))) if is_refusal(&error) => {
            // The database itself reports that it did not commit.
            return Err(Aborted::Before(error.into()));
        }
        Some((Err(error), _) | (Ok(()), Err(error))) => chain(&error),
        None => Failure::timed_out().reason,
    };
    Err(Aborted::Committing(InDoubtCommit {
        transaction,
        process,
        done,
        witness,
        reason,
    }))
}

/// Returns whether an error means that the statement was not executed. An error that ends the
/// connection may follow a successful commit.
fn is_refusal(error: &Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    match severity {
        Some(Severity::Panic | Severity::Fatal) | None => false,
        Some(
            Severity::Error
            | Severity::Warning
            | Severity::Notice
            | Severity::Debug
            | Severity::Info
            | Severity::Log,
        ) => true,
    }
}

async fn within<T>(
    patience: Duration,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match while_awake(patience, step).await {
        Some(result) => result.map_err(Failure::from),
        None => Err(Failure::timed_out()),
    }
}

/// The state of the conversations that a transaction has locked.
pub(in crate::store) struct LockedRows {
    /// Writes `last_seq`. Prepared at the beginning, because the commit is sent right after it.
    counting: Statement,
    transaction: String,
    process: i32,
    began: Timestamp,
    pub(in crate::store) rooms: HashMap<Uuid, Room>,
    /// The acting users and the conversations that list them as members.
    members: HashSet<(Uuid, String)>,
    /// Earlier messages with a sender and client id that this group uses again.
    sent: HashMap<(String, String), Arc<Message>>,
    references: References,
    /// The last conversation that this group has created.
    created: Option<Uuid>,
}

pub(in crate::store) struct Room {
    pub(in crate::store) last_seq: u64,
    /// `last_seq` as stored in the row.
    stored_seq: u64,
    /// The number of changes other than messages, as stored in the row.
    changes: u64,
    pub(in crate::store) is_open: bool,
    pub(in crate::store) owner: Option<String>,
}

/// Begins the transaction, locks and reads: five statements in one round trip.
async fn begin(client: &ClientWrapper, group: &[Write]) -> Result<LockedRows, Error> {
    let mut ids: Vec<Uuid> = group.iter().map(Write::conversation_id).collect();
    // Every server locks rows in the order of ids, so that no two servers deadlock.
    ids.sort_unstable();
    ids.dedup();
    let (mut homes, mut users) = (vec![], vec![]);
    // Each only once, although a group may have repetitions of one message: a row that is read
    // twice has its text and its reactions once.
    let mut sent_as = BTreeSet::new();
    for write in group {
        if let Some(user) = acting_user(write) {
            homes.push(write.conversation_id());
            users.push(user);
        }
        let Write::Message(new) = write else {
            continue;
        };
        let message = &new.operation;
        for user in &message.mentions {
            homes.push(message.conversation_id);
            users.push(user);
        }
        if let Some(id) = &message.client_message_id {
            sent_as.insert((message.user_id.as_str(), id.as_str()));
        }
    }
    let (senders, sent_ids): (Vec<_>, Vec<_>) = sent_as.into_iter().unzip();
    let lock = client
        .prepare_cached(
            "SELECT id, last_seq, changes, is_open, owner_id FROM conversations
             WHERE id = ANY($1) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
        )
        .await?;
    let name = client
        .prepare_cached(
            "SELECT pg_current_xact_id()::text AS transaction, pg_backend_pid() AS process, now() AS began",
        )
        .await?;
    let members = client
        .prepare_cached(
            "SELECT conversation_id, user_id FROM members
             WHERE (conversation_id, user_id) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))",
        )
        .await?;
    // Each pair needs one index lookup, whatever the table statistics are. At most one row matches,
    // but the planner uses the index only with an explicit limit.
    let sent = client
        .prepare_cached(concat!(
            "SELECT client_message_id, ",
            message_columns!(),
            " FROM unnest($1::text[], $2::text[]) AS sent (sender, as_id)
             CROSS JOIN LATERAL (
                 SELECT * FROM messages
                 WHERE user_id = sent.sender AND client_message_id = sent.as_id LIMIT 1) AS found",
        ))
        .await?;
    let counting = client
        .prepare_cached(
            "UPDATE conversations SET last_seq = w.last_seq
             FROM unnest($1::uuid[], $2::int8[]) AS w (id, last_seq)
             WHERE conversations.id = w.id",
        )
        .await?;
    type Parameters<'a, const N: usize> = [&'a (dyn ToSql + Sync); N];
    let (locks, asked, repeats): (Parameters<'_, 1>, Parameters<'_, 2>, Parameters<'_, 2>) =
        ([&ids], [&homes, &users], [&senders, &sent_ids]);
    // The statements are sent in this order without waiting. Each sees what was committed before it
    // began, and those after the first query begin once the locks are held.
    let (_, locked, name, members, sent) = tokio::try_join!(
        biased;
        // Pipelining takes one round trip to a database that may be far away.
        client.batch_execute("BEGIN"),
        client.query(&lock, &locks),
        client.query_one(&name, &[]),
        client.query(&members, &asked),
        client.query(&sent, &repeats),
    )?;
    let sent = sent
        .iter()
        .map(|row| Ok((row.try_get("client_message_id")?, Arc::new(record(row)?))))
        .collect::<Result<Vec<(String, _)>, Error>>()?;
    let (sent_ids, mut messages): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
    show(client, &mut messages, None).await?;
    let sent = messages.into_iter().zip(sent_ids);
    Ok(LockedRows {
        counting,
        references: References::read(client, group).await?,
        transaction: name.try_get("transaction")?,
        process: name.try_get("process")?,
        began: name.try_get("began")?,
        rooms: locked.iter().map(room).collect::<Result<_, Error>>()?,
        members: members
            .iter()
            .map(|row| Ok((row.try_get("conversation_id")?, row.try_get("user_id")?)))
            .collect::<Result<_, Error>>()?,
        sent: sent
            .map(|(message, id)| ((message.user_id.clone(), id), message))
            .collect(),
        created: None,
    })
}

fn room(row: &Row) -> Result<(Uuid, Room), Error> {
    let last_seq = unsigned(row.try_get("last_seq")?);
    let room = Room {
        last_seq,
        stored_seq: last_seq,
        changes: unsigned(row.try_get("changes")?),
        is_open: row.try_get("is_open")?,
        owner: row.try_get("owner_id")?,
    };
    Ok((row.try_get("id")?, room))
}

/// Returns the user whose membership a change requires.
fn acting_user(write: &Write) -> Option<&str> {
    match write {
        Write::Message(new) => Some(&new.operation.user_id),
        Write::Edit(edit) => Some(&edit.operation.by.user_id),
        Write::Delete(delete) => Some(&delete.operation.by.user_id),
        Write::Annotate(annotate) => Some(&annotate.operation.by.user_id),
        Write::Member(member) => Some(&member.operation.change.by.user_id),
        Write::Rename(rename) => Some(&rename.operation.by.user_id),
        Write::Deletion(deletion) => Some(&deletion.operation.deletion.by.user_id),
        Write::Read(read) => Some(&read.operation.user_id),
        Write::Conversation(_) | Write::Erase(_) | Write::Finish(_) => None,
    }
}

impl LockedRows {
    pub(in crate::store) fn admits(&self, conversation: Uuid, user: &str) -> bool {
        self.rooms
            .get(&conversation)
            .is_some_and(|room| room.is_open)
            || self.members.contains(&(conversation, user.to_owned()))
    }

    /// Returns the revision of a conversation, including the changes of this group so far.
    fn revision(&self, conversation: Uuid) -> Revision {
        let room = self.rooms.get(&conversation);
        room.map_or_else(Revision::default, |room| Revision {
            seq: room.last_seq,
            changes: room.changes,
        })
    }

    /// Records an added or removed member for later changes of this group.
    fn set_member(&mut self, change: &MemberChange) {
        let member = (change.conversation_id, change.user_id.clone());
        if change.removes {
            self.members.remove(&member);
        } else {
            self.members.insert(member);
        }
    }

    /// Removes a deleted conversation, so that later changes of this group do not find it.
    fn forget(&mut self, conversation: Uuid) {
        self.rooms.remove(&conversation);
        self.members.retain(|(of, _)| *of != conversation);
    }

    /// Records a conversation that this group has stored.
    fn learn(&mut self, new: &NewConversation, is_new: bool) {
        if !is_new {
            return;
        }
        self.created = Some(new.id);
        for user in new.owner_id.iter().chain(&new.member_ids) {
            self.members.insert((new.id, user.clone()));
        }
        self.rooms.entry(new.id).or_insert_with(|| Room {
            last_seq: 0,
            stored_seq: 0,
            changes: 0,
            is_open: new.is_open,
            owner: new.owner_id.clone(),
        });
    }

    /// Assigns a `seq` to a message, unless it is a repetition or the sender may not send it.
    fn place(&mut self, new: &NewMessage, now: Time, rows: &mut NewRows) -> Insert {
        if !self.admits(new.conversation_id, &new.user_id) {
            return Insert::Absent;
        }
        let key = new
            .client_message_id
            .clone()
            .map(|id| (new.user_id.clone(), id));
        // Repetitions are found before any other check, because the message they reply to may have
        // been deleted since.
        if let Some(message) = key.as_ref().and_then(|key| self.sent.get(key)) {
            return if message.conversation_id == new.conversation_id {
                Insert::Repeated(Arc::clone(message))
            } else {
                Insert::Conflict
            };
        }
        if let Some(place) = self.first_nonmember(new) {
            return Insert::NoMember(place);
        }
        let Some(original) = self.references.original(new) else {
            return Insert::NoOriginal;
        };
        let Some(room) = self.rooms.get_mut(&new.conversation_id) else {
            return Insert::Absent;
        };
        // The row lock reserves the number for this server until the commit.
        room.last_seq += 1;
        let message = Arc::new(new.clone().stored(room.last_seq, now, original));
        if let Some(notice) = &new.notice {
            self.references.notify(notice, &message);
        }
        rows.push(&message, new);
        if let Some(key) = key {
            // The same message may occur twice in one group.
            self.sent.insert(key, Arc::clone(&message));
        }
        Insert::Stored(message)
    }

    /// Writes the new `last_seq` of all conversations, or of `only` one.
    async fn count(&mut self, client: &ClientWrapper, only: Option<Uuid>) -> Result<(), Error> {
        let (mut ids, mut seqs): (Vec<Uuid>, Vec<i64>) = (vec![], vec![]);
        for (id, room) in &mut self.rooms {
            if room.last_seq != room.stored_seq && only.is_none_or(|only| only == *id) {
                // A row is written once for a group, however many messages it has.
                room.stored_seq = room.last_seq;
                ids.push(*id);
                seqs.push(signed(room.last_seq));
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        client
            .execute(&self.counting, &[&ids, &seqs])
            .await
            .map(|_| ())
    }
}
