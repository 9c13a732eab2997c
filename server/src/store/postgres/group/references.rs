//! What new messages refer to: the messages they reply to and the members they mention.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use uuid::Uuid;

use super::LockedRows;
use crate::store::Append;
use crate::store::change::annotations::postgres as annotations;
use crate::store::change::messages::postgres as messages;
use crate::store::change::{Message, NewMessage, Notice, Quote};
use crate::store::shared::journals::postgres as journals;
use crate::store::write::Write;

/// The references of a group, read while the conversations are locked.
#[derive(Default)]
pub(super) struct References {
    /// The messages that new messages reply to, with their conversations.
    originals: HashMap<Uuid, (Uuid, Quote)>,
    /// The mentioned users who have turned notifications off, by conversation.
    silent: HashSet<(Uuid, String)>,
    /// The journal entries to store with the messages of the group.
    notices: Vec<(Notice, Append)>,
}

impl References {
    /// Reads what the messages of a group refer to. Runs no query if they refer to nothing.
    pub(super) async fn read(client: &ClientWrapper, group: &[Write]) -> Result<Self, Error> {
        let mut references = Self::default();
        let (mut originals, mut homes, mut users) = (Vec::new(), Vec::new(), Vec::new());
        for write in group {
            if let Write::Message(new) = write {
                let message = &new.operation;
                originals.extend(message.reply_to);
                for user in &message.mentions {
                    homes.push(message.conversation_id);
                    users.push(user.as_str());
                }
            }
        }
        if !originals.is_empty() {
            // The conversations are locked, so the messages cannot change before the commit.
            for original in messages::find_all(client, &originals).await? {
                references.learn(&original);
            }
        }
        if !users.is_empty() {
            references.silent = annotations::silent(client, &homes, &users).await?;
        }
        Ok(references)
    }

    /// Records the current state of a message, so that later messages of this group may reply to
    /// it.
    pub(super) fn learn(&mut self, message: &Message) {
        let original = (message.conversation_id, Quote::of(message));
        self.originals.insert(message.id, original);
    }

    /// Returns the quote of the message that `new` replies to, or `Some(None)` if it is not a
    /// reply.
    ///
    /// Returns `None` if the original is missing, deleted or in another conversation.
    pub(super) fn original(&self, new: &NewMessage) -> Option<Option<Quote>> {
        let Some(id) = new.reply_to else {
            return Some(None);
        };
        let (conversation, quote) = self.originals.get(&id)?;
        let is_there = *conversation == new.conversation_id && quote.deleted_at.is_none();
        is_there.then(|| Some(quote.clone()))
    }

    /// Records the journal entries to store with a message.
    pub(super) fn notify(&mut self, notice: &Notice, message: &Message) {
        let id = message.conversation_id;
        let is_silent = |user: &str| self.silent.contains(&(id, user.to_owned()));
        let entries = notice.entries(message, is_silent).into_iter();
        self.notices
            .extend(entries.map(|entry| (notice.clone(), entry)));
    }

    /// Stores the entries, sorted by journal: transactions that lock several journals cannot
    /// deadlock.
    ///
    /// Drops an entry if its journal is full.
    pub(super) async fn insert(&mut self, client: &ClientWrapper) -> Result<(), Error> {
        // The entries of several messages are interleaved, so the order within each message is not
        // enough.
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
    /// Records the journal entries to store with a message whose mentions were not known before.
    pub(in crate::store) async fn notify_later(
        &mut self,
        client: &ClientWrapper,
        notice: &Notice,
        message: &Message,
    ) -> Result<(), Error> {
        let users: Vec<&str> = message.mentions.iter().map(String::as_str).collect();
        if users.is_empty() {
            return Ok(());
        }
        let homes = vec![message.conversation_id; users.len()];
        let silent = annotations::silent(client, &homes, &users).await?;
        self.references.silent.extend(silent);
        self.references.notify(notice, message);
        Ok(())
    }

    /// Returns the index of the first mentioned user who is not a member.
    pub(super) fn first_nonmember(&self, new: &NewMessage) -> Option<usize> {
        let mut mentions = new.mentions.iter();
        mentions.position(|user| !self.admits(new.conversation_id, user))
    }
}
