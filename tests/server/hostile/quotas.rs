//! The rows of `a`, `b`, `c` and `d` that need quotas: packets and bytes per second, connections
//! per address and in total. The names are those of the rows.

use std::{thread, time::Duration};

use super::{
    BYSTANDERS, assert_alive, assert_growth, assert_polling_alive, attack_limited, attack_with,
    joined, metrics, opened, polling, socket,
};
use crate::support::{
    Polling, RawClient, Response, ServerProcess, http::metric, websocket::masked,
};

/// Far above what bystanders need, far below a flood. A flooding client that reads nothing has
/// `close_timeout` to take its answers.
const QUOTAS: &str = r#"{"packets_per_second":500,"bytes_per_second":100000,"throttle_timeout":"300ms",
    "close_timeout":"1s"}"#;
const OPEN: &str = "/socket.io/?EIO=4&transport=polling";
const REFUSED: &str = r#"{"code":4,"message":"Too many connections"}"#;
const FLOODS: &str = "roomcast_violations_total{limit=\"flood\"}";

/// Sends the same bytes until the server has closed.
fn flood(client: &mut RawClient, with: &[u8]) {
    let start = std::time::Instant::now();
    while client.try_send(with).is_ok() {
        assert!(
            start.elapsed() < crate::support::DEADLINE,
            "a flood without end is taken"
        );
    }
}

#[test]
fn a15_a_flood_of_pongs_is_throttled_then_disconnected() {
    attack_with(QUOTAS, |server| {
        let before = server.resident_bytes();
        for session in [polling(server), joined(server)] {
            let pongs = "3\x1e".repeat(19_999) + "3";
            assert_eq!(session.post(pongs).status, 400);
            super::assert_gone(&session);
        }
        let mut client = opened(server);
        flood(&mut client, &masked(0x81, "3").repeat(1000));
        assert_eq!(metric(&metrics(server), FLOODS), 3);
        assert_growth(server, before, 1 << 20);
    });
}

#[test]
fn a_burst_is_read_later_and_not_dropped() {
    let long_timeout = QUOTAS.replace("300ms", "20s");
    attack_with(&long_timeout, |server| {
        let mut client = socket(server);
        let burst: Vec<u8> = (0..2000)
            .flat_map(|i| masked(0x81, format!(r#"42{i}["echo",{i}]"#)))
            .collect();
        client.send(burst);
        for i in 0..2000 {
            client.expect_text(&format!("43{i}[{i}]"));
        }
        let session = joined(server);
        let events: Vec<String> = (0..2000).map(|i| format!(r#"42["echo",{i}]"#)).collect();
        assert_eq!(session.post(events.join("\x1e")).parts(), (200, "ok"));
        let mut echoed = String::new();
        while !echoed.ends_with(r#"42["echo",1999]"#) {
            echoed += "\x1e";
            echoed += &session.poll().body;
        }
        assert_eq!(echoed[1..], events.join("\x1e"));
        session.leave();
        let metrics = metrics(server);
        assert!(metric(&metrics, "roomcast_reads_delayed_total") > 0);
        assert_eq!(metric(&metrics, FLOODS), 0);
    });
}

#[test]
fn flood_of_bytes_is_disconnected_like_one_of_packets() {
    attack_with(QUOTAS, |server| {
        let before = server.resident_bytes();
        let mut client = socket(server);
        let event = format!(r#"42["echo","{}"]"#, "x".repeat(50_000));
        flood(&mut client, &masked(0x81, event));
        let session = joined(server);
        assert_eq!(session.post("4x".repeat(400_000)).status, 400);
        assert_eq!(metric(&metrics(server), FLOODS), 2);
        assert_growth(server, before, 4 << 20);
    });
}

#[test]
fn b9_a_flood_of_probes_is_disconnected() {
    attack_with(QUOTAS, |server| {
        let mut candidate = joined(server).attach();
        flood(&mut candidate, &masked(0x81, "2probe").repeat(1000));
        let mut pinging = joined(server).attach();
        flood(&mut pinging, &masked(0x8a, "").repeat(1000));
        assert_eq!(metric(&metrics(server), FLOODS), 2);
    });
}

#[test]
fn c13_a_flood_of_event_names_is_disconnected() {
    attack_with(QUOTAS, |server| {
        let rows = metrics(server).lines().count();
        let mut client = socket(server);
        let events: Vec<u8> = (0..1000)
            .flat_map(|i| masked(0x81, format!(r#"42["event {i}"]"#)))
            .collect();
        flood(&mut client, &events);
        assert_eq!(metrics(server).lines().count(), rows);
    });
}

#[test]
fn d10_a_message_in_tiny_fragments_counts_its_sent_bytes() {
    attack_with(QUOTAS, |server| {
        let mut client = socket(server);
        client.send(masked(0x01, "4"));
        flood(&mut client, &masked(0x00, "x").repeat(1000));
    });
}

/// Waits until an ended connection is no longer counted.
fn await_admission(server: &ServerProcess, open: impl Fn() -> Response) -> Response {
    let start = std::time::Instant::now();
    loop {
        let answer = open();
        if answer.status == 200 || start.elapsed() > crate::support::DEADLINE {
            return answer;
        }
        assert_eq!(answer.parts(), (answer.status, REFUSED));
        thread::sleep(Duration::from_millis(20)); // The pace of a client that tries again.
        let _ = server;
    }
}

#[test]
fn a25_handshakes_beyond_what_the_server_holds_are_refused_with_503() {
    let room = BYSTANDERS + 3;
    attack_limited(&format!(r#"{{"connections":{room}}}"#), |server| {
        let sessions: Vec<Polling> = (0..3).map(|_| polling(server)).collect();
        for _ in 0..100 {
            let answer = server.get(OPEN);
            assert_eq!(answer.parts(), (503, REFUSED));
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((10..=20).contains(&seconds), "{seconds}");
        }
        let answer = server
            .connect()
            .upgrade("/socket.io/?EIO=4&transport=websocket");
        assert_eq!(answer.parts(), (503, "Too many connections"));
        assert_eq!(answer.header("connection"), Some("close"));
        for session in sessions {
            session.leave();
        }
        let open = || server.get(OPEN);
        let answer = await_admission(server, open);
        assert_eq!(answer.status, 200);
        let sid = crate::support::http::sid_of(&answer.body);
        let target = format!("{OPEN}&sid={sid}");
        assert_eq!(server.connect().request("POST", &target, "1").status, 200);
    });
}

#[test]
fn storm_of_refused_connects_does_not_affect_connected_clients() {
    let limits = format!(
        r#"{{"exempt_loopback":false,"connects":{},"connects_window":"1h","block_after":0}}"#,
        BYSTANDERS + 3
    );
    attack_limited(&limits, |server| {
        let mut client = socket(server);
        let session = joined(server);
        while server.get(OPEN).status == 200 {}
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        let answer = server.get(OPEN);
                        assert_eq!(answer.parts(), (429, REFUSED));
                        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                        assert!((1..=2 * 3600).contains(&seconds), "{seconds}");
                    }
                });
            }
            for _ in 0..20 {
                assert_alive(&mut client);
                assert_polling_alive(&session);
            }
        });
        session.leave();
    });
}
