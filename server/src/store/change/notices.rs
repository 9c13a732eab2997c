//! What is stored with a message for those whom it mentions.

use std::fmt;
use std::sync::Arc;

use super::super::Append;
use super::super::rows::Message;

/// Makes the entry of a journal that tells a user of a message which mentions that user. It is stored with the message, so
/// that there is neither without the other. It must not wait, nor refuse.
#[derive(Clone)]
pub struct Notice(Arc<MakeEntry>);

type MakeEntry = dyn Fn(&Message, &str) -> Append + Send + Sync;

impl Notice {
    /// A notice whose entries are made like this, of the message and a user.
    pub fn new(make: impl Fn(&Message, &str) -> Append + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// The entries for all whom a message mentions but its sender and those who are `silent`, in the order of their journals: whoever
    /// locks several journals does so in one order.
    pub(in crate::store) fn entries(
        &self,
        message: &Message,
        silent: impl Fn(&str) -> bool,
    ) -> Vec<Append> {
        let told = |user: &&String| **user != message.user_id && !silent(user);
        let mentions = message.mentions.iter().filter(told);
        let mut entries: Vec<Append> = mentions.map(|user| (self.0)(message, user)).collect();
        // Each entry locks the row of its journal, and two transactions that lock in one order
        // never block each other for good.
        entries.sort_unstable_by(|a, b| a.journal.cmp(&b.journal));
        entries
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").finish_non_exhaustive()
    }
}
