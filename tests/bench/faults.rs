//! The benchmark reports each fault of a faulty server, and refusals do not count as losses.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use roomcast::{Ack, Event, Io};
use serde_json::json;

use crate::{Outcome, bench, count, local::Local};

/// A fault of the server in a message, chosen by the message's number.
#[derive(Clone, Copy)]
enum Mistake {
    Drop,
    Double,
    Swap,
    Change,
    WrongRoom,
}

/// A contract server in this process that makes the mistake with every tenth message.
struct Faulty(Local);

impl Faulty {
    fn serve(mistake: Mistake) -> Self {
        let mut io = Io::builder();
        let seen = AtomicU64::new(0);
        let held = Arc::new(parking_lot_free::Slot::default());
        io = io.namespace("/", |namespace| {
            namespace
                .on("join", async |event: Event, room: String| {
                    event.socket.join(room)
                })
                .on_serial(
                    "bcast",
                    move |event: Event, room: String, payload: String| {
                        let number = seen.fetch_add(1, Ordering::Relaxed);
                        let held = Arc::clone(&held);
                        async move {
                            let io = event.io();
                            // The first message comes from the trial before the run.
                            if number % 10 != 5 {
                                io.to(&room).emit("msg", &payload);
                                if let Some(late) = held.take() {
                                    io.to(&room).emit("msg", late);
                                }
                                return;
                            }
                            match mistake {
                                Mistake::Drop => {}
                                Mistake::Double => {
                                    io.to(&room).emit("msg", &payload);
                                    io.to(&room).emit("msg", &payload);
                                }
                                Mistake::Swap => held.put(payload),
                                Mistake::Change => {
                                    // Letters that occur in no run's number.
                                    io.to(&room).emit("msg", payload.replace("mno", "xyz"));
                                }
                                Mistake::WrongRoom => {
                                    let wrong = if room == "bench-0" {
                                        "bench-1"
                                    } else {
                                        "bench-0"
                                    };
                                    io.to(wrong).emit("msg", payload);
                                }
                            }
                        }
                    },
                )
                .on("refuse", async |_: Event| {
                    Ack(json!({"success": false, "error": {"code": "NO", "message": "never"}}))
                })
        });
        Self(Local::serve(io))
    }

    fn measure(&self, options: &str) -> Outcome {
        bench(&format!(
            "{options} http://{} --preset rooms --json --drain 10",
            self.0.address()
        ))
    }
}

/// Holds back one message.
mod parking_lot_free {
    use std::sync::Mutex;

    #[derive(Default)]
    pub(super) struct Slot(Mutex<Option<String>>);

    impl Slot {
        pub(super) fn put(&self, text: String) {
            *self.0.lock().unwrap() = Some(text);
        }

        pub(super) fn take(&self) -> Option<String> {
            self.0.lock().unwrap().take()
        }
    }
}

/// Counts the faults of one kind in 30 messages of one sender to 3 clients. Number 1 of all is the
/// trial's, so numbers 5, 15 and 25 are faulty.
fn fault(mistake: Mistake, name: &str) -> u64 {
    let server = Faulty::serve(mistake);
    let outcome = server.measure("fanout --clients 3 --senders 1 --rate 50");
    let report = outcome.report();
    assert_eq!(outcome.code, 1, "mistakes are no success");
    assert_eq!(count(&report, "/messages/sent"), 30);
    count(&report, &format!("/messages/{name}"))
}

#[test]
fn dropped_messages_are_lost() {
    assert_eq!(fault(Mistake::Drop, "lost"), 3 * 3);
}

#[test]
fn duplicate_messages_are_reported() {
    assert_eq!(fault(Mistake::Double, "duplicate"), 3 * 3);
}

#[test]
fn reordered_messages_are_reported() {
    assert_eq!(fault(Mistake::Swap, "outOfOrder"), 3 * 3);
}

#[test]
fn changed_messages_are_corrupt() {
    assert_eq!(fault(Mistake::Change, "corrupt"), 3 * 3);
}

#[test]
fn messages_in_a_wrong_room_are_reported() {
    let server = Faulty::serve(Mistake::WrongRoom);
    let outcome = server.measure("rooms --clients 4 --rooms 2 --senders 1 --rate 50");
    let report = outcome.report();
    assert_eq!(outcome.code, 1);
    assert_eq!(count(&report, "/messages/misrouted"), 3 * 2);
    assert_eq!(count(&report, "/messages/lost"), 3 * 2);
}

#[test]
fn refused_messages_count_as_errors_and_not_as_losses() {
    let server = Faulty::serve(Mistake::Drop);
    let outcome = server.measure("echo --event refuse");
    let failure = outcome.report();
    let error = failure["error"].as_str().unwrap();
    assert!(error.contains("refuses \"refuse\": NO"), "{error}");
    assert_eq!((outcome.code, &failure["exitCode"]), (2, &2.into()));
}
