//! The Engine.IO protocol test-suite, on `/engine.io/`.

const PATH: &str = "/engine.io/";

mod handshake {
    mod http_long_polling {
        use super::super::{super::handshake as cases, PATH};

        #[test]
        fn successfully_opens_a_session() {
            cases::polling_opens(PATH);
        }

        #[test]
        fn fails_with_an_invalid_eio_query_parameter() {
            cases::polling_invalid_eio(PATH);
        }

        #[test]
        fn fails_with_an_invalid_transport_query_parameter() {
            cases::polling_invalid_transport(PATH);
        }

        #[test]
        fn fails_with_an_invalid_request_method() {
            cases::polling_invalid_method(PATH);
        }
    }

    mod websocket {
        use super::super::{super::handshake as cases, PATH};

        #[test]
        fn successfully_opens_a_session() {
            cases::websocket_opens(PATH);
        }

        #[test]
        fn fails_with_an_invalid_eio_query_parameter() {
            cases::websocket_invalid_eio(PATH);
        }

        #[test]
        fn fails_with_an_invalid_transport_query_parameter() {
            cases::websocket_invalid_transport(PATH);
        }
    }
}

mod message {
    mod http_long_polling {
        use super::super::{
            super::{assert_unknown, server, support::Polling, until_unknown},
            PATH,
        };

        /// Posts `payload` and expects the echo server to return it.
        fn assert_echo(payload: &str) {
            let server = server();
            let session = Polling::open(server.address(), PATH);
            assert_eq!(session.post(payload).parts(), (200, "ok"));
            assert_eq!(session.poll().parts(), (200, payload));
        }

        #[test]
        fn sends_and_receives_a_payload_containing_one_plain_text_packet() {
            assert_echo("4hello");
        }

        #[test]
        fn sends_and_receives_a_payload_containing_several_plain_text_packets() {
            assert_echo("4test1\x1e4test2\x1e4test3");
        }

        #[test]
        fn sends_and_receives_a_payload_containing_plain_text_and_binary_packets() {
            assert_echo("4hello\x1ebAQIDBA==");
        }

        #[test]
        fn closes_the_session_upon_invalid_packet_format() {
            let server = server();
            let session = Polling::open(server.address(), PATH);
            session.post("abc");
            assert_unknown(&session);
        }

        #[test]
        fn closes_the_session_upon_duplicate_poll_requests() {
            let server = server();
            let session = Polling::open(server.address(), PATH);
            let mut first = session.start_poll();
            server.until_polls_wait(1);
            assert_eq!(session.poll().parts(), (400, ""));
            assert_eq!(first.response().parts(), (200, "1"));
            assert_unknown(&session);
        }

        #[test]
        fn closes_the_session_upon_cancelled_polling_request() {
            let server = server();
            let session = Polling::open(server.address(), PATH);
            let poll = session.start_poll();
            server.until_polls_wait(1);
            drop(poll);
            until_unknown(&server, &session);
        }
    }

    mod websocket {
        use super::super::{super::server, PATH};

        #[test]
        fn sends_and_receives_a_plain_text_packet() {
            let server = server();
            let mut client = server.connect();
            client.open_websocket(PATH);
            client.send_text("4hello");
            client.expect_text("4hello");
        }

        #[test]
        fn sends_and_receives_a_binary_packet() {
            let server = server();
            let mut client = server.connect();
            client.open_websocket(PATH);
            client.send_binary([1, 2, 3, 4]);
            client.expect_binary(&[1, 2, 3, 4]);
        }

        #[test]
        fn closes_the_session_upon_invalid_packet_format() {
            let server = server();
            let mut client = server.connect();
            client.open_websocket(PATH);
            client.send_text("abc");
            client.expect_close();
        }
    }
}

mod heartbeat {
    mod http_long_polling {
        use super::super::{super::handshake as cases, PATH};

        #[test]
        fn sends_ping_pong_packets() {
            cases::polling_heartbeat(PATH);
        }

        #[test]
        fn closes_the_session_upon_ping_timeout() {
            cases::polling_ping_timeout(PATH);
        }
    }

    mod websocket {
        use super::super::{super::handshake as cases, PATH};

        #[test]
        fn sends_ping_pong_packets() {
            cases::websocket_heartbeat(PATH);
        }

        #[test]
        fn closes_the_session_upon_ping_timeout() {
            cases::websocket_ping_timeout(PATH);
        }
    }
}

mod close {
    mod http_long_polling {
        use super::super::{super::handshake as cases, PATH};

        #[test]
        fn forcefully_closes_the_session() {
            cases::polling_close(PATH);
        }
    }

    mod websocket {
        use super::super::{super::handshake as cases, PATH};

        #[test]
        fn forcefully_closes_the_session() {
            cases::websocket_close(PATH);
        }
    }
}

mod upgrade {
    use super::{
        super::{handshake::assert_refused, server, support::Polling},
        PATH,
    };

    #[test]
    fn successfully_upgrades_from_http_long_polling_to_websocket() {
        let server = server();
        let session = Polling::open(server.address(), PATH);
        let mut client = session.attach();
        client.send_text("2probe");
        client.expect_text("3probe");
        assert_eq!(session.poll().parts(), (200, "6"));
        client.send_text("5");
        client.send_text("4hello");
        client.expect_text("4hello");
    }

    #[test]
    fn ignores_http_requests_with_same_sid_after_upgrade() {
        let server = server();
        let session = Polling::open(server.address(), PATH);
        let mut client = session.attach();
        client.send_text("2probe");
        client.expect_text("3probe");
        client.send_text("5");
        assert_eq!(session.poll().status, 400);
        client.send_text("4hello");
        client.expect_text("4hello");
    }

    #[test]
    fn ignores_websocket_connection_with_same_sid_after_upgrade() {
        let server = server();
        let session = Polling::open(server.address(), PATH);
        let mut client = session.upgraded();
        let mut second = server.connect();
        assert_refused(&mut second, &session.upgrade);
        client.send_text("4hello");
        client.expect_text("4hello");
    }
}
