//! The users whose presence other servers need, and the conversations whose remote users must be
//! looked up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::Conversations;
use crate::service::chat::presence::conversation::Departure;
use crate::service::chat::presence::remote::{Departures, SharedPresence};

/// Users whose presence must be published to other servers, each once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Each with the reason of the departure, in case the user is no longer present.
    pub(super) users: BTreeMap<(Uuid, Arc<str>), Departure>,
    /// Whether there were more than [`MAX_CHANGES`], which discards all of them.
    is_incomplete: bool,
}

impl Changes {
    fn extend(&mut self, users: impl Iterator<Item = ((Uuid, Arc<str>), Departure)>) {
        self.users.extend(users);
        if self.users.len() > MAX_CHANGES {
            // Discarded changes cannot be published. The published presence of this server is then
            // removed and published again.
            self.users = BTreeMap::new();
            self.is_incomplete = true;
        }
    }
}

/// Conversations whose remote users must be looked up soon.
pub(in crate::service) type PresenceLookups = HashMap<Uuid, Departures>;

/// A client that joins a conversation and waits for the presence of other servers.
#[derive(Debug)]
pub(in crate::service) struct Arrival {
    /// The conversation.
    pub(in crate::service) id: Uuid,
    known: oneshot::Sender<()>,
}

impl Arrival {
    /// Lets the client continue. If dropped instead, the client continues without the presence of
    /// other servers.
    pub(in crate::service) fn resolve(self) {
        // The client's timeout may have expired.
        let _ = self.known.send(());
    }
}

impl Conversations {
    /// Requests that presence is published to other servers and that a conversation's remote users
    /// are looked up afterwards.
    ///
    /// The receiver resolves when both are done, and fails if the store does not answer.
    pub(in crate::service) fn arrive(&self, id: Uuid) -> oneshot::Receiver<()> {
        let (known, resolved) = oneshot::channel();
        let mut arrivals = self.arrivals.lock();
        // A join that finds no room does not wait.
        if arrivals.len() < MAX_ARRIVALS {
            arrivals.push(Arrival { id, known });
        }
        drop(arrivals);
        self.hurried.notify_one();
        resolved
    }

    /// Takes the waiting joins.
    pub(in crate::service) fn take_arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.arrivals.lock())
    }

    /// Waits until a join is waiting.
    pub(in crate::service) async fn hurried(&self) {
        self.hurried.notified().await;
    }

    /// Requests a lookup of a conversation's remote users.
    pub(in crate::service) fn request_lookup(&self, id: Uuid) {
        self.note_lookup(id, |_| ());
    }

    /// Requests a lookup of a conversation whose users on other servers have changed, with the
    /// reasons of departures.
    pub(in crate::service) fn recheck_departures(
        &self,
        id: Uuid,
        departed: impl IntoIterator<Item = (Arc<str>, Departure)>,
    ) {
        self.note_lookup(id, |departures| {
            let room = MAX_DEPARTURES - departures.len().min(MAX_DEPARTURES);
            // Departures beyond the limit count as lost after a timeout. Only the event differs.
            departures.extend(departed.into_iter().take(room));
        });
    }

    fn note_lookup(&self, id: Uuid, note: impl FnOnce(&mut Departures)) {
        let mut lookups = self.lookups.lock();
        // A conversation that finds no room here is looked up in the periodic lookup of all
        // conversations.
        if lookups.len() < MAX_LOOKUPS || lookups.contains_key(&id) {
            note(lookups.entry(id).or_default());
        }
        drop(lookups);
        self.stirred.notify_one();
    }

    /// Takes the conversations to look up soon.
    pub(in crate::service) fn take_lookups(&self) -> PresenceLookups {
        std::mem::take(&mut *self.lookups.lock())
    }

    /// Waits until there is presence to publish or to look up since the last call.
    pub(in crate::service) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Takes at most `limit` users whose presence must be published to other servers, each with the
    /// current state.
    pub(in crate::service) fn take_shared(&self, limit: usize) -> Vec<SharedPresence> {
        let mut taken = Vec::new();
        let mut changed = self.changed.lock();
        // No more users are taken than one statement can publish.
        while taken.len() < limit
            && let Some(next) = changed.users.pop_first()
        {
            taken.push(next);
        }
        drop(changed);
        // The lock of the changes is released first. `with` takes that of a conversation, under
        // which changes are recorded.
        let as_it_is = |((conversation_id, user_id), departure): ((Uuid, Arc<str>), Departure)| {
            let present = self.with(conversation_id, |live| live.presence.shared(&user_id));
            SharedPresence {
                conversation_id,
                user_id,
                present: present.flatten(),
                departure,
            }
        };
        taken.into_iter().map(as_it_is).collect()
    }

    /// Puts back rows that could not be published.
    pub(in crate::service) fn restore_shared(&self, rows: Vec<SharedPresence>) {
        let mut changed = self.changed.lock();
        for row in rows {
            let entry = changed.users.entry((row.conversation_id, row.user_id));
            // Changes recorded since the rows were taken are newer and stay.
            entry.or_insert(row.departure);
        }
        changed.extend(std::iter::empty());
    }

    /// Returns whether there were too many changes to store.
    ///
    /// The published presence of this server must then be removed and published again.
    pub(in crate::service) fn is_incomplete(&self) -> bool {
        self.changed.lock().is_incomplete
    }

    /// Marks all present users for publishing and discards departures, after the published presence
    /// of this server was removed.
    pub(in crate::service) fn share_all(&self) {
        // The list is cleared before the conversations are visited, so that concurrent changes are
        // recorded again.
        *self.changed.lock() = Changes::default();
        for id in self.ids() {
            self.with(id, |live| live.presence.share_all());
        }
    }

    /// Records the users of a conversation whose presence must be published.
    pub(super) fn share(&self, id: Uuid, users: impl IntoIterator<Item = (Arc<str>, Departure)>) {
        let of = |(user, departure)| ((id, user), departure);
        self.changed.lock().extend(users.into_iter().map(of));
        self.stirred.notify_one();
    }
}

/// The maximum number of recorded presence changes.
///
/// Far more than change during one publication, and a bound while publishing fails.
const MAX_CHANGES: usize = 100_000;

/// The maximum number of joins that wait for the presence of other servers.
const MAX_ARRIVALS: usize = 10_000;

/// The maximum number of conversations to look up soon.
const MAX_LOOKUPS: usize = 10_000;
/// The maximum number of departures recorded for each of these conversations.
const MAX_DEPARTURES: usize = 1000;
