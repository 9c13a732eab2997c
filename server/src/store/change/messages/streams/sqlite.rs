//! The beginning and the end of messages that are being written, in SQLite.

use std::sync::Arc;

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{Finish, delete, select_stream};
use crate::store::Time;
use crate::store::change::annotations::sqlite::{notify, shown};
use crate::store::change::members::sqlite::last_seq;
use crate::store::change::messages::sqlite::{find, replace};
use crate::store::change::{Actor, Change, Message};
use crate::store::sqlite::sql::{CachedStatements, Id, execute, query};

/// Stores the row beside a new message.
pub(in crate::store) fn begin(
    connection: &Connection,
    message: &Message,
    holder: Uuid,
) -> rusqlite::Result<()> {
    connection.execute_cached(
        "INSERT INTO message_streams
             (message_id, conversation_id, user_id, holder, text, chars, touched_at)
         VALUES (?1, ?2, ?3, ?4, '', 0, ?5)",
        params![
            Id(message.id),
            Id(message.conversation_id),
            message.user_id,
            Id(holder),
            message.created_at
        ],
    )?;
    Ok(())
}

/// Returns the text of a message that is being written.
pub(in crate::store) fn text(
    connection: &Connection,
    message: Uuid,
) -> rusqlite::Result<Option<String>> {
    connection.query_opt_cached(
        "SELECT text FROM message_streams WHERE message_id = ?1",
        [Id(message)],
        |row| row.get(0),
    )
}

pub(in crate::store) fn finish(
    connection: &Connection,
    finish: &Finish,
    now: Time,
) -> rusqlite::Result<Change<Arc<Message>>> {
    let Some(message) = find(connection, finish.message_id)? else {
        return Ok(Change::Absent);
    };
    let old = shown(connection, message)?;
    if last_seq(connection, old.conversation_id, None)?.is_none() || old.deleted_at.is_some() {
        return Ok(Change::Absent);
    }
    let Some(stored) = query(connection, &select_stream(old.id))?.pop() else {
        return Ok(Change::Unchanged(Arc::new(old)));
    };
    let new = match finish.finished(&old, &stored) {
        Ok(new) => new,
        Err(refused) => return Ok(refused),
    };
    let before = Message {
        content: String::new(),
        ..old.clone()
    };
    let by = Actor {
        user_id: old.user_id,
        is_admin: false,
    };
    replace(connection, &before, &new, &by, now)?;
    execute(connection, &delete(new.id))?;
    if let Some(notice) = &finish.notice {
        notify(connection, notice, &new)?;
    }
    Ok(Change::Done(Arc::new(new)))
}
