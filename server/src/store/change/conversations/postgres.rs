//! The SQL of conversations.

use std::pin::pin;

use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::last_message_columns;
use crate::store::change::{
    Change, Conversation, Cursor, Level, List, ListedConversation, MAX_UNREAD_COUNT, Membership,
    NewConversation, Rename,
};
use crate::store::page::PageBuilder;
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{CachedStatements, execute, one_more, record, signed, unsigned};
use crate::store::postgres::{Postgres, read};
use crate::store::statement::record;
use crate::store::{StoreError, Time};

record! { Conversation => id, title, owner_id, member_ids, created_at, updated_at }

impl Postgres {
    pub(in crate::store) async fn membership(
        &self,
        conversation: Uuid,
        user: Option<&str>,
    ) -> Result<Option<Membership>, StoreError> {
        read!(self, client => membership(client, conversation, user))
    }

    pub(in crate::store) async fn conversations(
        &self,
        user: &str,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<List, StoreError> {
        read!(self, client => conversations(client, user, before, limit))
    }
}

/// Stores a conversation unless its id exists, and reads it. Returns also whether it is new.
pub(in crate::store) async fn insert_conversation(
    client: &ClientWrapper,
    new: &NewConversation,
    now: Time,
) -> Result<(Conversation, bool), Error> {
    let inserted = execute(client, &new.insert(now)).await?;
    let is_new = inserted > 0;
    if is_new {
        let members: Vec<&str> = new
            .owner_id
            .iter()
            .chain(&new.member_ids)
            .map(String::as_str)
            .collect();
        client
            .execute_cached(
                "INSERT INTO members (conversation_id, user_id, joined_at)
                 SELECT $1, unnest($2::text[]), $3 ON CONFLICT (conversation_id, user_id) DO NOTHING",
                &[&new.id, &members, &now.timestamp()],
            )
            .await?;
    }
    Ok((read_back(client, new.id).await?, is_new))
}

pub(in crate::store) async fn read_back(
    client: &ClientWrapper,
    id: Uuid,
) -> Result<Conversation, Error> {
    client
        .query_one_cached(
            "SELECT id, title, owner_id, created_at, updated_at,
                 ARRAY(SELECT user_id FROM members WHERE conversation_id = $1
                     ORDER BY user_id) AS member_ids FROM conversations WHERE id = $1",
            &[&id],
            record,
        )
        .await
}

/// Returns the number of changes of a conversation, not counting messages.
pub(in crate::store) async fn changes_of(client: &ClientWrapper, id: Uuid) -> Result<u64, Error> {
    let sql = "SELECT changes FROM conversations WHERE id = $1";
    client
        .query_one_cached(sql, &[&id], |row| row.try_get(0).map(unsigned))
        .await
}

/// Changes the title of a conversation.
pub(in crate::store) async fn rename(
    client: &ClientWrapper,
    locked: &LockedRows,
    rename: &Rename,
    now: Time,
) -> Result<Change<Conversation>, Error> {
    let id = rename.conversation_id;
    let Some(room) = locked.rooms.get(&id) else {
        return Ok(Change::Absent);
    };
    let is_member = locked.admits(id, &rename.by.user_id);
    if let Some(refused) = rename.refused(room.owner.as_deref(), is_member) {
        return Ok(refused);
    }
    let changed = client
        .execute_cached(
            "UPDATE conversations SET title = $2, updated_at = $3
             WHERE id = $1 AND title IS DISTINCT FROM $2",
            &[&id, &rename.title, &now.timestamp()],
        )
        .await?;
    let conversation = read_back(client, id).await?;
    Ok(if changed > 0 {
        Change::Done(conversation)
    } else {
        Change::Unchanged(conversation)
    })
}

pub(in crate::store) async fn membership(
    client: &ClientWrapper,
    conversation: Uuid,
    user: Option<&str>,
) -> Result<Option<Membership>, Error> {
    client
        .query_opt_cached(
            "SELECT id, title, owner_id, last_seq, changes, is_open, created_at, updated_at,
                 ARRAY(SELECT user_id FROM members WHERE conversation_id = $1 ORDER BY user_id)
                     AS member_ids
             FROM conversations
             WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR is_open OR EXISTS (
                 SELECT 1 FROM members WHERE conversation_id = $1 AND user_id = $2))",
            &[&conversation, &user],
            |row| {
                Ok(Membership {
                    conversation: record(row)?,
                    last_seq: unsigned(row.try_get("last_seq")?),
                    changes: unsigned(row.try_get("changes")?),
                    is_open: row.try_get("is_open")?,
                })
            },
        )
        .await
}

async fn conversations(
    client: &ClientWrapper,
    user: &str,
    before: Option<Cursor>,
    limit: usize,
) -> Result<List, Error> {
    let statement = client
        .prepare_cached(concat!(
            "SELECT c.id, c.title, c.owner_id, c.last_seq, c.created_at, c.updated_at,
                 coalesce(r.seq, 0) AS read_seq, l.level, ",
            last_message_columns!(),
            ",
                 ARRAY(SELECT m.user_id FROM members m WHERE m.conversation_id = c.id
                     ORDER BY m.user_id) AS member_ids,
                 (SELECT count(*) FROM (SELECT 1 FROM messages m
                     WHERE m.conversation_id = c.id AND m.seq > coalesce(r.seq, 0)
                         AND m.user_id <> $1 AND m.deleted_at IS NULL LIMIT $3) u) AS unread
             FROM conversations c
                 LEFT JOIN reads r ON r.conversation_id = c.id AND r.user_id = $1
                 LEFT JOIN notification_levels l ON l.conversation_id = c.id AND l.user_id = $1
                 LEFT JOIN messages m ON m.conversation_id = c.id AND m.seq = c.last_seq
                 CROSS JOIN LATERAL (SELECT greatest(c.updated_at, m.created_at)) a (active_at)
             WHERE c.id IN (SELECT conversation_id FROM members WHERE user_id = $1
                 UNION SELECT id FROM conversations WHERE is_open) AND c.deleted_at IS NULL
                 AND ($4::timestamptz IS NULL OR (active_at, c.id) < ($4, $5::uuid)
                     OR active_at > $6::timestamptz)
             ORDER BY active_at DESC, c.id DESC LIMIT $2",
        ))
        .await?;
    let (limits, most) = (one_more(limit), signed(MAX_UNREAD_COUNT));
    let (time, id, first) = (
        before.map(|before| before.active_at.timestamp()),
        before.map(|before| before.id),
        before.map(|before| before.first.timestamp()),
    );
    let parameters: [&(dyn ToSql + Sync); 6] = [&user, &limits, &most, &time, &id, &first];
    let mut rows = pin!(client.query_raw(&statement, parameters).await?);
    let mut builder = PageBuilder::new(limit);
    while let Some(row) = rows.try_next().await? {
        let listed = ListedConversation {
            conversation: record(&row)?,
            last_seq: unsigned(row.try_get("last_seq")?),
            read_seq: unsigned(row.try_get("read_seq")?),
            unread: unsigned(row.try_get("unread")?),
            notification_level: Level::of(row.try_get("level")?),
            last_message: record(&row)?,
        };
        if !builder.push(listed) {
            break;
        }
    }
    Ok(builder.finish(before))
}
