//! Reads what other servers have committed in a conversation, in revision order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use serde_json::value::RawValue;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::Postgres;
use super::reading::{once, read};
use super::sql::{record, signed, time, unsigned};
use crate::store::change::annotations::postgres::show;
use crate::store::change::conversations::postgres::membership;
use crate::store::change::messages::postgres::{find_all, messages};
use crate::store::change::{
    Committed, Conversation, DeletedConversation, Membership, Message, Revision,
};
use crate::store::page::{Messages, Page};
use crate::store::postgres::sql::CachedStatements;
use crate::store::statement::{Columns, record};
use crate::store::{
    MAX_RECENT_CHANGES, MAX_REMOVED_CHANGES, Missed, RecentChange, StoreError, Time,
};

impl Postgres {
    pub(in crate::store) async fn revisions(
        &self,
        conversations: &[Uuid],
    ) -> Result<Vec<(Uuid, Revision)>, StoreError> {
        let read = once!(self, client => revisions(client, conversations));
        read.map_err(|_| StoreError::Failed)
    }

    pub(in crate::store) async fn missed(
        &self,
        conversation: Uuid,
        after: Revision,
        through: Revision,
        limit: usize,
    ) -> Result<Missed, StoreError> {
        read!(self, client => missed(client, conversation, after, through, limit))
    }

    /// Returns the recent changes that concern a user, in the order of each conversation.
    pub(in crate::store) async fn recent_changes(
        &self,
        user: &str,
        within: Duration,
    ) -> Result<Vec<RecentChange>, StoreError> {
        let (seconds, limit) = (within.as_secs_f64(), signed(MAX_RECENT_CHANGES));
        read!(self, client => client.query_cached(
            "SELECT conversation_id, number, seq FROM conversation_changes c
             WHERE changed_at > now() - make_interval(secs => $2) AND (
                 kind IN ('added', 'removed') AND user_id = $1
                 OR kind = 'closed' AND $1 = ANY (member_ids)
                 OR kind = 'renamed' AND EXISTS (SELECT FROM members m
                     WHERE m.conversation_id = c.conversation_id AND m.user_id = $1))
             UNION ALL SELECT id, 0, 0 FROM conversations JOIN members ON conversation_id = id
             WHERE user_id = $1 AND created_at > now() - make_interval(secs => $2)
             ORDER BY conversation_id, number LIMIT $3",
            &[&user, &seconds, &limit],
            record,
        ))
    }

    /// Removes changes that are older than any server's gap should be. Returns how many.
    pub(in crate::store) async fn forget_changes(&self) -> Result<u64, StoreError> {
        read!(self, client => client.execute_cached(
            "DELETE FROM conversation_changes WHERE (conversation_id, number) IN (
                 SELECT conversation_id, number FROM conversation_changes
                 WHERE changed_at < now() - interval '1 hour'
                 ORDER BY changed_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
            &[&signed(MAX_REMOVED_CHANGES)],
        ))
    }
}

/// Returns the revisions of these conversations; unknown conversations are left out.
async fn revisions(
    client: &ClientWrapper,
    conversations: &[Uuid],
) -> Result<Vec<(Uuid, Revision)>, Error> {
    client
        .query_cached(
            "SELECT id, last_seq, changes FROM conversations WHERE id = ANY($1)",
            &[&conversations],
            |row| Ok((row.try_get("id")?, record(row)?)),
        )
        .await
}

