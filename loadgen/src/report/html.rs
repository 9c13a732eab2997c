//! Reports as one HTML file without scripts and external resources.

use std::fmt::Write as _;

use super::{
    comparison::Comparison,
    figures::{Latency, Report},
    svg::{Scale, Series, plot},
    text::{latency_name, number},
};
use crate::account::Point;

/// Returns the page of one run.
#[must_use]
pub fn page(report: &Report) -> String {
    let title = format!("{}: {}", report.scenario, report.url);
    document(&title, &body(report))
}

/// Returns the page of a comparison: the ratios, and the last round of each server.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let urls = |reports: &[Report]| reports.last().map_or_else(String::new, |r| r.url.clone());
    let (first, second) = (urls(&comparison.first), urls(&comparison.second));
    let mut html = format!(
        "<p>A is {}, B is {}. {} rounds in turns; ratios are B to A, median and range of the \
         rounds.</p>",
        escape(&first),
        escape(&second),
        comparison.rounds
    );
    if !comparison.complete {
        html.push_str("<p class=\"warn\">At least one run is incomplete.</p>");
    }
    html.push_str("<table><tr><th></th><th>A</th><th>B</th><th>B / A</th><th>range</th></tr>");
    for ratio in &comparison.ratios {
        // Writing to a string cannot fail.
        let _ = write!(
            html,
            "<tr><th>{} {}</th><td>{}</td><td>{}</td><td>{:.2}</td><td>{:.2} – {:.2}</td></tr>",
            escape(ratio.metric),
            escape(ratio.unit),
            number(ratio.first),
            number(ratio.second),
            ratio.ratio,
            ratio.min,
            ratio.max
        );
    }
    html.push_str("</table>");
    let servers = [("A", &comparison.first), ("B", &comparison.second)];
    let percentiles = servers.map(|(name, reports)| Series {
        name,
        points: reports
            .last()
            .map(|report| report.latency.percentiles.clone())
            .unwrap_or_default(),
    });
    html.push_str(&plot(
        "Latency by percentile, last round",
        "ms",
        Scale::Nines,
        &percentiles,
    ));
    for (name, reports) in servers {
        if let Some(report) = reports.last() {
            let _ = write!(html, "<h2>{name}, last round</h2>{}", body(report));
        }
    }
    document("Two Socket.IO servers compared", &html)
}

fn body(report: &Report) -> String {
    let o = &report.options;
    let mut html = format!(
        "<p>{} · {} · {} clients over {}, {}/s, {} s measured after {} s · events of {}</p>",
        escape(&report.url),
        escape(&report.started_at),
        number(o.clients as f64),
        o.transport,
        number(o.rate),
        number(o.duration_seconds),
        number(o.warmup_seconds),
        escape(&o.preset)
    );
    if !report.complete {
        html.push_str("<div class=\"warn\"><p>This run is incomplete:</p><ul>");
        for problem in &report.problems {
            let _ = write!(html, "<li>{}</li>", escape(problem));
        }
        html.push_str("</ul></div>");
    }
    html.push_str(
        "<table><tr><th></th><th>count</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th>\
         <th>max</th></tr>",
    );
    row(&mut html, latency_name(report), &report.latency);
    if let Some(acks) = &report.acks {
        row(&mut html, "acknowledgements", acks);
    }
    if let Some(to_all) = &report.to_all {
        row(&mut html, "to the last receiver", to_all);
    }
    if report.messages.is_some() {
        row(&mut html, "connecting", &report.connections.connect);
    }
    html.push_str("</table><p>Times in milliseconds, from when each was due.</p>");
    html.push_str(&counts(report));
    html.push_str(&plot(
        "Latency by percentile",
        "ms",
        Scale::Nines,
        &[Series {
            name: "",
            points: report.latency.percentiles.clone(),
        }],
    ));
    if !report.timeline.is_empty() {
        let line = |name, value: fn(&Point) -> f64| Series {
            name,
            points: report.timeline.iter().map(|p| [p.at, value(p)]).collect(),
        };
        html.push_str(&plot(
            "Latency over time",
            "ms",
            Scale::Time,
            &[
                line("p50", |point| point.p50),
                line("p99", |point| point.p99),
                line("max", |point| point.max),
            ],
        ));
        html.push_str(&plot(
            "Arrivals per second",
            "/s",
            Scale::Time,
            &[line("", |point| point.per_second)],
        ));
    }
    html
}

