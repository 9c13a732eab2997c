//! The read queries, and the conversion of rows to values.

use std::pin::pin;
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, RowStream};
use uuid::Uuid;

use crate::store::Time;
use crate::store::change::annotations::postgres::shown_page;
use crate::store::change::{
    Authorship, Cursor, Level, List, ListedConversation, MAX_UNREAD_COUNT, Search,
};
use crate::store::rows::{
    Conversation, Membership, Message, MessageKind, Messages, Page, PageBuilder, Version,
};

/// The columns of a message. Queries name columns everywhere: a prepared statement with `*` fails
/// once a newer server adds a column.
macro_rules! message_columns {
    () => {
        "id, conversation_id, seq, user_id, user_name, content, type, metadata, reply_to, mentions, \
         version, created_at, edited_at, deleted_at"
    };
}

pub(in crate::store) use message_columns;

pub(in crate::store) async fn membership(
    client: &ClientWrapper,
    conversation: Uuid,
    user: Option<&str>,
) -> Result<Option<Membership>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT id, title, owner_id, last_seq, changes, is_open, created_at, updated_at,
                 ARRAY(SELECT user_id FROM members WHERE conversation_id = $1 ORDER BY user_id)
                     AS member_ids
             FROM conversations
             WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR is_open OR EXISTS (
                 SELECT 1 FROM members WHERE conversation_id = $1 AND user_id = $2))",
        )
        .await?;
    let row = client
        .query_opt(&statement, &[&conversation, &user])
        .await?;
    row.map(|row| {
        Ok(Membership {
            conversation: read_conversation(&row)?,
            last_seq: unsigned(row.try_get("last_seq")?),
            changes: unsigned(row.try_get("changes")?),
            is_open: row.try_get("is_open")?,
        })
    })
    .transpose()
}

pub(in crate::store) async fn is_member(
    client: &ClientWrapper,
    conversation: Uuid,
    user: Option<&str>,
) -> Result<bool, Error> {
    let statement = client
        .prepare_cached(
            "SELECT 1 FROM conversations
             WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR is_open OR EXISTS (
                 SELECT 1 FROM members WHERE conversation_id = $1 AND user_id = $2))",
        )
        .await?;
    let row = client
        .query_opt(&statement, &[&conversation, &user])
        .await?;
    Ok(row.is_some())
}

/// Returns a page of messages, or `None` if the conversation is unknown or the user is not a
/// member.
pub(in crate::store) async fn messages(
    client: &ClientWrapper,
    conversation: Uuid,
    user: Option<&str>,
    page: Page,
    limit: usize,
) -> Result<Option<Messages>, Error> {
    const ASCENDING: &str = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages WHERE conversation_id = $1 AND seq > $2 AND seq < $3 ORDER BY seq LIMIT $4"
    );
    const DESCENDING: &str = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages WHERE conversation_id = $1 AND seq > $2 AND seq < $3
          ORDER BY seq DESC LIMIT $4"
    );
    let (after, before, descending) = match page {
        Page::Newest => (0, i64::MAX, true),
        Page::Before(seq) => (0, signed(seq), true),
        Page::After(seq) => (signed(seq), i64::MAX, false),
        Page::Between { after, through } => {
            (signed(after), signed(through.saturating_add(1)), false)
        }
    };
    let statement = client
        // Separate statements instead of a condition let each use the index in its own direction.
        .prepare_cached(if descending { DESCENDING } else { ASCENDING })
        .await?;
    let limits = one_more(limit);
    let parameters: [&(dyn ToSql + Sync); 4] = [&conversation, &after, &before, &limits];
    // Rows are streamed, because a page may end by its size long before its limit.
    let rows = client.query_raw(&statement, parameters).await?;
    let found = collect(rows, limit, descending).await?;
    let found = shown_page(client, found, user, descending).await?;
    // Membership is checked last, so that a user who was removed in the meantime does not get later
    // messages.
    Ok(is_member(client, conversation, user)
        .await?
        .then_some(found))
}

