//! Storms: too many handshakes, connections that never send a request, more connections than
//! descriptors, and answers that are never read.

use std::{thread, time::Duration, time::Instant};

use super::{
    BYSTANDERS, assert_alive, assert_growth, assert_polling_alive, attack_on, attack_with, joined,
    metrics, opened, socket,
};
use crate::support::{DEADLINE, Frame, RawClient, Response, ServerProcess, http::metric};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";
const REFUSED: &str = r#"{"code":4,"message":"Too many connections"}"#;

/// Returns the metrics on an existing connection, when no further connection is possible.
fn metrics_by(client: &mut RawClient) -> String {
    client.send_text("4299[\"metrics\"]");
    let Frame::Text(text) = client.message() else {
        panic!("no answer")
    };
    text.replace("\\n", "\n").replace("\\\"", "\"")
}

/// Retries until a session is opened, as a client does.
fn retry_open(server: &ServerProcess) {
    let start = Instant::now();
    while server.get(OPEN).status != 200 {
        assert!(start.elapsed() < DEADLINE, "nobody is let in any more");
        thread::sleep(Duration::from_millis(20)); // Retry interval of a client.
    }
}

/// Runs an attack after which sessions remain, so the gauges are not checked.
fn storm(config: &str, act: impl FnOnce(&ServerProcess)) {
    attack_on(&[("CONFIG", config)], false, act);
}

#[test]
fn handshake_storm_gets_retry_times_and_spares_connected_clients() {
    const RATE: usize = 20;
    storm(r#"{"handshakes_per_second":20}"#, |server| {
        let mut client = socket(server);
        let session = joined(server);
        let start = Instant::now();
        let answers: Vec<Response> = thread::scope(|scope| {
            let storming: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..100).map(|_| server.get(OPEN)).collect::<Vec<_>>()))
                .collect();
            for _ in 0..20 {
                assert_alive(&mut client);
                assert_polling_alive(&session);
            }
            storming
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect()
        });
        let seconds = start.elapsed().as_secs() as usize + 1;
        let (opened, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 200);
        assert!(
            opened.len() <= (2 + seconds) * RATE,
            "{} in {seconds} s",
            opened.len()
        );
        let mut told = Vec::new();
        for answer in &refused {
            assert_eq!(answer.parts(), (503, REFUSED));
            told.push(
                answer
                    .header("retry-after")
                    .unwrap()
                    .parse::<u64>()
                    .unwrap(),
            );
        }
        // The rate admits all refused clients in 20 s.
        if refused.len() > 2 * RATE {
            assert!(
                told.iter().all(|seconds| (1..=20).contains(seconds)),
                "{told:?}"
            );
            told.sort_unstable();
            told.dedup();
            assert!(told.len() > 1, "all are told to come back at the same time");
        }
        let counted = metric(
            &metrics_by(&mut client),
            "roomcast_requests_rejected_total{reason=\"handshakes_per_second\"}",
        );
        assert_eq!(counted, refused.len() as i64);
        retry_open(server);
        session.leave();
    });
}

#[test]
fn a_websocket_is_refused_in_a_storm_too() {
    storm(r#"{"handshakes_per_second":5}"#, |server| {
        let start = Instant::now();
        loop {
            let mut client = server.connect();
            let answer = client.upgrade("/socket.io/?EIO=4&transport=websocket");
            if answer.status == 503 {
                assert!(answer.header("retry-after").is_some());
                assert_eq!(answer.header("connection"), Some("close"));
                return;
            }
            assert_eq!(answer.status, 101);
            assert!(start.elapsed() < DEADLINE, "everybody is let in");
        }
    });
}

#[test]
fn connections_without_a_request_are_limited_and_closed() {
    attack_with(
        r#"{"max_handshakes":50,"header_timeout":"10s"}"#,
        |server| {
            let silent: Vec<RawClient> = (0..50).map(|_| server.connect()).collect();
            let answer = String::from_utf8(server.connect().take_all()).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            let told = |seconds| answer.contains(&format!("\r\nRetry-After: {seconds}\r\n"));
            assert!((1..=5).any(told), "{answer}");
            for mut client in silent {
                let timeout = client.take_all();
                assert!(timeout.is_empty() || timeout.starts_with(b"HTTP/1.1 408 "));
            }
            let mut client = opened(server);
            client.send_text("40");
            let answer = client.message();
            assert!(format!("{answer:?}").contains("sid"), "{answer:?}");
            let name = "roomcast_requests_rejected_total{reason=\"handshakes_in_flight\"}";
            assert_eq!(metric(&metrics(server), name), 1);
        },
    );
}

#[test]
fn waiting_poll_does_not_count_as_pending_handshake() {
    let room = BYSTANDERS + 2;
    attack_with(&format!(r#"{{"max_handshakes":{room}}}"#), |server| {
        // Each polls on its own connection and waits for its first answer.
        let sessions: Vec<_> = (0..2 * room).map(|_| joined(server)).collect();
        let mut waiting = Vec::new();
        for (session, others) in sessions.iter().zip(0..) {
            let mut client = server.connect();
            let sid = &session.sid;
            client.send(format!(
                "GET {OPEN}&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ));
            waiting.push(client);
            server.until_polls_wait(others + 1);
        }
        for (session, mut client) in sessions.into_iter().zip(waiting) {
            assert_eq!(session.post(r#"42["echo",1]"#).parts(), (200, "ok"));
            assert_eq!(client.response().parts(), (200, r#"42["echo",1]"#));
            session.leave();
        }
    });
}

#[test]
fn server_out_of_descriptors_keeps_running_and_accepts_later() {
    attack_with(r#"{"header_timeout":"20s"}"#, |server| {
        let mut client = socket(server);
        server.limit_files(10);
        let crowd: Vec<RawClient> = (0..40).map(|_| server.connect()).collect();
        let failed = "roomcast_accept_errors_total";
        let start = Instant::now();
        let mut requests = 0_u64;
        let mut counted = 0;
        while counted == 0 {
            assert!(start.elapsed() < DEADLINE, "it has descriptors for all");
            counted = metric(&metrics_by(&mut client), failed);
            requests += 1;
        }
        for _ in 0..20 {
            assert_alive(&mut client);
        }
        drop(crowd);
        let mut newcomer = socket(server);
        assert_alive(&mut newcomer);
        // It has retried at intervals, not continuously.
        let most = start.elapsed().as_millis() as i64 / 40 + 2;
        let counted = metric(&metrics(server), failed);
        assert!(
            counted <= most,
            "{counted} times, {most} allowed, asked {requests} times"
        );
    });
}

#[test]
fn client_that_reads_no_answers_is_throttled_then_disconnected() {
    attack_with(r#"{"write_timeout":"1s"}"#, |server| {
        let before = server.resident_bytes();
        let mut client = server.connect();
        let requests = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
        let start = Instant::now();
        while client.try_send(&requests).is_ok() {
            assert!(start.elapsed() < 2 * DEADLINE, "it is read for ever");
        }
        assert_growth(server, before, 1 << 20);
        let name = "roomcast_requests_rejected_total{reason=\"timeout\"}";
        server.until(name, |count| count == 1);
    });
}
