//! Impossible runs fail with one line of output; runs that end early are marked as incomplete.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Child, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    bench, command, count, finish,
    support::{DEADLINE, ServerProcess, UnusedAddress},
};

/// Listens and answers every connection with these bytes.
fn other_server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn other_server_is_reported_in_one_line() {
    for answer in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        for transport in ["websocket", "polling"] {
            let url = other_server(answer);
            let outcome = bench(&format!("idle {url} --transport {transport}"));
            let error = outcome.error();
            assert!(error.starts_with(&format!("roomcast: {url}: ")), "{error}");
            assert!(
                error.contains("not a Socket.IO server"),
                "{answer:?}: {error}"
            );
        }
    }
}

#[test]
fn unreachable_server_is_reported_in_one_line() {
    let unheard = UnusedAddress::new();
    let outcome = bench(&format!("idle http://{}", unheard.address()));
    assert!(
        outcome.error().contains("cannot connect"),
        "{}",
        outcome.err
    );
}

#[test]
fn missing_namespace_is_reported() {
    let server = ServerProcess::example("fanout");
    let outcome = bench(&format!("idle http://{}/nowhere", server.address()));
    let error = outcome.error();
    assert!(error.contains("refuses: Invalid namespace"), "{error}");
}

#[test]
fn unknown_event_is_reported_before_the_run() {
    let server = ServerProcess::example("fanout");
    let url = format!(
        "http://{} --preset rooms --connect-timeout 5",
        server.address()
    );
    let outcome = bench(&format!("echo {url} --event unheard-of"));
    let error = outcome.error();
    assert!(
        error.contains("does not acknowledge \"unheard-of\""),
        "{error}"
    );
    let outcome = bench(&format!("fanout {url} --event unheard-of"));
    let error = outcome.error();
    assert!(
        error.contains("\"unheard-of\" of one client did not reach another"),
        "{error}"
    );
    let outcome = bench(&format!("fanout {url} --join unheard-of"));
    let error = outcome.error();
    assert!(
        error.contains("does not acknowledge \"unheard-of\""),
        "{error}"
    );
}

#[test]
fn invalid_options_are_refused_with_a_reason() {
    for (words, reason) in [
        ("fanout http://localhost --clients 0", "at least 1"),
        ("fanout http://localhost --rate 0", "rate must be"),
        ("fanout http://localhost --duration=-1", "duration"),
        ("fanout http://localhost --payload 8", "32 bytes"),
        ("idle https://localhost", "TLS"),
        ("idle http://localhost --auth []", "JSON object"),
        ("idle http://localhost --header nonsense", "Name: value"),
        (
            "echo http://localhost --event connect",
            "cannot be the name",
        ),
        ("idle http://localhost --clients 10000000", "open files"),
        ("idle http://localhost --server-pid 4194305", ""),
    ] {
        let outcome = bench(words);
        assert_eq!(outcome.code, 2, "{words}: {}", outcome.err);
        assert!(outcome.err.contains(reason), "{words}: {}", outcome.err);
    }
}

/// Starts a benchmark and waits until its ten clients have connected and send.
fn start_with_ten_clients(words: &str, server: &ServerProcess) -> Child {
    let bench = command(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Each of them sends an event to join a room before its first message.
    server.until("roomcast_events_handled_total", |events| events > 20);
    bench
}

#[test]
fn a_server_that_dies_leaves_an_incomplete_report() {
    let server = ServerProcess::example("fanout");
    let url = format!("http://{} --preset rooms --json", server.address());
    let words = format!("fanout {url} --clients 10 --rate 50 --duration 3 --drain 1");
    let bench = start_with_ten_clients(&words, &server);
    drop(server);
    let outcome = finish(bench.wait_with_output().unwrap());
    let report = outcome.report();
    assert_eq!(
        (outcome.code, &report["complete"]),
        (1, &false.into()),
        "{report:#}"
    );
    let dropped = report["connections"]["dropped"].as_object().unwrap();
    let dropped: u64 = dropped.values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(dropped, 10, "{report:#}");
    assert!(count(&report, "/messages/unsent") > 0, "{report:#}");
    assert_eq!(
        count(&report, "/messages/lost"),
        0,
        "nobody is left to lose any"
    );
}

#[test]
fn interrupted_run_reports_partial_results() {
    let server = ServerProcess::example("fanout");
    let url = format!("http://{} --preset rooms --json", server.address());
    let words = format!("fanout {url} --clients 10 --rate 50 --duration 600");
    let bench = start_with_ten_clients(&words, &server);
    let id = i32::try_from(bench.id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
    let outcome = finish(bench.wait_with_output().unwrap());
    let report = outcome.report();
    assert_eq!(outcome.code, 1);
    assert_eq!(
        report["problems"][0], "stopped before its end",
        "{report:#}"
    );
    assert_eq!(count(&report, "/messages/lost"), 0, "{report:#}");
}
