//! Tests clients that do not read: what is queued for them, what is dropped, and when they are
//! disconnected.

use proptest::prelude::*;

use super::*;
use crate::engine::outbox::Budget;

fn outboxes(total: usize) -> (TestOutboxes, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    (TestOutboxes::limited(total, Arc::clone(&metrics)), metrics)
}

fn outbox(outboxes: &TestOutboxes, budget: usize) -> Outbox {
    outboxes.outbox(random_sid(), budget)
}

fn frame(text: impl AsRef<[u8]>) -> Frame {
    Frame::text(text.as_ref())
}

fn texts(outbox: &Outbox) -> Vec<String> {
    let text = |frame: &Frame| String::from_utf8(frame.polling()[1..].to_vec()).unwrap();
    TestOutboxes::take(outbox).iter().map(text).collect()
}

const NEWEST: Mode = Mode::Conflated {
    stream: 1,
    policy: DropPolicy::Newest,
};

const LAST_TWO: Mode = Mode::Conflated {
    stream: 2,
    policy: DropPolicy::Last(2),
};

/// The stream of frames that must arrive or be replaced.
const REPLACED: u64 = 3;

fn push(outbox: &Outbox, text: &str, mode: Mode) -> Push {
    outbox.push(&frame(text), mode)
}

#[test]
fn between_polls_last_of_stream_and_newest_of_key_are_stored() {
    let (outboxes, metrics) = outboxes(usize::MAX);
    let outbox = outbox(&outboxes, 100_000);
    for text in ["a", "b", "c"] {
        assert_eq!(push(&outbox, text, LAST_TWO), Push::Queued);
    }
    for text in ["x", "y"] {
        assert_eq!(push(&outbox, text, NEWEST), Push::Queued);
    }
    assert!(!outbox.is_writable());
    assert_eq!(push(&outbox, "lost", Mode::Volatile), Push::Dropped);
    assert_eq!(push(&outbox, "kept", Mode::Reliable), Push::Queued);
    assert_eq!(texts(&outbox), ["kept", "b", "c", "y"]);
    assert_eq!(metrics.counter(Counter::VolatileDropped), 1);
    assert_eq!(metrics.counter(Counter::FramesConflated), 1);
    assert_eq!(metrics.counter(Counter::OldestDropped), 1);
    assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
}

#[tokio::test]
async fn older_value_never_follows_a_newer_value() {
    let listener = bind(([127, 0, 0, 1], 0).into(), &Config::default()).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let outboxes = TestOutboxes::websocket(stream, Arc::default());
    let outbox = outbox(&outboxes, 100_000);
    outbox.set_writable(false);
    for (text, mode) in [("kept", Mode::Reliable), ("old", NEWEST)] {
        assert_eq!(push(&outbox, text, mode), Push::Queued);
    }
    // There is room again, but no task has written yet.
    outbox.set_writable(true);
    assert_eq!(push(&outbox, "new", NEWEST), Push::Queued);
    assert_eq!(texts(&outbox), ["kept", "new"]);
}

#[test]
fn replacing_frame_must_arrive_and_removes_the_queued_one_of_its_stream() {
    let (outboxes, metrics) = outboxes(usize::MAX);
    let outbox = outbox(&outboxes, 10_000);
    let replace = |text: &str| {
        let frame = frame(text).with_stream(REPLACED);
        outbox.push(&frame, Mode::Reliable)
    };
    let long = |name: &str| format!("{name}{}", "x".repeat(5000));
    for (text, is_replacing) in [("a", true), ("before", false), ("b", true)] {
        let pushed = match is_replacing {
            true => replace(&long(text)),
            false => push(&outbox, text, Mode::Reliable),
        };
        assert_eq!(pushed, Push::Queued);
    }
    // Both would exceed the budget.
    assert_eq!(replace(&long("c")), Push::Queued);
    assert_eq!(push(&outbox, "after", Mode::Reliable), Push::Queued);
    assert_eq!(texts(&outbox), ["before", &long("c"), "after"]);
    assert_eq!(metrics.counter(Counter::FramesConflated), 2);
    assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
    assert_eq!(replace(&"x".repeat(9000)), Push::Queued);
    assert_eq!(push(&outbox, &long(""), Mode::Reliable), Push::Overflow);
    // A frame after the end removes nothing.
    assert_eq!(replace("late"), Push::Closed);
    assert_eq!(texts(&outbox).len(), 1);
}

