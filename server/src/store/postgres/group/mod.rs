//! One transaction for a group of changes.
//!
//! First the rows of all conversations are locked, in the order of their ids, so that two servers
//! never wait for one another in a circle; whoever holds them hands out their `seq`. What a group
//! of messages costs does not depend on how many they are: one statement each to lock, to look who is
//! a member and what was sent before, to insert, to count, and one commit. What is no message is done one
//! by one, and numbered by triggers, so that servers of the version before number it too.

pub(super) mod annotations;
mod changes;
mod deletion;
mod insert;
pub(super) mod invites;
mod references;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join_all;
use tokio::time::timeout;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};
use uuid::Uuid;

use self::annotations::{annotate, show};
use self::changes::{
    change_member, change_text, changes_of, insert_conversation, mark_read, remove_text, rename,
};
use self::deletion::delete_conversation;
use self::insert::Rows;
use self::references::References;
use super::doubt::{Doubt, Witness};
use super::failure::Failure;
use super::queries::{message, message_columns, signed, unsigned};
use crate::store::Time;
use crate::store::change::{Change, MemberChange};
use crate::store::lane::{Done, InsertOutcome, Write};
use crate::store::rows::{Message, NewConversation, NewMessage, Revision};
use roomcast::internal::chain;

/// How a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum Aborted {
    /// Nothing of it is stored.
    Before(Failure),
    /// The connection was lost after the commit was sent: it may or may not be stored.
    Committing(Doubt),
}

/// Stores a group in one transaction, and says of each change how far its conversation had come with it.
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
    // The changes are made one after the other, which is the order in which they get their numbers and
    // are emitted. Only the rows of messages are stored together at the end: nothing before looks at
    // them.
    let mut rows = Rows::default();
    for (write, done) in group.iter().zip(&mut done) {
        let id = write.conversation_id();
        let outcome = match write {
            Write::Message { message, .. } => Done::Message(locked.place(message, now, &mut rows)),
            Write::Conversation { conversation, .. } => {
                let stored = within(patience, insert_conversation(client, conversation, now)).await;
                let (stored, is_new) = stored.map_err(before)?;
                // Later changes of the group may be in this conversation, which no other server can
                // see yet.
                locked.learn(conversation, is_new);
                Done::Conversation(stored)
            }
            // Read marks are stored last and together: they depend on the messages of the group,
            // and nothing depends on them.
            Write::Read { .. } => continue,
            Write::Edit { .. }
            | Write::Delete { .. }
            | Write::Annotate { .. }
            | Write::Member { .. }
            | Write::Rename { .. }
            | Write::Deletion { .. } => within(patience, change(client, &mut locked, write, now))
                .await
                .map_err(before)?,
        };
        let revision = locked.revision(id);
        // The revision was read before this, since the conversation is forgotten for what follows.
        if let Done::Deletion(Change::Done(_)) = outcome {
            locked.forget(id);
        }
        *done = Some((outcome, revision));
    }
    within(patience, rows.insert(client, now))
        .await
        .map_err(before)?;
    // The journals are locked behind the conversations and in the order of their names, as in every
    // transaction.
    within(patience, locked.references.insert(client))
        .await
        .map_err(before)?;
    let reads = group
        .iter()
        .zip(&mut done)
        .filter_map(|(write, done)| match write {
            Write::Read { read, .. } => Some(mark_read(client, &locked, read, done)),
            Write::Message { .. }
            | Write::Edit { .. }
            | Write::Delete { .. }
            | Write::Annotate { .. }
            | Write::Conversation { .. }
            | Write::Member { .. }
            | Write::Rename { .. }
            | Write::Deletion { .. } => None,
        });
    within(patience, try_join_all(reads))
        .await
        .map_err(before)?;
    let done: Vec<(Done, Revision)> = done.into_iter().flatten().collect();
    // The witness is chosen before the commit is sent: afterwards there may be no connection to
    // ask.
    let witness = Witness::of(group, &done, now);
    commit(client, locked, done, witness, patience).await
}

