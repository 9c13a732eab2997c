//! Clients that try to recover sessions which no server has, at two servers on one PostgreSQL.

use std::net::SocketAddr;

use serde_json::Value;

use crate::guard::{NOT_EXEMPT, until};
use crate::nodes::Database;
use crate::server::ServerProcess;
use crate::support::http::metric;
use crate::support::{Frame, RawClient};

const LOOKUPS_SENT: &str = "roomcast_recovery_lookups_total{result=\"asked\"}";
const LIMITED: &str = "roomcast_recovery_lookups_total{result=\"limited\"}";
const UNKNOWN: &str = "roomcast_recovery_lookups_total{result=\"known_to_be_unknown\"}";

/// Opens a WebSocket that has joined no namespace.
fn open(address: SocketAddr) -> RawClient {
    let mut client = RawClient::connect(address);
    client.send(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: chat.example\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.response().status, 101);
    assert!(matches!(client.frame(), Frame::Text(open) if open.starts_with("0{")));
    client
}

/// Joins with this payload, and returns the answer and the last argument of the first event.
fn join(client: &mut RawClient, auth: &str) -> (Value, Value) {
    client.send_text(format!("40{auth}"));
    let text = |client: &mut RawClient| match client.message() {
        Frame::Text(text) => text,
        other @ (Frame::Binary(_) | Frame::Close(_) | Frame::Ping(_) | Frame::Pong(_)) => {
            panic!("{other:?}")
        }
    };
    let answer = text(client);
    let answer = serde_json::from_str(answer.strip_prefix("40").expect(&answer)).unwrap();
    let event = text(client);
    let mut event: Vec<Value> = serde_json::from_str(event.strip_prefix("42").unwrap()).unwrap();
    (answer, event.pop().unwrap())
}

fn count(server: &ServerProcess, name: &str) -> i64 {
    metric(
        &RawClient::connect(server.admin()).get("/metrics").body,
        name,
    )
}

#[test]
fn invented_sessions_cause_few_requests_to_other_servers() {
    let database = Database::new();
    let variables = [
        NOT_EXEMPT,
        ("ROOMCAST_RECOVERY__ENABLED", "true"),
        ("ROOMCAST_ADAPTER__URL", database.url()),
        ("ROOMCAST_LIMITS__CONNECTS", "0"),
        ("ROOMCAST_LIMITS__LOOKUPS_PER_ADDRESS", "12"),
    ];
    let servers = [(); 2].map(|()| database.server_with(&variables));
    let [here, there] = &servers;
    let nodes = |server: &ServerProcess| count(server, "roomcast_nodes");
    until(|| nodes(here) == 2 && nodes(there) == 2);
    let (admitted, offset) = join(&mut open(there.address()), "{\"name\":\"Ann\"}");
    let (pid, offset) = (admitted["pid"].as_str().unwrap(), offset.as_str().unwrap());
    assert!(offset.contains('.'), "{offset} names its server");
    let invented = |number: u32| {
        let pid = format!("{number:04}{}", &pid[4..]);
        format!("{{\"name\":\"Bob\",\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}")
    };
    // The same session, repeatedly, causes one request.
    for _ in 0..5 {
        join(&mut open(here.address()), &invented(0));
    }
    assert_eq!((count(here, LOOKUPS_SENT), count(here, UNKNOWN)), (1, 4));
    for number in 1..60 {
        join(&mut open(here.address()), &invented(number));
    }
    // Twelve, and one every five seconds.
    assert!(
        count(here, LOOKUPS_SENT) < 30,
        "{}",
        count(here, LOOKUPS_SENT)
    );
    assert!(count(here, LIMITED) > 30, "{}", count(here, LIMITED));
}