pub(in crate::store) async fn conversation_ids(
    client: &ClientWrapper,
    user: &str,
    limit: usize,
) -> Result<Vec<Uuid>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT id FROM conversations
             WHERE id IN (SELECT conversation_id FROM members WHERE user_id = $1
                 UNION SELECT id FROM conversations WHERE is_open) AND deleted_at IS NULL
             LIMIT $2",
        )
        .await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client.query(&statement, &[&user, &limit]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

pub(in crate::store) async fn contacts(
    client: &ClientWrapper,
    user: &str,
    most_members: usize,
    limit: usize,
) -> Result<Vec<String>, Error> {
    // The count stops at the limit, however large a conversation is.
    let statement = client
        .prepare_cached(
            "WITH small AS MATERIALIZED (
                 SELECT own.conversation_id FROM members own
                 WHERE own.user_id = $1 AND (SELECT count(*) FROM (SELECT FROM members m
                     WHERE m.conversation_id = own.conversation_id LIMIT $2::int8 + 1) counted) <= $2)
             SELECT DISTINCT m.user_id FROM small JOIN members m USING (conversation_id)
             WHERE m.user_id <> $1 LIMIT $3",
        )
        .await?;
    let [most_members, limit] =
        [most_members, limit].map(|number| i64::try_from(number).unwrap_or(i64::MAX - 1));
    let rows = client
        .query(&statement, &[&user, &most_members, &limit])
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

pub(in crate::store) async fn conversations(
    client: &ClientWrapper,
    user: &str,
    before: Option<Cursor>,
    limit: usize,
) -> Result<List, Error> {
    let statement = client
        .prepare_cached(
            "SELECT c.id, c.title, c.owner_id, c.last_seq, c.created_at, c.updated_at,
                 coalesce(r.seq, 0) AS read_seq, l.level,
                 ARRAY(SELECT m.user_id FROM members m WHERE m.conversation_id = c.id
                     ORDER BY m.user_id) AS member_ids,
                 (SELECT count(*) FROM (SELECT 1 FROM messages m
                     WHERE m.conversation_id = c.id AND m.seq > coalesce(r.seq, 0)
                         AND m.user_id <> $1 AND m.deleted_at IS NULL LIMIT $3) u) AS unread
             FROM conversations c
                 LEFT JOIN reads r ON r.conversation_id = c.id AND r.user_id = $1
                 LEFT JOIN notification_levels l ON l.conversation_id = c.id AND l.user_id = $1
             WHERE c.id IN (SELECT conversation_id FROM members WHERE user_id = $1
                 UNION SELECT id FROM conversations WHERE is_open) AND c.deleted_at IS NULL
                 AND ($4::timestamptz IS NULL OR (c.updated_at, c.id) < ($4, $5::uuid))
             ORDER BY c.updated_at DESC, c.id DESC LIMIT $2",
        )
        .await?;
    let (limits, most) = (one_more(limit), signed(MAX_UNREAD_COUNT));
    let (time, id) = (
        before.map(|before| before.updated_at.timestamp()),
        before.map(|before| before.id),
    );
    let parameters: [&(dyn ToSql + Sync); 5] = [&user, &limits, &most, &time, &id];
    let mut rows = pin!(client.query_raw(&statement, parameters).await?);
    let mut builder = PageBuilder::new(limit);
    while let Some(row) = rows.try_next().await? {
        let listed = ListedConversation {
            conversation: read_conversation(&row)?,
            last_seq: unsigned(row.try_get("last_seq")?),
            read_seq: unsigned(row.try_get("read_seq")?),
            unread: unsigned(row.try_get("unread")?),
            notification_level: Level::of(row.try_get("level")?),
        };
        if !builder.push(listed) {
            break;
        }
    }
    Ok(builder.finish())
}

/// Returns the newest messages that contain all the words.
pub(in crate::store) async fn search(
    client: &ClientWrapper,
    user: &str,
    search: &Search,
    limit: usize,
) -> Result<Option<Messages>, Error> {
    let conversations = match search.conversation {
        None => own(client, user).await?,
        Some(id) if is_member(client, id, Some(user)).await? => vec![id],
        Some(_) => return Ok(None),
    };
    if search.words.is_empty() || conversations.is_empty() {
        return Ok(Some(Messages::default()));
    }
    let (words, limits) = (search.words.join(" "), one_more(limit));
    // The search is not prepared: the best plan depends on how common the words are and how many
    // messages these conversations have.
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&words, Type::TEXT),
        (&search.before, Type::UUID),
        (&conversations, Type::UUID_ARRAY),
        (&limits, Type::INT8),
    ];
    let rows = client.query_typed_raw(SEARCH, parameters).await?;
    let found = collect(rows, limit, true).await?;
    let mut found = shown_page(client, found, Some(user), true).await?;
    // Membership is checked again, so that a user who was removed in the meantime does not get
    // later messages.
    let still = match search.conversation {
        None => own(client, user).await?,
        Some(id) if is_member(client, id, Some(user)).await? => vec![id],
        Some(_) => return Ok(None),
    };
    found
        .messages
        .retain(|message| still.contains(&message.conversation_id));
    Ok(Some(found))
}

