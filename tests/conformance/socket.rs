//! The Socket.IO protocol test-suite, on `/socket.io/`.

use super::support::{Frame, RawClient, ServerProcess};

const PATH: &str = "/socket.io/";

mod engine_io_protocol {
    mod handshake {
        mod http_long_polling {
            use super::super::super::{super::handshake as cases, PATH};

            #[test]
            fn should_successfully_open_a_session() {
                cases::polling_opens(PATH);
            }

            #[test]
            fn should_fail_with_an_invalid_eio_query_parameter() {
                cases::polling_invalid_eio(PATH);
            }

            #[test]
            fn should_fail_with_an_invalid_transport_query_parameter() {
                cases::polling_invalid_transport(PATH);
            }

            #[test]
            fn should_fail_with_an_invalid_request_method() {
                cases::polling_invalid_method(PATH);
            }
        }

        mod websocket {
            use super::super::super::{super::handshake as cases, PATH};

            #[test]
            fn should_successfully_open_a_session() {
                cases::websocket_opens(PATH);
            }

            #[test]
            fn should_fail_with_an_invalid_eio_query_parameter() {
                cases::websocket_invalid_eio(PATH);
            }

            #[test]
            fn should_fail_with_an_invalid_transport_query_parameter() {
                cases::websocket_invalid_transport(PATH);
            }
        }
    }

    mod heartbeat {
        mod http_long_polling {
            use super::super::super::{super::handshake as cases, PATH};

            #[test]
            fn should_send_ping_pong_packets() {
                cases::polling_heartbeat(PATH);
            }

            #[test]
            fn should_close_the_session_upon_ping_timeout() {
                cases::polling_ping_timeout(PATH);
            }
        }

        mod websocket {
            use super::super::super::{super::handshake as cases, PATH};

            #[test]
            fn should_send_ping_pong_packets() {
                cases::websocket_heartbeat(PATH);
            }

            #[test]
            fn should_close_the_session_upon_ping_timeout() {
                cases::websocket_ping_timeout(PATH);
            }
        }
    }

    mod close {
        mod http_long_polling {
            use super::super::super::{super::handshake as cases, PATH};

            #[test]
            fn should_forcefully_close_the_session() {
                cases::polling_close(PATH);
            }
        }

        mod websocket {
            use super::super::super::{super::handshake as cases, PATH};

            #[test]
            fn should_forcefully_close_the_session() {
                cases::websocket_close(PATH);
            }
        }
    }

    mod upgrade {
        use super::super::{
            super::{handshake::assert_refused, server, support::Polling},
            Frame, PATH,
        };

        #[test]
        fn should_successfully_upgrade_from_http_long_polling_to_websocket() {
            let server = server();
            let session = Polling::open(server.address(), PATH);
            let mut client = session.upgraded();
            client.send_text("40");
            assert!(matches!(client.message(), Frame::Text(text) if text.starts_with("40{")));
        }

        #[test]
        fn should_ignore_http_requests_with_same_sid_after_upgrade() {
            let server = server();
            let session = Polling::open(server.address(), PATH);
            let mut client = session.attach();
            client.send_text("2probe");
            client.send_text("5");
            assert_eq!(session.poll().status, 400);
        }

        #[test]
        fn should_ignore_websocket_connection_with_same_sid_after_upgrade() {
            let server = server();
            let session = Polling::open(server.address(), PATH);
            let mut client = session.attach();
            client.send_text("2probe");
            client.send_text("5");
            let mut second = server.connect();
            assert_refused(&mut second, &session.upgrade);
        }
    }
}

/// Opens a WebSocket session and reads the open packet.
fn opened(server: &ServerProcess) -> RawClient {
    let mut client = server.connect();
    client.open_websocket(PATH);
    client
}

