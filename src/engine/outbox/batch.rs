//! Collects the outboxes that one broadcast fills, so that each flusher is woken once.

use std::{cell::RefCell, sync::Arc};

use roomcast_protocol::Frame;

use super::{
    handle::Outbox,
    push::{Mode, Push, PushSource},
    worker::{Flusher, give_back},
};

/// The outboxes that one broadcast has filled, by flusher. [`finish`](Self::finish) enqueues them
/// after the room's lock is released. Dropping a batch does the same, so that no wake is lost if a
/// panic occurs.
#[derive(Default)]
pub(crate) struct Batch {
    lists: Lists,
}

type Lists = Vec<(Arc<Flusher<Outbox>>, Vec<Outbox>)>;

/// Number of batches that a thread retains: one for a broadcast and one for a nested broadcast.
const MAX_SPARE: usize = 2;
/// Number of flushers in a retained batch; more occur only if the thread has served several
/// servers.
const MAX_LISTS: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Lists>> = const { RefCell::new(Vec::new()) };
}

impl Batch {
    /// Creates an empty batch, reusing the allocations of an earlier batch of this thread.
    pub(crate) fn new() -> Self {
        Self {
            lists: SPARE.with_borrow_mut(Vec::pop).unwrap_or_default(),
        }
    }

    pub(super) fn add(&mut self, flusher: &Arc<Flusher<Outbox>>, outbox: Outbox) {
        for (known, list) in &mut self.lists {
            if Arc::ptr_eq(known, flusher) {
                list.push(outbox);
                return;
            }
        }
        self.lists.push((Arc::clone(flusher), vec![outbox]));
    }

    /// Passes each flusher its outboxes, with one wake each.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl Outbox {
    /// Queues a frame of a broadcast; the batch wakes each flusher once.
    pub(crate) fn push_batched(&self, frame: &Frame, mode: Mode, batch: &mut Batch) -> Push {
        let mut queue = self.lock();
        let (push, scheduled) = self.append(&mut queue, frame, mode, PushSource::Sender);
        drop(queue);
        if let Some(outbox) = scheduled {
            // The flusher is not woken here, because the caller holds the lock of a room.
            batch.add(self.flusher(), outbox);
        }
        push
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for (flusher, list) in &mut self.lists {
            if !list.is_empty() {
                flusher.enqueue_all(list);
                give_back(list);
            }
        }
        if self.lists.len() > MAX_LISTS {
            self.lists.clear();
        }
        // While a thread terminates, its spare batches may already be destroyed. Then this batch is
        // simply dropped.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MAX_SPARE {
                spare.push(std::mem::take(&mut self.lists));
            }
        });
    }
}
