//! Tests polls that wait at an outbox; the test takes the role of the driver.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use roomcast_protocol::{Frame, Sid};

use crate::engine::{
    Mode, Outbox, Push, TestOutboxes,
    outbox::{Attaching, Control, IterationRemains, PollAnswer, PollOutcome},
};

/// Returns an outbox whose driver is idle and accepts polls, and its factory.
fn outbox() -> (TestOutboxes, Outbox) {
    let unattended = TestOutboxes::polling(Arc::default());
    let outbox = unattended.outbox(Sid::from_random([1; 15]), 1 << 20);
    let rest = IterationRemains {
        takes_polls: true,
        ..IterationRemains::default()
    };
    let _ = outbox.begin_iteration();
    outbox.end_iteration(&Context::from_waker(Waker::noop()), &rest);
    (unattended, outbox)
}

fn push(outbox: &Outbox, text: &str) {
    let push = outbox.push(&Frame::text(text.as_bytes()), Mode::Reliable);
    assert_eq!(push, Push::Queued);
}

fn payload(text: &'static str) -> PollAnswer {
    PollAnswer::Payload {
        packets: text.into(),
        may_compress: true,
        is_binary: false,
    }
}

#[tokio::test]
async fn flush_answers_waiting_poll() {
    let (_unattended, outbox) = outbox();
    let PollOutcome::Waiting(answered) = outbox.poll(1) else {
        panic!("there is nothing for it");
    };
    push(&outbox, "a");
    outbox.flush();
    assert_eq!(answered.await, Ok(payload("4a")));
    assert!(outbox.lock().is_empty() && outbox.lock().control().is_empty());
}

#[test]
fn poll_returns_queued_frames_immediately() {
    let (_unattended, outbox) = outbox();
    push(&outbox, "a");
    push(&outbox, "b");
    let PollOutcome::Answered(answer) = outbox.poll(1) else {
        panic!("there is something for it");
    };
    assert_eq!(answer, payload("4a\x1e4b"));
    assert!(outbox.lock().is_empty() && outbox.lock().control().is_empty());
}

#[test]
fn driver_is_notified_of_a_poll_answered_too_late() {
    let (_unattended, outbox) = outbox();
    drop(outbox.poll(1));
    push(&outbox, "a");
    outbox.flush();
    let queue = outbox.lock();
    assert!(matches!(queue.control().front(), Some(Control::PollLost)));
}

#[test]
fn non_trivial_polls_are_passed_to_the_driver() {
    let is_for_driver = |outbox: &Outbox| {
        let before = outbox.lock().control().len();
        assert!(matches!(outbox.poll(2), PollOutcome::Waiting(_)));
        let queue = outbox.lock();
        let control = queue.control();
        control.len() == before + 1 && matches!(control.back(), Some(Control::Poll(_)))
    };
    let (_unattended, second) = outbox();
    let _first = second.poll(1);
    assert!(is_for_driver(&second), "another one waits");

    let (_unattended, controlled) = outbox();
    assert!(controlled.control(Control::PollAborted { id: 1 }));
    assert!(
        is_for_driver(&controlled),
        "the driver has a control request"
    );

    let (_unattended, upgrading) = outbox();
    let attaching = Attaching::new(upgrading.clone());
    assert!(is_for_driver(&upgrading), "a WebSocket is on its way");
    drop(attaching);

    let (_unattended, running) = outbox();
    let _ = running.begin_iteration();
    assert!(is_for_driver(&running), "the driver iteration is running");
}
