//! The members of one room, and the delivery of a frame to them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use roomcast_protocol::Frame;

use crate::{
    engine::{Batch, Mode, Outbox, Push},
    socket::types::{IdMap, IdSet, Room, SocketId},
};

/// A room: a handle to its members that remains valid after the name is removed.
pub(crate) type RoomCell = Mutex<Members>;

/// The joined rooms of a socket.
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) rooms: HashMap<Room, Arc<RoomCell>>,
    /// The socket has permanently left all rooms.
    pub(crate) closed: bool,
}

/// The members of a room, or of a whole namespace.
#[derive(Default)]
pub(crate) struct Members {
    slots: Vec<Slot>,
    /// Position by id; exists if there are more than [`INDEXED`] members.
    index: Option<IdMap<u32>>,
    /// Disconnected but recoverable members. They count as absent, and receive only replayable
    /// frames.
    recoverable: Option<Box<IdMap<Outbox>>>,
    /// The last member has left and the name is being removed, so no socket may join.
    is_closed: bool,
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
        self.slots.iter().map(|slot| slot.id.clone())
    }

    #[inline]
    pub(crate) fn contains(&self, id: &SocketId) -> bool {
        self.position(id).is_some()
    }

    /// Returns whether the list was closed by [`close_if_empty`](Self::close_if_empty).
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Closes the list to new members if it is empty.
    #[inline]
    pub(crate) fn close_if_empty(&mut self) -> bool {
        self.is_closed = self.slots.is_empty() && self.recoverable.is_none();
        self.is_closed
    }

    /// Marks a member as recoverable. Returns whether no other member is present.
    pub(crate) fn retain_recoverable(&mut self, id: SocketId, outbox: &Outbox) -> bool {
        let was_last = self.remove(&id) && self.slots.is_empty();
        let recoverable = self.recoverable.get_or_insert_default();
        recoverable.insert(id, outbox.clone());
        was_last
    }

    /// Restores a recoverable member. Returns whether no other member is present.
    pub(crate) fn resume(&mut self, id: SocketId, outbox: &Outbox) -> bool {
        self.remove_recoverable(&id);
        self.insert(id, outbox.clone());
        self.slots.len() == 1
    }

    /// Removes a recoverable member.
    #[inline]
    pub(crate) fn remove_recoverable(&mut self, id: &SocketId) {
        let Some(recoverable) = &mut self.recoverable else {
            return;
        };
        recoverable.remove(id);
        if recoverable.is_empty() {
            self.recoverable = None;
        } else if recoverable.len() < recoverable.capacity() / 4 {
            let capacity = recoverable.len() * 2;
            recoverable.shrink_to(capacity);
        }
    }

    /// Returns the outbox of a recoverable member.
    pub(crate) fn recoverable(&self, id: &SocketId) -> Option<Outbox> {
        self.recoverable.as_ref()?.get(id).cloned()
    }

    /// Returns the ids of the recoverable members.
    pub(crate) fn recoverable_ids(&self) -> impl Iterator<Item = SocketId> {
        self.recoverable
            .iter()
            .flat_map(|recoverable| recoverable.keys().cloned())
    }

    /// Adds a member. Has no effect if it exists.
    #[inline]
    pub(crate) fn insert(&mut self, id: SocketId, outbox: Outbox) {
        if self.contains(&id) {
            return;
        }
        let position = self.slots.len() as u32;
        let known = self.index.is_some().then(|| id.clone());
        self.slots.push(Slot { id, outbox });
        if let (Some(index), Some(id)) = (&mut self.index, known) {
            index.insert(id, position);
        } else if self.slots.len() > INDEXED {
            self.index = Some(
                (0..)
                    .zip(&self.slots)
                    .map(|(i, slot)| (slot.id.clone(), i))
                    .collect(),
            );
        }
    }

    /// Removes a member. The last member of the list takes its position.
    #[inline]
    pub(crate) fn remove(&mut self, id: &SocketId) -> bool {
        let Some(position) = self.position(id) else {
            return false;
        };
        self.slots.swap_remove(position);
        if let Some(index) = &mut self.index {
            index.remove(id);
            if let Some(moved) = self.slots.get(position) {
                index.insert(moved.id.clone(), position as u32);
            }
            // The index is dropped at half its creation size, so that a room near the limit does
            // not rebuild it repeatedly.
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
    fn position(&self, id: &SocketId) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(id).map(|&position| position as usize),
            None => self.slots.iter().position(|slot| slot.id == *id),
        }
    }

    /// Pushes a frame to all members that are not excluded. The caller holds the lock of the room,
    /// so the called code must not call back.
    fn push(&self, push: &mut Pushing<'_>) {
        for slots in self.slots.chunks(PREFETCH) {
            // A push performs many atomic operations, and each one waits for all earlier loads. So
            // the data of several pushes is prefetched in parallel.
            let fetched = slots.iter().fold(0, |sum, slot| sum ^ slot.outbox.touch());
            std::hint::black_box(fetched);
            for slot in slots {
                if !push.except.has(&slot.id) {
                    push.one(&slot.id, &slot.outbox);
                }
            }
        }
        if let Some(recoverable) = &self.recoverable
            && push.frame.stamp().is_some()
        {
            for (id, outbox) in &**recoverable {
                if !push.except.has(id) {
                    push.one_recoverable(outbox);
                }
            }
        }
    }
}

