//! Every scenario against the contract server: complete, without faults, with the expected figures.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{assert_clean, bench, count, support::ServerProcess};

fn url(server: &ServerProcess) -> String {
    format!("http://{} --preset rooms --json", server.address())
}

#[test]
fn fanout_reaches_all_clients_over_every_transport() {
    let server = ServerProcess::example("fanout");
    for transport in ["websocket", "polling", "upgrade"] {
        let options = "--clients 20 --senders 4 --rate 50";
        let outcome = bench(&format!(
            "fanout {} {options} --transport {transport}",
            url(&server)
        ));
        let report = assert_clean(&outcome);
        assert_eq!(count(&report, "/messages/sent"), 30, "50/s for 0.6 s");
        assert_eq!(
            count(&report, "/messages/expected"),
            600,
            "senders get their own"
        );
        assert_eq!(count(&report, "/messages/delivered"), 600);
        assert_eq!(
            count(&report, "/latency/count"),
            500,
            "0.1 s is not measured"
        );
        assert_eq!(count(&report, "/toAll/count"), 25, "each once to everyone");
        assert_eq!(count(&report, "/connections/opened"), 20);
        assert_eq!(report["options"]["transport"], transport);
    }
}

#[test]
fn room_messages_reach_only_members() {
    let server = ServerProcess::example("fanout");
    let options = "--clients 40 --rooms 8 --senders 2 --rate 100";
    let report = assert_clean(&bench(&format!("rooms {} {options}", url(&server))));
    assert_eq!(count(&report, "/messages/sent"), 60);
    assert_eq!(count(&report, "/messages/delivered"), 60 * 5);
}

#[test]
fn every_request_is_answered_with_its_payload() {
    let server = ServerProcess::example("fanout");
    let options = "--clients 10 --rate 100 --payload 2000";
    let report = assert_clean(&bench(&format!("echo {} {options}", url(&server))));
    assert_eq!(count(&report, "/messages/sent"), 60);
    assert_eq!(count(&report, "/latency/count"), 50);
}

#[test]
fn clients_connect_and_disconnect() {
    let server = ServerProcess::example("fanout");
    for transport in ["websocket", "polling"] {
        let options = format!("--clients 10 --rate 50 --transport {transport}");
        let report = assert_clean(&bench(&format!("connect {} {options}", url(&server))));
        assert_eq!(count(&report, "/connections/asked"), 30);
        assert_eq!(count(&report, "/connections/opened"), 30);
        assert_eq!(report["messages"], Value::Null);
    }
}

#[test]
fn idle_clients_answer_pings_and_memory_is_reported() {
    let server = ServerProcess::example_with("fanout", &[("PING_INTERVAL_MS", "100")]);
    let options = format!("--clients 30 --duration 3 --server-pid {}", server.pid());
    let report = assert_clean(&bench(&format!("idle {} {options}", url(&server))));
    assert!(count(&report, "/connections/pings") >= 30, "{report:#}");
    assert!(count(&report, "/server/rssEmpty") > 0);
    assert!(
        report["server"]["rssPerConnection"].is_number(),
        "{report:#}"
    );
}

#[test]
fn slow_clients_catch_up_without_affecting_fast_clients() {
    let server = ServerProcess::example("fanout");
    let options = "--clients 10 --senders 1 --slow-share 0.2 --rate 40";
    let report = assert_clean(&bench(&format!("slow {} {options}", url(&server))));
    assert_eq!(count(&report, "/slow/clients"), 2);
    assert_eq!(count(&report, "/slow/cut"), 0);
    assert_eq!(count(&report, "/slow/received"), 2 * 24);
    assert_eq!(count(&report, "/messages/delivered"), 8 * 24);
}

