//! What new messages refer to: messages that they answer, members whom they mention.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use uuid::Uuid;

use super::super::queries::{message, message_columns};
use super::super::shared::journals;
use super::LockedRows;
use crate::store::Append;
use crate::store::change::{Notice, Quote};
use crate::store::lane::Write;
use crate::store::rows::{Message, NewMessage};

/// What is known of that, read under the locks of the conversations.
#[derive(Default)]
pub(super) struct References {
    /// The messages that new ones answer, with their conversations.
    originals: HashMap<Uuid, (Uuid, Quote)>,
    /// The users among those who are mentioned who are notified of nothing.
    silent: HashSet<(Uuid, String)>,
    /// What is stored with the messages of the group.
    notices: Vec<(Notice, Append)>,
}

impl References {
    /// Reads what the messages of a group refer to; most refer to nothing, and nothing is read.
    pub(super) async fn read(client: &ClientWrapper, group: &[Write]) -> Result<Self, Error> {
        let mut references = Self::default();
        let (mut originals, mut homes, mut users) = (Vec::new(), Vec::new(), Vec::new());
        for write in group {
            if let Write::Message { message, .. } = write {
                originals.extend(message.reply_to);
                for user in &message.mentions {
                    homes.push(message.conversation_id);
                    users.push(user.as_str());
                }
            }
        }
        if !originals.is_empty() {
            let statement = client
                .prepare_cached(concat!(
                    "SELECT ",
                    message_columns!(),
                    " FROM messages WHERE id = ANY($1)"
                ))
                .await?;
            for row in client.query(&statement, &[&originals]).await? {
                // The conversations are locked, so the messages stay as they are read here until
                // the commit.
                references.learn(&message(&row)?);
            }
        }
        if !users.is_empty() {
            let statement = client
                .prepare_cached(
                    "SELECT conversation_id, user_id FROM notification_levels
                     WHERE level = 'none' AND (conversation_id, user_id) IN (
                         SELECT * FROM unnest($1::uuid[], $2::text[]))",
                )
                .await?;
            for row in client.query(&statement, &[&homes, &users]).await? {
                let silent = (row.try_get(0)?, row.try_get(1)?);
                references.silent.insert(silent);
            }
        }
        Ok(references)
    }

    /// Takes note of a message as it is now: one that this group has changed may be answered in it.
    pub(super) fn learn(&mut self, message: &Message) {
        let original = (message.conversation_id, Quote::of(message));
        self.originals.insert(message.id, original);
    }

    /// What a new message answers; none if there is nothing that it could answer.
    pub(super) fn original(&self, new: &NewMessage) -> Option<Option<Quote>> {
        let Some(id) = new.reply_to else {
            return Some(None);
        };
        let (conversation, quote) = self.originals.get(&id)?;
        let is_there = *conversation == new.conversation_id && quote.deleted_at.is_none();
        is_there.then(|| Some(quote.clone()))
    }

    /// Takes note of what is stored with a message.
    pub(super) fn notify(&mut self, new: &NewMessage, message: &Message) {
        let Some(notice) = &new.notice else {
            return;
        };
        let id = new.conversation_id;
        let is_silent = |user: &str| self.silent.contains(&(id, user.to_owned()));
        let entries = notice.entries(message, is_silent).into_iter();
        self.notices
            .extend(entries.map(|entry| (notice.clone(), entry)));
    }

    /// Stores that, in the order of the journals: two transactions that lock several never wait for one another in a circle.
    /// One that finds no room is left out.
    pub(super) async fn insert(&mut self, client: &ClientWrapper) -> Result<(), Error> {
        // The notices of several messages are mixed, so the order of each alone is not enough.
        self.notices
            .sort_by(|(_, a), (_, b)| a.journal.cmp(&b.journal));
        if self.notices.is_empty() {
            return Ok(());
        }
        let entries = self.notices.iter().map(|(_, entry)| entry);
        let appended = journals::append_all(client, entries).await?;
        for ((notice, entry), appended) in self.notices.iter().zip(appended) {
            notice.note(entry.journal.clone(), appended);
        }
        Ok(())
    }
}

impl LockedRows {
    /// The place of a user whom a new message mentions and who is not a member.
    pub(super) fn stranger(&self, new: &NewMessage) -> Option<usize> {
        let mut mentions = new.mentions.iter();
        mentions.position(|user| !self.admits(new.conversation_id, user))
    }
}
