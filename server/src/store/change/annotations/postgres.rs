//! Reactions, pins and notification levels, and the parts of a shown message that are not in its
//! row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use uuid::Uuid;

use crate::store::change::members::postgres::is_member;
use crate::store::change::messages::postgres as messages;
use crate::store::change::messages::streams::postgres as streams;
use crate::store::change::{
    Annotate, Annotated, Annotation, Change, Level, MAX_PINS, Message, Opening, PinRow, Quote,
    Reaction, ReactionCounts,
};
use crate::store::page::Messages;
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{CachedStatements, execute, query, record, unsigned};
use crate::store::postgres::{Postgres, read};
use crate::store::statement::Pair;
use crate::store::{StoreError, Time};

/// The columns of a quote, from the table `m`, with an excerpt of 200 characters as in all stores.
macro_rules! quote_columns {
    () => {
        "m.id, m.seq, m.user_id, m.user_name, left(m.content, 200) AS excerpt, m.edited_at, m.deleted_at"
    };
}

impl Postgres {
    pub(in crate::store) async fn opening(
        &self,
        conversation: Uuid,
        user: Option<&str>,
    ) -> Result<Option<Opening>, StoreError> {
        read!(self, client => opening(client, conversation, user))
    }
}

/// Returns the pins, the user's notification level and how far other users have read. Returns
/// `None` if the conversation is unknown or the user is not a member.
async fn opening(
    client: &ClientWrapper,
    conversation: Uuid,
    user: Option<&str>,
) -> Result<Option<Opening>, Error> {
    let pins = client
        .query_cached(
            concat!(
                "SELECT ",
                quote_columns!(),
                ", pinned_by, pinned_at FROM pins JOIN messages m ON m.id = pins.message_id
                 WHERE pins.conversation_id = $1 ORDER BY pinned_at DESC, m.seq DESC"
            ),
            &[&conversation],
            record,
        )
        .await?;
    let (notification_level, others_read_seq) = client
        .query_one_cached(
            "SELECT (SELECT level FROM notification_levels WHERE conversation_id = $1 AND user_id = $2) AS level,
                 (SELECT seq FROM reads WHERE conversation_id = $1 AND user_id <> $2 AND seq > 0
                  ORDER BY seq DESC LIMIT 1) AS others_read_seq",
            &[&conversation, &user],
            |row| {
                let others_read_seq: Option<i64> = row.try_get("others_read_seq")?;
                let level = Level::of(row.try_get("level")?);
                Ok((level, others_read_seq.map(unsigned)))
            },
        )
        .await?;
    let opening = Opening {
        pins,
        notification_level,
        others_read_seq,
    };
    // Membership is checked last, so that a user who was removed in the meantime does not get later
    // messages.
    let is_member = is_member(client, conversation, user).await?;
    Ok(is_member.then_some(opening))
}

/// Returns which of these pairs of a conversation and a user have turned notifications off.
pub(in crate::store) async fn silent(
    client: &ClientWrapper,
    conversations: &[Uuid],
    users: &[&str],
) -> Result<HashSet<(Uuid, String)>, Error> {
    let silent = client
        .query_cached(
            "SELECT conversation_id AS key, user_id AS value FROM notification_levels
             WHERE level = 'none' AND (conversation_id, user_id) IN (
                 SELECT * FROM unnest($1::uuid[], $2::text[]))",
            &[&conversations, &users],
            record,
        )
        .await?;
    Ok(silent
        .into_iter()
        .map(|Pair(id, user)| (id, user))
        .collect())
}

/// Adds quotes, reactions and growing texts to the messages of a page, as `reader` sees them.
pub(in crate::store) async fn shown_page(
    client: &ClientWrapper,
    mut page: Messages,
    reader: Option<&str>,
    descending: bool,
) -> Result<Messages, Error> {
    let is_larger = show(client, &mut page.messages, reader).await?;
    Ok(if is_larger {
        page.cut(descending)
    } else {
        page
    })
}

