//! C: Socket.IO packets.

use super::{
    MANY, assert_alive, assert_closed, assert_growth, attack, attack_with, crowd, joined, metrics,
    opened, socket,
};
use crate::support::{Frame, RawClient, ServerProcess, http::metric, websocket::masked};

/// Asserts that each packet closes a connection that has joined `/`.
fn assert_fatal<T: AsRef<[u8]>>(server: &ServerProcess, packets: impl IntoIterator<Item = T>) {
    for packet in packets {
        let packet = packet.as_ref();
        let mut client = socket(server);
        client.send_text(packet);
        let shown = packet[..packet.len().min(80)].escape_ascii().to_string();
        assert!(client.is_closed_by_server(), "not closed after {shown}");
    }
}

/// Asserts that each packet leaves a connection that has joined `/` unaffected.
fn assert_harmless<T: AsRef<[u8]>>(server: &ServerProcess, packets: impl IntoIterator<Item = T>) {
    for packet in packets {
        let mut client = socket(server);
        client.send_text(packet);
        assert_alive(&mut client);
    }
}

#[test]
fn c1_an_event_without_a_proper_name_closes() {
    attack(|server| {
        assert_fatal(
            server,
            [
                r#"42[{"toString":"foo"}]"#,
                r#"42[true,"foo"]"#,
                r#"42[null,"bar"]"#,
                r#"42[["a"]]"#,
                "42[1.5]",
                "42[]",
                "42",
                "42{}",
                r#"42"x""#,
                "42[",
                r#"42["a"]x"#,
                r#"42["a"#,
            ],
        );
        // The official server accepts an integer as a name.
        assert_harmless(server, [r#"42[1,"ok"]"#]);
    });
}

#[test]
fn c2_reserved_names_cannot_be_forged() {
    attack(|server| {
        assert_fatal(
            server,
            [
                r#"42["connect"]"#,
                r#"42["connect_error"]"#,
                r#"42["disconnect","123"]"#,
                r#"42["disconnecting"]"#,
                r#"42["newListener"]"#,
                r#"42["removeListener"]"#,
                r#"42["disconn\u0065ct"]"#,
            ],
        );
        assert_harmless(
            server,
            [
                r#"42["error"]"#,
                r#"42["__proto__"]"#,
                r#"42["constructor"]"#,
                r#"42["toString"]"#,
                r#"42["connection"]"#,
                r#"42[""]"#,
            ],
        );
    });
}

#[test]
fn c3_placeholders_must_name_an_attachment() {
    attack(|server| {
        for num in [
            r#","num":"splice""#,
            r#","num":1"#,
            r#","num":-1"#,
            r#","num":1.5"#,
            r#","num":1e9"#,
            r#","num":null"#,
            r#","num":18446744073709551616"#,
            "",
        ] {
            let mut client = socket(server);
            client.send_text(format!(r#"451-["echo",{{"_placeholder":true{num}}}]"#));
            let _ = client.try_send(masked(0x82, [1, 2, 3]));
            assert!(client.is_closed_by_server(), "{num}");
        }
        assert_fatal(server, [r#"451-["echo","no placeholder"]"#]);
        assert_fatal(server, [r#"452-["echo",{"_placeholder":true,"num":0}]"#]);

        let mut client = socket(server);
        let twice = r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
        client.send_text(format!(r#"451-["echo",{twice}]"#));
        client.send_binary([1, 2, 3]);
        client.expect_text(&format!(r#"451-["echo",{twice}]"#));
        client.expect_binary(&[1, 2, 3]);
        assert_alive(&mut client);
    });
}

#[test]
fn c3_an_attachment_named_repeatedly_is_not_copied_each_time() {
    attack(|server| {
        let before = server.resident_bytes();
        let names = [r#"{"_placeholder":true,"num":0}"#; 20_000].join(",");
        let mut client = socket(server);
        client.send_text(format!(r#"451-["echo",{names}]"#));
        let _ = client.try_send(masked(0x82, vec![7; 900_000]));
        assert!(client.is_closed_by_server());
        assert_growth(server, before, 4_000_000);
    });
}

#[test]
fn c4_the_number_of_attachments_is_limited_and_well_formed() {
    attack(|server| {
        let before = server.resident_bytes();
        let eleven: Vec<_> = (0..11)
            .map(|i| format!(r#"{{"_placeholder":true,"num":{i}}}"#))
            .collect();
        let digits = format!("45{}", "9".repeat(999_990));
        assert_fatal(
            server,
            [
                format!(r#"4511-["echo",{}]"#, eleven.join(",")).as_str(),
                r#"45999999999-["a"]"#,
                r#"45-["a"]"#,
                "45",
                "451",
                "451-",
                "451.5-[]",
                "45-1-[]",
                "45a-",
                r#"451e1-["a"]"#,
                r#"45 1-["a"]"#,
                "45/x,",
                &digits,
            ],
        );
        assert_growth(server, before, 4_000_000);
    });
}

#[test]
fn c5_a_partial_packet_is_given_up() {
    const PARTIAL: &str = r#"451-["x",{"_placeholder":true,"num":0}]"#;
    attack(|server| {
        let mut client = opened(server);
        client.send_text(r#"451-/custom,["x",{"_placeholder":true,"num":0}]"#);
        let _ = client.try_send(masked(0x82, [1]));
        assert!(
            client.is_closed_by_server(),
            "an event for a namespace that was not joined"
        );
    });
    let _crowd = crowd();
    attack_with(r#"{"message_timeout":"3s"}"#, |server| {
        let session = joined(server);
        assert_eq!(session.post(PARTIAL).status, 200);
        let before = server.resident_bytes();
        let mut clients: Vec<_> = (0..MANY / 5).map(|_| opened(server)).collect();
        for client in &mut clients {
            client.send_text("40");
            client.send_text(PARTIAL);
        }
        let stay = clients.split_off(MANY / 10);
        drop(clients);
        assert_growth(server, before, MANY / 5 * 16_384);
        for mut client in stay {
            assert!(
                client.is_closed_by_server(),
                "half a packet is kept for ever"
            );
        }
        assert_closed(&session);
    });
}

#[test]
fn c5b_no_attachments_is_a_complete_packet() {
    attack(|server| {
        let mut client = socket(server);
        client.send_text(r#"450-["echo","x"]"#);
        client.send_text(r#"42["echo","y"]"#);
        client.expect_text(r#"42["echo","x"]"#);
        client.expect_text(r#"42["echo","y"]"#);
    });
}

#[test]
fn c5c_text_or_binary_out_of_order_closes() {
    attack(|server| {
        for second in [r#"42["b"]"#, "41", "40/custom,"] {
            let mut client = socket(server);
            client.send_text(r#"451-["a",{"_placeholder":true,"num":0}]"#);
            client.send_text(second);
            assert!(client.is_closed_by_server(), "{second}");
        }
        let mut client = socket(server);
        client.send_binary([1, 2, 3]);
        assert!(client.is_closed_by_server(), "an attachment of nothing");
        let mut client = socket(server);
        client.send_text(r#"451-["echo",{"_placeholder":true,"num":0}]"#);
        client.send_binary([1]);
        client.send_binary([2]);
        assert!(client.is_closed_by_server(), "one attachment too many");
    });
}

#[test]
fn c6_acknowledgement_ids_are_numbers() {
    attack(|server| {
        let digits = format!("42{}", "1".repeat(999_990));
        assert_fatal(
            server,
            [
                digits.as_str(),
                r#"4299999999999999999999["a"]"#,
                "43-1[]",
                r#"42abc["a"]"#,
                r#"421.5["a"]"#,
                "43",
                "431",
                "431{}",
                r#"42-1["a"]"#,
            ],
        );
        assert_harmless(
            server,
            ["43[]", "43999999999[]", "4318446744073709551615[]"],
        );
        assert_eq!(metric(&metrics(server), "roomcast_acks_unknown_total"), 3);
    });
}

/// Lets the server send this client a request, and returns the request's id.
fn asked(client: &mut RawClient, id: u32, milliseconds: u32) -> String {
    client.send_text(format!(r#"42{id}["ask",{milliseconds}]"#));
    let Frame::Text(question) = client.message() else {
        panic!("no question")
    };
    let id = question
        .strip_prefix("42")
        .and_then(|rest| rest.strip_suffix(r#"["question"]"#));
    id.unwrap_or_else(|| panic!("{question}")).to_owned()
}

#[test]
fn c7_only_the_first_answer_of_the_requested_client_counts() {
    attack(|server| {
        let mut client = socket(server);
        let id = asked(&mut client, 1, 20_000);
        client.send_text(format!(r#"43{id}["first"]"#));
        client.send_text(format!(r#"43{id}["second"]"#));
        client.expect_text(r#"431["first"]"#);
        assert_alive(&mut client);

        let id = asked(&mut client, 2, 50);
        client.expect_text(r#"432["timeout"]"#);
        client.send_text(format!(r#"43{id}["late"]"#));
        assert_alive(&mut client);

        client.send_text("40/custom,");
        assert!(matches!(client.message(), Frame::Text(text) if text.starts_with("40/custom,{")));
        let id = asked(&mut client, 3, 20_000);
        client.send_text(format!(r#"43/custom,{id}["of another namespace"]"#));
        let mut other = socket(server);
        other.send_text(format!(r#"43{id}["of another socket"]"#));
        assert_alive(&mut other);
        client.send_text(format!(r#"43{id}["mine"]"#));
        client.expect_text(r#"433["mine"]"#);
    });
}

#[test]
fn c8_a_namespace_is_joined_once() {
    attack(|server| {
        assert_fatal(server, ["40", "40{}"]);
        for count in [2, 10_000] {
            let mut client = opened(server);
            let _ = client.try_send(masked(0x81, "40/slow,").repeat(count));
            assert!(
                client.is_closed_by_server(),
                "joined {count} times while the middleware was thinking"
            );
        }
    });
}

#[test]
fn c9_namespaces_are_limited_in_length_and_number() {
    attack(|server| {
        let before = server.resident_bytes();
        assert_fatal(
            server,
            [
                format!("40/{},", "a".repeat(999_000)),
                format!("40/{},", "a".repeat(300)),
            ],
        );
        let mut client = socket(server);
        for _ in 0..1000 {
            client.send_text("40/random,");
            client.expect_text(r#"44/random,{"message":"Invalid namespace"}"#);
        }
        let mut joined = 0;
        for i in 0..100 {
            client.send_text(format!("40/dyn-{i},"));
            match client.message() {
                Frame::Text(text) if text.starts_with(&format!("40/dyn-{i},{{\"sid\"")) => {
                    joined += 1
                }
                Frame::Text(text) => {
                    assert!(
                        text.starts_with(&format!("44/dyn-{i},{{\"message\":")),
                        "{text}"
                    );
                    break;
                }
                Frame::Close(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(joined + 1, 32, "namespaces of one connection");
        assert_growth(server, before, 4_000_000);
    });
}

#[test]
fn c10_a_malformed_connect_closes() {
    attack(|server| {
        let long = format!(r#"40{{"token":"{}"}}"#, "x".repeat(990_000));
        for packet in [
            "40[]",
            r#"40"x""#,
            "40abc",
            r#"40{"a":"#,
            "40true",
            r#"40{}{}"#,
            &long,
        ] {
            let mut client = opened(server);
            client.send_text(packet);
            assert!(client.is_closed_by_server(), "{packet:.50}");
        }
    });
}

#[test]
fn c11_packets_out_of_place_close() {
    attack(|server| {
        assert_fatal(
            server,
            [
                "41/custom,",
                "42/custom,[\"x\"]",
                "43/custom,1[]",
                "44{}",
                "44/custom,{}",
                "47",
                "49",
                "4x",
                "4",
                "41{}",
            ],
        );
        for packet in [r#"42["x"]"#, "41", "431[]"] {
            let mut client = opened(server);
            client.send_text(packet);
            assert!(client.is_closed_by_server(), "{packet} before joining");
        }
    });
}

#[test]
fn c12_rooms_of_a_socket_are_limited_in_number_and_length() {
    attack(|server| {
        let mut client = socket(server);
        for i in 0..1000 {
            client.send_text(format!(r#"421["join","room {i}"]"#));
            client.expect_text(r#"431["joined"]"#);
        }
        for room in ["one too many".to_owned(), "x".repeat(900_000)] {
            client.send_text(format!(r#"421["join","{room}"]"#));
            let Frame::Text(answer) = client.message() else {
                panic!("no answer")
            };
            assert!(
                answer.starts_with(r#"431["#) && answer != r#"431["joined"]"#,
                "{answer:.100}"
            );
        }
        let mut client = socket(server);
        client.send_text(format!(r#"421["join","{}"]"#, "x".repeat(900_000)));
        let Frame::Text(answer) = client.message() else {
            panic!("no answer")
        };
        assert!(
            answer.starts_with(r#"431["#) && answer != r#"431["joined"]"#,
            "{answer:.100}"
        );
        assert_alive(&mut client);
    });
}

#[test]
fn c13_event_names_of_clients_leave_no_trace() {
    attack(|server| {
        let rows = metrics(server).lines().count();
        let before = server.resident_bytes();
        let mut client = socket(server);
        for thousand in 0..200 {
            let events =
                (0..1000).flat_map(|i| masked(0x81, format!(r#"42["event {thousand} {i}"]"#)));
            client.send(events.collect::<Vec<_>>());
        }
        assert_alive(&mut client);
        assert_eq!(metrics(server).lines().count(), rows);
        assert_growth(server, before, 1 << 20);
    });
}

#[test]
fn a_handler_that_panics_fails_its_event_only() {
    let mut server = ServerProcess::example_with("hostile", &[("CONFIG", "{}")]);
    let mut client = socket(&server);
    client.send_text(r#"421["panic"]"#);
    let Frame::Text(answer) = client.message() else {
        panic!("no answer")
    };
    assert!(
        answer.starts_with("431[") && answer.contains("INTERNAL"),
        "{answer}"
    );
    client.send_text(r#"42["panic"]"#);
    assert_alive(&mut client);
    assert_eq!(
        metric(&metrics(&server), "roomcast_handler_panics_total"),
        2
    );
    assert!(server.is_running());
}
