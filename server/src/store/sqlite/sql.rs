//! Conversations and new messages, and the conversion of rows to values.

use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::store::Time;
use crate::store::change::annotations::sqlite::{notify, references, shown};
use crate::store::rows::{
    Conversation, Insert, Membership, Message, MessageKind, NewConversation, NewMessage, Revision,
};

/// Returns whether a user is a member. Every user is a member of an open conversation.
pub(in crate::store) fn is_member(
    connection: &Connection,
    conversation: Uuid,
    user: &str,
) -> rusqlite::Result<bool> {
    Ok(last_seq(connection, conversation, Some(user))?.is_some())
}

/// Returns the newest `seq` of a conversation, or `None` if it is unknown or `user` is not a
/// member.
pub(in crate::store) fn last_seq(
    connection: &Connection,
    conversation: Uuid,
    user: Option<&str>,
) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT last_seq FROM conversations
             WHERE id = ?1 AND deleted_at IS NULL AND (?2 IS NULL OR is_open OR EXISTS (
                 SELECT 1 FROM members WHERE conversation_id = ?1 AND user_id = ?2))",
        )?
        .query_row(params![Id(conversation), user], |row| row.get(0))
        .optional()
}

/// Returns a conversation as a user sees it, or `None` if it is unknown or the user is not a
/// member.
pub(in crate::store) fn membership(
    connection: &Connection,
    conversation: Uuid,
    user: Option<&str>,
) -> rusqlite::Result<Option<Membership>> {
    // One transaction reads revision and members, so that they are consistent.
    let transaction = connection.unchecked_transaction()?;
    if last_seq(&transaction, conversation, user)?.is_none() {
        return Ok(None);
    }
    let Some((revision, is_open)) = revision(&transaction, conversation)? else {
        return Ok(None);
    };
    Ok(Some(Membership {
        conversation: read_conversation(&transaction, conversation)?,
        last_seq: revision.seq,
        changes: revision.changes,
        is_open,
    }))
}

/// Returns the revision of a conversation, and whether it is open to everyone.
pub(in crate::store) fn revision(
    connection: &Connection,
    conversation: Uuid,
) -> rusqlite::Result<Option<(Revision, bool)>> {
    connection
        .prepare_cached("SELECT last_seq, changes, is_open FROM conversations WHERE id = ?1")?
        .query_row([Id(conversation)], |row| {
            let revision = Revision {
                seq: unsigned(row.get(0)?),
                changes: unsigned(row.get(1)?),
            };
            Ok((revision, row.get(2)?))
        })
        .optional()
}

/// Counts a change that is not a message.
pub(in crate::store) fn count_change(
    connection: &Connection,
    conversation: Uuid,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE conversations SET changes = changes + 1 WHERE id = ?1")?
        .execute([Id(conversation)])?;
    Ok(())
}

pub(in crate::store) fn read_conversation(
    connection: &Connection,
    id: Uuid,
) -> rusqlite::Result<Conversation> {
    let member_ids = connection
        .prepare_cached("SELECT user_id FROM members WHERE conversation_id = ?1 ORDER BY user_id")?
        .query_map([Id(id)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    connection
        .prepare_cached(
            "SELECT title, owner_id, created_at, updated_at FROM conversations WHERE id = ?1",
        )?
        .query_row([Id(id)], |row| {
            Ok(Conversation {
                id,
                title: row.get("title")?,
                owner_id: row.get("owner_id")?,
                member_ids,
                created_at: row.get("created_at")?,
                updated_at: row.get("updated_at")?,
            })
        })
}

/// Stores a conversation unless its id exists, and reads it.
pub(in crate::store) fn insert_conversation(
    connection: &Connection,
    new: &NewConversation,
    now: Time,
) -> rusqlite::Result<Conversation> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO conversations (id, title, owner_id, is_open, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            Id(new.id),
            new.title,
            new.owner_id,
            new.is_open,
            now
        ])?;
    if inserted > 0 {
        let mut insert = connection.prepare_cached(
            "INSERT INTO members (conversation_id, user_id, joined_at)
             VALUES (?1, ?2, ?3) ON CONFLICT (conversation_id, user_id) DO NOTHING",
        )?;
        for user in new.owner_id.iter().chain(&new.member_ids) {
            insert.execute(params![Id(new.id), user, now])?;
        }
    }
    read_conversation(connection, new.id)
}

