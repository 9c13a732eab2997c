//! Measures two servers alternately.

use super::run::{BenchError, run};
use crate::{load::Plan, report::Comparison};

/// Plays two plans alternately, `rounds` times each, like [`run`].
///
/// # Errors
/// If one of the servers cannot be measured at all.
pub fn compare(first: &Plan, second: &Plan, rounds: usize) -> Result<Comparison, BenchError> {
    let (mut first_reports, mut second_reports) = (Vec::new(), Vec::new());
    'rounds: for round in 1..=rounds {
        let mut order = [(first, &mut first_reports), (second, &mut second_reports)];
        // The first server changes with each round, so that a machine that becomes slower or faster
        // favours neither.
        if round % 2 == 0 {
            order.reverse();
        }
        for (plan, reports) in order {
            let report = run(plan, &format!("{round}/{rounds} {}", plan.client.url))?;
            let is_stopped = report.is_stopped();
            reports.push(report);
            if is_stopped {
                break 'rounds;
            }
        }
    }
    Ok(Comparison::new(first_reports, second_reports))
}
