//! What the live conversations hold, summed over all of them.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use uuid::Uuid;

use super::sharing::Arrival;
use super::{Conversations, LiveConversation};
use crate::metrics::{Inventoried, Inventory, Size, table_bytes};
use crate::service::chat::presence::conversation::Departure;
use crate::service::chat::sequencer::backlog::GapBacklog;
use crate::service::chat::sequencer::recorded::Recorded;

/// The names of the parts of each conversation, in the order of [`sizes`].
const PARTS: [&str; 11] = [
    "present users",
    "users of other servers",
    "presence notices",
    "unpublished presences",
    "typing users",
    "growing texts",
    "readers behind a growing text",
    "commits after a gap",
    "recorded steps",
    "removed members",
    "early confirmations",
];

/// Returns the sizes of the parts of one conversation.
fn sizes(conversation: &LiveConversation) -> [Size; PARTS.len()] {
    let presence = conversation.presence.sizes();
    let backlog = conversation.gap_backlog.as_ref();
    let recorded = conversation.recorded.as_ref();
    let leaving = conversation.leaving.len();
    let [texts, behind] = conversation.streams.sizes();
    [
        presence.users,
        presence.remote,
        presence.notices,
        presence.unpublished,
        conversation.typing.size(),
        texts,
        behind,
        backlog.map(GapBacklog::size).unwrap_or_default(),
        recorded.map(Recorded::size).unwrap_or_default(),
        Size::of::<(Arc<str>, (Instant, u64))>(leaving, leaving),
        conversation.early_confirmations.size(),
    ]
}

impl Inventoried for Conversations {
    fn report(&self, inventory: &mut Inventory) {
        let mut live = Size::default();
        let mut sums = [Size::default(); PARTS.len()];
        for shard in self.live.iter() {
            // The lock of a shard is never held together with that of a conversation.
            let conversations: Vec<_> = {
                let table = shard.lock();
                live += Size::of_map(&table);
                table.values().cloned().collect()
            };
            for conversation in conversations {
                live.bytes += size_of::<Mutex<LiveConversation>>();
                let own = sizes(&conversation.lock());
                for (sum, size) in sums.iter_mut().zip(own) {
                    *sum += size;
                }
            }
        }
        inventory.size("live conversations", live);
        for (name, size) in PARTS.into_iter().zip(sums) {
            inventory.size(name, size);
        }
        let requests = self.common.confirmation_requests.size();
        inventory.size("confirmation requests", requests);
        let [announced, pending] = self.common.announced.sizes();
        inventory.size("announced changes", announced);
        inventory.size("conversations being created", pending);
        let shards = self.sockets.iter().map(|shard| {
            let sockets = shard.lock();
            (sockets.len(), table_bytes(&sockets))
        });
        inventory.maps("sockets in conversations", shards);
        let timeouts = self.schedule.iter();
        let timeouts = timeouts.map(|shard| shard.timeouts.lock().len()).sum();
        inventory.size("timeouts", Size::of::<(Instant, Uuid)>(timeouts, timeouts));
        let changed = self.changed.lock().users.len();
        let changed = Size::of::<((Uuid, Arc<str>), Departure)>(changed, changed);
        inventory.size("presence changes", changed);
        inventory.map("presence lookups", &self.lookups.lock());
        let arrivals = self.arrivals.lock();
        let arrivals = Size::of::<Arrival>(arrivals.len(), arrivals.capacity());
        inventory.size("arrivals", arrivals);
    }
}