#[test]
fn several_threads_give_one_report() {
    let server = ServerProcess::example("fanout");
    let options = "--clients 21 --senders 5 --rate 100 --threads 3";
    let report = assert_clean(&bench(&format!("fanout {} {options}", url(&server))));
    assert_eq!(count(&report, "/messages/sent"), 60);
    assert_eq!(count(&report, "/messages/delivered"), 60 * 21);
    assert_eq!(count(&report, "/latency/count"), 50 * 21);
}

#[test]
fn a_report_has_the_documented_shape() {
    let server = ServerProcess::example("fanout");
    let report = assert_clean(&bench(&format!(
        "fanout {} --clients 4 --rate 40",
        url(&server)
    )));
    let expected = [
        (
            "",
            "acks complete connections format generator latency messages options problems \
              scenario server slow startedAt stored timeline toAll tool url",
        ),
        ("/connections", "asked connect dropped failed opened pings"),
        ("/generator", "cores lateMax lateP99"),
        (
            "/latency",
            "count max mean min p50 p90 p99 p999 percentiles",
        ),
        (
            "/messages",
            "corrupt delivered duplicate expected lost misrouted missedByDropped \
                       outOfOrder perSecond refused sent unanswered unsent",
        ),
        (
            "/options",
            "clients durationSeconds payloadBytes preset rate rooms senders threads \
                      transport warmupSeconds",
        ),
        ("/timeline/0", "at max p50 p99 perSecond"),
    ];
    for (path, fields) in expected {
        let object = report.pointer(path).and_then(Value::as_object).unwrap();
        let mut found: Vec<_> = object.keys().map(String::as_str).collect();
        found.sort_unstable();
        let fields: Vec<_> = fields.split_whitespace().collect();
        assert_eq!(found, fields, "{path}");
    }
    let percentiles = report["latency"]["percentiles"].as_array().unwrap();
    let times: Vec<_> = percentiles.iter().map(|p| p[1].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times.len() > 5, "{times:?}");
}

#[test]
fn a_page_with_plots_and_a_text_are_written() {
    let server = ServerProcess::example("fanout");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let options = format!("--clients 4 --rate 40 --html {}", file.display());
    let outcome = bench(&format!(
        "fanout http://{} --preset rooms {options}",
        server.address()
    ));
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    for part in ["4 clients", "0 lost", "p99.9"] {
        assert!(outcome.out.contains(part), "{}", outcome.out);
    }
    let html = std::fs::read_to_string(file).unwrap();
    assert_eq!(html.matches("<svg").count(), 3);
    assert!(!html.contains("<script"));
}

#[test]
fn terminal_shows_the_progress_of_a_run() {
    let server = ServerProcess::example("fanout");
    let line = format!(
        "{} bench fanout http://{} --preset rooms --clients 4 --rate 40 --duration 2",
        env!("CARGO_BIN_EXE_roomcast"),
        server.address()
    );
    // Runs the command as if at a terminal.
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    for part in ["/s arrive", "\r", "0 lost"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn two_servers_are_compared_in_alternating_runs() {
    let (one, two) = (
        ServerProcess::example("fanout"),
        ServerProcess::example("fanout"),
    );
    let options = "--clients 4 --rate 40 --rounds 3";
    let words = format!(
        "fanout {} {options} --compare http://{}",
        url(&one),
        two.address()
    );
    let outcome = bench(&words);
    let report = outcome.report();
    assert_eq!(
        (outcome.code, &report["complete"]),
        (0, &Value::from(true)),
        "{report:#}"
    );
    assert_eq!(count(&report, "/rounds"), 3);
    for side in ["first", "second"] {
        assert_eq!(report[side].as_array().unwrap().len(), 3);
    }
    let metrics: Vec<_> = report["ratios"].as_array().unwrap().iter().collect();
    let p99 = metrics
        .iter()
        .find(|ratio| ratio["metric"] == "p99")
        .unwrap();
    let value = |field: &str| p99[field].as_f64().unwrap();
    assert!(
        value("min") <= value("ratio") && value("ratio") <= value("max"),
        "{p99}"
    );
}
