//! The ways in which a client can end.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    credentials::token,
    halfway::SilentProxy,
    support::{RawClient, websocket::masked},
    target::{HeldConnections, Kind, Target, message},
};

macro_rules! endings {
    ($($ending:ident),+ $(,)?) => {
        /// A way in which a client ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Ending { $($ending),+ }

        /// All endings, the slowest first.
        pub(crate) const ENDINGS: &[Ending] = &[$(Ending::$ending),+];
    };
}

endings! {
    // Before HTTP.
    TlsNotFinished, TlsDisconnected, TlsBroken, TlsLost, ProxySilent, ProxyHalfHeader, ProxyDisconnected, ProxyBroken,
    ProxyHeaderThenDisconnected,
    // HTTP.
    HeadersMissing, BodyMissing, PollingAbandoned, PollDisconnected, PollingClose, UpgradeNotProbed,
    UpgradeNotFinished, UpgradedThenDisconnected,
    // The connection.
    Silence, HalfOpen, ServerReceivesNothing, ClientReceivesNothing, CloseFrame, EndOfStream, Reset,
    // Identity and authentication.
    NoNamespace, Refused, ForgedToken, Revoked, TokenExpires,
    // Handlers.
    ConnectHandlerPanics, EventHandlerPanics, DisconnectedByHandler, LeavesNamespace, AckTimesOut,
    DisconnectedBeforeAck, RoomAckUnanswered,
    // Invalid input, and clients that do not read.
    AttachmentsMissing, BrokenPacket, TooSlow, TooFast,
    // Reconnection.
    Recovered, RecoversUnknownSession,
}

impl Ending {
    /// Returns whether this ending exists with such a server.
    pub(crate) fn applies(self, kind: Kind) -> bool {
        match self {
            Self::TlsNotFinished
            | Self::TlsDisconnected
            | Self::TlsBroken
            | Self::TlsLost
            | Self::ProxySilent
            | Self::ProxyHalfHeader
            | Self::ProxyDisconnected
            | Self::ProxyBroken
            | Self::ProxyHeaderThenDisconnected => kind != Kind::Mounted,
            // The outer server decides about a deadline for headers.
            Self::HeadersMissing => kind != Kind::Mounted,
            Self::Recovered | Self::RecoversUnknownSession => kind == Kind::Recovery,
            _ => true,
        }
    }

    /// Returns whether the server detects the ending by a timeout.
    pub(crate) fn is_awaited(self, kind: Kind) -> bool {
        kind == Kind::Recovery
            || !matches!(
                self,
                Self::TlsDisconnected
                    | Self::TlsBroken
                    | Self::TlsLost
                    | Self::ProxyDisconnected
                    | Self::ProxyBroken
                    | Self::ProxyHeaderThenDisconnected
                    | Self::PollingClose
                    | Self::UpgradedThenDisconnected
                    | Self::CloseFrame
                    | Self::EndOfStream
                    | Self::Reset
                    | Self::Refused
                    | Self::DisconnectedByHandler
                    | Self::DisconnectedBeforeAck
                    | Self::AttachmentsMissing
                    | Self::BrokenPacket
                    | Self::TooSlow
                    | Self::TooFast
            )
    }

    /// Returns the number of concurrent clients if only this ending is played.
    pub(crate) fn batch(self) -> usize {
        match self {
            // Two threads for each.
            Self::HalfOpen | Self::ServerReceivesNothing | Self::ClientReceivesNothing => 250,
            // The kernel buffers much data for each.
            Self::TooSlow => 100,
            _ => 1000,
        }
    }

