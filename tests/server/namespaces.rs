//! Admission to namespaces, and packets for other namespaces.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use roomcast::{Ack, Config, Connect, Event, Incoming, Io, Principal, Refusal};
use serde_json::json;

use crate::local::{Local, join, text, until};

fn two() -> Local {
    let mut io = Io::builder();
    for name in ["/", "/chat"] {
        io = io.namespace(name, |namespace| {
            namespace.on("where", async |event: Event| {
                event.socket.emit("here", event.namespace().name());
            })
        });
    }
    Local::serve(io)
}

#[test]
fn unknown_namespace_is_refused_and_joined_ones_stay() {
    let server = two();
    let (mut client, _) = server.connect();
    client.send_text("40/none,");
    client.expect_text("44/none,{\"message\":\"Invalid namespace\"}");
    client.send_text("42[\"where\"]");
    client.expect_text("42[\"here\",\"/\"]");
}

#[test]
fn one_connection_carries_several_namespaces() {
    let server = two();
    let (mut client, root) = server.connect();
    let chat = join(&mut client, "/chat,");
    assert_ne!(root, chat);
    client.send_text("42/chat,[\"where\"]");
    client.expect_text("42/chat,[\"here\",\"/chat\"]");
    client.send_text("42[\"where\"]");
    client.expect_text("42[\"here\",\"/\"]");
    server.io.of("chat").emit("all", ());
    client.expect_text("42/chat,[\"all\"]");
}

#[test]
fn a_socket_id_is_not_the_session_id() {
    let server = two();
    let mut client = crate::support::RawClient::connect(server.address());
    let open = client.open_websocket("/socket.io/");
    let id = join(&mut client, "");
    assert_eq!(id.len(), 20);
    assert!(!open.contains(&id));
}

#[test]
fn leaving_the_last_namespace_keeps_the_connection() {
    let server = two();
    let (mut client, first) = server.connect();
    client.send_text("41");
    assert_ne!(join(&mut client, ""), first);
    assert_eq!(server.io.of("/").count(), 1);
}

#[test]
fn events_sent_on_connect_follow_the_connect_answer() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on_connect(async |event: Event, auth: serde_json::Value| {
            event.socket.emit("auth", auth);
        })
    });
    let server = Local::serve(io);
    let mut client = server.open();
    client.send_text("40{\"token\":\"x\"}");
    assert!(text(&mut client).starts_with("40{\"sid\":"));
    client.expect_text("42[\"auth\",{\"token\":\"x\"}]");
}

#[test]
fn packets_for_a_namespace_not_joined_close_the_connection() {
    for packet in [
        "42[\"x\"]",
        "43[]",
        "431[]",
        "41",
        "42/chat,[\"x\"]",
        "41/chat,",
        "44{}",
    ] {
        let server = two();
        let mut client = server.open();
        client.send_text(packet);
        client.expect_close();
    }
}

#[test]
fn a_second_connect_closes_the_connection() {
    let server = two();
    let (mut client, _) = server.connect();
    client.send_text("40");
    client.expect_close();
    until(|| server.io.of("/").count() == 0);
}

#[test]
fn a_second_connect_while_the_first_waits_closes_the_connection() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.middleware(async |_: Connect| {
            std::future::pending::<()>().await;
            Ok::<_, Refusal>(())
        })
    });
    let server = Local::serve(io);
    let mut client = server.open();
    client.send_text("40");
    client.send_text("40");
    client.expect_close();
}