#[tokio::test]
async fn first_message_of_a_websocket_is_not_replaced() {
    let listener = bind(([127, 0, 0, 1], 0).into(), &Config::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let outboxes = TestOutboxes::websocket(stream, Arc::default());
    let outbox = outbox(&outboxes, 100_000);
    outbox.set_writable(false);
    for text in ["1", "2", "3"] {
        let frame = frame(text).with_stream(REPLACED);
        assert_eq!(outbox.push(&frame, Mode::Reliable), Push::Queued);
    }
    // The stream may have compressed it already, which later messages depend on.
    assert_eq!(texts(&outbox), ["1", "3"]);
}

#[test]
fn replaceable_frames_are_dropped_for_reliable_ones() {
    let (outboxes, metrics) = outboxes(usize::MAX);
    let outbox = outbox(&outboxes, 10_000);
    let long = "x".repeat(4000);
    for _ in 0..2 {
        assert_eq!(push(&outbox, &long, LAST_TWO), Push::Queued);
    }
    for _ in 0..2 {
        assert_eq!(push(&outbox, &long, Mode::Reliable), Push::Queued);
    }
    assert_eq!(metrics.counter(Counter::OldestDropped), 2);
    assert_eq!(texts(&outbox).len(), 2);
}

#[test]
fn lossy_frames_never_disconnect_a_client() {
    let (outboxes, _) = outboxes(usize::MAX);
    let outbox = outbox(&outboxes, 10_000);
    assert_eq!(push(&outbox, "kept", Mode::Reliable), Push::Queued);
    let long = "x".repeat(20_000);
    for mode in [NEWEST, LAST_TWO, Mode::Volatile] {
        assert_eq!(push(&outbox, &long, mode), Push::Dropped);
    }
    assert_eq!(texts(&outbox), ["kept"]);
    // A frame above the whole budget is accepted if nothing else is queued.
    assert_eq!(push(&outbox, &long, NEWEST), Push::Queued);
    assert_eq!(texts(&outbox), [long]);
}

#[test]
fn many_small_events_cost_what_they_take_in_memory() {
    let (outboxes, _) = outboxes(usize::MAX);
    let outbox = outbox(&outboxes, 100_000);
    let mut queued = 0;
    while push(&outbox, "x", Mode::Reliable) == Push::Queued {
        queued += 1;
    }
    assert!(queued <= 100_000 / 256, "{queued}");
    assert_eq!(outbox.lock().exceeded(), Some(Budget::Connection));
    assert_eq!(push(&outbox, "x", Mode::Reliable), Push::Closed);
}

#[test]
fn protocol_frames_are_never_dropped() {
    let (outboxes, _) = outboxes(1000);
    let outbox = outbox(&outboxes, 100);
    assert_eq!(
        push(&outbox, &"x".repeat(50_000), Mode::Reliable),
        Push::Queued
    );
    outbox.push_control(frame("ping"));
    assert_eq!(texts(&outbox).last().unwrap(), "ping");
}

#[test]
fn at_the_total_limit_only_slow_clients_are_disconnected() {
    let (outboxes, metrics) = outboxes(100_000);
    let slow = outbox(&outboxes, 1 << 20);
    let mut queued = 0;
    let long = "x".repeat(10_000);
    while push(&slow, &long, Mode::Reliable) == Push::Queued {
        queued += 1;
        assert!(metrics.gauge(Gauge::OutboxBytes) < 120_000);
    }
    assert!((9..12).contains(&queued), "{queued}");
    assert_eq!(slow.lock().exceeded(), Some(Budget::Total));
    assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
    let other = outbox(&outboxes, 1 << 20);
    assert_eq!(push(&other, "fine", Mode::Reliable), Push::Queued);
}

#[test]
fn a_broadcast_that_waits_for_many_counts_once() {
    let (outboxes, metrics) = outboxes(100_000);
    let slow: Vec<Outbox> = (0..50).map(|_| outbox(&outboxes, 1 << 20)).collect();
    for _ in 0..5 {
        let frame = frame("x".repeat(10_000));
        for outbox in &slow {
            assert_eq!(outbox.push(&frame, Mode::Reliable), Push::Queued);
        }
    }
    let held = metrics.gauge(Gauge::OutboxBytes);
    assert!((40_000..60_000).contains(&held), "{held}");
    for outbox in &slow {
        assert_eq!(texts(outbox).len(), 5);
    }
    assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
}

/// An operation on an outbox.
#[derive(Clone, Debug)]
enum Step {
    Push(u8, usize),
    Control,
    Block(bool),
    Take(usize),
    Batch(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..5_u8, 0..6000_usize).prop_map(|(kind, size)| Step::Push(kind, size)),
        1 => Just(Step::Control),
        1 => any::<bool>().prop_map(Step::Block),
        1 => (0..10_000_usize).prop_map(Step::Take),
        1 => (0..4_usize).prop_map(Step::Batch),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// In any order of operations, reliable frames are sent in order and without gaps until the
    /// session is closed. The queue stays within its budget, and only held frames are counted.
    #[test]
    fn reliable_stream_has_no_gap(steps in steps()) {
        const BUDGET: usize = 40_000;
        let (outboxes, metrics) = outboxes(60_000);
        let outbox = outbox(&outboxes, BUDGET);
        let (mut sent, mut left) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Push(kind, size) => {
                    let modes = [Mode::Reliable, Mode::Volatile, NEWEST, LAST_TWO, Mode::Reliable];
                    let mode = modes[usize::from(kind)];
                    let (must_arrive, is_reliable) = (mode == Mode::Reliable, kind == 0);
                    let text = match is_reliable {
                        true => format!("{sent} {}", "x".repeat(size)),
                        false => format!("- {}", "x".repeat(size)),
                    };
                    let was_empty = outbox.lock().is_empty();
                    let frame = match kind {
                        4 => frame(&text).with_stream(REPLACED),
                        _ => frame(&text),
                    };
                    match outbox.push(&frame, mode) {
                        Push::Queued => sent += usize::from(is_reliable),
                        Push::Dropped => prop_assert!(!must_arrive),
                        Push::Overflow => prop_assert!(must_arrive && !was_empty),
                        Push::Closed => prop_assert!(outbox.lock().closed().is_some()),
                    }
                }
                Step::Control => outbox.push_control(frame("- control")),
                Step::Block(blocked) => outbox.set_writable(!blocked),
                Step::Take(limit) => left.extend(outbox.take_for_poll(limit)),
                Step::Batch(write) => {
                    // Like a flusher that writes this many frames.
                    let mut queue = outbox.lock();
                    let Some(mut batch) = queue.take_batch(outbox.memory()) else {
                        continue;
                    };
                    drop(queue);
                    let _ = push(&outbox, "- meanwhile", LAST_TWO);
                    for _ in 0..write {
                        if let Some(frame) = batch.frames.pop_front() {
                            batch.written += frame.len();
                            if batch.held {
                                outbox.memory().release(&frame);
                            }
                            left.push(frame);
                        }
                    }
                    outbox.lock().put_back(batch, outbox.memory());
                }
            }
            let queue = outbox.lock();
            prop_assert!(queue.total_cost() <= BUDGET + 8000);
            // This compares the number of queued bytes with the queued frames.
            queue.counted();
        }
        let has_overflowed = outbox.lock().exceeded().is_some();
        left.extend(TestOutboxes::take(&outbox));
        let numbers: Vec<usize> = left
            .iter()
            .map(|frame| String::from_utf8(frame.polling()[1..].to_vec()).unwrap())
            .filter(|text| !text.starts_with('-'))
            .map(|text| text.split(' ').next().unwrap().parse().unwrap())
            .collect();
        prop_assert_eq!(&numbers, &(0..numbers.len()).collect::<Vec<_>>());
        if !has_overflowed {
            prop_assert_eq!(numbers.len(), sent);
        }
        prop_assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
    }
}