/// Number of members to prefetch together. A core has about a dozen loads in flight.
const PREFETCH: usize = 8;

/// The sockets that a broadcast excludes, even if they are in a target room.
#[derive(Debug, Default)]
pub(crate) struct Except {
    pub(crate) sender: Option<SocketId>,
    pub(crate) ids: Option<IdSet>,
}

impl Except {
    #[inline]
    pub(crate) fn has(&self, id: &SocketId) -> bool {
        self.sender.as_ref() == Some(id) || self.ids.as_ref().is_some_and(|ids| ids.contains(id))
    }
}

/// The numbers of recipients by the outcome of a push.
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

/// The sockets whose observers a broadcast notifies, with the outcomes of their pushes.
pub(crate) struct Observed {
    ids: ObservedIds,
    pub(crate) pushes: Vec<(SocketId, Push)>,
}

/// A few ids are compared one by one, which is cheaper for each recipient than a hash.
enum ObservedIds {
    Few(Vec<SocketId>),
    Many(IdSet),
}

impl Observed {
    pub(crate) fn new(ids: impl ExactSizeIterator<Item = SocketId>) -> Self {
        let ids = match ids.len() {
            0..=MAX_COMPARED => ObservedIds::Few(ids.collect()),
            _ => ObservedIds::Many(ids.collect()),
        };
        let pushes = Vec::new();
        Self { ids, pushes }
    }

    #[inline]
    fn note(&mut self, id: &SocketId, push: Push) {
        let is_observed = match &self.ids {
            ObservedIds::Few(ids) => ids.contains(id),
            ObservedIds::Many(ids) => ids.contains(id),
        };
        if is_observed {
            self.pushes.push((id.clone(), push));
        }
    }
}

/// Maximum number of observed sockets whose ids are compared one by one.
const MAX_COMPARED: usize = 4;

/// The recipients that a broadcast collects.
pub(crate) enum Collected<'a> {
    Nothing,
    /// All members for which the frame was queued.
    Reached(&'a mut Vec<SocketId>),
    Observed(&'a mut Observed),
}

/// One broadcast in progress: its frame and options, and the members that it has reached.
pub(crate) struct Pushing<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) mode: Mode,
    pub(crate) except: &'a Except,
    pub(crate) collected: Collected<'a>,
    pub(crate) batch: Batch,
    pub(crate) tally: Tally,
}

impl<'a> Pushing<'a> {
    pub(crate) fn new(
        frame: &'a Frame,
        mode: Mode,
        except: &'a Except,
        collected: Collected<'a>,
    ) -> Self {
        Self {
            frame,
            mode,
            except,
            collected,
            batch: Batch::new(),
            tally: Tally::default(),
        }
    }

    /// Pushes to one recipient.
    pub(crate) fn one(&mut self, id: &SocketId, outbox: &Outbox) {
        let push = outbox.push_batched(self.frame, self.mode, &mut self.batch);
        match &mut self.collected {
            Collected::Nothing => {}
            Collected::Reached(reached) if push == Push::Queued => reached.push(id.clone()),
            Collected::Reached(_) => {}
            Collected::Observed(observed) => observed.note(id, push),
        }
        self.tally.count(push);
    }

    /// Stores the frame for one recoverable recipient. It does not count as reached.
    fn one_recoverable(&mut self, outbox: &Outbox) {
        let _ = outbox.push_batched(self.frame, self.mode, &mut self.batch);
    }

    /// Pushes to the members of one room.
    pub(crate) fn room(&mut self, cell: &RoomCell) {
        cell.lock().push(self);
    }

    /// Pushes to the members of several rooms and to `singles`, once per member.
    pub(crate) fn union(
        &mut self,
        mut cells: Vec<Arc<RoomCell>>,
        singles: Vec<(SocketId, Outbox)>,
    ) {
        // All calls lock in the same order, to prevent deadlocks.
        cells.sort_unstable_by_key(|cell| Arc::as_ptr(cell).addr());
        cells.dedup_by(|a, b| Arc::ptr_eq(a, b));
        // All rooms are locked together, so that two broadcasts reach their common members in the
        // same order.
        let rooms: Vec<MutexGuard<'_, Members>> = cells.iter().map(|cell| cell.lock()).collect();
        let mut seen = IdSet::default();
        for slot in rooms.iter().flat_map(|members| &members.slots) {
            if !self.except.has(&slot.id) && seen.insert(slot.id.clone()) {
                self.one(&slot.id, &slot.outbox);
            }
        }
        for (id, outbox) in singles {
            if !self.except.has(&id) && seen.insert(id.clone()) {
                self.one(&id, &outbox);
            }
        }
        if self.frame.stamp().is_some() {
            let recoverable = rooms
                .iter()
                .filter_map(|members| members.recoverable.as_deref());
            for (id, outbox) in recoverable.flatten() {
                if !self.except.has(id) && seen.insert(id.clone()) {
                    self.one_recoverable(outbox);
                }
            }
        }
    }

    /// Passes the outboxes to their flushers and returns the counts. Must be called without a lock
    /// held.
    #[inline]
    pub(crate) fn finish(self) -> Tally {
        self.batch.finish();
        self.tally
    }
}

/// Lists with more members have an index.
const INDEXED: usize = 16;

#[cfg(test)]
mod tests {
    use super::Slot;

    #[test]
    fn a_slot_is_no_larger_than_an_id_and_a_pointer() {
        assert_eq!(size_of::<Slot>(), 32);
    }
}
