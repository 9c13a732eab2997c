//! Compares the figures of two servers.

use serde::Serialize;

use super::Report;
use crate::load::Scenario;

/// Two servers, measured alternately, so that other load on the machine affects both.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The version of this format.
    pub(super) format: u32,
    pub(super) rounds: usize,
    /// Whether every run was complete.
    pub(super) complete: bool,
    pub(super) ratios: Vec<Ratio>,
    /// One report for each round.
    pub(super) first: Vec<Report>,
    pub(super) second: Vec<Report>,
}

/// One figure of both servers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ratio {
    pub(super) metric: &'static str,
    pub(super) unit: &'static str,
    /// Whether less is better.
    pub(super) less_is_better: bool,
    /// Medians over the rounds.
    pub(super) first: f64,
    pub(super) second: f64,
    /// The median, minimum and maximum of the rounds' ratios, second to first.
    pub(super) ratio: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Comparison {
    /// Creates the comparison of several rounds of the same scenario, in their order.
    pub(crate) fn new(first: Vec<Report>, second: Vec<Report>) -> Self {
        let ratios = METRICS
            .iter()
            .filter_map(|metric| metric.compare(&first, &second))
            .collect();
        let all = first.iter().chain(&second);
        Self {
            format: 1,
            rounds: first.len().min(second.len()),
            complete: first.len() == second.len() && all.clone().all(|report| report.complete),
            ratios,
            first,
            second,
        }
    }

    /// Returns whether both servers made no errors and all rounds were complete.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.complete && self.first.iter().chain(&self.second).all(Report::is_clean)
    }
}

/// A figure to compare: its name, its unit and its value, if the report has it.
struct Metric(&'static str, &'static str, fn(&Report) -> Option<f64>);

impl Metric {
    /// Compares the rounds of two servers. Returns `None` if a server has no such figure, or only
    /// zeros.
    fn compare(&self, first: &[Report], second: &[Report]) -> Option<Ratio> {
        let &Self(metric, unit, value) = self;
        let values = |reports: &[Report]| reports.iter().filter_map(value).collect::<Vec<_>>();
        let (first, second) = (values(first), values(second));
        let ratios: Vec<_> = first
            .iter()
            .zip(&second)
            .filter(|(first, _)| **first > 0.0)
            .map(|(first, second)| second / first)
            .collect();
        let (ratio, min, max) = spread(&ratios)?;
        Some(Ratio {
            metric,
            unit,
            less_is_better: metric != ARRIVALS,
            first: spread(&first)?.0,
            second: spread(&second)?.0,
            ratio,
            min,
            max,
        })
    }
}

/// Returns the median, minimum and maximum.
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let median = match sorted.len() % 2 {
        0 => f64::midpoint(*sorted.get(middle - 1)?, upper),
        _ => upper,
    };
    Some((median, *sorted.first()?, *sorted.last()?))
}

const METRICS: [Metric; 11] = [
    Metric("p50", "ms", |report| Some(report.latency.p50)),
    Metric("p99", "ms", |report| Some(report.latency.p99)),
    Metric("p99.9", "ms", |report| Some(report.latency.p999)),
    Metric("max", "ms", |report| Some(report.latency.max)),
    Metric(ARRIVALS, "/s", |report| {
        let arrivals = report.latency.count as f64 / report.options.duration_seconds;
        (report.scenario != Scenario::Idle.name()).then_some(arrivals)
    }),
    Metric("to all p99", "ms", |report| {
        Some(report.to_all.as_ref()?.p99)
    }),
    Metric("acks p99", "ms", |report| Some(report.acks.as_ref()?.p99)),
    Metric("connect p99", "ms", |report| {
        // Without messages, this is the main latency.
        report.messages.as_ref()?;
        Some(report.connections.connect.p99)
    }),
    Metric("server CPU each", "µs", |report| {
        report.server.as_ref()?.cpu_per_unit
    }),
    Metric("server cores", "", |report| report.server.as_ref()?.cores),
    Metric("memory each", "bytes", |report| {
        report.server.as_ref()?.rss_per_connection
    }),
];

/// The only figure of which more is better.
const ARRIVALS: &str = "arrivals";

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::figures::tests::report;

    /// Three rounds of two servers.
    pub(crate) fn comparison() -> Comparison {
        let rounds = |p99s: [f64; 3]| {
            let reports = p99s.map(|p99| {
                let mut report = report(|_| {});
                report.latency.p99 = p99;
                report
            });
            reports.to_vec()
        };
        Comparison::new(rounds([1.0, 2.0, 4.0]), rounds([2.0, 2.0, 12.0]))
    }

    #[test]
    fn ratios_are_those_of_rounds_with_their_spread() {
        let comparison = comparison();
        let p99 = comparison
            .ratios
            .iter()
            .find(|ratio| ratio.metric == "p99")
            .unwrap();
        assert_eq!((p99.first, p99.second), (2.0, 2.0));
        assert_eq!((p99.ratio, p99.min, p99.max), (2.0, 1.0, 3.0));
        assert!(comparison.complete && comparison.is_clean());
        assert!(
            comparison
                .ratios
                .iter()
                .all(|ratio| ratio.metric != "memory each")
        );
    }

    #[test]
    fn round_of_only_one_server_makes_comparison_incomplete() {
        let (one, two) = (report(|_| {}), report(|_| {}));
        let comparison = Comparison::new(vec![one.clone(), one], vec![two]);
        assert!(!comparison.complete);
        assert_eq!(comparison.rounds, 1);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((2.5, 1.0, 4.0)));
        assert_eq!(spread(&[]), None);
    }
}
