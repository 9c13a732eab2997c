//! One transaction for a group of changes.
//!
//! First the rows of all conversations are locked, in the order of their ids, so that two servers
//! never wait for one another in a circle; whoever holds them hands out their `seq`. What a group
//! of messages costs does not depend on how many they are: one statement each to lock, to look who is
//! a member and what was sent before, to insert, to count, and one commit.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::doubt::{Doubt, Witness};
use super::failure::Failure;
use super::insert::Rows;
use super::queries::{message, message_columns, read_conversation, signed, unsigned};
use crate::store::Time;
use crate::store::change::{
    Actor, Change, Delete, Edit, MarkRead, MemberChange, ReadMark, UNREAD_MAX,
};
use crate::store::lane::{Done, Outcome, Write};
use crate::store::rows::{Conversation, Message, NewConversation, NewMessage};

/// How a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum Aborted {
    /// Nothing of it is stored.
    Before(Failure),
    /// The connection was lost after the commit was sent: it may or may not be stored.
    Committing(Doubt),
}

/// Stores a group in one transaction. Each step may take `patience`.
pub(super) async fn transact(
    client: &ClientWrapper,
    group: &[Write],
    patience: Duration,
) -> Result<Vec<Done>, Aborted> {
    let now = Time::now();
    let before = Aborted::Before;
    let mut held = within(patience, begin(client, group))
        .await
        .map_err(before)?;
    let mut done: Vec<Option<Done>> = group.iter().map(|_| None).collect();
    // Messages are stored together; among changes that wait at the same time any order is right.
    let mut rows = Rows::default();
    for (write, done) in group.iter().zip(&mut done) {
        match write {
            Write::Conversation { conversation, .. } => {
                let stored = within(patience, insert_conversation(client, conversation, now)).await;
                let (stored, is_new) = stored.map_err(before)?;
                held.learn(conversation, is_new);
                *done = Some(Done::Conversation(stored));
            }
            Write::Message { message, .. } => {
                *done = Some(Done::Message(held.place(message, now, &mut rows)));
            }
            Write::Edit { .. }
            | Write::Delete { .. }
            | Write::Member { .. }
            | Write::Read { .. } => {}
        }
    }
    within(patience, rows.insert(client, now))
        .await
        .map_err(before)?;
    for (write, done) in group.iter().zip(&mut done) {
        match write {
            Write::Edit { edit, .. } => {
                let changed = within(patience, change_text(client, &held, edit, now)).await;
                *done = Some(Done::Changed(changed.map_err(before)?));
            }
            Write::Delete { delete, .. } => {
                let changed = within(patience, remove_text(client, &held, delete, now)).await;
                *done = Some(Done::Changed(changed.map_err(before)?));
            }
            Write::Member { change, .. } => {
                let changed = within(patience, change_member(client, &held, change, now)).await;
                *done = Some(Done::Member(changed.map_err(before)?));
            }
            Write::Read { .. } | Write::Message { .. } | Write::Conversation { .. } => {}
        }
    }
    let reads = group
        .iter()
        .zip(&mut done)
        .filter_map(|(write, done)| match write {
            Write::Read { read, .. } => Some(mark_read(client, &held, read, done)),
            Write::Message { .. }
            | Write::Edit { .. }
            | Write::Delete { .. }
            | Write::Conversation { .. }
            | Write::Member { .. } => None,
        });
    within(patience, try_join_all(reads))
        .await
        .map_err(before)?;
    let done: Vec<Done> = done.into_iter().flatten().collect();
    let witness = Witness::of(group, &done, now);
    commit(client, held, done, witness, patience).await
}