    /// Returns the metric that counts clients with this ending.
    pub(crate) fn evidence(self) -> Option<&'static str> {
        Some(match self {
            Self::TlsNotFinished => "roomcast_tls_handshakes_failed_total{reason=\"timeout\"}",
            Self::TlsDisconnected | Self::TlsBroken => {
                "roomcast_tls_handshakes_failed_total{reason=\"error\"}"
            }
            Self::ProxySilent
            | Self::ProxyHalfHeader
            | Self::ProxyDisconnected
            | Self::ProxyBroken => "proxied_proxy_headers_rejected_total",
            Self::ProxyHeaderThenDisconnected => {
                "proxied_sessions_closed_total{reason=\"transport_close\"}"
            }
            Self::Silence
            | Self::HalfOpen
            | Self::ServerReceivesNothing
            | Self::ClientReceivesNothing
            | Self::PollingAbandoned => "roomcast_sessions_closed_total{reason=\"ping_timeout\"}",
            Self::UpgradeNotProbed | Self::UpgradeNotFinished => {
                "roomcast_upgrades_total{result=\"failed\"}"
            }
            Self::CloseFrame | Self::EndOfStream | Self::Reset => {
                "roomcast_sessions_closed_total{reason=\"transport_close\"}"
            }
            Self::Refused | Self::ForgedToken => "roomcast_sockets_refused_total",
            Self::ConnectHandlerPanics | Self::EventHandlerPanics => {
                "roomcast_handler_panics_total"
            }
            Self::AckTimesOut => "roomcast_acks_timed_out_total",
            Self::BrokenPacket => "roomcast_decode_errors_total{layer=\"socket.io\"}",
            Self::TooSlow => "roomcast_sessions_closed_total{reason=\"overflow\"}",
            Self::TooFast => "roomcast_violations_total{limit=\"flood\"}",
            Self::Recovered => "roomcast_recoveries_total{result=\"recovered\"}",
            Self::RecoversUnknownSession => "roomcast_recovery_sessions_expired_total",
            _ => return None,
        })
    }

    /// Runs one client up to its end, or to the point where the server must end it.
    pub(crate) fn run(self, target: &Target, held: &mut HeldConnections) {
        let server = &target.server;
        match self {
            Self::TlsNotFinished => held.hold(target.connect_tls_port()).send(HALF_HELLO),
            Self::TlsDisconnected => target.connect_tls_port().send(HALF_HELLO),
            Self::TlsBroken => held
                .hold(target.connect_tls_port())
                .send("GET / HTTP/1.1\r\n\r\n"),
            // Without the TLS close alert.
            Self::TlsLost => drop(target.enter_with_tls()),
            Self::ProxySilent => {
                held.hold(target.connect_proxy_port());
            }
            Self::ProxyHalfHeader => {
                held.hold(target.connect_proxy_port()).send("PROXY TCP4 ");
            }
            Self::ProxyDisconnected => target.connect_proxy_port().send("PROXY TCP4 127"),
            Self::ProxyBroken => {
                let client = held.hold(target.connect_proxy_port());
                client.send("GET /socket.io/ HTTP/1.1\r\n\r\n");
            }
            Self::ProxyHeaderThenDisconnected => {
                let mut client = target.connect_proxy_port();
                client.send("PROXY TCP4 127.0.0.1 127.0.0.1 50000 3000\r\n");
                held.enter_over(client);
                held.sockets.pop();
            }
            Self::HeadersMissing => {
                let client = held.hold(server.connect());
                client.send("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: ");
            }
            Self::BodyMissing => {
                let request = format!(
                    "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n42[",
                    held.poll(target).target
                );
                held.hold(server.connect()).send(request);
            }
            Self::PollingAbandoned => {
                held.poll(target);
            }
            Self::PollDisconnected => drop(held.poll(target).start_poll()),
            Self::PollingClose => {
                held.poll(target);
                held.sessions.pop().unwrap().leave();
            }
            Self::UpgradeNotProbed => {
                let socket = held.poll(target).attach();
                held.hold(socket);
            }
            Self::UpgradeNotFinished => {
                let socket = held.poll(target).attach();
                let socket = held.hold(socket);
                socket.send_text("2probe");
                socket.expect_text("3probe");
            }
            Self::UpgradedThenDisconnected => drop(held.poll(target).upgraded()),
            Self::Silence => {
                held.enter(target);
            }
            Self::HalfOpen => {
                let (client, proxy) = SilentProxy::connect(server.address());
                held.enter_over(client);
                proxy.silence_client();
                proxy.silence_server();
                held.sockets.pop();
            }
            Self::ServerReceivesNothing => {
                let (client, proxy) = SilentProxy::connect(server.address());
                let client = held.enter_over(client);
                proxy.silence_client();
                client.send_text("3");
            }
            Self::ClientReceivesNothing => {
                let (client, proxy) = SilentProxy::connect(server.address());
                let client = held.enter_over(client);
                proxy.silence_server();
                client.send_text(r#"42["greet"]"#);
            }
            Self::CloseFrame => held.enter(target).send(masked(0x88, [0x03, 0xe8])),
            Self::EndOfStream => held.enter(target).shutdown_write(),
            Self::Reset => {
                // Unread input makes the kernel reset the connection.
                let client = held.enter(target);
                client.send_text(r#"421["join","room"]"#);
                assert!(client.has_unread_input());
                held.sockets.pop();
            }
            Self::NoNamespace => {
                held.hold(server.connect()).open_websocket("/socket.io/");
            }
            Self::Refused => drop(request_namespace(target, "40/refused,", "44/refused,")),
            Self::ForgedToken => {
                let forged = format!("40/members,{{\"token\":\"{}A\"}}", token("eve", 60));
                held.hold(request_namespace(target, &forged, "44/members,"));
            }
            Self::Revoked => {
                static USERS: AtomicUsize = AtomicUsize::new(0);
                let user = format!("user {}", USERS.fetch_add(1, Ordering::Relaxed));
                let member = format!("40/members,{{\"token\":\"{}\"}}", token(&user, 600));
                let mut client = request_namespace(target, &member, "40/members,");
                client.send_text("40");
                assert!(message(&mut client).starts_with("40{"));
                client.send_text(format!("420[\"revoke\",\"{user}\"]"));
                let messages = [(); 3].map(|()| message(&mut client));
                assert!(messages.contains(&"430[true]".to_owned()), "{messages:?}");
                assert!(messages.contains(&"41/members,".to_owned()), "{messages:?}");
                held.hold(client);
            }
            Self::TokenExpires => {
                // On a slow machine the token may expire before it arrives.
                let member = format!("40/members,{{\"token\":\"{}\"}}", token("ann", 2));
                held.hold(request_namespace(target, &member, "4"));
            }
            Self::ConnectHandlerPanics => {
                let client = held.hold(server.connect());
                client.open_websocket("/socket.io/");
                client.send_text("40/panics,");
            }
            Self::EventHandlerPanics => held.enter(target).send_text(r#"42["panic"]"#),
            Self::DisconnectedByHandler => held.enter(target).send_text(r#"42["bye",true]"#),
            Self::LeavesNamespace => held.enter(target).send_text("41"),
            Self::AckTimesOut => held.enter(target).send_text(r#"42["ask",50]"#),
            Self::DisconnectedBeforeAck => {
                let client = held.enter(target);
                client.send_text(r#"42["ask",60000]"#);
                let question = message(client);
                assert!(question.ends_with(r#"["question"]"#), "{question}");
                held.sockets.pop();
            }
            Self::RoomAckUnanswered => held.enter(target).send_text(r#"42["ask_room","room"]"#),
            Self::AttachmentsMissing => {
                let client = held.enter(target);
                client.send_text(r#"451-["x",{"_placeholder":true,"num":0}]"#);
            }
            Self::BrokenPacket => held.enter(target).send_text("42[nonsense"),
            Self::TooSlow => {
                let client = RawClient::connect_with_buffer(server.address(), 4096);
                held.enter_over(client).send_text(r#"42["flood"]"#);
            }
            Self::TooFast => {
                let packet = masked(0x81, r#"42["x"]"#);
                held.enter(target).send(packet.repeat(400));
            }
            Self::Recovered => {
                let (pid, offset) = lost(target);
                let offer = format!("40{{\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}");
                drop(request_namespace(target, &offer, "40{"));
            }
            Self::RecoversUnknownSession => {
                let (_, offset) = lost(target);
                let offer = format!("40{{\"pid\":\"nobody\",\"offset\":\"{offset}\"}}");
                drop(request_namespace(target, &offer, "40{"));
            }
        }
    }
}

/// Connects a client, requests a namespace and checks the start of the answer.
fn request_namespace(target: &Target, packet: &str, answer: &str) -> RawClient {
    let mut client = target.server.connect();
    client.open_websocket("/socket.io/");
    client.send_text(packet);
    let answer_text = message(&mut client);
    assert!(answer_text.starts_with(answer), "{answer_text}");
    client
}

/// Loses a client's connection, and returns the ids of its session and of the last event it
/// received.
fn lost(target: &Target) -> (String, String) {
    let mut client = target.server.connect();
    client.open_websocket("/socket.io/");
    client.send_text("40");
    let connected = message(&mut client);
    let connected: serde_json::Value =
        serde_json::from_str(connected.strip_prefix("40").unwrap()).unwrap();
    client.send_text(r#"42["greet"]"#);
    let greeting = message(&mut client);
    let greeting: serde_json::Value =
        serde_json::from_str(greeting.strip_prefix("42").unwrap()).unwrap();
    client.send(masked(0x88, [0x03, 0xe8]));
    client.expect_close();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (text(&connected["pid"]), text(&greeting[1]))
}

/// The start of a TLS record with a client hello.
const HALF_HELLO: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00];