fn row(html: &mut String, name: &str, latency: &Latency) {
    let _ = write!(
        html,
        "<tr><th>{name}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        number(latency.count as f64),
        number(latency.p50),
        number(latency.p90),
        number(latency.p99),
        number(latency.p999),
        number(latency.max)
    );
}

/// Formats all counts, and the resource usage of the server and the generator.
fn counts(report: &Report) -> String {
    let c = &report.connections;
    let mut counts = vec![
        ("connections opened", c.opened),
        ("connections failed", c.failed.total()),
        ("connections lost", c.dropped.total()),
    ];
    if let Some(m) = &report.messages {
        counts.extend([
            ("messages sent", m.sent),
            ("expected", m.expected),
            ("arrived", m.delivered),
            ("lost", m.faults.lost),
            ("doubled", m.faults.duplicate),
            ("out of order", m.faults.out_of_order),
            ("corrupt", m.faults.corrupt),
            ("in a wrong room", m.faults.misrouted),
            ("unanswered", m.faults.unanswered),
            ("missed by lost clients", m.missed_by_dropped),
        ]);
    }
    if let Some(stored) = &report.stored {
        counts.extend([
            ("stored", stored.found),
            ("missing in the store", stored.missing),
            ("stored twice", stored.doubled),
            ("stored out of order", stored.out_of_order),
            ("refused and stored", stored.refused),
            ("gaps in the store", stored.gaps),
        ]);
    }
    if let Some(slow) = &report.slow {
        counts.extend([
            ("slow clients", slow.clients),
            ("of them cut", slow.disconnected),
            ("holes in what they got", slow.holes),
        ]);
    }
    let mut rows: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| (name, number(count as f64)))
        .collect();
    if let Some(server) = &report.server {
        let cores = server.cores.map(|cores| format!("{cores:.2}"));
        let memory = server.rss_per_connection.map(|b| number(b / 1024.0));
        rows.extend(cores.map(|cores| ("server, cores", cores)));
        rows.extend(
            server
                .cpu_per_unit
                .map(|cpu| ("server, µs each", number(cpu))),
        );
        rows.extend(memory.map(|memory| ("server, KiB per connection", memory)));
    }
    rows.push(("generator late, p99 ms", number(report.generator.late_p99)));
    let mut html = String::from("<table class=\"counts\">");
    for (name, value) in rows {
        let _ = write!(html, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    html.push_str("</table>");
    html
}

fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1>{body}</body></html>\n"
    )
}

/// Escapes text for an element or an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1b1f24;--dim:#667;--grid:#dde;--a:#0b62c4;--b:#c4560b;--c:#8a1bb0}\
@media(prefers-color-scheme:dark){:root{--fg:#e6e8eb;--dim:#99a;--grid:#334;--a:#6ab0ff;--b:#ffab6a;--c:#d59cf0}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);max-width:760px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.3rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin-top:2rem}h3{font-size:1rem;margin:1.5rem 0 0}\
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem .8rem .2rem 0;text-align:right;font-weight:400}\
th:first-child{text-align:left;color:var(--dim)}td{font-variant-numeric:tabular-nums}\
.warn{border-left:4px solid var(--b);padding-left:1rem}\
svg{width:100%;height:auto;margin:1rem 0}.grid{stroke:var(--grid)}\
.line{fill:none;stroke-width:2;stroke-linecap:round}.line.a{stroke:var(--a)}.line.b{stroke:var(--b)}.line.c{stroke:var(--c)}\
text{font-size:11px;fill:var(--dim)}text.y,.legend{text-anchor:end}text.x{text-anchor:middle}\
.legend.a{fill:var(--a)}.legend.b{fill:var(--b)}.legend.c{fill:var(--c)}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{comparison::tests as compared, figures::tests::report};

    #[test]
    fn foreign_text_cannot_become_markup() {
        let evil = "<script>alert(\"1\")</script>&'\x00";
        let mut report = report(|stats| stats.dropped.count(evil));
        report.url = evil.into();
        report.options.preset = evil.into();
        let html = page(&report);
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39; "));
    }

    #[test]
    fn page_loads_no_external_resources() {
        for html in [page(&report(|_| {})), comparison(&compared::comparison())] {
            assert!(html.starts_with("<!doctype html>") && html.contains("<svg"));
            for foreign in ["<script", "<link", "src=", "@import", "url("] {
                assert!(!html.contains(foreign), "{foreign}");
            }
        }
    }

    #[test]
    fn an_incomplete_run_is_marked() {
        assert!(page(&report(|stats| stats.unsent = 1)).contains("This run is incomplete"));
        assert!(!page(&report(|_| {})).contains("incomplete"));
    }
}
