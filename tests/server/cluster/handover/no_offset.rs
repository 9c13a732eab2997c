//! Clients that have received no event, so that they reconnect without an offset.

use serde_json::json;

use super::{Person, three};

#[test]
fn client_without_offset_moves_between_servers() {
    let servers = three();
    let mut lost = Person::without_events(&servers[0]).lose(&servers[0]);
    let sid = lost.sid.clone();
    for at in [1, 1, 2, 0] {
        let (mut person, events) = lost.reconnect(&servers[at]);
        assert!(events.is_empty() && person.sid == sid, "at {at}");
        person.ask("arrived");
        lost = person.lose(&servers[at]);
    }
    servers[0].io.to("room").local().emit("n", 1);
    for at in [2, 1] {
        let (mut person, events) = lost.reconnect(&servers[at]);
        assert_eq!(events, [json!(["n", 1])], "at {at}");
        person.ask("arrived");
        // The client has not read this event.
        person.offset.clear();
        lost = person.lose(&servers[at]);
    }
}