const SEARCH: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages
     WHERE roomcast_words(content) @@ plainto_tsquery('pg_catalog.simple', $1)
         AND ($2::uuid IS NULL OR id < $2) AND conversation_id = ANY($3)
     ORDER BY id DESC LIMIT $4",
);

/// Returns the conversations that a user may read.
async fn own(client: &ClientWrapper, user: &str) -> Result<Vec<Uuid>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT id FROM members JOIN conversations ON id = conversation_id
             WHERE user_id = $1 AND deleted_at IS NULL
             UNION SELECT id FROM conversations WHERE is_open",
        )
        .await?;
    let rows = client.query(&statement, &[&user]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

pub(in crate::store) async fn versions(
    client: &ClientWrapper,
    message: Uuid,
) -> Result<Vec<Version>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT version, content, metadata, replaced_at, replaced_by FROM message_versions
             WHERE message_id = $1 ORDER BY version",
        )
        .await?;
    let rows = client.query(&statement, &[&message]).await?;
    rows.iter()
        .map(|row| {
            Ok(Version {
                version: version(row)?,
                content: row.try_get("content")?,
                metadata: metadata(row)?,
                replaced_at: time(row, "replaced_at")?,
                replaced_by: row.try_get("replaced_by")?,
            })
        })
        .collect()
}

pub(in crate::store) async fn conversation_of(
    client: &ClientWrapper,
    message: Uuid,
) -> Result<Option<Uuid>, Error> {
    let statement = client
        .prepare_cached("SELECT conversation_id FROM messages WHERE id = $1")
        .await?;
    let row = client.query_opt(&statement, &[&message]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

pub(in crate::store) async fn authorship(
    client: &ClientWrapper,
    message: Uuid,
) -> Result<Option<Authorship>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT m.conversation_id, m.user_id, m.deleted_at IS NOT NULL
             FROM messages m JOIN conversations c ON c.id = m.conversation_id
             WHERE m.id = $1 AND c.deleted_at IS NULL",
        )
        .await?;
    let row = client.query_opt(&statement, &[&message]).await?;
    let read = |row: Row| {
        Ok(Authorship {
            conversation_id: row.try_get(0)?,
            user_id: row.try_get(1)?,
            is_deleted: row.try_get(2)?,
        })
    };
    row.map(read).transpose()
}

/// Removes the oldest messages of each affected conversation, unless another server is doing so.
pub(in crate::store) async fn expire(
    client: &ClientWrapper,
    before: Time,
    limit: usize,
) -> Result<u64, Error> {
    let statement = client
        .prepare_cached(
            "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
             old AS MATERIALIZED (
                 SELECT conversation_id, max(seq) AS seq FROM (
                     SELECT conversation_id, seq FROM messages
                     WHERE id < $2 AND created_at < $3 ORDER BY id LIMIT $4) oldest
                 GROUP BY conversation_id)
             DELETE FROM messages USING old, mine
             WHERE mine.locked AND messages.conversation_id = old.conversation_id
                 AND messages.seq <= old.seq",
        )
        .await?;
    client
        .execute(
            &statement,
            &[
                &EXPIRE_LOCK,
                // The bound on the id lets the primary key find old messages, because ids ascend
                // with time.
                &before.first_id(),
                &before.timestamp(),
                &i64::try_from(limit).unwrap_or(i64::MAX),
            ],
        )
        .await
}

/// Removes part of the remains of deleted conversations, referring rows first, unless another
/// server is doing so.
pub(in crate::store) async fn purge(
    client: &ClientWrapper,
    before: Time,
    limit: usize,
) -> Result<u64, Error> {
    const MESSAGES: &str =
        "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
         old AS MATERIALIZED (
             SELECT m.id FROM conversations c JOIN messages m ON m.conversation_id = c.id
             WHERE c.deleted_at IS NOT NULL LIMIT $2)
         DELETE FROM messages USING old, mine WHERE mine.locked AND messages.id = old.id";
    const READS: &str =
        "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
         old AS MATERIALIZED (
             SELECT r.conversation_id, r.user_id FROM conversations c
                 JOIN reads r ON r.conversation_id = c.id
             WHERE c.deleted_at IS NOT NULL LIMIT $2)
         DELETE FROM reads USING old, mine WHERE mine.locked
             AND reads.conversation_id = old.conversation_id AND reads.user_id = old.user_id";
    // A server of the previous version may have stored messages since the deletion.
    const ROWS: &str = "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
         old AS MATERIALIZED (
             SELECT c.id FROM conversations c WHERE c.deleted_at < $3
                 AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.conversation_id = c.id) LIMIT $2)
         DELETE FROM conversations USING old, mine WHERE mine.locked AND conversations.id = old.id";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Each call removes rows of one kind, in small transactions that hardly disturb writers.
    for sql in [MESSAGES, READS] {
        let statement = client.prepare_cached(sql).await?;
        let removed = client.execute(&statement, &[&EXPIRE_LOCK, &limit]).await?;
        if removed > 0 {
            return Ok(removed);
        }
    }
    let statement = client.prepare_cached(ROWS).await?;
    let parameters: [&(dyn ToSql + Sync); 3] = [&EXPIRE_LOCK, &limit, &before.timestamp()];
    client.execute(&statement, &parameters).await
}

