//! Reactions, pins and notification levels, and the parts of a shown message that are not in its
//! row.

use std::sync::Arc;

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::store::change::annotations::EXCERPT_CHARS;
use crate::store::change::conversations::sqlite::owner;
use crate::store::change::members::sqlite::{is_member, last_seq};
use crate::store::change::messages::sqlite as messages;
use crate::store::change::messages::streams::sqlite as streams;
use crate::store::change::{
    Annotate, Annotated, Annotation, Change, Level, MAX_PINS, Message, NewMessage, Notice, Opening,
    PinRow, Quote, Reaction, ReactionCounts,
};
use crate::store::page::Messages;
use crate::store::shared::journals::sqlite as journals;
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, Id, execute, query, record, unsigned};
use crate::store::{StoreError, Time};

impl Sqlite {
    pub(in crate::store) async fn opening(
        &self,
        conversation: Uuid,
        user: Option<&str>,
    ) -> Result<Option<Opening>, StoreError> {
        let user = user.map(str::to_owned);
        self.read(move |connection| opening(connection, conversation, user.as_deref()))
            .await
    }
}

fn opening(
    connection: &Connection,
    conversation: Uuid,
    user: Option<&str>,
) -> rusqlite::Result<Option<Opening>> {
    // One transaction reads membership and pins, so that a removed user gets nothing newer than the
    // removal.
    let transaction = connection.unchecked_transaction()?;
    if last_seq(&transaction, conversation, user)?.is_none() {
        return Ok(None);
    }
    let pins = transaction.query_cached(
        "SELECT id, seq, user_id, user_name, substr(content, 1, ?2) AS excerpt, edited_at, deleted_at,
             pinned_by, pinned_at
         FROM pins JOIN messages ON messages.id = pins.message_id
         WHERE pins.conversation_id = ?1 ORDER BY pinned_at DESC, seq DESC",
        params![Id(conversation), EXCERPT_CHARS],
        record,
    )?;
    let (notification_level, others_read_seq) = match user {
        Some(user) => (
            level(&transaction, conversation, user)?,
            others_read_seq(&transaction, conversation, user)?,
        ),
        None => (Level::All, None),
    };
    Ok(Some(Opening {
        pins,
        notification_level,
        others_read_seq,
    }))
}

pub(in crate::store) const OTHERS_READ: &str = "SELECT seq FROM reads
    WHERE conversation_id = ?1 AND user_id <> ?2 AND seq > 0 ORDER BY seq DESC LIMIT 1";

/// Returns the `seq` of the newest message that another user has read.
fn others_read_seq(
    connection: &Connection,
    conversation: Uuid,
    user: &str,
) -> rusqlite::Result<Option<u64>> {
    connection.query_opt_cached(OTHERS_READ, params![Id(conversation), user], |row| {
        row.get(0).map(unsigned)
    })
}

/// Returns a user's notification level.
pub(in crate::store) fn level(
    connection: &Connection,
    conversation: Uuid,
    user: &str,
) -> rusqlite::Result<Level> {
    let level: Option<String> = connection.query_opt_cached(
        "SELECT level FROM notification_levels WHERE conversation_id = ?1 AND user_id = ?2",
        params![Id(conversation), user],
        |row| row.get(0),
    )?;
    Ok(Level::of(level.as_deref()))
}

/// Adds quotes, reactions and growing texts to the messages of a page, as `reader` sees them.
pub(in crate::store) fn shown_page(
    connection: &Connection,
    page: Messages,
    reader: Option<&str>,
    descending: bool,
) -> rusqlite::Result<Messages> {
    let (mut page, mut is_larger) = (page, false);
    for message in &mut page.messages {
        if let Some(shown) = more(connection, message, reader)? {
            *message = Arc::new(shown);
            is_larger = true;
        }
    }
    Ok(if is_larger {
        page.cut(descending)
    } else {
        page
    })
}

/// Adds quote, reactions and growing text to a message.
pub(in crate::store) fn shown(
    connection: &Connection,
    message: Message,
) -> rusqlite::Result<Message> {
    Ok(more(connection, &message, None)?.unwrap_or(message))
}

/// Returns a message with its quote, reactions and growing text, or `None` if it has none of them.
fn more(
    connection: &Connection,
    message: &Message,
    reader: Option<&str>,
) -> rusqlite::Result<Option<Message>> {
    let reactions = reactions(connection, message.id, reader)?;
    let so_far = match message.may_stream() {
        true => streams::text(connection, message.id)?,
        false => None,
    };
    if message.answers.is_none() && reactions.is_empty() && so_far.is_none() {
        return Ok(None);
    }
    Ok(Some(Message {
        reply_to: match message.answers {
            Some(id) => found(connection, id)?.map(|(_, quote)| quote),
            None => None,
        },
        reactions,
        streaming: so_far.is_some(),
        content: so_far.unwrap_or_else(|| message.content.clone()),
        ..message.clone()
    }))
}

fn reactions(
    connection: &Connection,
    message: Uuid,
    reader: Option<&str>,
) -> rusqlite::Result<Vec<Reaction>> {
    // A reaction names at most ten users.
    connection.query_cached(
        "SELECT e.emoji, e.count,
             (SELECT json_group_array(user_id ORDER BY user_id) FROM (SELECT user_id FROM message_reactions
                  WHERE message_id = ?1 AND emoji = e.emoji ORDER BY user_id LIMIT 10)) AS user_ids,
             EXISTS (SELECT 1 FROM message_reactions
                 WHERE message_id = ?1 AND emoji = e.emoji AND user_id = ?2) AS own
         FROM message_emojis e WHERE e.message_id = ?1 ORDER BY e.first_at, e.emoji",
        params![Id(message), reader],
        record,
    )
}