/// Adds quotes, reactions and growing texts to messages. Returns whether there are any.
pub(in crate::store) async fn show(
    client: &ClientWrapper,
    messages: &mut [Arc<Message>],
    reader: Option<&str>,
) -> Result<bool, Error> {
    let ids: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
    let originals: Vec<Uuid> = messages
        .iter()
        .filter_map(|message| message.answers)
        .collect();
    let mut reactions = reactions(client, &ids, reader).await?;
    let quotes = quotes(client, &originals).await?;
    let growing: Vec<Uuid> = messages
        .iter()
        .filter(|message| message.may_stream())
        .map(|message| message.id)
        .collect();
    let mut texts = streams::texts(client, &growing).await?;
    // Each statement has its own snapshot: a message without a text has ended in the meantime.
    let ended = messages.iter_mut().filter(|message| message.may_stream());
    for message in ended.filter(|message| !texts.contains_key(&message.id)) {
        if let Some(found) = messages::find(client, message.id).await? {
            *message = Arc::new(found);
        }
    }
    let is_larger = !(reactions.is_empty() && originals.is_empty() && texts.is_empty());
    for message in messages {
        let of_it = reactions.remove(&message.id);
        let so_far = texts.remove(&message.id);
        if message.answers.is_none() && of_it.is_none() && so_far.is_none() {
            continue;
        }
        let shown = Arc::make_mut(message);
        if let Some(so_far) = so_far {
            shown.content = so_far;
            shown.streaming = true;
        }
        shown.reactions = of_it.unwrap_or_default();
        shown.reply_to = shown.answers.and_then(|id| quotes.get(&id).cloned());
    }
    Ok(is_larger)
}

async fn reactions(
    client: &ClientWrapper,
    messages: &[Uuid],
    reader: Option<&str>,
) -> Result<HashMap<Uuid, Vec<Reaction>>, Error> {
    let mut found: HashMap<Uuid, Vec<Reaction>> = HashMap::new();
    if messages.is_empty() {
        return Ok(found);
    }
    // A reaction names at most ten users.
    let reactions = client
        .query_cached(
            "SELECT e.message_id, e.emoji, e.count,
                 ARRAY(SELECT r.user_id FROM message_reactions r
                     WHERE r.message_id = e.message_id AND r.emoji = e.emoji
                     ORDER BY r.user_id LIMIT 10) AS user_ids,
                 EXISTS (SELECT 1 FROM message_reactions r
                     WHERE r.message_id = e.message_id AND r.emoji = e.emoji AND r.user_id = $2) AS own
             FROM message_emojis e WHERE e.message_id = ANY($1)
             ORDER BY e.message_id, e.first_at, e.emoji",
            &[&messages, &reader],
            |row| Ok((row.try_get("message_id")?, record(row)?)),
        )
        .await?;
    for (message, reaction) in reactions {
        found.entry(message).or_default().push(reaction);
    }
    Ok(found)
}

async fn quotes(client: &ClientWrapper, ids: &[Uuid]) -> Result<HashMap<Uuid, Quote>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let quotes = client
        .query_cached(
            concat!(
                "SELECT ",
                quote_columns!(),
                " FROM messages m WHERE m.id = ANY($1)"
            ),
            &[&ids],
            |row| Ok((row.try_get("id")?, record(row)?)),
        )
        .await?;
    Ok(quotes.into_iter().collect())
}

