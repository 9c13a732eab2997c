//! What is stored with a message for those whom it mentions.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::rows::Message;
use super::super::{Append, Appended, Entry};

/// Makes the entry of a journal that tells a user of a message which mentions that user. It is stored with the message, so
/// that there is neither without the other. It must not wait, nor refuse.
#[derive(Clone)]
pub struct Notice(Arc<NoticeInner>);

struct NoticeInner {
    make: Box<MakeEntry>,
    /// The journals and entries that the last attempt has stored.
    stored: Mutex<Vec<(String, Entry)>>,
}

type MakeEntry = dyn Fn(&Message, &str) -> Append + Send + Sync;

impl Notice {
    /// A notice whose entries are made like this, of the message and a user.
    pub fn new(make: impl Fn(&Message, &str) -> Append + Send + Sync + 'static) -> Self {
        Self(Arc::new(NoticeInner {
            make: Box::new(make),
            stored: Mutex::default(),
        }))
    }

    /// The entries for all whom a message mentions but its sender and those who are `silent`, in the order of their journals: whoever
    /// locks several journals does so in one order.
    pub(in crate::store) fn entries(
        &self,
        message: &Message,
        silent: impl Fn(&str) -> bool,
    ) -> Vec<Append> {
        // An attempt that was rolled back has stored nothing.
        self.0.stored.lock().clear();
        let told = |user: &&String| **user != message.user_id && !silent(user);
        let mentions = message.mentions.iter().filter(told);
        let mut entries: Vec<Append> = mentions.map(|user| (self.0.make)(message, user)).collect();
        // Each entry locks the row of its journal, and two transactions that lock in one order
        // never block each other for good.
        entries.sort_unstable_by(|a, b| a.journal.cmp(&b.journal));
        entries
    }

    /// Notes what has become of one of the entries. One that found no room is told to nobody.
    pub(in crate::store) fn note(&self, journal: String, appended: Appended) {
        if let Appended::Stored(entry) = appended {
            self.0.stored.lock().push((journal, entry));
        }
    }

    /// The journals and entries that were stored with the message, which is committed.
    pub(in crate::store) fn take_stored(&self) -> Vec<(String, Entry)> {
        std::mem::take(&mut *self.0.stored.lock())
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").finish_non_exhaustive()
    }
}
