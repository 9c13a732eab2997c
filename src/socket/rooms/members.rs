//! The members of one room, and a frame on its way to them.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use roomcast_protocol::Frame;

use crate::{
    engine::{Batch, Mode, Outbox, Push},
    socket::types::{IdMap, IdSet, SocketId},
};

/// A room: a handle to its members that outlives the name.
pub(crate) type RoomCell = Mutex<Members>;

/// The members of a room, or of a whole namespace.
#[derive(Default)]
pub(crate) struct Members {
    slots: Vec<Slot>,
    /// Position by id; kept from [`INDEXED`] members on.
    index: Option<IdMap<u32>>,
    /// Members whose clients are away: they count as absent, and receive only what can be replayed.
    away: Option<Box<IdMap<Outbox>>>,
    /// The last member has left and the name is being removed: nobody may join any more.
    gone: bool,
}

struct Slot {
    id: SocketId,
    outbox: Outbox,
}

impl Members {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SocketId> {
        self.slots.iter().map(|slot| slot.id)
    }

    #[inline]
    pub(crate) fn contains(&self, id: SocketId) -> bool {
        self.position(id).is_some()
    }

    /// Whether the list was closed to newcomers by [`close_if_empty`](Self::close_if_empty).
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Closes an empty list to newcomers.
    #[inline]
    pub(crate) fn close_if_empty(&mut self) -> bool {
        self.gone = self.slots.is_empty() && self.away.is_none();
        self.gone
    }

    /// The client of a member is away. Returns whether no other member is present.
    pub(crate) fn keep_away(&mut self, id: SocketId, outbox: &Outbox) -> bool {
        let was_last = self.remove(id) && self.slots.is_empty();
        let away = self.away.get_or_insert_default();
        away.insert(id, outbox.clone());
        was_last
    }

    /// The client of a member is back. Returns whether no other member is present.
    pub(crate) fn resume(&mut self, id: SocketId, outbox: &Outbox) -> bool {
        self.forget_away(id);
        self.insert(id, outbox.clone());
        self.slots.len() == 1
    }

    /// A client that is away will not come back.
    #[inline]
    pub(crate) fn forget_away(&mut self, id: SocketId) {
        let Some(away) = &mut self.away else {
            return;
        };
        away.remove(&id);
        if away.is_empty() {
            self.away = None;
        } else if away.len() < away.capacity() / 4 {
            let kept = away.len() * 2;
            away.shrink_to(kept);
        }
    }

    /// The outbox of a member whose client is away.
    pub(crate) fn away(&self, id: SocketId) -> Option<Outbox> {
        self.away.as_ref()?.get(&id).cloned()
    }

    /// The ids of the members whose clients are away.
    pub(crate) fn ids_away(&self) -> impl Iterator<Item = SocketId> {
        self.away.iter().flat_map(|away| away.keys().copied())
    }

    /// Adds a member; one that is there already stays where it is.
    #[inline]
    pub(crate) fn insert(&mut self, id: SocketId, outbox: Outbox) {
        if self.contains(id) {
            return;
        }
        let position = self.slots.len() as u32;
        self.slots.push(Slot { id, outbox });
        if let Some(index) = &mut self.index {
            index.insert(id, position);
        } else if self.slots.len() > INDEXED {
            self.index = Some(
                (0..)
                    .zip(&self.slots)
                    .map(|(i, slot)| (slot.id, i))
                    .collect(),
            );
        }
    }

    /// Removes a member; the last member of the list takes its place.
    #[inline]
    pub(crate) fn remove(&mut self, id: SocketId) -> bool {
        let Some(position) = self.position(id) else {
            return false;
        };
        self.slots.swap_remove(position);
        if let Some(index) = &mut self.index {
            index.remove(&id);
            if let Some(moved) = self.slots.get(position) {
                index.insert(moved.id, position as u32);
            }
            // The index goes at half the size at which it came, so that a room at the border does not build it all the time.
            if self.slots.len() <= INDEXED / 2 {
                self.index = None;
            }
        }
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
        true
    }

    #[inline]
    fn position(&self, id: SocketId) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&id).map(|&position| position as usize),
            None => self.slots.iter().position(|slot| slot.id == id),
        }
    }

    /// Pushes a frame to every member that is not excepted. The caller holds the lock of the room,
    /// so nothing called here may call back.
    fn push(&self, push: &mut Pushing<'_>) {
        for slots in self.slots.chunks(AHEAD) {
            // A push is full of atomic operations, each of which waits for every load before it.
            // So what several of them need is fetched in one go, side by side.
            let fetched = slots.iter().fold(0, |sum, slot| sum ^ slot.outbox.touch());
            std::hint::black_box(fetched);
            for slot in slots {
                if !push.except.has(slot.id) {
                    push.one(slot.id, &slot.outbox);
                }
            }
        }
        if let Some(away) = &self.away
            && push.frame.stamp().is_some()
        {
            for (&id, outbox) in &**away {
                if !push.except.has(id) {
                    push.one_away(outbox);
                }
            }
        }
    }
}

