//! The results of a run, in the format that `--json` writes; `docs/bench.md` explains each field.

use roomcast::client::Transports;
use serde::Serialize;

use crate::{
    account::{Faults, Point, Samples, Slow, Stats, Stored, Tally, Times},
    load::{Plan, Scenario},
};

/// One run against one server.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version of this format.
    pub(super) format: u32,
    pub(super) tool: String,
    pub(super) started_at: String,
    pub(super) url: String,
    pub(super) scenario: &'static str,
    pub(super) options: Settings,
    /// Whether every client did everything that was planned. If not, `problems` gives the reasons.
    pub(super) complete: bool,
    pub(super) problems: Vec<String>,
    pub(super) connections: Connections,
    /// The counts of messages, which `connect` and `idle` do not have.
    pub(super) messages: Option<Messages>,
    /// The latency of deliveries; with `echo` of requests, and with `connect` of connections.
    pub(super) latency: Latency,
    /// The latency of acknowledgements, if messages request them.
    pub(super) acks: Option<Latency>,
    /// The time until a message has reached its last receiver; null if messages do not go to rooms.
    pub(super) to_all: Option<Latency>,
    /// The check of stored messages; only with `chat`.
    pub(super) stored: Option<Stored>,
    pub(super) slow: Option<Slow>,
    pub(super) generator: Generator,
    /// The resource usage of the server; only with `--server-pid`.
    pub(super) server: Option<Server>,
    pub(super) timeline: Vec<Point>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    pub(super) clients: usize,
    pub(super) rooms: usize,
    pub(super) senders: usize,
    pub(super) rate: f64,
    pub(super) payload_bytes: usize,
    pub(super) duration_seconds: f64,
    pub(super) warmup_seconds: f64,
    pub(super) transport: &'static str,
    pub(super) preset: String,
    pub(super) threads: usize,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connections {
    pub(super) asked: u64,
    pub(super) opened: u64,
    pub(super) failed: Tally,
    pub(super) dropped: Tally,
    pub(super) pings: u64,
    pub(super) connect: Latency,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Messages {
    pub(super) sent: u64,
    pub(super) unsent: u64,
    pub(super) refused: Tally,
    pub(super) expected: u64,
    pub(super) delivered: u64,
    pub(super) per_second: f64,
    #[serde(flatten)]
    pub(super) faults: Faults,
    pub(super) missed_by_dropped: u64,
}

/// Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    /// Pairs of share and time, for a plot.
    pub(super) percentiles: Vec<[f64; 2]>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Generator {
    /// The delay of sent messages in milliseconds, 99th percentile.
    pub(super) late_p99: f64,
    pub(super) late_max: f64,
    /// The average number of cores in use during the measured time.
    pub(super) cores: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Server {
    pub(super) cores: Option<f64>,
    /// Processor time per delivery, request or connection, in microseconds.
    pub(super) cpu_per_unit: Option<f64>,
    pub(super) rss_empty: u64,
    pub(super) rss_full: Option<u64>,
    pub(super) rss_per_connection: Option<f64>,
}

impl Latency {
    fn of(times: &Times) -> Self {
        let percentiles = match times.count() {
            0 => Vec::new(),
            count => SHARES
                .iter()
                // A share with fewer samples above it than one would only repeat the maximum.
                .filter(|&&share| {
                    share == 0.0 || share == 1.0 || (1.0 - share) * count as f64 >= 1.0
                })
                .map(|&share| [share, times.quantile(share)])
                .collect(),
        };
        Self {
            count: times.count(),
            min: times.min(),
            mean: times.mean(),
            p50: times.quantile(0.5),
            p90: times.quantile(0.9),
            p99: times.quantile(0.99),
            p999: times.quantile(0.999),
            max: times.max(),
            percentiles,
        }
    }
}

impl Report {
    pub(crate) fn new(
        plan: &Plan,
        stats: &Stats,
        samples: &Samples,
        started: jiff::Timestamp,
        stopped: bool,
    ) -> Self {
        let latency = match plan.scenario {
            Scenario::Fanout | Scenario::Rooms | Scenario::Slow | Scenario::Chat => &stats.latency,
            Scenario::Echo => &stats.acks,
            Scenario::Connect | Scenario::Idle => &stats.connect,
        };
        let seconds = plan.duration.as_secs_f64();
        let has_messages = !plan.scenario.is_silent();
        let has_acks = plan.scenario.is_broadcast() && plan.vocabulary.send.ack;
        let problems = problems(plan, stats, stopped);
        let [server_cpu, own_cpu] = samples.cpu();
        Self {
            format: 2,
            tool: concat!("roomcast bench ", env!("CARGO_PKG_VERSION")).into(),
            started_at: format!("{started:.3}"),
            url: plan.client.url.clone(),
            scenario: plan.scenario.name(),
            options: Settings {
                clients: plan.clients,
                rooms: plan.rooms,
                senders: plan.all_senders(),
                rate: plan.rate,
                payload_bytes: plan.payload,
                duration_seconds: seconds,
                warmup_seconds: plan.warmup.as_secs_f64(),
                transport: match plan.client.transports {
                    Transports::WebSocket => "websocket",
                    Transports::Polling => "polling",
                    Transports::Upgrade => "upgrade",
                },
                preset: plan.preset.clone(),
                threads: plan.threads,
            },
            complete: problems.is_empty(),
            problems,
            connections: Connections {
                asked: if plan.scenario == Scenario::Connect {
                    stats.sent + stats.unsent
                } else {
                    plan.clients as u64
                },
                opened: stats.opened,
                failed: stats.failed.clone(),
                dropped: stats.dropped.clone(),
                pings: stats.pings,
                connect: Latency::of(&stats.connect),
            },
            messages: has_messages.then(|| Messages {
                sent: stats.sent,
                unsent: stats.unsent,
                refused: stats.refused.clone(),
                expected: stats.expected,
                delivered: stats.delivered,
                per_second: latency.count() as f64 / seconds,
                faults: stats.faults,
                missed_by_dropped: stats.missed,
            }),
            latency: Latency::of(latency),
            acks: has_acks.then(|| Latency::of(&stats.acks)),
            to_all: (plan.scenario.is_broadcast() && plan.scenario != Scenario::Slow)
                .then(|| Latency::of(&stats.completion.times(plan))),
            stored: stats
                .stored
                .as_ref()
                .and_then(|stored| stored.as_ref().ok().copied()),
            slow: (plan.scenario == Scenario::Slow).then_some(stats.slow),
            generator: Generator {
                late_p99: stats.lag.quantile(0.99),
                late_max: stats.lag.max(),
                cores: own_cpu.map(|cpu| cpu / seconds),
            },
            server: samples.empty.map(|empty| {
                let is_idle = plan.scenario == Scenario::Idle;
                Server {
                    cores: server_cpu.map(|cpu| cpu / seconds),
                    cpu_per_unit: server_cpu
                        .filter(|_| latency.count() > 0 && !is_idle)
                        .map(|cpu| cpu * 1e6 / latency.count() as f64),
                    rss_empty: empty.rss,
                    rss_full: samples.full.map(|full| full.rss),
                    rss_per_connection: samples
                        .full
                        .filter(|_| plan.scenario != Scenario::Connect)
                        .map(|full| {
                            full.rss.saturating_sub(empty.rss) as f64 / stats.opened.max(1) as f64
                        }),
                }
            }),
            timeline: stats
                .timeline
                .points()
                .filter(|_| plan.scenario != Scenario::Idle)
                .collect(),
        }
    }

    /// Records a problem after the run.
    pub(crate) fn add_problem(&mut self, problem: String) {
        self.complete = false;
        self.problems.push(problem);
    }

    /// Returns whether the user stopped the run.
    pub(crate) fn is_stopped(&self) -> bool {
        self.problems.iter().any(|problem| problem == STOPPED)
    }

    /// Returns whether the server made no error and the run was complete.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let messages = self.messages.as_ref();
        self.complete
            && messages.is_none_or(|messages| messages.faults == Faults::default())
            && self.slow.as_ref().is_none_or(|slow| slow.holes == 0)
            && self.stored.is_none_or(|stored| stored.faults() == 0)
    }
}

/// Returns why a run is incomplete.
fn problems(plan: &Plan, stats: &Stats, stopped: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if stopped {
        problems.push(STOPPED.into());
    }
    let dropped = stats.dropped.total();
    for (count, fault, tally) in [
        (
            stats.failed.total(),
            "clients could not connect",
            &stats.failed,
        ),
        (
            stats.refused.total(),
            "messages were refused by the server",
            &stats.refused,
        ),
        (
            dropped.saturating_sub(stats.slow.disconnected),
            "connections were lost",
            &stats.dropped,
        ),
    ] {
        if count > 0 {
            let most = tally.0.iter().max_by_key(|(_, count)| **count);
            let reason = most.map_or("", |(reason, _)| reason);
            problems.push(format!("{count} {fault}, mostly: {reason}"));
        }
    }
    if stats.unsent > 0 {
        let fault = if plan.scenario == Scenario::Connect {
            "clients found no place in time"
        } else {
            "messages could not be sent"
        };
        problems.push(format!("{} {fault}", stats.unsent));
    }
    if let Some(Err(reason)) = &stats.stored {
        problems.push(format!("what is stored could not be read: {reason}"));
    }
    if plan.scenario == Scenario::Connect && stats.faults.unanswered > 0 {
        let count = stats.faults.unanswered;
        problems.push(format!("{count} clients were still connecting at the end"));
    }
    problems
}

const STOPPED: &str = "stopped before its end";

const SHARES: [f64; 19] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999,
    0.9999, 0.99999, 1.0,
];

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::small_plan;

    /// Returns a report with some figures.
    pub(crate) fn report(change: impl FnOnce(&mut Stats)) -> Report {
        let plan = small_plan(Scenario::Fanout);
        let mut stats = Stats::new(plan.duration);
        stats.opened = 100;
        stats.sent = 10;
        for i in 1..=1000 {
            stats.latency.record(Duration::from_micros(i));
            stats
                .timeline
                .record(Duration::from_micros(i), Duration::from_micros(i));
        }
        stats.expected = 1000;
        stats.delivered = 1000;
        change(&mut stats);
        let started = jiff::Timestamp::UNIX_EPOCH;
        Report::new(&plan, &stats, &Samples::default(), started, false)
    }

    #[test]
    fn a_run_without_trouble_is_complete_and_clean() {
        let report = report(|_| {});
        assert!(
            report.complete && report.is_clean(),
            "{:?}",
            report.problems
        );
    }

    #[test]
    fn incomplete_run_lists_what_is_missing() {
        let report = report(|stats| {
            stats.dropped.count("transport close");
            stats.failed.count("cannot connect");
            stats.refused.count("RATE_LIMITED");
            stats.unsent = 3;
        });
        assert!(!report.complete);
        let all = report.problems.join("\n");
        for part in [
            "transport close",
            "cannot connect",
            "RATE_LIMITED",
            "3 messages",
        ] {
            assert!(all.contains(part), "{all}");
        }
    }

    #[test]
    fn a_lost_message_is_not_clean_though_the_run_is_complete() {
        let report = report(|stats| stats.faults.lost = 1);
        assert!(report.complete && !report.is_clean());
    }

    #[test]
    fn unstored_messages_are_unclean_unreadable_history_incomplete() {
        let missing = Stored {
            missing: 1,
            ..Stored::default()
        };
        let report_of = |stored| report(|stats| stats.stored = Some(stored));
        assert!(report_of(Ok(Stored::default())).is_clean());
        let unclean = report_of(Ok(missing));
        assert!(unclean.complete && !unclean.is_clean());
        assert!(!report_of(Err("gone".into())).complete);
    }

    #[test]
    fn percentiles_are_not_finer_than_the_number_of_samples() {
        let report = report(|_| {});
        let shares: Vec<_> = report.latency.percentiles.iter().map(|p| p[0]).collect();
        assert!(
            shares.contains(&0.999) && !shares.contains(&0.9999),
            "{shares:?}"
        );
        assert_eq!(shares.last(), Some(&1.0));
    }

    #[test]
    fn the_format_has_its_documented_fields() {
        let json = serde_json::to_value(report(|_| {})).unwrap();
        assert_eq!(json["format"], 2);
        assert_eq!(json["startedAt"], "1970-01-01T00:00:00.000Z");
        for field in [
            "sent",
            "lost",
            "duplicate",
            "outOfOrder",
            "corrupt",
            "missedByDropped",
        ] {
            assert!(json["messages"][field].is_u64(), "{field}: {json}");
        }
        for field in ["count", "min", "mean", "p50", "p90", "p99", "p999", "max"] {
            assert!(json["latency"][field].is_number(), "{field}: {json}");
        }
        assert_eq!(json["timeline"][0]["perSecond"], 1000.0);
    }
}