/// Returns the quote of a message, and its conversation.
fn found(connection: &Connection, id: Uuid) -> rusqlite::Result<Option<(Uuid, Quote)>> {
    connection.query_opt_cached(
        "SELECT id, conversation_id, seq, user_id, user_name, substr(content, 1, ?2) AS excerpt,
             edited_at, deleted_at
         FROM messages WHERE id = ?1",
        params![Id(id), EXCERPT_CHARS],
        |row| Ok((row.get::<_, Id>("conversation_id")?.0, record(row)?)),
    )
}

/// Returns the quote of the message that `new` replies to.
///
/// The error is the index of a mentioned user who is not a member, or `None` if the original does
/// not exist.
pub(in crate::store) fn references(
    connection: &Connection,
    new: &NewMessage,
) -> rusqlite::Result<Result<Option<Quote>, Option<usize>>> {
    for (place, user) in new.mentions.iter().enumerate() {
        if !is_member(connection, new.conversation_id, user)? {
            return Ok(Err(Some(place)));
        }
    }
    let Some(id) = new.reply_to else {
        return Ok(Ok(None));
    };
    let original = found(connection, id)?.filter(|(conversation, quote)| {
        *conversation == new.conversation_id && quote.deleted_at.is_none()
    });
    Ok(original.map(|(_, quote)| Some(quote)).ok_or(None))
}

/// Stores the journal entries that notify mentioned users. Drops an entry if its journal is full.
pub(in crate::store) fn notify(
    connection: &Connection,
    notice: &Notice,
    message: &Message,
) -> rusqlite::Result<()> {
    let mut silent = Vec::new();
    for user in &message.mentions {
        if level(connection, message.conversation_id, user)? == Level::None {
            silent.push(user);
        }
    }
    for entry in notice.entries(message, |user| {
        silent.iter().any(|silent| **silent == *user)
    }) {
        // A full journal is an outcome and no error, so that the message is stored nevertheless.
        let appended = journals::append(connection, &entry)?;
        notice.note(entry.journal, appended);
    }
    Ok(())
}

pub(in crate::store) fn annotate(
    connection: &Connection,
    annotate: &Annotate,
    now: Time,
) -> rusqlite::Result<Change<Arc<Annotated>>> {
    let Some(message) = messages::find(connection, annotate.message_id)? else {
        return Ok(Change::Absent);
    };
    let id = message.conversation_id;
    let Some(owner) = owner(connection, id)? else {
        return Ok(Change::Absent);
    };
    let is_member = is_member(connection, id, &annotate.by.user_id)?;
    if let Some(refused) = annotate.refused(owner.as_deref(), is_member) {
        return Ok(refused);
    }
    if message.deleted_at.is_some() {
        return Ok(Change::Absent);
    }
    match &annotate.annotation {
        Annotation::React(emoji) => react(connection, annotate, &message, emoji, now),
        Annotation::Unreact(emoji) | Annotation::EraseReaction(emoji) => {
            unreact(connection, annotate, &message, emoji, now)
        }
        Annotation::Pin => pin(connection, annotate, &message, now),
        Annotation::Unpin => {
            let removed = execute(connection, &annotate.unpin())?;
            let unpinned = annotate.unpinned(&message, now);
            Ok(match removed {
                0 => Change::Unchanged(unpinned),
                _ => Change::Done(unpinned),
            })
        }
    }
}

fn react(
    connection: &Connection,
    annotate: &Annotate,
    message: &Message,
    emoji: &str,
    now: Time,
) -> rusqlite::Result<Change<Arc<Annotated>>> {
    let standing = ReactionCounts::new(&query(connection, &annotate.emojis(emoji))?);
    if standing.is_there {
        let as_it_is = annotate.reacted(message, emoji, standing.count, now);
        return Ok(Change::Unchanged(as_it_is));
    }
    if !standing.has_room() {
        return Ok(Change::Conflict);
    }
    for statement in annotate.react(emoji, now) {
        execute(connection, &statement)?;
    }
    let count = standing.count + 1;
    Ok(Change::Done(annotate.reacted(message, emoji, count, now)))
}

fn unreact(
    connection: &Connection,
    annotate: &Annotate,
    message: &Message,
    emoji: &str,
    now: Time,
) -> rusqlite::Result<Change<Arc<Annotated>>> {
    let standing = ReactionCounts::new(&query(connection, &annotate.emojis(emoji))?);
    if !standing.is_there {
        let as_it_is = annotate.reacted(message, emoji, standing.count, now);
        return Ok(Change::Unchanged(as_it_is));
    }
    let count = standing.count.saturating_sub(1);
    for statement in annotate.unreact(emoji, count) {
        execute(connection, &statement)?;
    }
    Ok(Change::Done(annotate.reacted(message, emoji, count, now)))
}

fn pin(
    connection: &Connection,
    annotate: &Annotate,
    message: &Message,
    now: Time,
) -> rusqlite::Result<Change<Arc<Annotated>>> {
    let pins: Vec<PinRow> = query(connection, &Annotate::pins(message.conversation_id))?;
    let count = pins.len();
    if let Some(pin) = pins.into_iter().find(|pin| pin.message_id == message.id) {
        let pinned = Annotate::pinned(message, pin.pinned_by, pin.pinned_at);
        return Ok(Change::Unchanged(pinned));
    }
    if count >= MAX_PINS {
        return Ok(Change::Conflict);
    }
    execute(connection, &annotate.pin(message.conversation_id, now))?;
    let by = annotate.by.user_id.clone();
    Ok(Change::Done(Annotate::pinned(message, by, now)))
}