/// Returns about `limit` steps after one revision, up to and including `through`, which is
/// committed.
async fn missed(
    client: &ClientWrapper,
    conversation: Uuid,
    after: Revision,
    through: Revision,
    limit: usize,
) -> Result<Missed, Error> {
    let wanted = through.changes.saturating_sub(after.changes);
    // The changes are read first: if a text changes afterwards, its earlier version is read from
    // the version table.
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
    // Change numbers have no gaps, so a gap means that old changes were removed.
    let is_whole = (after.changes + 1..)
        .zip(numbers)
        .all(|(next, number)| next == number)
        && (wanted == 0 || !rows.is_empty());
    let Some(new) = new else {
        // The conversation is deleted, with all messages.
        let gone = closed(client, conversation).await?;
        return Ok(
            gone.map_or(Missed::Truncated(None), |(changes, event)| Missed::Steps {
                // The deletion may be a later step than the requested ones. A later read returns
                // it.
                steps: if changes > through.changes {
                    Vec::new()
                } else {
                    vec![(through, event)]
                },
                reached: through,
            }),
        );
    };
    if !is_whole {
        return Ok(Missed::Truncated(now));
    }
    let has_all = rows.len() as u64 >= wanted;
    let (steps, reached) = merge(after, through, new, rows, has_all);
    // Each message is returned as it was at its step, because a member may have been removed
    // between two edits.
    let texts = MessageVersions::read(client, conversation, after, &steps).await?;
    let now = CurrentConversation::read(client, conversation, after, now).await?;
    let event = |(revision, step)| Some((revision, texts.event(revision, step, &now)?));
    Ok(Missed::Steps {
        steps: steps.into_iter().filter_map(event).collect(),
        reached,
    })
}

/// Returns the deletion of a conversation and its change number, or `None` if its row no longer
/// exists.
async fn closed(
    client: &ClientWrapper,
    conversation: Uuid,
) -> Result<Option<(u64, Committed)>, Error> {
    let read = |row: &Row| {
        let member_ids: Option<Vec<String>> = row.try_get("member_ids")?;
        let deleted = DeletedConversation {
            conversation_id: conversation,
            deleted_at: time(row, "deleted_at")?,
            deleted_by: row.try_get("deleted_by")?,
        };
        let event = Committed::ConversationDeleted {
            deleted: Arc::new(deleted),
            member_ids: member_ids.unwrap_or_default().into(),
        };
        Ok((unsigned(row.try_get("changes")?), event))
    };
    client
        .query_opt_cached(
            "SELECT changes, deleted_at, deleted_by, member_ids
             FROM conversations LEFT JOIN conversation_changes
                 ON conversation_id = id AND kind = 'closed'
             WHERE id = $1 AND deleted_at IS NOT NULL",
            &[&conversation],
            read,
        )
        .await
}

/// A step as it is stored.
enum Step {
    Message(Arc<Message>),
    Change(Change),
}

/// Merges messages and changes into revision order. Returns also the revision up to which the
/// result is complete.
fn merge(
    after: Revision,
    through: Revision,
    new: Messages,
    changes: Vec<Change>,
    has_all_changes: bool,
) -> (Vec<(Revision, Step)>, Revision) {
    let last = if new.has_more {
        new.messages.last().map_or(after.seq, |message| message.seq)
    } else {
        through.seq
    };
    let mut new = new.messages.into_iter().peekable();
    let mut changes = changes.into_iter().peekable();
    let (mut steps, mut reached) = (Vec::new(), after);
    loop {
        // A change follows the last message before it.
        let change = changes.next_if(|change| change.seq <= last);
        let until = match &change {
            Some(change) => change.seq,
            // Further changes that were not read may follow the ones that were.
            None if changes.peek().is_none() && !has_all_changes => break,
            None => last,
        };
        while let Some(message) = new.next_if(|message| message.seq <= until) {
            reached.seq = message.seq;
            steps.push((reached, Step::Message(message)));
        }
        reached.seq = until.max(reached.seq);
        let Some(change) = change else {
            break;
        };
        reached.changes = change.number;
        steps.push((reached, Step::Change(change)));
    }
    (steps, reached)
}

/// A row of a conversation change.
struct Change {
    /// The JSON of a reaction or a pin.
    detail: Option<String>,
    number: u64,
    seq: u64,
    kind: String,
    message: Option<Uuid>,
    version: Option<i32>,
    user: Option<String>,
}

record! { Change => detail, number, seq, kind, message: "message_id", version, user: "user_id" }
record! { RecentChange => conversation: "conversation_id", number, seq }

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
    let (after, through) = (signed(after.changes), signed(through.changes));
    let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
    client
        .query_cached(
            "SELECT number, seq, kind, message_id, version, user_id, detail
             FROM conversation_changes
             WHERE conversation_id = $1 AND number > $2 AND number <= $3 ORDER BY number LIMIT $4",
            &[&conversation, &after, &through, &limit],
            record,
        )
        .await
}

