//! The leak matrix: clients end in every way that there is, again and again, and afterwards nothing
//! of them is left: every gauge is exactly zero, no file is open, and memory is back.
//!
//! Ten thousand clients in all. Endings that the server finds out at once are played alone; those
//! that it waits for all at the same time, since most of the time of this test is time-outs. Each is
//! played another number of times, so that one that leaves something cannot be made up for by one
//! that takes something away.
//!
//! `LEAK_CYCLES=10000 cargo test --release --test leaks` plays as many of each ending alone, and as
//! many mixed. `LEAK_ENDING=TooSlow` plays only that one, to find out which it is.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod credentials;
mod ending;
mod halfway;
mod target;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use ending::{ENDINGS, Ending};
use support::DEADLINE;
use target::{Kept, Kind, Target};

#[test]
fn nothing_is_left_of_clients_however_they_end() {
    matrix(Kind::Plain);
}

#[test]
fn nothing_is_left_of_sessions_that_nobody_recovers() {
    matrix(Kind::Recovery);
}

#[test]
fn nothing_is_left_of_clients_of_a_server_inside_of_axum() {
    matrix(Kind::Mounted);
}

fn matrix(kind: Kind) {
    allow_open_files();
    let mut target = Target::start(kind);
    let files = target.server.open_files();
    let endings = chosen(kind);
    // What many clients at a time make is there for all that follow.
    play_mixed(&target, &endings, some);
    thread::sleep(Duration::from_secs(1)); // The allocator gives back what this freed.
    let memory = target.server.resident_bytes();
    match asked() {
        None => {
            for &ending in endings.iter().filter(|ending| !ending.is_awaited(kind)) {
                play_alone(&target, ending, some(0));
            }
            play_mixed(&target, &endings, some);
        }
        Some(cycles) => {
            for &ending in &endings {
                play_alone(&target, ending, cycles);
            }
            for _ in 0..cycles.div_ceil(MIXED) {
                play_mixed(&target, &endings, |_| MIXED);
            }
        }
    }
    assert_ended_as_meant(&target, &endings);
    back(&target, files, memory);
    assert!(target.server.is_running(), "{}", target.server.errors());
}

/// The endings that make sense for such a server, or the one that was asked for.
fn chosen(kind: Kind) -> Vec<Ending> {
    let name = env::var("LEAK_ENDING").ok();
    let endings = ENDINGS.iter().copied().filter(|ending| {
        let is_asked = name
            .as_ref()
            .is_none_or(|name| *name == format!("{ending:?}"));
        is_asked && ending.applies(kind)
    });
    endings.collect()
}

/// How many of each ending were asked for.
fn asked() -> Option<usize> {
    let cycles = env::var("LEAK_CYCLES").ok()?;
    Some(cycles.parse().unwrap())
}

/// How often an ending is played in a mixture: another number for each, so many that the mixtures of
/// all tests have ten thousand clients.
fn some(index: usize) -> usize {
    let (mixtures, endings) = (6, ENDINGS.len());
    let differences = endings * (endings - 1) / 2;
    let clients = 10_000_usize.div_ceil(mixtures);
    index + 1 + clients.saturating_sub(differences).div_ceil(endings)
}

/// How often an ending is played in a mixture when thousands are asked for.
const MIXED: usize = 50;

/// Plays an ending at least `cycles` times.
fn play_alone(target: &Target, ending: Ending, cycles: usize) {
    let batch = ending.batch();
    for _ in 0..cycles.div_ceil(batch) {
        let kept = live(target, &vec![ending; batch.min(cycles)]);
        // The clients stay until the server itself has let go of every one of them.
        settle(target, &format!("{ending:?}"));
        drop(kept);
    }
}

/// Plays all endings at the same time.
fn play_mixed(target: &Target, endings: &[Ending], cycles: impl Fn(usize) -> usize) {
    let numbered = endings.iter().enumerate();
    let lives: Vec<_> = numbered
        .flat_map(|(index, &ending)| vec![ending; cycles(index)])
        .collect();
    let kept = live(target, &lives);
    settle(target, "a mixture");
    drop(kept);
}

/// Lives of clients, a few at the same time, up to their end or to where the server has to end them.
fn live(target: &Target, lives: &[Ending]) -> Vec<Kept> {
    const THREADS: usize = 4;
    thread::scope(|scope| {
        let part = |first| {
            move || {
                let mut kept = Kept::default();
                for ending in lives.iter().skip(first).step_by(THREADS) {
                    ending.live(target, &mut kept);
                }
                kept
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(part(first))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a client's life went as meant"))
            .collect()
    })
}

/// Waits until every gauge is that of a server with one client, who asks.
fn settle(target: &Target, what: &str) {
    let start = Instant::now();
    for patience in 1.. {
        let metrics = target.metrics();
        let is_gauge = |row: &&str| {
            let name = ["roomcast_", "proxied_"]
                .iter()
                .find_map(|of| row.strip_prefix(of));
            name.is_some_and(|name| GAUGES.iter().any(|gauge| name.starts_with(gauge)))
        };
        let left: Vec<_> = metrics
            .lines()
            .filter(is_gauge)
            .filter(|row| !ASKING.contains(row) && !row.ends_with(" 0"))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < 3 * DEADLINE, "{what} leaves {left:?}");
        // The pace of asking, which costs the server something too.
        thread::sleep(Duration::from_millis(20) * patience.min(20));
    }
}

/// Gauges of what belongs to clients.
const GAUGES: [&str; 11] = [
    "connections ",
    "sessions{",
    "sockets ",
    "rooms ",
    "requests_waiting{",
    "acks_pending ",
    "handlers_detached ",
    "recovery_sessions ",
    "recovery_bytes ",
    "tls_handshakes ",
    "idempotent_answers ",
];
/// What the one who asks adds.
const ASKING: [&str; 3] = [
    "roomcast_connections 1",
    "roomcast_sessions{transport=\"websocket\"} 1",
    "roomcast_sockets 1",
];

/// That endings were what they are called: the server says why it ended whom.
fn assert_ended_as_meant(target: &Target, endings: &[Ending]) {
    let metrics = target.metrics();
    for ending in endings {
        let Some(row) = ending.evidence() else {
            continue;
        };
        let count = metrics.lines().find_map(|line| line.strip_prefix(row));
        let count = count.unwrap_or_else(|| panic!("there is no {row}: {metrics}"));
        let count: usize = count.trim().parse().unwrap();
        assert!(count > 0, "{ending:?}: {row} {count}");
    }
}

/// Waits until there are so many files again, and memory is back within a tenth.
fn back(target: &Target, files: usize, memory: usize) {
    let start = Instant::now();
    loop {
        let (now, left) = (target.server.resident_bytes(), target.server.open_files());
        if now <= memory + memory / 10 && left <= files {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{left} files open, {files} before; {now} bytes resident, {memory} before"
        );
        thread::sleep(Duration::from_millis(100)); // The pace of asking.
    }
}

/// As many as the system lets us have; the server takes it over.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}