/// Streams rows until the page is full, so that no surplus rows are held in memory.
async fn collect(rows: RowStream, limit: usize, descending: bool) -> Result<Messages, Error> {
    let mut rows = pin!(rows);
    let mut builder = PageBuilder::new(limit);
    while let Some(row) = rows.try_next().await? {
        if !builder.push(Arc::new(message(&row)?)) {
            break;
        }
    }
    Ok(builder.finish(descending))
}

pub(in crate::store) fn message(row: &Row) -> Result<Message, Error> {
    Ok(Message {
        id: row.try_get("id")?,
        conversation_id: row.try_get("conversation_id")?,
        seq: unsigned(row.try_get("seq")?),
        user_id: row.try_get("user_id")?,
        user_name: row.try_get("user_name")?,
        content: row.try_get("content")?,
        // A check constraint allows no other kind.
        kind: match row.try_get("type")? {
            "ai" => MessageKind::Ai,
            _ => MessageKind::User,
        },
        metadata: metadata(row)?,
        reply_to: None,
        mentions: mentions(row)?,
        reactions: Vec::new(),
        answers: row.try_get("reply_to")?,
        version: version(row)?,
        created_at: time(row, "created_at")?,
        edited_at: optional_time(row, "edited_at")?,
        deleted_at: optional_time(row, "deleted_at")?,
    })
}

/// Converts a row with the column `member_ids` to a conversation.
pub(in crate::store) fn read_conversation(row: &Row) -> Result<Conversation, Error> {
    Ok(Conversation {
        id: row.try_get("id")?,
        title: row.try_get("title")?,
        owner_id: row.try_get("owner_id")?,
        member_ids: row.try_get("member_ids")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// Returns the column `metadata`. Invalid JSON, which only another program can have written,
/// becomes an empty object.
pub(in crate::store) fn metadata(row: &Row) -> Result<Box<RawValue>, Error> {
    let text: String = row.try_get("metadata")?;
    Ok(RawValue::from_string(text).unwrap_or_else(|error| {
        roomcast::throttled_log!(warn, %error, "a message's metadata is not JSON");
        RawValue::from_string("{}".into()).expect("an empty object is JSON")
    }))
}

/// Returns the column `mentions`. Invalid JSON, which only another program can have written,
/// becomes an empty list.
fn mentions(row: &Row) -> Result<Vec<String>, Error> {
    let list: Option<&str> = row.try_get("mentions")?;
    Ok(list
        .and_then(|list| serde_json::from_str(list).ok())
        .unwrap_or_default())
}

fn version(row: &Row) -> Result<u32, Error> {
    let version: i32 = row.try_get("version")?;
    Ok(u32::try_from(version).unwrap_or(0))
}

pub(in crate::store) fn time(row: &Row, column: &str) -> Result<Time, Error> {
    row.try_get::<_, Timestamp>(column).map(Time::from)
}

pub(in crate::store) fn optional_time(row: &Row, column: &str) -> Result<Option<Time>, Error> {
    let time: Option<Timestamp> = row.try_get(column)?;
    Ok(time.map(Time::from))
}

/// Returns the unique id of the database.
pub(in crate::store) async fn store_id(client: &ClientWrapper) -> Result<Uuid, Error> {
    let statement = client
        .prepare_cached("SELECT store_id FROM roomcast_schema")
        .await?;
    client.query_one(&statement, &[]).await?.try_get(0)
}

/// Converts a signed integer of PostgreSQL; a `seq` is never negative.
pub(in crate::store) fn unsigned(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

/// Converts a bound, which may be any number that a client sends. Values past the maximum mean "the
/// end".
pub(in crate::store) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Returns `limit + 1`: the extra row shows whether there are more.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// The advisory lock that a server holds while it removes expired rows.
const EXPIRE_LOCK: i64 = 0x726f_6f6d_0002;
