//! Rooms, as seen by clients and by the application.

use roomcast::{Ack, Event, Io, Room, SocketId};

use crate::local::{Local, join, text, until};

fn server() -> Local {
    let mut io = Io::builder();
    for name in ["/", "/chat"] {
        io = io.namespace(name, |namespace| {
            namespace
                .on("join", async |event: Event, room: String| {
                    event.socket.join(room)
                })
                .on("leave", async |event: Event, room: String| {
                    event.socket.leave(room)
                })
                .on("to", async |event: Event, room: String| {
                    event.socket.to(room).emit("hi", ());
                })
                .on("broadcast", async |event: Event| {
                    event.socket.broadcast().emit("hi", ());
                })
                .on("except", async |event: Event, room: String| {
                    event.socket.except(room).emit("hi", ());
                })
                .on("disconnecting", async |event: Event| {
                    event
                        .socket
                        .to(event.socket.rooms())
                        .emit("leaving", event.socket.rooms());
                })
                .on("disconnect", async |event: Event| {
                    event.namespace().emit("left", event.socket.rooms().len());
                })
        });
    }
    Local::serve(io)
}

#[test]
fn rooms_of_different_namespaces_are_different() {
    let server = server();
    let (mut client, _) = server.connect();
    join(&mut client, "/chat,");
    client.send_text("421[\"join\",\"r\"]");
    client.expect_text("431[]");
    assert_eq!(server.io.to("r").count(), 1);
    assert_eq!(server.io.of("/chat").to("r").count(), 0);
    assert_eq!(server.io.of("/").rooms(), [(Room::from("r"), 1)]);
}

#[test]
fn a_socket_is_not_in_its_own_audience() {
    let server = server();
    let (mut a, _) = server.connect();
    let (mut b, b_id) = server.connect();
    let (mut c, _) = server.connect();
    for client in [&mut a, &mut b] {
        client.send_text("421[\"join\",\"r\"]");
        client.expect_text("431[]");
    }
    a.send_text("42[\"to\",\"r\"]");
    b.expect_text("42[\"hi\"]");
    a.send_text("42[\"broadcast\"]");
    b.expect_text("42[\"hi\"]");
    c.expect_text("42[\"hi\"]");
    b.send_text("42[\"except\",\"r\"]");
    c.expect_text("42[\"hi\"]");
    a.send_text(format!("42[\"to\",\"{b_id}\"]"));
    b.expect_text("42[\"hi\"]");
    b.send_text("421[\"leave\",\"r\"]");
    b.expect_text("431[]");
    // No other event has arrived.
    server.io.emit("end", ());
    for client in [&mut a, &mut b, &mut c] {
        client.expect_text("42[\"end\"]");
    }
}

#[test]
fn rooms_exist_in_disconnecting_and_are_left_in_disconnect() {
    let server = server();
    let (mut staying, _) = server.connect();
    let (mut leaving, _) = server.connect();
    for client in [&mut staying, &mut leaving] {
        client.send_text("421[\"join\",\"r\"]");
        client.expect_text("431[]");
    }
    drop(leaving);
    staying.expect_text("42[\"leaving\",[\"r\"]]");
    staying.expect_text("42[\"left\",0]");
    assert_eq!(server.io.to("r").count(), 1);
}

#[test]
fn the_application_moves_and_disconnects_whole_rooms() {
    let server = server();
    let (mut a, a_id) = server.connect();
    let (mut b, b_id) = server.connect();
    let ids = [
        SocketId::parse(&a_id).unwrap(),
        SocketId::parse(&b_id).unwrap(),
    ];
    server.io.in_(&ids).join(["x", "y"]);
    server.io.in_("x").except(ids[1].clone()).leave("y");
    assert_eq!(server.io.to("x").count(), 2);
    assert_eq!(server.io.to("y").count(), 1);
    let sockets = server.io.in_("y").sockets();
    assert_eq!(
        sockets.iter().map(|socket| socket.id()).collect::<Vec<_>>(),
        [ids[1].clone()]
    );
    assert!(sockets[0].is_in("y") && !sockets[0].is_in("z"));

    server.io.in_("y").disconnect();
    b.expect_text("41");
    server.io.in_("x").close_connections();
    // The departure of the other client was announced.
    while text(&mut a) != "41" {}
    a.expect_close();
    until(|| server.io.of("/").count() == 0);
    join(&mut b, "");
}

#[test]
fn rooms_are_named_by_strings_and_by_iterators() {
    use std::{
        borrow::Cow,
        collections::{BTreeSet, HashSet},
        sync::Arc,
    };

    use roomcast::{Room, broadcast::IntoRooms};

    fn names<'a, M>(rooms: impl IntoRooms<'a, M>) -> Vec<String> {
        let mut names = Vec::new();
        rooms.each(|room| names.push(room.as_str().to_owned()));
        names.sort();
        names
    }

    let (text, room) = (String::from("a"), Room::from("a"));
    let shared: Arc<str> = "a".into();
    let boxed: Box<str> = "a".into();
    let cow: Cow<'_, str> = "a".into();
    for one in [
        names("a"),
        names(["a"].first().unwrap()),
        names(&text),
        names(text.clone()),
        names(&room),
        names(room),
        names(&cow),
        names(cow.clone()),
        names(Cow::<'_, str>::Owned(text)),
        names(&shared),
        names(Arc::clone(&shared)),
        names(&boxed),
        names(boxed),
        names(Some("a")),
    ] {
        assert_eq!(one, ["a"]);
    }
    let slice: &[&str] = &["b", "a"];
    let list = vec![String::from("a"), String::from("b")];
    let set: HashSet<String> = list.iter().cloned().collect();
    let sorted: BTreeSet<Room> = slice.iter().map(|name| Room::from(*name)).collect();
    for two in [
        names(slice),
        names(["a", "b"]),
        names(&list),
        names(list.as_slice()),
        names(list),
        names(&set),
        names(&sorted),
        names(set.iter().filter(|name| !name.is_empty())),
        names(set),
        names((0..2).map(|n| if n == 0 { "a" } else { "b" }.to_owned())),
        names([Cow::Borrowed("a"), Cow::Owned("b".to_owned())]),
    ] {
        assert_eq!(two, ["a", "b"]);
    }
    assert!(names(Vec::<String>::new()).is_empty());
}

#[tokio::test]
async fn socket_that_leaves_all_rooms_keeps_its_own_and_can_join() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("move", async |event: Event| {
            event.socket.join(["a", "b"])?;
            event.socket.leave_all();
            assert!(event.socket.rooms().is_empty());
            event.socket.join("c")
        })
    });
    let server = roomcast::testing::serve(io).await;
    let mut client = server.client().connect().await.unwrap();
    let () = client.emit_with_ack("move", ()).await.unwrap();
    assert_eq!(server.io().to(["a", "b"].as_slice()).count(), 0);
    assert_eq!(server.io().of("/").rooms(), [(Room::from("c"), 1)]);
    server.io().to(client.id()).emit("own", ());
    client.event::<()>("own").await.unwrap();
}

#[test]
fn iterator_of_room_names_may_use_the_socket() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("move", async |event: Event| {
            let socket = &event.socket;
            socket.join(["a", "b"]).unwrap();
            let absent = |room: &&str| !socket.is_in(room);
            socket.join(["b", "c"].into_iter().filter(absent)).unwrap();
            let joined = |room: &&str| socket.rooms().contains(&Room::from(*room));
            socket.leave(["a", "d"].into_iter().filter(joined));
            Ack(socket.rooms().len())
        })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("421[\"move\"]");
    client.expect_text("431[2]");
}