#[test]
fn events_in_flight_when_the_server_disconnects_are_ignored() {
    let io = Io::builder()
        .namespace("/", |namespace| {
            namespace
                .on("out", async |event: Event| event.socket.disconnect())
                .on("echo", async |event: Event| {
                    event.socket.emit("echo", ());
                })
        })
        .namespace("/chat", |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("42[\"out\"]");
    client.send_text("42[\"echo\"]");
    client.send_text("431[]");
    client.send_text("41");
    client.expect_text("41");
    join(&mut client, "/chat,");
    join(&mut client, "");
    client.send_text("42[\"echo\"]");
    client.expect_text("42[\"echo\"]");
}

#[test]
fn middleware_refuses_with_message_and_data() {
    let io = Io::builder().namespace("/staff", |namespace| {
        namespace
            .authenticate(async |connect: Connect| {
                let name: Option<String> = connect.auth::<Option<Auth>>()?.map(|auth| auth.name);
                Ok::<_, Invalid>(name.map_or_else(Principal::anonymous, Principal::new))
            })
            .middleware(
                async |connect: Connect| match connect.principal().subject.as_str() {
                    "" => Err(Refusal::new("", "who are you")),
                    _ => Ok(()),
                },
            )
            .middleware(
                async |connect: Connect| match connect.principal().subject.as_str() {
                    "ann" => Ok(()),
                    _ => {
                        Err(Refusal::new("NO_STAFF", "not of the staff").data(json!({"retry": 5})))
                    }
                },
            )
    });
    let server = Local::serve(io);
    let mut client = server.open();
    client.send_text("40/staff,");
    client.expect_text("44/staff,{\"message\":\"who are you\"}");
    client.send_text("40/staff,{\"name\":\"bob\"}");
    client.expect_text(
        "44/staff,{\"message\":\"not of the staff\",\"data\":{\"code\":\"NO_STAFF\",\"retry\":5}}",
    );
    client.send_text("40/staff,{\"name\":7}");
    client.expect_text("44/staff,{\"message\":\"invalid\"}");
    client.send_text("40/staff,{\"name\":\"ann\"}");
    assert!(text(&mut client).starts_with("40/staff,{\"sid\":"));
}

#[derive(serde::Deserialize)]
struct Auth {
    name: String,
}

struct Invalid;

impl From<roomcast::errors::ArgumentError> for Invalid {
    fn from(_: roomcast::errors::ArgumentError) -> Self {
        Self
    }
}

impl From<Invalid> for Refusal {
    fn from(_: Invalid) -> Self {
        Self::new("", "invalid")
    }
}

#[test]
fn middleware_that_panics_refuses() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.middleware(async |connect: Connect| {
            assert!(connect.namespace() != "/", "a fault");
            Ok::<_, Refusal>(())
        })
    });
    let server = Local::serve(io);
    let mut client = server.open();
    client.send_text("40");
    client.expect_text("44{\"message\":\"internal error\",\"data\":{\"code\":\"INTERNAL\"}}");
}

#[test]
fn only_refused_connects_get_a_connect_error() {
    let refuse = || Refusal::new("E_LATE", "too late").data(json!({"retry": 5}));
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on_connect(move |_: Event| async move { Err::<(), _>(refuse()) })
            .on_packet(move |packet: Incoming| {
                let is_secret = packet.name() == "secret";
                async move { if is_secret { Err(refuse()) } else { Ok(()) } }
            })
            .on("secret", async |_: Event| {})
            .on(
                "refuse",
                move |_: Event| async move { Err::<(), _>(refuse()) },
            )
            .on("panic", async |event: Event| {
                assert!(event.wants_ack(), "a fault")
            })
            .on("number", async |_: Event, _: u8| {})
            .on("echo", async |_: Event| Ack(1))
            .on("disconnect", move |_: Event| async move {
                Err::<(), _>(refuse())
            })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    for event in ["secret", "refuse", "panic", "number", "unknown"] {
        client.send_text(format!("42[\"{event}\",\"x\"]"));
    }
    client.send_text("421[\"refuse\"]");
    client.send_text("422[\"echo\"]");
    // Only a request for an acknowledgement is answered, and not with a connect error.
    let refused = text(&mut client);
    assert!(refused.starts_with("431[{\"success\":false,"), "{refused}");
    client.expect_text("432[1]");
    client.send_text("41");
    join(&mut client, "");
}

#[test]
fn connection_that_joins_no_namespace_closes_after_timeout() {
    let io = Io::builder()
        .config(quick())
        .namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let mut idle = server.open();
    let mut refused = server.open();
    refused.send_text("40/none,");
    refused.expect_text("44/none,{\"message\":\"Invalid namespace\"}");
    let (mut joined, _) = server.connect();
    idle.expect_close();
    refused.expect_close();
    joined.send_text("41");
    join(&mut joined, "");
}

#[test]
fn slow_middleware_refuses_and_the_connection_stays() {
    let io = Io::builder()
        .config(quick())
        .namespace("/", |namespace| namespace)
        .namespace("/slow", |namespace| {
            namespace.middleware(async |_: Connect| {
                std::future::pending::<()>().await;
                Ok::<_, Refusal>(())
            })
        });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    // The deadline of `fresh` for its first namespace passes before the refusal.
    let mut fresh = server.open();
    for client in [&mut client, &mut fresh] {
        client.send_text("40/slow,");
    }
    for client in [&mut client, &mut fresh] {
        client.expect_text(
            "44/slow,{\"message\":\"connecting took too long\",\"data\":{\"code\":\"CONNECT_TIMEOUT\"}}",
        );
    }
    client.send_text("41");
    join(&mut client, "");
    join(&mut fresh, "");
}

