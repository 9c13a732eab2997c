//! Text reports for a terminal.

use std::fmt::Write as _;

use super::{
    comparison::Comparison,
    figures::{Latency, Report},
};

/// Formats a run in about fifteen lines.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut out = String::new();
    let o = &report.options;
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!(
        "{} against {} for {} s: {} clients over {}{}{}",
        report.scenario,
        printable(&report.url),
        number(o.duration_seconds),
        number(o.clients as f64),
        o.transport,
        match report.scenario {
            "idle" => String::new(),
            _ => format!(", {}/s", number(o.rate)),
        },
        match &report.messages {
            Some(_) => format!(
                " of {} bytes from {} senders",
                number(o.payload_bytes as f64),
                o.senders
            ),
            None => String::new(),
        }
    ));
    let c = &report.connections;
    let (failed, dropped) = (c.failed.total(), c.dropped.total());
    line(format!(
        "  connections  {} opened, {failed} failed, {dropped} lost, {} pings",
        number(c.opened as f64),
        number(c.pings as f64)
    ));
    if let Some(m) = &report.messages {
        let f = &m.faults;
        line(format!(
            "  messages     {} sent, {} of {} expected arrived, {}/s measured",
            number(m.sent as f64),
            number(m.delivered as f64),
            number(m.expected as f64),
            number(m.per_second)
        ));
        line(format!(
            "  faults       {} lost, {} doubled, {} out of order, {} corrupt, {} in a wrong room, {} \
             unanswered",
            f.lost, f.duplicate, f.out_of_order, f.corrupt, f.misrouted, f.unanswered
        ));
        if m.missed_by_dropped > 0 {
            line(format!(
                "               {} more missed by clients whose connection was lost",
                number(m.missed_by_dropped as f64)
            ));
        }
    }
    line(format!(
        "  {:<12} {}",
        latency_name(report),
        latency(&report.latency)
    ));
    if let Some(acks) = &report.acks {
        line(format!("  acks         {}", latency(acks)));
    }
    if let Some(to_all) = &report.to_all {
        line(format!("  to everyone  {}", latency(to_all)));
    }
    if let Some(s) = &report.stored {
        line(format!(
            "  stored       {} found, {} missing, {} doubled, {} out of order, {} refused and \
             stored, {} gaps",
            number(s.found as f64),
            s.missing,
            s.doubled,
            s.out_of_order,
            s.refused,
            s.gaps
        ));
    }
    if report.messages.is_some() {
        line(format!("  connecting   {}", latency(&c.connect)));
    }
    if let Some(slow) = &report.slow {
        line(format!(
            "  slow clients {} stopped reading, {} were cut; they got {} of {} messages, {} holes",
            slow.clients,
            slow.disconnected,
            number(slow.received as f64),
            number(slow.expected as f64),
            slow.holes
        ));
    }
    if let Some(server) = &report.server {
        let mut parts = Vec::new();
        parts.extend(server.cores.map(|cores| format!("{cores:.2} cores")));
        parts.extend(server.cpu_per_unit.map(|cpu| format!("{cpu:.2} µs each")));
        let full = server.rss_full.unwrap_or(server.rss_empty);
        parts.push(format!("{:.1} MiB", full as f64 / f64::from(1 << 20)));
        parts.extend(
            server
                .rss_per_connection
                .map(|bytes| format!("{:.1} KiB per connection", bytes / 1024.0)),
        );
        line(format!("  server       {}", parts.join(", ")));
    }
    let g = &report.generator;
    line(format!(
        "  generator    {}late by p99 {} ms, max {} ms",
        g.cores
            .map(|cores| format!("{cores:.2} cores, "))
            .unwrap_or_default(),
        number(g.late_p99),
        number(g.late_max)
    ));
    if report.latency.count > 0 && g.late_p99 > report.latency.p50.max(2.0) {
        line("  The generator was late: it, not the server, decided these times.".into());
    }
    if !report.complete {
        line("  INCOMPLETE:".into());
        for problem in &report.problems {
            line(format!("    {}", printable(problem)));
        }
    }
    out
}

/// Returns what the main latency of a report measures.
pub(super) fn latency_name(report: &Report) -> &'static str {
    match report.scenario {
        "connect" | "idle" => "connecting",
        "echo" => "answers",
        _ => "deliveries",
    }
}

fn latency(latency: &Latency) -> String {
    if latency.count == 0 {
        return "none".into();
    }
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {} ms",
        number(latency.p50),
        number(latency.p90),
        number(latency.p99),
        number(latency.p999),
        number(latency.max)
    )
}

/// Formats the comparison of two servers.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let mut out = String::new();
    for (reports, name) in [(&comparison.first, "A"), (&comparison.second, "B")] {
        if let Some(report) = reports.last() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name}: {}", summary(report).trim_end());
        }
    }
    let _ = writeln!(
        out,
        "\n{:<16} {:>12} {:>12} {:>9}  (spread of {} rounds)",
        "", "A", "B", "B / A", comparison.rounds
    );
    for ratio in &comparison.ratios {
        let better = match (ratio.less_is_better, ratio.max < 1.0, ratio.min > 1.0) {
            (true, true, _) | (false, _, true) => "  B",
            (true, _, true) | (false, true, _) => "  A",
            _ => "",
        };
        let _ = writeln!(
            out,
            "{:<16} {:>12} {:>12} {:>9.2}  ({:.2} to {:.2}){better}",
            format!("{} {}", ratio.metric, ratio.unit).trim(),
            number(ratio.first),
            number(ratio.second),
            ratio.ratio,
            ratio.min,
            ratio.max,
        );
    }
    if comparison.ratios.iter().any(|r| r.max < 1.0 || r.min > 1.0) {
        out.push_str("The letter names who was better in every round.\n");
    }
    if !comparison.complete {
        out.push_str("INCOMPLETE: at least one run was; its figures say less than they seem to.\n");
    }
    out
}

/// Formats a number with three significant digits, and thousands with commas.
pub(super) fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 100.0 && value.fract() != 0.0 {
        let digits = match value.abs() {
            0.0..1.0 => 3,
            1.0..10.0 => 2,
            _ => 1,
        };
        return format!("{value:.digits$}");
    }
    let whole = format!("{value:.0}");
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", &*whole),
    };
    let mut out = String::from(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Removes control characters, which could move the cursor of a terminal. Servers choose parts of
/// these texts.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{comparison::tests as compared, figures::tests::report};

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.12345, "0.123"),
            (5.4321, "5.43"),
            (42.42, "42.4"),
            (12.0, "12"),
            (999.9, "1,000"),
            (1234567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_summary_has_what_matters_and_no_control_characters() {
        let text = summary(&report(|stats| {
            stats.faults.lost = 7;
            stats.dropped.count("evil \x1b[2J reason");
        }));
        for part in ["7 lost", "p99", "INCOMPLETE", "evil [2J reason"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_comparison_has_a_line_for_each_figure() {
        let text = comparison(&compared::comparison());
        let p99 = text
            .lines()
            .find(|line| line.starts_with("p99 ms"))
            .unwrap();
        assert!(p99.ends_with("2.00  (1.00 to 3.00)"), "{p99}");
        assert!(text.contains("spread of 3 rounds"), "{text}");
    }
}
