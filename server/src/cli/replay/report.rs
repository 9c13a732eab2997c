//! Counts what became of the events, and prints it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use roomcast::client::ClientError;
use serde::Serialize;

use super::compare::Difference;
use super::file::{Recording, Sent};

/// What became of an event.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The connection did not exist or had ended.
    Unsent,
    /// Sent, and no answer was requested.
    Sent,
    /// Sent, and not answered.
    Unanswered,
    Equal {
        latency: Duration,
    },
    Different {
        latency: Duration,
        differences: Vec<Difference>,
    },
    /// Answered, but the recording has no answer.
    Unexpected {
        latency: Duration,
    },
}

/// The counts of a replay.
#[derive(Debug, Default)]
pub(super) struct Tally {
    opened: u64,
    sent: u64,
    unsent: u64,
    equal: u64,
    different: u64,
    unanswered: u64,
    unexpected: u64,
    recorded: Vec<f64>,
    replayed: Vec<f64>,
    lateness: Vec<f64>,
    failures: BTreeMap<String, u64>,
    differences: Vec<Example>,
}

/// An answer that differs.
#[derive(Debug, Serialize)]
struct Example {
    event: String,
    /// The first differences of the answer.
    at: Vec<Difference>,
}

/// The report of a replay.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    speed: f64,
    recording: Source,
    connections: Connections,
    events: Events,
    answers: Answers,
    /// Milliseconds. Of the recorded answers: from the arrival at the server until the answer was
    /// queued there. Of the replay: at the client, so with the network.
    latency_ms: Latency,
    /// Milliseconds by which events were sent after they were due.
    lateness_ms: Percentiles,
    kept_up: bool,
    /// Why connections were refused or ended, with their number.
    failures: BTreeMap<String, u64>,
    /// The first answers that differ. Values are masked.
    differences: Vec<Example>,
}

/// What was replayed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    started_at: String,
    masked: bool,
    /// Whether the recording has all that the selected clients sent after it started.
    complete: bool,
    dropped_lines: u64,
    skipped_events: u64,
    /// Connections that were open when the recording started. What they sent before is missing.
    open_before: u64,
    /// Why the recording ended, or null if the file has no end.
    end: Option<String>,
}

#[derive(Debug, Serialize)]
struct Connections {
    recorded: u64,
    opened: u64,
}

#[derive(Debug, Serialize)]
struct Events {
    recorded: u64,
    sent: u64,
    unsent: u64,
}

/// Answers to sent events. An answer is expected if the recording has one.
#[derive(Debug, Serialize)]
struct Answers {
    expected: u64,
    equal: u64,
    different: u64,
    unanswered: u64,
    /// Answers that the recording does not have.
    unexpected: u64,
}