fn quick() -> Config {
    Config::default().connect_timeout(Duration::from_secs(10))
}

#[test]
fn a_principal_that_expires_is_disconnected() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.authenticate(async |_: Connect| {
            let end = std::time::SystemTime::now() + Duration::from_secs(10);
            Ok::<_, Refusal>(Principal::new("ann").with_expiry(end))
        })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.expect_text("41");
    until(|| server.io.of("/").count() == 0);
}

#[test]
fn on_demand_namespace_is_removed_with_its_last_client() {
    let io = Io::builder()
        .config(Config::default().max_namespaces(1))
        .namespaces(
            |name| {
                assert!(name != "/panic", "a fault");
                name.starts_with("/tenant-")
            },
            |namespace| namespace.on_connect(async |event: Event| event.socket.join("all")),
        );
    let server = Local::serve(io);
    let mut client = server.open();
    for refused in ["/other", "/panic"] {
        client.send_text(format!("40{refused},"));
        client.expect_text(&format!(
            "44{refused},{{\"message\":\"Invalid namespace\"}}"
        ));
    }
    join(&mut client, "/tenant-1,");
    assert_eq!(server.io.of("/tenant-1").to("all").count(), 1);
    client.send_text("40/tenant-2,");
    client.expect_text("44/tenant-2,{\"message\":\"Too many namespaces\"}");

    let other = &mut server.open();
    join(other, "/tenant-1,");
    client.send_text("41/tenant-1,");
    client.send_text("40/tenant-2,");
    client.expect_text("44/tenant-2,{\"message\":\"Too many namespaces\"}");
    other.send_text("41/tenant-1,");
    until(|| server.io.of("/tenant-1").count() == 0);
    join(&mut client, "/tenant-2,");
    assert!(server.io.of("/tenant-1").rooms().is_empty());
    assert_eq!(server.io.of("/tenant-2").emit("hi", ()).queued, 1);
    client.expect_text("42/tenant-2,[\"hi\"]");
}

#[test]
fn namespaces_of_a_connection_are_limited() {
    let mut io = Io::builder().config(Config::default().max_namespaces_per_connection(2));
    for name in ["/", "/a", "/b"] {
        io = io.namespace(name, |namespace| {
            namespace.on("out", async |event: Event| event.socket.disconnect())
        });
    }
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    join(&mut client, "/a,");
    client.send_text("40/b,");
    client.expect_text("44/b,{\"message\":\"Too many namespaces\"}");
    client.send_text("42[\"out\"]");
    client.expect_text("41");
    join(&mut client, "/b,");
}

#[test]
fn first_predicate_accepting_a_name_defines_the_namespace() {
    let answer = |who: &'static str| {
        move |namespace: roomcast::NamespaceBuilder| {
            namespace.on("who", move |_: Event| async move { Ack(who) })
        }
    };
    let io = Io::builder()
        .namespace("/tenant-fixed", answer("fixed"))
        .namespaces(|name| name == "/tenant-first", answer("first"))
        .namespaces_async(
            async |connect: Connect| {
                tokio::task::yield_now().await;
                let auth: Option<Auth> = connect.auth().ok().flatten();
                assert!(connect.namespace() != "/panic", "a fault");
                auth.is_some_and(|auth| auth.name == "ann")
            },
            answer("async"),
        )
        .namespaces(|name| name.starts_with("/tenant-"), answer("last"));
    let server = Local::serve(io);
    let mut client = server.open();
    for (name, auth, who) in [
        ("/tenant-fixed", "", "fixed"),
        ("/tenant-first", "", "first"),
        ("/tenant-x", "{\"name\":\"ann\"}", "async"),
        ("/strange", "{\"name\":\"ann\"}", "async"),
        ("/tenant-y", "{\"name\":\"bob\"}", "last"),
    ] {
        client.send_text(format!("40{name},{auth}"));
        assert!(text(&mut client).starts_with(&format!("40{name},{{\"sid\":")));
        client.send_text(format!("42{name},1[\"who\"]"));
        client.expect_text(&format!("43{name},1[\"{who}\"]"));
    }
    client.send_text("40/other,");
    client.expect_text("44/other,{\"message\":\"Invalid namespace\"}");
    client.send_text("40/panic,");
    client
        .expect_text("44/panic,{\"message\":\"internal error\",\"data\":{\"code\":\"INTERNAL\"}}");
}