/// Opens a session, joins `/`, and reads the answer and the `auth` event.
fn connected(server: &ServerProcess) -> RawClient {
    let mut client = opened(server);
    client.send_text("40");
    expect_connected(&mut client, "40");
    client.expect_text(r#"42["auth",{}]"#);
    client
}

/// Expects a message of `prefix` and `{"sid":…}`, and nothing else.
fn expect_connected(client: &mut RawClient, prefix: &str) {
    let message = client.message();
    let Frame::Text(text) = message else {
        panic!("not text: {message:?}")
    };
    let sid = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix(r#"{"sid":""#)?.strip_suffix(r#""}"#))
        .unwrap_or_else(|| panic!("not the answer to CONNECT: {text}"));
    assert_eq!(sid.len(), 20);
    assert!(!sid.contains('"'));
}

mod connect {
    use super::{
        super::{hurried, server},
        expect_connected, opened,
    };

    #[test]
    fn should_allow_connection_to_the_main_namespace() {
        let server = server();
        let mut client = opened(&server);
        client.send_text("40");
        expect_connected(&mut client, "40");
        client.expect_text(r#"42["auth",{}]"#);
    }

    #[test]
    fn should_allow_connection_to_the_main_namespace_with_a_payload() {
        let server = server();
        let mut client = opened(&server);
        client.send_text(r#"40{"token":"123"}"#);
        expect_connected(&mut client, "40");
        client.expect_text(r#"42["auth",{"token":"123"}]"#);
    }

    #[test]
    fn should_allow_connection_to_a_custom_namespace() {
        let server = server();
        let mut client = opened(&server);
        client.send_text("40/custom,");
        expect_connected(&mut client, "40/custom,");
        client.expect_text(r#"42/custom,["auth",{}]"#);
    }

    #[test]
    fn should_allow_connection_to_a_custom_namespace_with_a_payload() {
        let server = server();
        let mut client = opened(&server);
        client.send_text(r#"40/custom,{"token":"abc"}"#);
        expect_connected(&mut client, "40/custom,");
        client.expect_text(r#"42/custom,["auth",{"token":"abc"}]"#);
    }

    #[test]
    fn should_disallow_connection_to_an_unknown_namespace() {
        let server = server();
        let mut client = opened(&server);
        client.send_text("40/random");
        client.expect_text(r#"44/random,{"message":"Invalid namespace"}"#);
    }

    #[test]
    fn should_disallow_connection_with_an_invalid_handshake() {
        let server = server();
        let mut client = opened(&server);
        client.send_text("4abc");
        client.expect_close();
    }

    #[test]
    fn should_close_the_connection_if_no_handshake_is_received() {
        let server = hurried();
        opened(&server).expect_close();
    }
}

mod disconnect {
    use super::{
        super::{patient, server, support::Frame},
        connected, expect_connected,
    };

    #[test]
    fn should_disconnect_from_the_main_namespace() {
        let server = patient();
        let mut client = connected(&server);
        client.send_text("41");
        assert_eq!(client.frame(), Frame::Text("2".to_owned()));
    }

    #[test]
    fn should_connect_then_disconnect_from_a_custom_namespace() {
        let server = server();
        let mut client = connected(&server);
        client.send_text("40/custom");
        expect_connected(&mut client, "40/custom,");
        client.expect_text(r#"42/custom,["auth",{}]"#);
        client.send_text("41/custom");
        client.send_text(r#"42["message","message to main namespace"]"#);
        client.expect_text(r#"42["message-back","message to main namespace"]"#);
    }
}

mod message {
    use super::{super::server, connected};

    /// Two attachments, sent in both directions.
    const ATTACHMENTS: [&[u8]; 2] = [&[1, 2, 3], &[4, 5, 6]];

    #[test]
    fn should_send_a_plain_text_packet() {
        let server = server();
        let mut client = connected(&server);
        client.send_text(r#"42["message",1,"2",{"3":[true]}]"#);
        client.expect_text(r#"42["message-back",1,"2",{"3":[true]}]"#);
    }

    #[test]
    fn should_send_a_packet_with_binary_attachments() {
        let server = server();
        let mut client = connected(&server);
        client.send_text(
            r#"452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        );
        for attachment in ATTACHMENTS {
            client.send_binary(attachment);
        }
        client.expect_text(
            r#"452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        );
        for attachment in ATTACHMENTS {
            client.expect_binary(attachment);
        }
    }

    #[test]
    fn should_send_a_plain_text_packet_with_an_ack() {
        let server = server();
        let mut client = connected(&server);
        client.send_text(r#"42456["message-with-ack",1,"2",{"3":[false]}]"#);
        client.expect_text(r#"43456[1,"2",{"3":[false]}]"#);
    }

    #[test]
    fn should_send_a_packet_with_binary_attachments_and_an_ack() {
        let server = server();
        let mut client = connected(&server);
        client.send_text(
            r#"452-789["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        );
        for attachment in ATTACHMENTS {
            client.send_binary(attachment);
        }
        client
            .expect_text(r#"462-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        for attachment in ATTACHMENTS {
            client.expect_binary(attachment);
        }
    }

    #[test]
    fn should_close_the_connection_upon_invalid_format_unknown_packet_type() {
        let server = server();
        let mut client = connected(&server);
        client.send_text("4abc");
        client.expect_close();
    }

    #[test]
    fn should_close_the_connection_upon_invalid_format_invalid_payload_format() {
        let server = server();
        let mut client = connected(&server);
        client.send_text("42{}");
        client.expect_close();
    }

    #[test]
    fn should_close_the_connection_upon_invalid_format_invalid_ack_id() {
        let server = server();
        let mut client = connected(&server);
        client.send_text(r#"42abc["message-with-ack",1,"2",{"3":[false]}]"#);
        client.expect_close();
    }
}