/// Adds or removes a reaction or a pin, and records it as a step of the conversation.
pub(in crate::store) async fn annotate(
    client: &ClientWrapper,
    locked: &LockedRows,
    annotate: &Annotate,
    now: Time,
) -> Result<Change<Arc<Annotated>>, Error> {
    let Some(message) = messages::find(client, annotate.message_id).await? else {
        return Ok(Change::Absent);
    };
    let Some(room) = locked.rooms.get(&message.conversation_id) else {
        return Ok(Change::Absent);
    };
    let is_member = locked.admits(message.conversation_id, &annotate.by.user_id);
    if let Some(refused) = annotate.refused(room.owner.as_deref(), is_member) {
        return Ok(refused);
    }
    if message.deleted_at.is_some() {
        return Ok(Change::Absent);
    }
    let changed = match &annotate.annotation {
        Annotation::React(emoji) => react(client, annotate, &message, emoji, now).await?,
        Annotation::Unreact(emoji) | Annotation::EraseReaction(emoji) => {
            unreact(client, annotate, &message, emoji, now).await?
        }
        Annotation::Pin => pin(client, annotate, &message, now).await?,
        Annotation::Unpin => {
            let unpinned = annotate.unpinned(&message, now);
            match execute(client, &annotate.unpin()).await? {
                0 => Change::Unchanged(unpinned),
                _ => Change::Done(unpinned),
            }
        }
    };
    // The step is written in the same transaction, so that other servers read the change in the
    // order of the conversation.
    if let Change::Done(annotated) = &changed {
        let version = i32::try_from(message.version).unwrap_or(i32::MAX);
        let (id, detail) = (message.conversation_id, detail(annotated));
        client
            .execute_cached(
                "SELECT roomcast_take_annotation($1, $2, $3, $4)",
                &[&id, &message.id, &version, &detail],
            )
            .await?;
    }
    Ok(changed)
}

/// Returns the JSON that a step stores, from which other servers read the change.
fn detail(annotated: &Annotated) -> String {
    serde_json::to_string(annotated).expect("it is JSON")
}

async fn react(
    client: &ClientWrapper,
    annotate: &Annotate,
    message: &Message,
    emoji: &str,
    now: Time,
) -> Result<Change<Arc<Annotated>>, Error> {
    let standing = ReactionCounts::new(&query(client, &annotate.emojis(emoji)).await?);
    if standing.is_there {
        let as_it_is = annotate.reacted(message, emoji, standing.count, now);
        return Ok(Change::Unchanged(as_it_is));
    }
    if !standing.has_room() {
        return Ok(Change::Conflict);
    }
    for statement in annotate.react(emoji, now) {
        execute(client, &statement).await?;
    }
    let count = standing.count + 1;
    Ok(Change::Done(annotate.reacted(message, emoji, count, now)))
}

async fn unreact(
    client: &ClientWrapper,
    annotate: &Annotate,
    message: &Message,
    emoji: &str,
    now: Time,
) -> Result<Change<Arc<Annotated>>, Error> {
    let standing = ReactionCounts::new(&query(client, &annotate.emojis(emoji)).await?);
    if !standing.is_there {
        let as_it_is = annotate.reacted(message, emoji, standing.count, now);
        return Ok(Change::Unchanged(as_it_is));
    }
    let count = standing.count.saturating_sub(1);
    for statement in annotate.unreact(emoji, count) {
        execute(client, &statement).await?;
    }
    Ok(Change::Done(annotate.reacted(message, emoji, count, now)))
}

async fn pin(
    client: &ClientWrapper,
    annotate: &Annotate,
    message: &Message,
    now: Time,
) -> Result<Change<Arc<Annotated>>, Error> {
    let pins: Vec<PinRow> = query(client, &Annotate::pins(message.conversation_id)).await?;
    let count = pins.len();
    if let Some(pin) = pins.into_iter().find(|pin| pin.message_id == message.id) {
        let pinned = Annotate::pinned(message, pin.pinned_by, pin.pinned_at);
        return Ok(Change::Unchanged(pinned));
    }
    if count >= MAX_PINS {
        return Ok(Change::Conflict);
    }
    execute(client, &annotate.pin(message.conversation_id, now)).await?;
    let by = annotate.by.user_id.clone();
    Ok(Change::Done(Annotate::pinned(message, by, now)))
}
