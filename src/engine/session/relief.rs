//! Cuts the slowest clients off when too much waits for all of them together.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::sessions::Sessions;
use crate::engine::outbox::{Outbox, Pressure};

/// Between two looks at all sessions.
const PAUSE: Duration = Duration::from_millis(20);

/// Keeps the pressure from coming to its limit, until it is told to stop.
pub(super) async fn relieve(sessions: Arc<Sessions>, pressure: Arc<Pressure>) {
    loop {
        pressure.rises().await;
        if pressure.is_stopped() {
            return;
        }
        if pressure.is_high() {
            cut_heaviest(sessions.all(), &pressure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Cuts those off for whom most is waiting, until it is enough.
fn cut_heaviest(outboxes: Vec<Outbox>, pressure: &Pressure) {
    let weigh = |outbox: Outbox| outbox.backlog().map(|bytes| (bytes, outbox));
    let mut slow: Vec<(usize, Outbox)> = outboxes.into_iter().filter_map(weigh).collect();
    slow.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
    for (_, outbox) in slow {
        if pressure.is_relieved() {
            return;
        }
        outbox.cut_for_all();
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::{Frame, Sid, engine::CloseReason};

    use super::*;
    use crate::{
        engine::{Mode, Unattended},
        metrics::{Gauge, Metrics},
    };

    /// An outbox in which so many bytes wait, in frames of 1,000.
    fn outbox(outboxes: &Unattended, id: u8, bytes: usize) -> Outbox {
        let outbox = outboxes.outbox(Sid::from_random([id; 15]), 1 << 20);
        for _ in 0..bytes / 1000 {
            let _ = outbox.push(&Frame::text(&[b'x'; 1000]), Mode::Reliable);
        }
        outbox
    }

    #[tokio::test]
    async fn those_for_whom_most_waits_are_cut_first_and_no_more_than_necessary() {
        let metrics = Arc::new(Metrics::new());
        let outboxes = Unattended::limited(400_000, Arc::clone(&metrics));
        let sessions = Arc::new(Sessions::new());
        let sizes = [40_000, 120_000, 5_000, 80_000, 50_000];
        let all: Vec<Outbox> = (1..)
            .zip(sizes)
            .map(|(id, size)| outbox(&outboxes, id, size))
            .collect();
        for outbox in &all {
            assert!(sessions.insert(outbox));
        }
        let pressure = outboxes.pressure();
        assert!(pressure.is_high() && !pressure.is_exhausted());
        let relieving = tokio::spawn(relieve(sessions, Arc::clone(&pressure)));
        while !pressure.is_relieved() {
            tokio::task::yield_now().await;
        }
        pressure.stop();
        relieving.await.unwrap();
        let cut = |outbox: &Outbox| outbox.lock().closed() == Some(CloseReason::Overflow);
        let was_cut: Vec<bool> = all.iter().map(cut).collect();
        assert_eq!(was_cut, [false, true, false, false, false]);
        for outbox in &all {
            Unattended::take(outbox);
        }
        assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
    }
}
