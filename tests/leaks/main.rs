//! The leak matrix: clients end in every way, repeatedly, and leave nothing open. Afterwards
//! every gauge is exactly zero, no file is open, and memory is back to its level.
//!
//! There are ten thousand clients in all. Endings that the server detects immediately are played
//! alone. Endings that it detects by a timeout are played all at the same time, since most of the
//! test's duration is timeouts. Each ending is played a different number of times, so that a leak
//! of one ending cannot cancel out an underflow of another.
//!
//! `LEAK_CYCLES=10000 cargo test --release --test leaks` plays each ending that many times alone,
//! and as many mixed. `LEAK_ENDING=TooSlow` plays only that ending, to find out which one leaks.

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
use target::{HeldConnections, Kind, Target};

#[test]
fn clients_leave_no_memory_after_any_kind_of_end() {
    matrix(Kind::Plain);
}

#[test]
fn unrecovered_sessions_leave_no_memory() {
    matrix(Kind::Recovery);
}

#[test]
fn clients_of_a_mounted_server_leave_no_memory() {
    matrix(Kind::Mounted);
}

fn matrix(kind: Kind) {
    allow_open_files();
    let mut target = Target::start(kind);
    let files = target.server.open_files();
    let endings = chosen(kind);
    // Memory that many concurrent clients need stays allocated for the following clients.
    play_mixed(&target, &endings, some);
    thread::sleep(Duration::from_secs(1)); // The allocator returns the memory that this has freed.
    let memory = target.server.resident_bytes();
    match requested_cycles() {
        None => {
            for &ending in endings.iter().filter(|ending| !ending.is_awaited(kind)) {
                play_one(&target, ending, some(0));
            }
            play_mixed(&target, &endings, some);
        }
        Some(cycles) => {
            for &ending in &endings {
                play_one(&target, ending, cycles);
            }
            for _ in 0..cycles.div_ceil(MIXED) {
                play_mixed(&target, &endings, |_| MIXED);
            }
        }
    }
    assert_evidence(&target, &endings);
    await_released(&target, files, memory);
    assert!(target.server.is_running(), "{}", target.server.log());
}

/// Returns the endings for such a server, or only the requested ending.
fn chosen(kind: Kind) -> Vec<Ending> {
    let name = env::var("LEAK_ENDING").ok();
    let endings = ENDINGS.iter().copied().filter(|ending| {
        let is_requested = name
            .as_ref()
            .is_none_or(|name| *name == format!("{ending:?}"));
        is_requested && ending.applies(kind)
    });
    endings.collect()
}

/// Returns the requested number of cycles of each ending.
fn requested_cycles() -> Option<usize> {
    let cycles = env::var("LEAK_CYCLES").ok()?;
    Some(cycles.parse().unwrap())
}

/// Returns how often an ending is played in a mixture: a different number for each, so that the
/// mixtures of all tests have ten thousand clients.
fn some(index: usize) -> usize {
    let (mixtures, endings) = (6, ENDINGS.len());
    let differences = endings * (endings - 1) / 2;
    let clients = 10_000_usize.div_ceil(mixtures);
    index + 1 + clients.saturating_sub(differences).div_ceil(endings)
}

/// Number of times an ending is played in a mixture when thousands of cycles are requested.
const MIXED: usize = 50;

/// Plays an ending at least `cycles` times.
fn play_one(target: &Target, ending: Ending, cycles: usize) {
    let batch = ending.batch();
    for _ in 0..cycles.div_ceil(batch) {
        let held = run(target, &vec![ending; batch.min(cycles)]);
        // The clients stay until the server has released every one of them.
        settle(target, &format!("{ending:?}"));
        drop(held);
    }
}

/// Plays all endings at the same time.
fn play_mixed(target: &Target, endings: &[Ending], cycles: impl Fn(usize) -> usize) {
    let numbered = endings.iter().enumerate();
    let lives: Vec<_> = numbered
        .flat_map(|(index, &ending)| vec![ending; cycles(index)])
        .collect();
    let held = run(target, &lives);
    settle(target, "a mixture");
    drop(held);
}

/// Runs clients, a few at the same time, up to their end or to the point where the server must end
/// them.
fn run(target: &Target, lives: &[Ending]) -> Vec<HeldConnections> {
    const THREADS: usize = 4;
    thread::scope(|scope| {
        let part = |first| {
            move || {
                let mut held = HeldConnections::default();
                for ending in lives.iter().skip(first).step_by(THREADS) {
                    ending.run(target, &mut held);
                }
                held
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(part(first))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a client's life went as meant"))
            .collect()
    })
}

/// Waits until every gauge is that of a server with one client, which reads the metrics.
fn settle(target: &Target, what: &str) {
    let start = Instant::now();
    for attempt in 1.. {
        let metrics = target.metrics();
        let is_gauge = |row: &&str| {
            let name = ["roomcast_", "proxied_"]
                .iter()
                .find_map(|prefix| row.strip_prefix(prefix));
            name.is_some_and(|name| GAUGES.iter().any(|gauge| name.starts_with(gauge)))
        };
        let left: Vec<_> = metrics
            .lines()
            .filter(is_gauge)
            .filter(|row| !POLLING_CLIENT.contains(row) && !row.ends_with(" 0"))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < 3 * DEADLINE, "{what} leaves {left:?}");
        // Poll interval, which grows because polling costs the server time as well.
        thread::sleep(Duration::from_millis(20) * attempt.min(20));
    }
}

/// Gauges of client resources.
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
/// Amounts that the polling client adds to the gauges.
const POLLING_CLIENT: [&str; 3] = [
    "roomcast_connections 1",
    "roomcast_sessions{transport=\"websocket\"} 1",
    "roomcast_sockets 1",
];

/// Asserts with the server's metrics that the endings happened as intended.
fn assert_evidence(target: &Target, endings: &[Ending]) {
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

/// Waits until the number of files is the same again, and memory within a tenth.
fn await_released(target: &Target, files: usize, memory: usize) {
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
        thread::sleep(Duration::from_millis(100)); // Poll interval.
    }
}

/// Raises the limit of open files to the maximum, which the server inherits.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}