#[test]
fn existing_namespace_is_joined_without_calling_its_predicate() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut io = Io::builder();
    let count = Arc::clone(&calls);
    io = io.namespaces_async(
        move |_: Connect| {
            count.fetch_add(1, Ordering::Relaxed);
            async { true }
        },
        |namespace| {
            namespace.middleware(
                async |connect: Connect| match connect.auth::<Option<Auth>>() {
                    Ok(None) => Ok(()),
                    _ => Err(Refusal::new("", "no names")),
                },
            )
        },
    );
    let server = Local::serve(io);
    let early = server.io.of("/x");
    assert_eq!(early.emit("lost", ()).queued, 0);
    let (mut one, mut two) = (server.open(), server.open());
    join(&mut one, "/x,");
    join(&mut two, "/x,");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(early.emit("hi", ()).queued, 2);
    // Middleware runs for each client.
    let mut three = server.open();
    three.send_text("40/x,{\"name\":\"ann\"}");
    three.expect_text("44/x,{\"message\":\"no names\"}");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn all_child_namespaces_are_reached_in_order() {
    let io = Io::builder()
        .namespace("/", |namespace| namespace)
        .namespaces(|name| name.starts_with("/tenant-"), |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    for name in ["/tenant-1,", "/tenant-2,"] {
        join(&mut client, name);
    }
    let namespaces = server.io.namespaces();
    let tenants = namespaces
        .iter()
        .filter(|namespace| namespace.name().starts_with("/tenant-"));
    assert_eq!(tenants.map(|n| n.emit("news", 1).queued).sum::<usize>(), 2);
    let mut got = [text(&mut client), text(&mut client)];
    got.sort();
    assert_eq!(
        got,
        ["42/tenant-1,[\"news\",1]", "42/tenant-2,[\"news\",1]"]
    );
}

#[test]
fn handlers_that_outlive_their_socket_count_against_their_client() {
    let io = Io::builder()
        .config(Config::default().max_in_flight(3))
        .namespace("/", |namespace| {
            namespace.on("disconnect", async |_: Event| {
                std::future::pending::<()>().await
            })
        });
    let server = Local::serve(io);
    let mut client = server.open();
    for _ in 0..3 {
        join(&mut client, "");
        client.send_text("41");
    }
    client.send_text("40");
    client.expect_text("44{\"message\":\"Too many events in progress\"}");
    // Other clients are not affected.
    let _other = server.connect();
}

#[tokio::test]
async fn namespace_patterns_have_parameters_for_middleware_and_handlers() {
    let io = Io::builder()
        .namespace("/", |namespace| namespace)
        .namespace_pattern("/board/{id}/{view}", |namespace| {
            namespace
                .middleware(async |connect: Connect| match connect.param::<u32>("id") {
                    Some(_) => Ok(()),
                    None => Err(Refusal::new("NOT_FOUND", "no such board")),
                })
                .on("where", async |event: Event| {
                    let namespace = event.namespace();
                    let id: Option<u32> = namespace.param("id");
                    let view: Option<String> = namespace.param("view");
                    let wrong = (
                        namespace.param::<u8>("view"),
                        namespace.param::<u8>("other"),
                    );
                    assert_eq!(wrong, (None, None));
                    Ack((id, view))
                })
        });
    let server = roomcast::testing::serve(io).await;
    let connect = async |name: &str| server.client().namespace(name).connect().await;
    let client = connect("/board/7/list").await.unwrap();
    let (id, view): (u32, String) = client.emit_with_ack("where", ()).await.unwrap();
    assert_eq!((id, &*view), (7, "list"));
    let other = connect("/board/8/list").await.unwrap();
    let (id, _): (u32, String) = other.emit_with_ack("where", ()).await.unwrap();
    assert_eq!(id, 8);
    for (name, expected) in [
        ("/board/x/list", "no such board"),
        ("/board/7", "Invalid namespace"),
        ("/board/7/list/more", "Invalid namespace"),
    ] {
        let error = connect(name).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    assert_eq!(server.io().of("/").param::<u8>("id"), None);
    let io = Io::builder().namespace_pattern("/board/{id", |namespace| namespace);
    let error = io.build().unwrap_err();
    assert_eq!(error.to_string(), "invalid namespace `/board/{id`");
}