/// Carries out what is no message. A trigger numbers it behind the last message that the database knows, so
/// those of this group are counted first.
async fn change(
    client: &ClientWrapper,
    locked: &mut LockedRows,
    write: &Write,
    now: Time,
) -> Result<Done, Error> {
    let id = write.conversation_id();
    // The row has to know the messages of this group, or the trigger would number the change before
    // them.
    locked.count(client, Some(id)).await?;
    let done = match write {
        Write::Edit { edit, .. } => Done::Changed(change_text(client, locked, edit, now).await?),
        Write::Delete { delete, .. } => {
            Done::Changed(remove_text(client, locked, delete, now).await?)
        }
        Write::Annotate {
            annotate: asked, ..
        } => Done::Annotated(annotate(client, locked, asked, now).await?),
        Write::Rename { rename: asked, .. } => {
            Done::Member(rename(client, locked, asked, now).await?)
        }
        Write::Member { change, invite, .. } => {
            let changed = change_member(client, locked, change, invite.as_deref(), now).await?;
            if let Change::Done(conversation) = &changed {
                locked.set_member(change);
                if let Some(room) = locked.rooms.get_mut(&id) {
                    room.owner.clone_from(&conversation.owner_id);
                }
            }
            Done::Member(changed)
        }
        Write::Deletion { deletion, .. } => {
            Done::Deletion(delete_conversation(client, locked, deletion, now).await?)
        }
        Write::Message { .. } | Write::Conversation { .. } | Write::Read { .. } => {
            unreachable!("is stored in another way")
        }
    };
    if let Done::Changed(Change::Done(message)) = &done {
        locked.references.learn(message);
    }
    if done.is_change()
        && let Some(room) = locked.rooms.get_mut(&id)
    {
        // The trigger has counted; whether it counts one is its own business, so the number is read
        // back.
        room.changes = changes_of(client, id).await?;
    }
    Ok(done)
}

async fn commit(
    client: &ClientWrapper,
    mut locked: LockedRows,
    done: Vec<(Done, Revision)>,
    witness: Witness,
    patience: Duration,
) -> Result<Vec<(Done, Revision)>, Aborted> {
    // The number and the process are known since the locks were taken, in case the commit is not
    // answered.
    let (transaction, process) = (locked.transaction.clone(), locked.process);
    let count = locked.count(client, None);
    let commit = client.batch_execute("COMMIT");
    // Both are sent together: if counting fails, the commit turns into a rollback.
    let answer = timeout(patience, async { tokio::join!(biased; count, commit) }).await;
    let reason = match answer {
        Ok((Ok(()), Ok(()))) => return Ok(done),
        Ok((Err(error), _) | (Ok(()), Err(error))) if is_refusal(&error) => {
            // The database says itself that it has not committed.
            return Err(Aborted::Before(error.into()));
        }
        Ok((Err(error), _) | (Ok(()), Err(error))) => chain(&error),
        Err(_) => Failure::timed_out().reason,
    };
    Err(Aborted::Committing(Doubt {
        transaction,
        process,
        done,
        witness,
        reason,
    }))
}

/// Whether an error says that a statement was not carried out. What ends the whole connection may have come
/// after the commit.
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
    match timeout(patience, step).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::timed_out()),
    }
}

/// What a transaction knows of the conversations it has locked.
struct LockedRows {
    /// Writes down `last_seq`. It is prepared at the beginning, since the commit is sent right behind it.
    counting: Statement,
    transaction: String,
    process: i32,
    rooms: HashMap<Uuid, Room>,
    /// The conversations in which the users who ask are members by name.
    members: HashSet<(Uuid, String)>,
    /// What was sent before under one of the ids that clients gave.
    sent: HashMap<(String, String), Arc<Message>>,
    references: References,
}

struct Room {
    last_seq: u64,
    /// `last_seq` as the row has it.
    stored_seq: u64,
    /// Changes beside messages, as the row has them.
    changes: u64,
    is_open: bool,
    owner: Option<String>,
}

