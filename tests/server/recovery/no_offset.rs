//! Clients that have received no event, so that they reconnect without an offset.

use roomcast::options::Recovery;

use super::{enter, lose, on, reconnect, serve};
use crate::local::Local;

#[test]
fn client_without_offset_recovers_all_events_of_its_session() {
    let server = serve();
    server.io.emit("n", "before");
    let mut client = server.open();
    let (_, mut session) = enter(&mut client, "", "");
    server.io.to("room").emit("n", "not yet");
    client.send_text("421[\"join\",\"room\"]");
    client.expect_text("431[]");
    client.send_text("421[\"mark\",\"x\"]");
    client.expect_text("431[]");
    for _ in 0..2 {
        lose(&server, client);
        server.io.to("room").volatile().emit("n", "volatile");
        let (again, missed, is_same) = reconnect(&server, &mut session);
        assert!(is_same && missed.is_empty());
        client = again;
    }
    // The client does not read the first event.
    server.io.to("room").emit("n", 1);
    lose(&server, client);
    server.io.to("room").emit("n", 2);
    let (mut client, missed, is_same) = reconnect(&server, &mut session);
    assert!(is_same);
    assert_eq!(missed, ["42[\"n\",1]", "42[\"n\",2]"]);
    client.send_text("422[\"who\"]");
    client.expect_text("432[true,\"x\",[\"room\"]]");
    server.io.to("room").emit("n", 3);
    session.expect(&mut client, "42[\"n\",3]");
}

#[test]
fn client_without_offset_needs_the_first_event() {
    let server = Local::serve(on(Recovery::default().max_messages(2)));
    let mut client = server.open();
    let (_, mut session) = enter(&mut client, "", "");
    lose(&server, client);
    for n in 0..3 {
        let (client, missed, is_same) = reconnect(&server, &mut session);
        assert!(is_same);
        assert_eq!(missed.len(), n);
        session.offset = None;
        lose(&server, client);
        server.io.emit("n", n);
    }
    let (_client, missed, is_same) = reconnect(&server, &mut session);
    assert!(!is_same && missed.is_empty());
}
