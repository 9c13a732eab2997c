//! What other servers have committed in a conversation, in its order.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::queries::{membership, message, message_columns, messages, signed, unsigned, versions};
use crate::store::Time;
use crate::store::change::{Committed, Missed};
use crate::store::rows::{Conversation, Message, Page, Revision, Version};

/// How far each of these conversations has come; unknown ones are left out.
pub(super) async fn revisions(
    client: &ClientWrapper,
    conversations: &[Uuid],
) -> Result<Vec<(Uuid, Revision)>, Error> {
    let statement = client
        .prepare_cached("SELECT id, last_seq, changes FROM conversations WHERE id = ANY($1)")
        .await?;
    let rows = client.query(&statement, &[&conversations]).await?;
    let read = |row: &Row| {
        let revision = Revision {
            seq: unsigned(row.try_get("last_seq")?),
            changes: unsigned(row.try_get("changes")?),
        };
        Ok((row.try_get("id")?, revision))
    };
    rows.iter().map(read).collect()
}

/// At most about `limit` of the steps after one revision, up to and with another, which is committed.
pub(super) async fn missed(
    client: &ClientWrapper,
    conversation: Uuid,
    after: Revision,
    through: Revision,
    limit: usize,
) -> Result<Missed, Error> {
    let wanted = through.changes.saturating_sub(after.changes);
    let rows = changes(client, conversation, after, through, limit).await?;
    let page = Page::Between {
        after: after.seq,
        through: through.seq,
    };
    let new = messages(client, conversation, None, page, limit).await?;
    let now = if wanted > 0 {
        membership(client, conversation, None).await?
    } else {
        None
    };
    let numbers = rows.iter().map(|row| row.number);
    let is_whole = (after.changes + 1..)
        .zip(numbers)
        .all(|(next, number)| next == number)
        && (wanted == 0 || !rows.is_empty());
    let (Some(new), true) = (new, is_whole) else {
        return Ok(Missed::Forgotten(now));
    };
    let texts = Texts::read(client, conversation, after, &rows, &new.messages).await?;
    let now = now.map(|now| Arc::new(now.conversation));
    let last = if new.has_more {
        new.messages.last().map_or(after.seq, |message| message.seq)
    } else {
        through.seq
    };
    let has_all_changes = rows.len() as u64 >= wanted;
    let mut new = new.messages.into_iter().peekable();
    let mut rows = rows.into_iter().peekable();
    let (mut steps, mut reached) = (Vec::new(), after);
    loop {
        // A change comes behind the last message that there was before it.
        let change = rows.next_if(|row| row.seq <= last);
        let until = match &change {
            Some(row) => row.seq,
            // Behind those that were read there may be changes that were not.
            None if rows.peek().is_none() && !has_all_changes => break,
            None => last,
        };
        while let Some(message) = new.next_if(|message| message.seq <= until) {
            reached.seq = message.seq;
            steps.push((
                reached,
                Committed::Message(texts.at(&message, reached.changes)),
            ));
        }
        reached.seq = until.max(reached.seq);
        let Some(row) = change else {
            break;
        };
        reached.changes = row.number;
        if let Some(event) = row.event(&texts, now.as_ref()) {
            steps.push((reached, event));
        }
    }
    Ok(Missed::Steps { steps, reached })
}