async fn commit(
    client: &ClientWrapper,
    held: Held,
    done: Vec<Done>,
    witness: Witness,
    patience: Duration,
) -> Result<Vec<Done>, Aborted> {
    let count = held.count(client);
    let commit = client.batch_execute("COMMIT");
    // Sent together: if counting fails, the commit turns into a rollback.
    let answer = timeout(patience, async { tokio::join!(biased; count, commit) }).await;
    let reason = match answer {
        Ok((Ok(()), Ok(()))) => return Ok(done),
        Ok((Err(error), _) | (Ok(()), Err(error))) if is_refusal(&error) => {
            // The database says itself that it did not.
            return Err(Aborted::Before(error.into()));
        }
        Ok((Err(error), _) | (Ok(()), Err(error))) => super::address::chain(&error),
        Err(_) => Failure::timed_out().reason,
    };
    Err(Aborted::Committing(Doubt {
        transaction: held.transaction,
        process: held.process,
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
struct Held {
    transaction: String,
    process: i32,
    rooms: HashMap<Uuid, Room>,
    /// Of the users who ask: where they are members by name.
    members: HashSet<(Uuid, String)>,
    /// What was sent before under one of the ids that clients gave.
    sent: HashMap<(String, String), Arc<Message>>,
}

struct Room {
    last_seq: u64,
    /// `last_seq` as it was.
    stored_seq: u64,
    is_open: bool,
    owner: Option<String>,
}

/// Begins, locks and looks: five statements, one round trip.
async fn begin(client: &ClientWrapper, group: &[Write]) -> Result<Held, Error> {
    let mut ids: Vec<Uuid> = group.iter().map(Write::conversation_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let (mut homes, mut users, mut senders, mut sent_ids) = (vec![], vec![], vec![], vec![]);
    for write in group {
        if let Some(user) = asker(write) {
            homes.push(write.conversation_id());
            users.push(user);
        }
        if let Write::Message { message, .. } = write
            && let Some(id) = &message.client_message_id
        {
            senders.push(message.user_id.as_str());
            sent_ids.push(id.as_str());
        }
    }
    let lock = client
        .prepare_cached(
            "SELECT id, last_seq, is_open, owner_id FROM conversations
             WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
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
    type Parameters<'a, const N: usize> = [&'a (dyn ToSql + Sync); N];
    let (locks, asked, repeats): (Parameters<'_, 1>, Parameters<'_, 2>, Parameters<'_, 2>) =
        ([&ids], [&homes, &users], [&senders, &sent_ids]);
    // Sent in this order without waiting; each sees what was committed before it began, and all but
    // the first begin when the locks are held.
    let (_, locked, name, members, sent) = tokio::try_join!(
        biased;
        client.batch_execute("BEGIN"),
        client.query(&lock, &locks),
        client.query_one(&name, &[]),
        client.query(&members, &asked),
        client.query(&sent, &repeats),
    )?;
    Ok(Held {
        transaction: name.try_get(0)?,
        process: name.try_get(1)?,
        rooms: locked.iter().map(room).collect::<Result<_, Error>>()?,
        members: members
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, Error>>()?,
        sent: sent
            .iter()
            .map(|row| {
                let id = row.try_get("client_message_id")?;
                let message = message(row)?;
                Ok(((message.user_id.clone(), id), Arc::new(message)))
            })
            .collect::<Result<_, Error>>()?,
    })
}

fn room(row: &Row) -> Result<(Uuid, Room), Error> {
    let last_seq = unsigned(row.try_get("last_seq")?);
    let room = Room {
        last_seq,
        stored_seq: last_seq,
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
        Write::Member { change, .. } => Some(&change.by.user_id),
        Write::Read { read, .. } => Some(&read.user_id),
        Write::Conversation { .. } => None,
    }
}

impl Held {
    fn admits(&self, conversation: Uuid, user: &str) -> bool {
        self.rooms
            .get(&conversation)
            .is_some_and(|room| room.is_open)
            || self.members.contains(&(conversation, user.to_owned()))
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
            is_open: new.is_open,
            owner: new.owner_id.clone(),
        });
    }

    /// Gives a message its place, unless it was sent before or must not be sent.
    fn place(&mut self, new: &NewMessage, now: Time, rows: &mut Rows) -> Outcome {
        if !self.admits(new.conversation_id, &new.user_id) {
            return Outcome::Absent;
        }
        let key = new
            .client_message_id
            .clone()
            .map(|id| (new.user_id.clone(), id));
        if let Some(message) = key.as_ref().and_then(|key| self.sent.get(key)) {
            return if message.conversation_id == new.conversation_id {
                Outcome::Row {
                    message: Arc::clone(message),
                    repeated: true,
                }
            } else {
                Outcome::Conflict
            };
        }
        let Some(room) = self.rooms.get_mut(&new.conversation_id) else {
            return Outcome::Absent;
        };
        room.last_seq += 1;
        let message = Arc::new(new.clone().stored(room.last_seq, now));
        rows.push(&message, new.client_message_id.clone());
        if let Some(key) = key {
            self.sent.insert(key, Arc::clone(&message));
        }
        Outcome::Row {
            message,
            repeated: false,
        }
    }

    /// Writes down the new `last_seq` of every conversation that has one.
    async fn count(&self, client: &ClientWrapper) -> Result<(), Error> {
        let changed = self
            .rooms
            .iter()
            .filter(|(_, room)| room.last_seq != room.stored_seq);
        let (ids, seqs): (Vec<Uuid>, Vec<i64>) = changed
            .map(|(id, room)| (*id, signed(room.last_seq)))
            .unzip();
        if ids.is_empty() {
            return Ok(());
        }
        // Not prepared: that would wait for an answer, and the commit is to be sent right behind.
        let types = [
            tokio_postgres::types::Type::UUID_ARRAY,
            tokio_postgres::types::Type::INT8_ARRAY,
        ];
        let [ids_type, seqs_type] = types;
        client
            .query_typed(
                "UPDATE conversations SET last_seq = w.last_seq
                 FROM unnest($1::uuid[], $2::int8[]) AS w (id, last_seq)
                 WHERE conversations.id = w.id",
                &[(&ids, ids_type), (&seqs, seqs_type)],
            )
            .await
            .map(|_| ())
    }
}

/// Stores a conversation unless there is one of that id, and reads it; says whether it is new.
async fn insert_conversation(
    client: &ClientWrapper,
    new: &NewConversation,
    now: Time,
) -> Result<(Conversation, bool), Error> {
    let insert = client
        .prepare_cached(
            "INSERT INTO conversations (id, title, owner_id, is_open, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (id) DO NOTHING",
        )
        .await?;
    let values: [&(dyn ToSql + Sync); 5] = [
        &new.id,
        &new.title,
        &new.owner_id,
        &new.is_open,
        &now.timestamp(),
    ];
    let is_new = client.execute(&insert, &values).await? > 0;
    if is_new {
        let members: Vec<&str> = new
            .owner_id
            .iter()
            .chain(&new.member_ids)
            .map(String::as_str)
            .collect();
        let insert = client
            .prepare_cached(
                "INSERT INTO members (conversation_id, user_id, joined_at)
                 SELECT $1, unnest($2::text[]), $3 ON CONFLICT (conversation_id, user_id) DO NOTHING",
            )
            .await?;
        client
            .execute(&insert, &[&new.id, &members, &now.timestamp()])
            .await?;
    }
    Ok((read_back(client, new.id).await?, is_new))
}

async fn read_back(client: &ClientWrapper, id: Uuid) -> Result<Conversation, Error> {
    let read = client
        .prepare_cached(
            "SELECT id, title, owner_id, created_at, updated_at,
                 ARRAY(SELECT user_id FROM members WHERE conversation_id = $1
                     ORDER BY user_id) AS member_ids FROM conversations WHERE id = $1",
        )
        .await?;
    let row = client.query_one(&read, &[&id]).await?;
    read_conversation(&row)
}

async fn change_text(
    client: &ClientWrapper,
    held: &Held,
    edit: &Edit,
    now: Time,
) -> Result<Change<Arc<Message>>, Error> {
    let old = match changeable(client, held, edit.message_id, &edit.by).await? {
        Ok(message) if message.deleted_at.is_none() => message,
        Ok(_) => return Ok(Change::Absent),
        Err(refused) => return Ok(refused),
    };
    if edit.version.is_some_and(|version| version != old.version) {
        return Ok(Change::Conflict);
    }
    let new = old.edited(edit.content.clone(), now);
    replace(client, &old, &new, &edit.by, now).await?;
    Ok(Change::Done(Arc::new(new)))
}

async fn remove_text(
    client: &ClientWrapper,
    held: &Held,
    delete: &Delete,
    now: Time,
) -> Result<Change<Arc<Message>>, Error> {
    let old = match changeable(client, held, delete.message_id, &delete.by).await? {
        Ok(message) if message.deleted_at.is_none() => message,
        Ok(message) => return Ok(Change::Unchanged(Arc::new(message))),
        Err(refused) => return Ok(refused),
    };
    let new = old.deleted(now);
    replace(client, &old, &new, &delete.by, now).await?;
    Ok(Change::Done(Arc::new(new)))
}

/// A message that `by` may change, or what to say instead. Its conversation's lock keeps it as it is.
async fn changeable(
    client: &ClientWrapper,
    held: &Held,
    id: Uuid,
    by: &Actor,
) -> Result<Result<Message, Change<Arc<Message>>>, Error> {
    let statement = client
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE id = $1"
        ))
        .await?;
    let Some(row) = client.query_opt(&statement, &[&id]).await? else {
        return Ok(Err(Change::Absent));
    };
    let message = message(&row)?;
    let is_member = held.admits(message.conversation_id, &by.user_id);
    Ok(match message.refuses(by, is_member) {
        Some(refused) => Err(refused),
        None => Ok(message),
    })
}

async fn replace(
    client: &ClientWrapper,
    old: &Message,
    new: &Message,
    by: &Actor,
    now: Time,
) -> Result<(), Error> {
    let statement = client
        .prepare_cached(
            "WITH kept AS (
                 INSERT INTO message_versions
                     (message_id, version, content, metadata, replaced_at, replaced_by)
                 SELECT id, version, content, metadata, $7, $8 FROM messages WHERE id = $1)
             UPDATE messages SET content = $2, metadata = $3, version = $4, edited_at = $5,
                 deleted_at = $6 WHERE id = $1",
        )
        .await?;
    let optional = |time: Option<Time>| time.map(Time::timestamp);
    let version = i32::try_from(new.version).unwrap_or(i32::MAX);
    let (edited, deleted): (Option<Timestamp>, Option<Timestamp>) =
        (optional(new.edited_at), optional(new.deleted_at));
    client
        .execute(
            &statement,
            &[
                &old.id,
                &new.content,
                &new.metadata.get(),
                &version,
                &edited,
                &deleted,
                &now.timestamp(),
                &by.user_id,
            ],
        )
        .await
        .map(|_| ())
}

async fn change_member(
    client: &ClientWrapper,
    held: &Held,
    change: &MemberChange,
    now: Time,
) -> Result<Change<Conversation>, Error> {
    let id = change.conversation_id;
    let Some(room) = held.rooms.get(&id) else {
        return Ok(Change::Absent);
    };
    let is_member = held.admits(id, &change.by.user_id);
    if let Some(refused) = change.refused(room.owner.as_deref(), is_member) {
        return Ok(refused);
    }
    let changed = if change.removes {
        let statement = client
            .prepare_cached("DELETE FROM members WHERE conversation_id = $1 AND user_id = $2")
            .await?;
        client.execute(&statement, &[&id, &change.user_id]).await?
    } else if is_full(client, change, room.owner.as_deref()).await? {
        return Ok(Change::Conflict);
    } else {
        let statement = client
            .prepare_cached(
                "INSERT INTO members (conversation_id, user_id, joined_at)
                 VALUES ($1, $2, $3) ON CONFLICT (conversation_id, user_id) DO NOTHING",
            )
            .await?;
        client
            .execute(&statement, &[&id, &change.user_id, &now.timestamp()])
            .await?
    };
    if changed == 0 {
        return read_back(client, id).await.map(Change::Unchanged);
    }
    let statement = client
        .prepare_cached("UPDATE conversations SET updated_at = $2 WHERE id = $1")
        .await?;
    client.execute(&statement, &[&id, &now.timestamp()]).await?;
    read_back(client, id).await.map(Change::Done)
}

/// Whether there is no room for one who is not a member yet. The conversation is locked, so nobody else
/// takes the last place.
async fn is_full(
    client: &ClientWrapper,
    change: &MemberChange,
    owner: Option<&str>,
) -> Result<bool, Error> {
    let statement = client
        .prepare_cached(
            "SELECT count(*) >= $3 AND count(*) FILTER (WHERE user_id = $2) = 0 AS is_full
             FROM members WHERE conversation_id = $1",
        )
        .await?;
    let most = i64::try_from(change.most(owner)).unwrap_or(i64::MAX);
    let row = client
        .query_one(
            &statement,
            &[&change.conversation_id, &change.user_id, &most],
        )
        .await?;
    row.try_get("is_full")
}

async fn mark_read(
    client: &ClientWrapper,
    held: &Held,
    read: &MarkRead,
    done: &mut Option<Done>,
) -> Result<(), Error> {
    let id = read.conversation_id;
    let Some(room) = held
        .rooms
        .get(&id)
        .filter(|_| held.admits(id, &read.user_id))
    else {
        *done = Some(Done::Read(None));
        return Ok(());
    };
    let statement = client
        .prepare_cached(
            "WITH mark AS (
                 INSERT INTO reads (conversation_id, user_id, seq) VALUES ($1, $2, $3)
                 ON CONFLICT (conversation_id, user_id)
                     DO UPDATE SET seq = greatest(reads.seq, excluded.seq)
                 RETURNING seq)
             SELECT mark.seq, (SELECT count(*) FROM (SELECT 1 FROM messages m
                 WHERE m.conversation_id = $1 AND m.seq > mark.seq AND m.user_id <> $2
                     AND m.deleted_at IS NULL LIMIT $4) u) AS unread FROM mark",
        )
        .await?;
    let seq = signed(read.seq.min(room.last_seq));
    let row = client
        .query_one(&statement, &[&id, &read.user_id, &seq, &signed(UNREAD_MAX)])
        .await?;
    *done = Some(Done::Read(Some(ReadMark {
        seq: unsigned(row.try_get("seq")?),
        unread: unsigned(row.try_get("unread")?),
    })));
    Ok(())
}