#[derive(Debug, Serialize)]
struct Latency {
    recorded: Percentiles,
    replayed: Percentiles,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Percentiles {
    count: usize,
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Tally {
    /// Counts a connection that was opened.
    pub(super) fn opened(&mut self) {
        self.opened += 1;
    }

    /// Counts a connection that was refused or ended.
    pub(super) fn failed(&mut self, what: &str, error: &ClientError) {
        let reason: String = format!("{what}: {error}")
            .chars()
            .take(MAX_REASON)
            .collect();
        // A server can give each connection another reason.
        if self.failures.len() < MAX_REASONS || self.failures.contains_key(&reason) {
            *self.failures.entry(reason).or_default() += 1;
        } else {
            *self.failures.entry(OTHER_REASONS.to_owned()).or_default() += 1;
        }
    }

    /// Notes how late an event is sent.
    pub(super) fn late(&mut self, by: Duration) {
        self.lateness.push(milliseconds(by));
    }

    /// Counts the events of a connection.
    pub(super) fn finished(&mut self, events: &[Sent], outcomes: Vec<Outcome>) {
        for (event, outcome) in events.iter().zip(outcomes) {
            self.sent += u64::from(!matches!(outcome, Outcome::Unsent));
            let recorded = event.answer.as_ref().map(|answer| answer.latency_ms);
            match outcome {
                Outcome::Unsent => self.unsent += 1,
                Outcome::Sent => {}
                Outcome::Unanswered => self.unanswered += u64::from(recorded.is_some()),
                Outcome::Equal { latency } => {
                    self.equal += 1;
                    self.recorded.extend(recorded);
                    self.replayed.push(milliseconds(latency));
                }
                Outcome::Different {
                    latency,
                    mut differences,
                } => {
                    self.different += 1;
                    self.recorded.extend(recorded);
                    self.replayed.push(milliseconds(latency));
                    if self.differences.len() < MAX_EXAMPLES {
                        differences.truncate(MAX_DIFFERENCES);
                        self.differences.push(Example {
                            event: event.event.clone(),
                            at: differences,
                        });
                    }
                }
                Outcome::Unexpected { latency } => {
                    self.unexpected += 1;
                    self.replayed.push(milliseconds(latency));
                }
            }
        }
    }
}

impl Report {
    pub(super) fn new(recording: &Recording, speed: f64, tally: Tally) -> Self {
        let header = &recording.header;
        let connections = &recording.connections;
        let before = connections.iter().filter(|track| track.opened.before);
        let events = connections.iter().map(|track| track.events.len() as u64);
        let lateness = Percentiles::of(tally.lateness);
        Self {
            speed,
            recording: Source {
                started_at: header.started_at.clone(),
                masked: header.masked,
                complete: recording.dropped == 0
                    && recording.skipped == 0
                    && recording.end.is_some(),
                dropped_lines: recording.dropped,
                skipped_events: recording.skipped,
                open_before: before.count() as u64,
                end: recording.end.clone(),
            },
            connections: Connections {
                recorded: connections.len() as u64,
                opened: tally.opened,
            },
            events: Events {
                recorded: events.sum(),
                sent: tally.sent,
                unsent: tally.unsent,
            },
            answers: Answers {
                expected: tally.equal + tally.different + tally.unanswered,
                equal: tally.equal,
                different: tally.different,
                unanswered: tally.unanswered,
                unexpected: tally.unexpected,
            },
            latency_ms: Latency {
                recorded: Percentiles::of(tally.recorded),
                replayed: Percentiles::of(tally.replayed),
            },
            lateness_ms: lateness,
            kept_up: lateness.p99 <= MAX_LATENESS_MS,
            failures: tally.failures,
            differences: tally.differences,
        }
    }

    /// Returns whether no connection could be opened.
    pub(super) const fn has_failed(&self) -> bool {
        self.connections.recorded > 0 && self.connections.opened == 0
    }

    /// Returns whether all events were sent, and answered as recorded.
    pub(super) const fn is_equal(&self) -> bool {
        self.connections.opened == self.connections.recorded
            && self.events.unsent == 0
            && self.answers.different == 0
            && self.answers.unanswered == 0
    }
}

impl Percentiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied()
        };
        let at = |percent| at(percent).unwrap_or_default();
        Self {
            count: values.len(),
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            p50, p95, p99, max, ..
        } = self;
        write!(
            f,
            "p50 {p50:.2}  p95 {p95:.2}  p99 {p99:.2}  max {max:.2} ms"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recording = &self.recording;
        let masked = if recording.masked {
            "masked"
        } else {
            "not masked"
        };
        let started_at = &recording.started_at;
        writeln!(
            f,
            "recording    of {started_at}, {masked}, at {}x",
            self.speed
        )?;
        let Connections { recorded, opened } = self.connections;
        writeln!(f, "connections  {recorded} recorded, {opened} opened")?;
        let Events {
            recorded,
            sent,
            unsent,
        } = self.events;
        writeln!(
            f,
            "events       {recorded} recorded, {sent} sent, {unsent} unsent"
        )?;
        let answers = &self.answers;
        writeln!(
            f,
            "answers      {} expected, {} equal, {} different, {} unanswered, {} unexpected",
            answers.expected,
            answers.equal,
            answers.different,
            answers.unanswered,
            answers.unexpected
        )?;
        writeln!(
            f,
            "latency      recorded at the server: {}",
            self.latency_ms.recorded
        )?;
        writeln!(
            f,
            "             replayed at the client: {}",
            self.latency_ms.replayed
        )?;
        writeln!(f, "lateness     {}", self.lateness_ms)?;
        if !self.kept_up {
            writeln!(
                f,
                "The replay did not keep up: lower --speed, or use another machine."
            )?;
        }
        if !recording.complete {
            let end = recording.end.as_deref().unwrap_or("the file has no end");
            writeln!(
                f,
                "The recording is incomplete: {} lines dropped, {} events skipped, end: {end}.",
                recording.dropped_lines, recording.skipped_events
            )?;
        }
        if recording.open_before > 0 {
            writeln!(
                f,
                "{} connections were open before the recording started; what they sent before is missing.",
                recording.open_before
            )?;
        }
        for (reason, count) in &self.failures {
            writeln!(f, "{count} times: {reason}")?;
        }
        for Example { event, at } in &self.differences {
            writeln!(f, "answer to {event:?} differs:")?;
            for difference in at {
                let Difference {
                    path,
                    recorded,
                    replayed,
                } = difference;
                writeln!(f, "  {path}: recorded {recorded}, replayed {replayed}")?;
            }
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// Answers whose differences are shown.
const MAX_EXAMPLES: usize = 20;
/// Differences that are shown of an answer.
const MAX_DIFFERENCES: usize = 5;
/// Reasons that are counted separately.
const MAX_REASONS: usize = 20;
/// Maximum characters of a reason.
const MAX_REASON: usize = 200;
/// What further reasons are counted as.
const OTHER_REASONS: &str = "other reasons";
/// The 99th percentile of the lateness above which a replay did not keep up.
const MAX_LATENESS_MS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_list() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let all = Percentiles::of(values);
        assert_eq!(
            (all.p50, all.p95, all.p99, all.max),
            (100.0, 190.0, 198.0, 200.0)
        );
        assert_eq!(Percentiles::of(vec![3.0]).p50, 3.0);
        assert_eq!(Percentiles::of(Vec::new()).max, 0.0);
    }
}