/// Members whose memory is fetched together; a core has about a dozen fetches in flight.
const AHEAD: usize = 8;

/// The sockets that do not receive a broadcast although they are in a named room.
#[derive(Debug, Default)]
pub(crate) struct Except {
    pub(crate) sender: Option<SocketId>,
    pub(crate) others: Option<IdSet>,
}

impl Except {
    #[inline]
    pub(crate) fn has(&self, id: SocketId) -> bool {
        self.sender == Some(id)
            || self
                .others
                .as_ref()
                .is_some_and(|others| others.contains(&id))
    }
}

/// What became of a frame, by number of recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) queued: usize,
    pub(crate) dropped: usize,
    pub(crate) overflowed: usize,
    pub(crate) closed: usize,
}

impl Tally {
    pub(crate) fn count(&mut self, push: Push) {
        match push {
            Push::Queued => self.queued += 1,
            Push::Dropped => self.dropped += 1,
            Push::Overflow => self.overflowed += 1,
            Push::Closed => self.closed += 1,
        }
    }
}

/// One broadcast on its way: what is sent in which way, and which members it has reached.
pub(crate) struct Pushing<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) mode: Mode,
    pub(crate) except: &'a Except,
    /// Collects the members for which the frame was queued, if anybody wants to know.
    pub(crate) reached: Option<&'a mut Vec<SocketId>>,
    pub(crate) batch: Batch,
    pub(crate) tally: Tally,
}

impl<'a> Pushing<'a> {
    pub(crate) fn new(
        frame: &'a Frame,
        mode: Mode,
        except: &'a Except,
        reached: Option<&'a mut Vec<SocketId>>,
    ) -> Self {
        Self {
            frame,
            mode,
            except,
            reached,
            batch: Batch::new(),
            tally: Tally::default(),
        }
    }

    /// Pushes to one recipient, whatever room it is in.
    pub(crate) fn one(&mut self, id: SocketId, outbox: &Outbox) {
        let push = outbox.push_batched(self.frame, self.mode, &mut self.batch);
        if push == Push::Queued
            && let Some(reached) = &mut self.reached
        {
            reached.push(id);
        }
        self.tally.count(push);
    }

    /// Keeps the frame for one recipient that is away. It does not count as reached.
    fn one_away(&mut self, outbox: &Outbox) {
        let _ = outbox.push_batched(self.frame, self.mode, &mut self.batch);
    }

    /// The members of one room.
    pub(crate) fn room(&mut self, cell: &RoomCell) {
        cell.lock().push(self);
    }

    /// The members of several rooms and `singles`, each of them once.
    pub(crate) fn union(
        &mut self,
        mut cells: Vec<Arc<RoomCell>>,
        singles: Vec<(SocketId, Outbox)>,
    ) {
        // All calls lock in the same order, so that two of them cannot wait for each other.
        cells.sort_unstable_by_key(|cell| Arc::as_ptr(cell).addr());
        cells.dedup_by(|a, b| Arc::ptr_eq(a, b));
        // All rooms are locked at once, so that two broadcasts reach their common members in one
        // order.
        let rooms: Vec<MutexGuard<'_, Members>> = cells.iter().map(|cell| cell.lock()).collect();
        let mut seen = IdSet::default();
        for slot in rooms.iter().flat_map(|members| &members.slots) {
            if !self.except.has(slot.id) && seen.insert(slot.id) {
                self.one(slot.id, &slot.outbox);
            }
        }
        for (id, outbox) in singles {
            if !self.except.has(id) && seen.insert(id) {
                self.one(id, &outbox);
            }
        }
        if self.frame.stamp().is_some() {
            let away = rooms.iter().filter_map(|members| members.away.as_deref());
            for (&id, outbox) in away.flatten() {
                if !self.except.has(id) && seen.insert(id) {
                    self.one_away(outbox);
                }
            }
        }
    }

    /// Hands the outboxes to their flushers and returns the counts. Must be called without any lock
    /// held.
    #[inline]
    pub(crate) fn finish(self) -> Tally {
        self.batch.finish();
        self.tally
    }
}

/// A list longer than this has an index.
const INDEXED: usize = 16;

#[cfg(test)]
mod tests {
    use super::Slot;

    #[test]
    fn a_slot_is_no_larger_than_an_id_and_a_pointer() {
        assert_eq!(size_of::<Slot>(), 32);
    }
}