/// Stores a message with the next `seq` of its conversation, unless it was stored before.
pub(in crate::store) fn insert_message(
    connection: &Connection,
    new: &NewMessage,
    now: Time,
) -> rusqlite::Result<Insert> {
    let Some(last_seq) = last_seq(connection, new.conversation_id, Some(&new.user_id))? else {
        return Ok(Insert::Absent);
    };
    if let Some(client_message_id) = &new.client_message_id
        && let Some(message) = sent(connection, &new.user_id, client_message_id)?
    {
        return Ok(if message.conversation_id == new.conversation_id {
            Insert::Repeated(Arc::new(shown(connection, message)?))
        } else {
            Insert::Conflict
        });
    }
    let original = match references(connection, new)? {
        Ok(original) => original,
        Err(Some(place)) => return Ok(Insert::NoMember(place)),
        Err(None) => return Ok(Insert::NoOriginal),
    };
    let message = new.clone().stored(unsigned(last_seq) + 1, now, original);
    connection
        .prepare_cached(
            "INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type,
                 metadata, client_message_id, reply_to, mentions, version, created_at)
             VALUES (:id, :conversation_id, :seq, :user_id, :user_name, :content, :type,
                 :metadata, :client_message_id, :reply_to, :mentions, :version, :created_at)",
        )?
        .execute(named_params! {
            ":id": Id(message.id),
            ":conversation_id": Id(message.conversation_id),
            ":seq": last_seq + 1,
            ":user_id": message.user_id,
            ":user_name": message.user_name,
            ":content": message.content,
            ":type": message.kind.as_str(),
            ":metadata": message.metadata.get(),
            ":client_message_id": new.client_message_id,
            ":reply_to": new.reply_to.map(Id),
            ":mentions": (!new.mentions.is_empty()).then(|| list(&new.mentions)),
            ":version": message.version,
            ":created_at": message.created_at,
        })?;
    connection
        // Only the writer assigns numbers, so reading and incrementing is safe within its
        // transaction.
        .prepare_cached("UPDATE conversations SET last_seq = ?2 WHERE id = ?1")?
        .execute(params![Id(message.conversation_id), last_seq + 1])?;
    // The notifications are stored in the message's transaction, so that both or neither exist.
    notify(connection, new, &message)?;
    Ok(Insert::Stored(Arc::new(message)))
}

/// Returns the message that a user sent with this client id.
fn sent(connection: &Connection, user: &str, id: &str) -> rusqlite::Result<Option<Message>> {
    connection
        .prepare_cached("SELECT * FROM messages WHERE user_id = ?1 AND client_message_id = ?2")?
        .query_row([user, id], message)
        .optional()
}

pub(in crate::store) fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get::<_, Id>("id")?.0,
        conversation_id: row.get::<_, Id>("conversation_id")?.0,
        seq: unsigned(row.get("seq")?),
        user_id: row.get("user_id")?,
        user_name: row.get("user_name")?,
        content: row.get("content")?,
        kind: row.get("type")?,
        metadata: metadata(row)?,
        reply_to: None,
        mentions: mentions(row)?,
        reactions: Vec::new(),
        answers: row.get::<_, Option<Id>>("reply_to")?.map(|id| id.0),
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        edited_at: row.get("edited_at")?,
        deleted_at: row.get("deleted_at")?,
    })
}

/// Encodes a list of texts for the column `mentions`.
fn list(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("texts are JSON")
}

fn mentions(row: &Row<'_>) -> rusqlite::Result<Vec<String>> {
    let Some(list) = row.get::<_, Option<String>>("mentions")? else {
        return Ok(Vec::new());
    };
    serde_json::from_str(&list)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// Returns the column `metadata`.
pub(in crate::store) fn metadata(row: &Row<'_>) -> rusqlite::Result<Box<RawValue>> {
    RawValue::from_string(row.get("metadata")?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// A UUID that is stored as lower-case text.
pub(in crate::store) struct Id(pub(in crate::store) Uuid);

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let id = Uuid::try_parse(value.as_str()?);
        id.map(Self)
            .map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let time = value.as_str()?.parse();
        time.map_err(|error: jiff::Error| FromSqlError::Other(Box::new(error)))
    }
}

impl FromSql for MessageKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "user" => Ok(Self::User),
            "ai" => Ok(Self::Ai),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// Converts a signed integer of SQLite; a `seq` is never negative.
pub(in crate::store) fn unsigned(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

/// Converts a bound, which may be any number that a client sends. Values past the maximum mean "the
/// end".
pub(in crate::store) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
