//! Of whom other servers have to be told, and in which conversations their users are to be looked up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::Conversations;
use crate::service::chat::presence::conversation::Going;
use crate::service::chat::presence::remote::{Gone, SharedPresence};

/// Users of whom other servers have to be told, each once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Each with how the user has gone, in case the user is not here any more.
    pub(super) users: BTreeMap<(Uuid, Arc<str>), Going>,
    /// Whether there were more than [`MAX_CHANGES`], which are forgotten.
    is_incomplete: bool,
}

impl Changes {
    fn extend(&mut self, users: impl Iterator<Item = ((Uuid, Arc<str>), Going)>) {
        self.users.extend(users);
        if self.users.len() > MAX_CHANGES {
            // What cannot be kept cannot be told: the others then forget this server and are told
            // everything again.
            self.users = BTreeMap::new();
            self.is_incomplete = true;
        }
    }
}

/// Conversations whose presence is to be looked up soon.
pub(in crate::service) type Looks = HashMap<Uuid, Gone>;

/// A client that joins a conversation and waits until it is known who is there at other servers.
#[derive(Debug)]
pub(in crate::service) struct Arrival {
    /// The conversation.
    pub(in crate::service) id: Uuid,
    known: oneshot::Sender<()>,
}

impl Arrival {
    /// Lets the client go on. Dropped without that, it goes on without knowing.
    pub(in crate::service) fn resolve(self) {
        // The client may have waited long enough.
        let _ = self.known.send(());
    }
}

impl Conversations {
    /// Has other servers told who is here, and a conversation looked up behind that.
    ///
    /// Resolves when both are done, and fails if the store does not answer.
    pub(in crate::service) fn arrive(&self, id: Uuid) -> oneshot::Receiver<()> {
        let (known, resolved) = oneshot::channel();
        let mut arrivals = self.arrivals.lock();
        // A join that finds no room goes on at once.
        if arrivals.len() < MAX_ARRIVALS {
            arrivals.push(Arrival { id, known });
        }
        drop(arrivals);
        self.hurried.notify_one();
        resolved
    }

    /// Takes the joins that wait.
    pub(in crate::service) fn take_arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.arrivals.lock())
    }

    /// Waits until a join waits.
    pub(in crate::service) async fn hurried(&self) {
        self.hurried.notified().await;
    }

    /// Has a conversation looked up soon.
    pub(in crate::service) fn look_soon(&self, id: Uuid) {
        self.note_look(id, |_| ());
    }

    /// Has a conversation looked up soon, in which users have come or gone at another server: these in this way.
    pub(in crate::service) fn look_at_told(
        &self,
        id: Uuid,
        gone: impl IntoIterator<Item = (Arc<str>, Going)>,
    ) {
        self.note_look(id, |told| {
            let room = MAX_GONE - told.len().min(MAX_GONE);
            // Beyond the limit users count as lost after a while, which is a difference of one word only.
            told.extend(gone.into_iter().take(room));
        });
    }

    fn note_look(&self, id: Uuid, note: impl FnOnce(&mut Gone)) {
        let mut looks = self.looks.lock();
        // A conversation that finds no room here is looked up with all the others.
        if looks.len() < MAX_LOOKS || looks.contains_key(&id) {
            note(looks.entry(id).or_default());
        }
        drop(looks);
        self.stirred.notify_one();
    }

    /// The conversations to be looked up soon.
    pub(in crate::service) fn take_looks(&self) -> Looks {
        std::mem::take(&mut *self.looks.lock())
    }

    /// Waits until there is something to tell other servers, or to look up, since the last call.
    pub(in crate::service) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// What other servers have to be told, at most `limit` users, each as it is now.
    pub(in crate::service) fn take_shared(&self, limit: usize) -> Vec<SharedPresence> {
        let mut taken = Vec::new();
        let mut changed = self.changed.lock();
        // Only so many are taken that one statement tells them all.
        while taken.len() < limit
            && let Some(next) = changed.users.pop_first()
        {
            taken.push(next);
        }
        drop(changed);
        // The lock of the changes is let go of first: `with` takes that of a conversation, under
        // which changes are noted.
        let as_it_is = |((conversation_id, user_id), going): ((Uuid, Arc<str>), Going)| {
            let present = self.with(conversation_id, |live| live.presence.shared(&user_id));
            SharedPresence {
                conversation_id,
                user_id,
                present: present.flatten(),
                going,
            }
        };
        taken.into_iter().map(as_it_is).collect()
    }

    /// Takes back what could not be told.
    pub(in crate::service) fn restore_shared(&self, rows: Vec<SharedPresence>) {
        let mut changed = self.changed.lock();
        for row in rows {
            let entry = changed.users.entry((row.conversation_id, row.user_id));
            // What has changed since the rows were taken is newer, and stays.
            entry.or_insert(row.going);
        }
        changed.extend(std::iter::empty());
    }

    /// Whether so much has changed that it could not be kept. What other servers know of this one is
    /// to be taken away then, and all told anew.
    pub(in crate::service) fn is_incomplete(&self) -> bool {
        self.changed.lock().is_incomplete
    }

    /// Other servers know nothing of this one: everybody who is here has to be told, and nothing of
    /// those who have gone.
    pub(in crate::service) fn share_all(&self) {
        // The list is emptied before the conversations are gone through: what changes meanwhile is
        // noted anew.
        *self.changed.lock() = Changes::default();
        for id in self.ids() {
            self.with(id, |live| live.presence.share_all());
        }
    }

    /// Notes of whom in a conversation other servers have to be told.
    pub(super) fn share(&self, id: Uuid, users: impl IntoIterator<Item = (Arc<str>, Going)>) {
        let of = |(user, going)| ((id, user), going);
        self.changed.lock().extend(users.into_iter().map(of));
        self.stirred.notify_one();
    }
}

/// How many users are noted that other servers have to be told of: far more than change while these
/// are told, and a limit to what is kept while they cannot be.
const MAX_CHANGES: usize = 100_000;

/// The number of joins that may wait until it is known who is at other servers.
const MAX_ARRIVALS: usize = 10_000;

/// How many conversations are noted that are to be looked up soon, and in each of them how many of those who have
/// gone.
const MAX_LOOKS: usize = 10_000;
const MAX_GONE: usize = 1000;
