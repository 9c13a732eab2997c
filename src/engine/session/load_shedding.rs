//! Frees memory when too much is queued or retained for all clients together: disconnects the
//! slowest clients, and discards the largest replay buffers.

use std::{sync::Arc, time::Duration};

use crate::engine::outbox::MemoryBudget;

/// The delay when no client can free memory.
const SHED_RETRY_DELAY: Duration = Duration::from_millis(20);
/// Number of clients to free memory from before the task yields.
const CLIENTS_PER_YIELD: usize = 64;

/// Keeps the queued and retained bytes below their limits, until stopped.
pub(super) async fn shed_load(memory: Arc<MemoryBudget>) {
    loop {
        memory.wait_until_high().await;
        if memory.is_stopped() {
            return;
        }
        if memory.is_high() {
            shed_waiting(&memory).await;
        }
        shed_replay(&memory).await;
        if memory.is_high() || memory.retains_too_much() {
            tokio::time::sleep(SHED_RETRY_DELAY).await;
        }
    }
}

/// Disconnects the clients with the most queued bytes until enough memory is free.
async fn shed_waiting(memory: &MemoryBudget) {
    let mut taken = 0;
    while !memory.is_relieved()
        && let Some((class, outbox)) = memory.waiting().top()
    {
        outbox.shed_waiting(class);
        rest(&mut taken).await;
    }
}

/// Discards the largest replay buffers until enough memory is free.
async fn shed_replay(memory: &MemoryBudget) {
    let mut taken = 0;
    while memory.retains_too_much()
        && let Some((class, outbox)) = memory.replay().top()
    {
        outbox.shed_replay(class);
        rest(&mut taken).await;
    }
}

async fn rest(taken: &mut usize) {
    *taken += 1;
    if taken.is_multiple_of(CLIENTS_PER_YIELD) {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::{Frame, Sid, Stamp, engine::CloseReason};

    use super::*;
    use crate::{
        engine::{Limits, Mode, Outbox, Push, TestOutboxes},
        metrics::{Gauge, Metrics},
    };

    /// Creates an outbox with this many queued bytes, in frames of 1,000.
    fn outbox(outboxes: &TestOutboxes, id: u8, bytes: usize) -> Outbox {
        let outbox = outboxes.outbox(Sid::from_random([id; 15]), 1 << 20);
        for _ in 0..bytes / 1000 {
            let _ = outbox.push(&Frame::text(&[b'x'; 1000]), Mode::Reliable);
        }
        outbox
    }

    #[tokio::test]
    async fn sessions_with_most_queued_bytes_are_disconnected_first() {
        let metrics = Arc::new(Metrics::new());
        let outboxes = TestOutboxes::limited(400_000, Arc::clone(&metrics));
        let sizes = [40_000, 120_000, 5_000, 80_000, 50_000];
        let all: Vec<Outbox> = (1..)
            .zip(sizes)
            .map(|(id, size)| outbox(&outboxes, id, size))
            .collect();
        let memory = outboxes.memory();
        assert!(memory.is_high() && !memory.is_exhausted());
        let shedding = tokio::spawn(shed_load(Arc::clone(&memory)));
        while !memory.is_relieved() {
            tokio::task::yield_now().await;
        }
        memory.stop();
        shedding.await.unwrap();
        let is_overflowed = |outbox: &Outbox| outbox.lock().closed() == Some(CloseReason::Overflow);
        let overflowed: Vec<bool> = all.iter().map(is_overflowed).collect();
        assert_eq!(overflowed, [false, true, false, false, false]);
        for outbox in &all {
            TestOutboxes::take(outbox);
        }
        assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
    }

    #[tokio::test]
    async fn client_that_caught_up_is_not_disconnected_by_shedding() {
        let outboxes = TestOutboxes::limited(400_000, Arc::default());
        let quick = outbox(&outboxes, 1, 200_000);
        let slow = outbox(&outboxes, 2, 40_000);
        TestOutboxes::take(&quick);
        assert_eq!(quick.push(&Frame::text(b"x"), Mode::Reliable), Push::Queued);
        let third = outbox(&outboxes, 3, 350_000);
        let memory = outboxes.memory();
        shed_waiting(&memory).await;
        let closed = [&quick, &slow, &third].map(|outbox| outbox.lock().closed().is_some());
        assert_eq!(closed, [false, false, true]);
        assert!(memory.is_relieved());
    }

    #[tokio::test]
    async fn only_the_largest_replay_buffer_is_discarded() {
        let limits = Limits {
            messages: 1000,
            bytes: 100_000,
            total: 100_000,
        };
        let metrics = Arc::new(Metrics::new());
        let outboxes = TestOutboxes::polling(Arc::clone(&metrics));
        let stamp = |number| Stamp { channel: 1, number };
        let keep = |outbox: &Outbox, number| {
            let frame = Frame::text(&[b'x'; 1000]).with_stamp(stamp(number));
            assert_eq!(outbox.push(&frame, Mode::Volatile), Push::Dropped);
        };
        let all = [60, 30, 5].map(|count| {
            let outbox = outboxes.outbox(Sid::from_random([count; 15]), usize::MAX);
            outbox.retain_for_replay(1, None, limits);
            (1..=u64::from(count)).for_each(|number| keep(&outbox, number));
            (outbox, u64::from(count))
        });
        let memory = outboxes.memory();
        assert!(!memory.retains_too_much());
        // The smallest buffer exceeds the total limit.
        (6..=12).for_each(|number| keep(&all[2].0, number));
        assert!(memory.retains_too_much());
        shed_replay(&memory).await;
        assert!(!memory.retains_too_much());
        let complete = all
            .each_ref()
            .map(|(outbox, _)| outbox.has_all_after(stamp(1)));
        assert_eq!(complete, [false, true, true]);
        for (outbox, _) in &all {
            outbox.discard_replay(1);
        }
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
        assert!(memory.replay().top().is_none());
    }
}
