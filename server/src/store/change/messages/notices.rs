//! The journal entries that are stored with a message for the users it mentions.
//!
//! A queue beside the store would need a task, a lease and a mark of what was done. The service
//! passes a function that creates an entry, because the id and the `seq` of a message are known
//! only under the lock of its conversation.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Message;
use crate::store::{Append, Appended, Entry};

/// Creates the journal entries that notify mentioned users of a message.
///
/// They are stored with the message, so that both or neither exist. The function must not block or
/// fail.
#[derive(Clone)]
pub struct Notice(Arc<NoticeInner>);

struct NoticeInner {
    make: Box<MakeEntry>,
    /// The journals and entries that the last attempt stored.
    stored: Mutex<Vec<(String, Entry)>>,
}

type MakeEntry = dyn Fn(&Message, &str) -> Append + Send + Sync;

impl Notice {
    /// Creates a notice. `make` returns the entry for a message and a mentioned user.
    pub fn new(make: impl Fn(&Message, &str) -> Append + Send + Sync + 'static) -> Self {
        Self(Arc::new(NoticeInner {
            make: Box::new(make),
            stored: Mutex::default(),
        }))
    }

    /// Returns the entries for all mentioned users, except the sender and `silent` users, sorted by
    /// journal.
    ///
    /// All transactions that lock several journals use this order.
    pub(in crate::store) fn entries(
        &self,
        message: &Message,
        silent: impl Fn(&str) -> bool,
    ) -> Vec<Append> {
        // A previous attempt was rolled back, so it stored nothing.
        self.0.stored.lock().clear();
        let told = |user: &&String| **user != message.user_id && !silent(user);
        let mentions = message.mentions.iter().filter(told);
        let mut entries: Vec<Append> = mentions.map(|user| (self.0.make)(message, user)).collect();
        // Each entry locks the row of its journal. A common lock order prevents deadlocks.
        entries.sort_unstable_by(|a, b| a.journal.cmp(&b.journal));
        entries
    }

    /// Records the outcome of an entry. If its journal is full, the user is not notified.
    pub(in crate::store) fn note(&self, journal: String, appended: Appended) {
        if let Appended::Stored(entry) = appended {
            self.0.stored.lock().push((journal, entry));
        }
    }

    /// Returns the journals and entries that were stored with the message after its commit.
    pub(in crate::store) fn take_stored(&self) -> Vec<(String, Entry)> {
        std::mem::take(&mut *self.0.stored.lock())
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").finish_non_exhaustive()
    }
}