/// The current state of a conversation, for recipients of an earlier step.
struct CurrentConversation {
    conversation: Option<Arc<Conversation>>,
    /// The conversation without its title, and the number of the last removal of a member before
    /// the last renaming. The title must not reach the removed member.
    untitled: Option<(Arc<Conversation>, u64)>,
}

impl CurrentConversation {
    /// Reads whether a member was removed before the last renaming.
    ///
    /// Changes that happen after `now` was read do not hide a title that `now` does not contain.
    async fn read(
        client: &ClientWrapper,
        conversation: Uuid,
        after: Revision,
        now: Option<Membership>,
    ) -> Result<Self, Error> {
        let Some(now) = now else {
            return Ok(Self {
                conversation: None,
                untitled: None,
            });
        };
        let removed: Option<i64> = client
            .query_one_cached(
                "SELECT max(number) FROM conversation_changes
                 WHERE conversation_id = $1 AND number > $2 AND kind = 'removed' AND number < (
                     SELECT max(number) FROM conversation_changes
                     WHERE conversation_id = $1 AND kind = 'renamed')",
                &[&conversation, &signed(after.changes)],
                |row| row.try_get(0),
            )
            .await?;
        let untitled = removed.map(|removed| {
            let untitled = Conversation {
                title: None,
                ..now.conversation.clone()
            };
            (Arc::new(untitled), unsigned(removed))
        });
        Ok(Self {
            conversation: Some(Arc::new(now.conversation)),
            untitled,
        })
    }

    /// Returns the conversation as members at the change of this number may see it.
    ///
    /// Before the removal of a member, the title is hidden. The change that set it follows, for the
    /// members at that time.
    fn at(&self, number: u64) -> Option<Arc<Conversation>> {
        match &self.untitled {
            Some((untitled, removed)) if number <= *removed => Some(Arc::clone(untitled)),
            Some(_) | None => self.conversation.clone(),
        }
    }
}

/// Current and former texts of messages. A member who was removed between two edits must get the
/// earlier text, not the later one.
struct MessageVersions {
    /// The messages that were changed.
    messages: HashMap<Uuid, Arc<Message>>,
    /// The later changes of each new message, in order: change number, and message version before
    /// it.
    later: HashMap<Uuid, Vec<(u64, i32)>>,
    /// Former texts by message and version, with the time of replacement.
    former: HashMap<(Uuid, i32), (String, Box<RawValue>, Time)>,
}

impl MessageVersions {
    async fn read(
        client: &ClientWrapper,
        conversation: Uuid,
        after: Revision,
        steps: &[(Revision, Step)],
    ) -> Result<Self, Error> {
        let mut texts = Self {
            messages: HashMap::new(),
            later: HashMap::new(),
            former: HashMap::new(),
        };
        let (mut changed, mut edited) = (Vec::new(), Vec::new());
        for (_, step) in steps {
            match step {
                // The step itself contains the reaction or the pin.
                Step::Change(change) if change.detail.is_some() => {}
                Step::Change(change) => changed.extend(change.message),
                Step::Message(message)
                    if message.edited_at.is_some() || message.deleted_at.is_some() =>
                {
                    edited.push(message.id);
                }
                Step::Message(_) => {}
            }
        }
        if !changed.is_empty() {
            texts.read_messages(client, &changed).await?;
        }
        if !edited.is_empty() {
            texts
                .read_later(client, conversation, after, &edited)
                .await?;
        }
        let wanted = steps.iter().filter_map(|(revision, step)| match step {
            Step::Change(change) => Some((change.message?, change.version?)),
            Step::Message(message) => {
                Some((message.id, texts.version(message.id, revision.changes)?))
            }
        });
        // Each version is read with the preceding one, whose replacement time is the time of the
        // edit.
        let wanted: Vec<(Uuid, i32)> = wanted
            .flat_map(|(id, version)| [(id, version), (id, version.saturating_sub(1))])
            .collect();
        if !wanted.is_empty() {
            texts.read_former(client, wanted).await?;
        }
        Ok(texts)
    }

    async fn read_messages(&mut self, client: &ClientWrapper, ids: &[Uuid]) -> Result<(), Error> {
        let found = find_all(client, ids).await?.into_iter();
        let mut messages: Vec<_> = found.map(Arc::new).collect();
        show(client, &mut messages, None).await?;
        let by_id = messages.into_iter().map(|message| (message.id, message));
        self.messages.extend(by_id);
        Ok(())
    }