/// Forgets changes that are older than any server should be behind; says how many.
pub(super) async fn forget(client: &ClientWrapper) -> Result<u64, Error> {
    let statement = client
        .prepare_cached(
            "DELETE FROM conversation_changes WHERE (conversation_id, number) IN (
                 SELECT conversation_id, number FROM conversation_changes
                 WHERE changed_at < now() - interval '1 hour'
                 ORDER BY changed_at LIMIT 10000 FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    client.execute(&statement, &[]).await
}

/// A row of a change.
struct Change {
    number: u64,
    seq: u64,
    kind: String,
    message: Option<Uuid>,
    version: Option<i32>,
    user: Option<String>,
}

async fn changes(
    client: &ClientWrapper,
    conversation: Uuid,
    after: Revision,
    through: Revision,
    limit: usize,
) -> Result<Vec<Change>, Error> {
    if after.changes >= through.changes {
        return Ok(Vec::new());
    }
    let statement = client
        .prepare_cached(
            "SELECT number, seq, kind, message_id, version, user_id FROM conversation_changes
             WHERE conversation_id = $1 AND number > $2 AND number <= $3 ORDER BY number LIMIT $4",
        )
        .await?;
    let (after, through) = (signed(after.changes), signed(through.changes));
    let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
    let parameters: [&(dyn ToSql + Sync); 4] = [&conversation, &after, &through, &limit];
    let rows = client.query(&statement, &parameters).await?;
    let read = |row: &Row| {
        Ok(Change {
            number: unsigned(row.try_get("number")?),
            seq: unsigned(row.try_get("seq")?),
            kind: row.try_get("kind")?,
            message: row.try_get("message_id")?,
            version: row.try_get("version")?,
            user: row.try_get("user_id")?,
        })
    };
    rows.iter().map(read).collect()
}

impl Change {
    /// What was committed; none if it is about a message that is there no more.
    fn event(self, texts: &Texts, now: Option<&Arc<Conversation>>) -> Option<Committed> {
        let message = || texts.messages.get(&self.message?);
        match self.kind.as_str() {
            "edited" => {
                let version = u32::try_from(self.version?).ok()?;
                Some(Committed::Edited(texts.as_of(message()?, version)))
            }
            "deleted" => Some(Committed::Deleted {
                message: Arc::clone(message()?),
                by: self.user.unwrap_or_default(),
            }),
            "renamed" => Some(Committed::Renamed(Arc::clone(now?))),
            kind => Some(Committed::Members {
                conversation: Arc::clone(now?),
                user_id: self.user?,
                removed: kind == "removed",
            }),
        }
    }
}

/// Messages as they are now and as they were: who was removed between two edits must not get the later one
/// in place of the earlier.
struct Texts {
    messages: HashMap<Uuid, Arc<Message>>,
    versions: HashMap<Uuid, Vec<Version>>,
    /// The later changes of each new message, in their order: number, and version until then.
    later: HashMap<Uuid, Vec<(u64, u32)>>,
}

impl Texts {
    async fn read(
        client: &ClientWrapper,
        conversation: Uuid,
        after: Revision,
        changes: &[Change],
        new: &[Arc<Message>],
    ) -> Result<Self, Error> {
        let mut found = HashMap::new();
        let ids: Vec<Uuid> = changes.iter().filter_map(|change| change.message).collect();
        if !ids.is_empty() {
            let statement = client
                .prepare_cached(concat!(
                    "SELECT ",
                    message_columns!(),
                    " FROM messages WHERE id = ANY($1)"
                ))
                .await?;
            for row in client.query(&statement, &[&ids]).await? {
                let message = message(&row)?;
                found.insert(message.id, Arc::new(message));
            }
        }
        let mut former = HashMap::new();
        for message in found.values().chain(new) {
            if message.edited_at.is_some() || message.deleted_at.is_some() {
                former.insert(message.id, versions(client, message.id).await?);
            }
        }
        let changed = new.iter().filter(|new| former.contains_key(&new.id));
        let changed: Vec<Uuid> = changed.map(|message| message.id).collect();
        let mut later: HashMap<_, Vec<_>> = HashMap::new();
        if !changed.is_empty() {
            let statement = client
                .prepare_cached(
                    "SELECT number, kind, message_id, version FROM conversation_changes
                     WHERE conversation_id = $1 AND number > $2 AND message_id = ANY($3)
                     ORDER BY number",
                )
                .await?;
            let after = signed(after.changes);
            let parameters: [&(dyn ToSql + Sync); 3] = [&conversation, &after, &changed];
            for row in client.query(&statement, &parameters).await? {
                let version: i32 = row.try_get("version")?;
                let kind: &str = row.try_get("kind")?;
                // A deletion makes no new version.
                let before = version.saturating_sub(i32::from(kind == "edited"));
                let id: Uuid = row.try_get("message_id")?;
                let change = (
                    unsigned(row.try_get("number")?),
                    u32::try_from(before).unwrap_or(0),
                );
                later.entry(id).or_default().push(change);
            }
        }
        Ok(Self {
            messages: found,
            versions: former,
            later,
        })
    }

    /// A message as it was when its conversation had had this many changes.
    fn at(&self, message: &Arc<Message>, changes: u64) -> Arc<Message> {
        let mut later = self.later.get(&message.id).into_iter().flatten();
        match later.find(|(number, _)| *number > changes) {
            Some((_, version)) => self.as_of(message, *version),
            None => Arc::clone(message),
        }
    }

    /// A message as it was with this version.
    fn as_of(&self, message: &Arc<Message>, version: u32) -> Arc<Message> {
        let all = self.versions.get(&message.id);
        let of = |version: u32| all?.iter().find(|former| former.version == version);
        let Some(former) = of(version) else {
            return Arc::clone(message);
        };
        // An edit is made when the text before it is replaced.
        let before = version.checked_sub(1).and_then(of);
        let edited_at: Option<Time> = before.map(|before| before.replaced_at);
        Arc::new(Message {
            content: former.content.clone(),
            metadata: former.metadata.clone(),
            version,
            edited_at,
            deleted_at: None,
            ..Message::clone(message)
        })
    }
}