/// Begins, locks and looks: five statements, one round trip.
async fn begin(client: &ClientWrapper, group: &[Write]) -> Result<LockedRows, Error> {
    let mut ids: Vec<Uuid> = group.iter().map(Write::conversation_id).collect();
    // Rows are locked in the order of ids by every server, so that no two of them wait for one
    // another.
    ids.sort_unstable();
    ids.dedup();
    let (mut homes, mut users, mut senders, mut sent_ids) = (vec![], vec![], vec![], vec![]);
    for write in group {
        if let Some(user) = asker(write) {
            homes.push(write.conversation_id());
            users.push(user);
        }
        let Write::Message { message, .. } = write else {
            continue;
        };
        for user in &message.mentions {
            homes.push(message.conversation_id);
            users.push(user);
        }
        if let Some(id) = &message.client_message_id {
            senders.push(message.user_id.as_str());
            sent_ids.push(id.as_str());
        }
    }
    let lock = client
        .prepare_cached(
            "SELECT id, last_seq, changes, is_open, owner_id FROM conversations
             WHERE id = ANY($1) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
        )
        .await?;
    let name = client
        .prepare_cached("SELECT pg_current_xact_id()::text, pg_backend_pid()")
        .await?;
    let members = client
        .prepare_cached(
            "SELECT conversation_id, user_id FROM members
             WHERE (conversation_id, user_id) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))",
        )
        .await?;
    // One look into the index for each, whatever the database believes about the table: there is
    // one at most, but only a limit lets it plan for that.
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
    // began, and all behind the first query begin when the locks are held.
    let (_, locked, name, members, sent) = tokio::try_join!(
        biased;
        // These are pipelined: one round trip to a database that may be far away.
        client.batch_execute("BEGIN"),
        client.query(&lock, &locks),
        client.query_one(&name, &[]),
        client.query(&members, &asked),
        client.query(&sent, &repeats),
    )?;
    let sent = sent
        .iter()
        .map(|row| Ok((row.try_get("client_message_id")?, Arc::new(message(row)?))))
        .collect::<Result<Vec<(String, _)>, Error>>()?;
    let (sent_ids, mut messages): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
    show(client, &mut messages, None).await?;
    let sent = messages.into_iter().zip(sent_ids);
    Ok(LockedRows {
        counting,
        references: References::read(client, group).await?,
        transaction: name.try_get(0)?,
        process: name.try_get(1)?,
        rooms: locked.iter().map(room).collect::<Result<_, Error>>()?,
        members: members
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, Error>>()?,
        sent: sent
            .map(|(message, id)| ((message.user_id.clone(), id), message))
            .collect(),
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

/// Whose membership a change depends on.
fn asker(write: &Write) -> Option<&str> {
    match write {
        Write::Message { message, .. } => Some(&message.user_id),
        Write::Edit { edit, .. } => Some(&edit.by.user_id),
        Write::Delete { delete, .. } => Some(&delete.by.user_id),
        Write::Annotate { annotate, .. } => Some(&annotate.by.user_id),
        Write::Member { change, .. } => Some(&change.by.user_id),
        Write::Rename { rename, .. } => Some(&rename.by.user_id),
        Write::Deletion { deletion, .. } => Some(&deletion.by.user_id),
        Write::Read { read, .. } => Some(&read.user_id),
        Write::Conversation { .. } => None,
    }
}

impl LockedRows {
    fn admits(&self, conversation: Uuid, user: &str) -> bool {
        self.rooms
            .get(&conversation)
            .is_some_and(|room| room.is_open)
            || self.members.contains(&(conversation, user.to_owned()))
    }

    /// How far a conversation has come with what this group has done so far.
    fn revision(&self, conversation: Uuid) -> Revision {
        let room = self.rooms.get(&conversation);
        room.map_or_else(Revision::default, |room| Revision {
            seq: room.last_seq,
            changes: room.changes,
        })
    }

    /// Takes note of a member that was added or removed: what follows in this group depends on it.
    fn set_member(&mut self, change: &MemberChange) {
        let member = (change.conversation_id, change.user_id.clone());
        if change.removes {
            self.members.remove(&member);
        } else {
            self.members.insert(member);
        }
    }

    /// Takes note of a conversation that is deleted: for what follows in this group there is none.
    fn forget(&mut self, conversation: Uuid) {
        self.rooms.remove(&conversation);
        self.members.retain(|(of, _)| *of != conversation);
    }

    /// Takes note of a conversation that this group has stored.
    fn learn(&mut self, new: &NewConversation, is_new: bool) {
        if !is_new {
            return;
        }
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

    /// Gives a message its place, unless it was sent before or must not be sent.
    fn place(&mut self, new: &NewMessage, now: Time, rows: &mut Rows) -> InsertOutcome {
        if !self.admits(new.conversation_id, &new.user_id) {
            return InsertOutcome::Absent;
        }
        let key = new
            .client_message_id
            .clone()
            .map(|id| (new.user_id.clone(), id));
        // A repetition is found before anything else is checked, since what it answers may have
        // been deleted by now.
        if let Some(message) = key.as_ref().and_then(|key| self.sent.get(key)) {
            return if message.conversation_id == new.conversation_id {
                InsertOutcome::Row {
                    message: Arc::clone(message),
                    repeated: true,
                }
            } else {
                InsertOutcome::Conflict
            };
        }
        if let Some(place) = self.stranger(new) {
            return InsertOutcome::NoMember(place);
        }
        let Some(original) = self.references.original(new) else {
            return InsertOutcome::NoOriginal;
        };
        let Some(room) = self.rooms.get_mut(&new.conversation_id) else {
            return InsertOutcome::Absent;
        };
        // The lock of the row makes the number this server's own until the commit.
        room.last_seq += 1;
        let message = Arc::new(new.clone().stored(room.last_seq, now, original));
        self.references.notify(new, &message);
        rows.push(&message, new.client_message_id.clone());
        if let Some(key) = key {
            // The same message may come twice in one group.
            self.sent.insert(key, Arc::clone(&message));
        }
        InsertOutcome::Row {
            message,
            repeated: false,
        }
    }

    /// Writes down the new `last_seq` of every conversation that has one, or of one.
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