    async fn read_later(
        &mut self,
        client: &ClientWrapper,
        conversation: Uuid,
        after: Revision,
        ids: &[Uuid],
    ) -> Result<(), Error> {
        let after = signed(after.changes);
        let later = client
            .query_cached(
                "SELECT number, kind, message_id, version FROM conversation_changes
                 WHERE conversation_id = $1 AND number > $2 AND message_id = ANY($3)
                 ORDER BY number",
                &[&conversation, &after, &ids],
                |row| {
                    let version: i32 = row.try_get("version")?;
                    let kind: &str = row.try_get("kind")?;
                    // A deletion does not increase the version.
                    let before = version.saturating_sub(i32::from(kind == "edited"));
                    let number = unsigned(row.try_get("number")?);
                    Ok((row.try_get("message_id")?, (number, before)))
                },
            )
            .await?;
        for (message, change) in later {
            self.later.entry(message).or_default().push(change);
        }
        Ok(())
    }

    async fn read_former(
        &mut self,
        client: &ClientWrapper,
        wanted: Vec<(Uuid, i32)>,
    ) -> Result<(), Error> {
        let (ids, versions): (Vec<Uuid>, Vec<i32>) = wanted.into_iter().unzip();
        let former = client
            .query_cached(
                "SELECT message_id, version, content, metadata, replaced_at FROM message_versions
                 WHERE (message_id, version) IN (SELECT * FROM unnest($1::uuid[], $2::int4[]))",
                &[&ids, &versions],
                |row| {
                    let key = (row.try_get("message_id")?, row.try_get("version")?);
                    let text = row.try_get("content")?;
                    Ok((
                        key,
                        (
                            text,
                            Columns::get(row, "metadata")?,
                            time(row, "replaced_at")?,
                        ),
                    ))
                },
            )
            .await?;
        self.former.extend(former);
        Ok(())
    }

    /// Returns the version of a new message when its conversation had this many changes, if it has
    /// changed since.
    fn version(&self, message: Uuid, changes: u64) -> Option<i32> {
        let later = self.later.get(&message)?;
        let next = later.iter().find(|(number, _)| *number > changes);
        next.map(|(_, before)| *before)
    }

    /// Returns a message as it was at this version.
    fn as_of(&self, message: &Arc<Message>, version: i32) -> Arc<Message> {
        let Some((content, metadata, _)) = self.former.get(&(message.id, version)) else {
            return Arc::clone(message);
        };
        // The time of an edit is the time at which the preceding text was replaced.
        let before = self.former.get(&(message.id, version.saturating_sub(1)));
        Arc::new(Message {
            content: content.clone(),
            metadata: metadata.clone(),
            version: u32::try_from(version).unwrap_or(0),
            edited_at: before.map(|(.., replaced_at)| *replaced_at),
            deleted_at: None,
            ..Message::clone(message)
        })
    }

    /// Returns the event of a step, or `None` if its message no longer exists.
    fn event(
        &self,
        revision: Revision,
        step: Step,
        now: &CurrentConversation,
    ) -> Option<Committed> {
        let change = match step {
            Step::Message(message) => {
                let version = self.version(message.id, revision.changes);
                let message = version.map_or_else(
                    || Arc::clone(&message),
                    |version| self.as_of(&message, version),
                );
                return Some(Committed::Message(message));
            }
            Step::Change(change) => change,
        };
        let message = || self.messages.get(&change.message?);
        Some(match change.kind.as_str() {
            "edited" => Committed::Edited(self.as_of(message()?, change.version?)),
            "deleted" => Committed::Deleted {
                message: Arc::clone(message()?),
                by: change.user.unwrap_or_default(),
            },
            "annotated" => {
                let annotated = serde_json::from_str(&change.detail?).ok()?;
                Committed::Annotated(Arc::new(annotated))
            }
            "renamed" => Committed::Renamed(now.at(change.number)?),
            kind => Committed::Members {
                conversation: now.at(change.number)?,
                removed: kind == "removed",
                user_id: change.user?,
            },
        })
    }
}
