//! The beginning and the end of messages that are being written, in PostgreSQL.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use uuid::Uuid;

use super::{Finish, StoredStream, delete};
use crate::store::Time;
use crate::store::change::annotations::postgres::show;
use crate::store::change::messages::postgres::{find, replace};
use crate::store::change::{Actor, Change, Message};
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{CachedStatements, execute, record};
use crate::store::statement::Pair;

/// The columns of the rows beside the new messages of a group.
#[derive(Default)]
pub(in crate::store) struct NewStreams {
    ids: Vec<Uuid>,
    conversation_ids: Vec<Uuid>,
    user_ids: Vec<String>,
    holders: Vec<Uuid>,
}

impl NewStreams {
    pub(in crate::store) fn push(&mut self, message: &Message, holder: Uuid) {
        self.ids.push(message.id);
        self.conversation_ids.push(message.conversation_id);
        self.user_ids.push(message.user_id.clone());
        self.holders.push(holder);
    }

    pub(in crate::store) async fn insert(
        &self,
        client: &ClientWrapper,
        now: Time,
    ) -> Result<(), Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        client
            .execute_cached(
                "INSERT INTO message_streams
                     (message_id, conversation_id, user_id, holder, text, chars, touched_at)
                 SELECT *, '', 0, $5::timestamptz
                 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[])",
                &[
                    &self.ids,
                    &self.conversation_ids,
                    &self.user_ids,
                    &self.holders,
                    &now.timestamp(),
                ],
            )
            .await
            .map(|_| ())
    }
}

/// Returns the texts of those messages that are being written.
pub(in crate::store) async fn texts(
    client: &ClientWrapper,
    messages: &[Uuid],
) -> Result<HashMap<Uuid, String>, Error> {
    if messages.is_empty() {
        return Ok(HashMap::new());
    }
    let texts = client
        .query_cached(
            "SELECT message_id AS key, text AS value FROM message_streams WHERE message_id = ANY($1)",
            &[&messages],
            record,
        )
        .await?;
    Ok(texts.into_iter().map(|Pair(id, text)| (id, text)).collect())
}

pub(in crate::store) async fn finish(
    client: &ClientWrapper,
    locked: &mut LockedRows,
    finish: &Finish,
    now: Time,
) -> Result<Change<Arc<Message>>, Error> {
    let Some(message) = find(client, finish.message_id).await? else {
        return Ok(Change::Absent);
    };
    let mut found = [Arc::new(message)];
    show(client, &mut found, None).await?;
    let [old] = found;
    if !locked.rooms.contains_key(&old.conversation_id) || old.deleted_at.is_some() {
        return Ok(Change::Absent);
    }
    // The row is locked, because its holder extends it without the lock of the conversation.
    let stored: Option<StoredStream> = client
        .query_opt_cached(
            "SELECT holder, text, touched_at FROM message_streams WHERE message_id = $1 FOR UPDATE",
            &[&old.id],
            record,
        )
        .await?;
    let Some(stored) = stored else {
        return Ok(Change::Unchanged(old));
    };
    let new = match finish.finished(&old, &stored) {
        Ok(new) => new,
        Err(refused) => return Ok(refused),
    };
    let by = Actor {
        user_id: old.user_id.clone(),
        is_admin: false,
    };
    replace(client, &old, &new, &by, now).await?;
    execute(client, &delete(new.id)).await?;
    if let Some(notice) = &finish.notice {
        locked.notify_later(client, notice, &new).await?;
    }
    Ok(Change::Done(Arc::new(new)))
}
