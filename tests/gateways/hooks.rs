//! Deliveries of webhooks that a server has taken and not ended: another one makes them when the lease is over, and the receiver
//! can tell that they are the same.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::guard::{KEY, Server, until};
use crate::market::{must, signal};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{Binary, UNLIMITED};
use crate::trades::{Hook, Reply, header};

const SECRET: &str = "a secret of webhooks";

/// The time goes by for which the delivery of "left" is leased.
const END_LEASE: &str =
    "UPDATE webhook_deliveries SET due_at = created_at WHERE body LIKE '%\"left\"%'";

/// The variables of a server that tells this address of signals. A lease lasts for 70 s, and ends before that where a test says so.
fn telling(url: &str) -> Vec<(&str, &str)> {
    let mut variables = UNLIMITED.to_vec();
    variables.extend([
        KEY,
        ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0"),
        ("ROOMCAST_WEBHOOKS__URL", url),
        ("ROOMCAST_WEBHOOKS__SECRET", SECRET),
        ("ROOMCAST_WEBHOOKS__EVENTS", "signal:new"),
        ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_WEBHOOKS__TIMEOUT", "1min"),
    ]);
    variables
}

async fn publish(binary: &Binary, id: &str) {
    must(binary, "/signals", signal(id, None)).await;
}

/// A delivery as the receiver sees it.
#[derive(Debug, PartialEq)]
struct Received {
    /// The signal that it tells of.
    signal: String,
    /// Its id, and that of its event.
    ids: (String, String),
}

/// What the receiver got, all of it with a good proof.
fn received(hook: &Hook) -> Vec<Received> {
    let requests = hook.requests();
    requests.iter().map(|request| read(request)).collect()
}

fn read(request: &str) -> Received {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let signature = header(head, "roomcast-signature").unwrap();
    let (time, proof) = signature.split_once(',').unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let expected = ring::hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let expected = expected.as_ref().iter().map(|byte| format!("{byte:02x}"));
    assert_eq!(proof, format!("v1={}", expected.collect::<String>()));
    let json: Value = serde_json::from_str(body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let id = text(&json["id"]);
    for name in ["roomcast-delivery", "idempotency-key"] {
        assert_eq!(header(head, name).as_deref(), Some(&*id), "{name}");
    }
    let [event] = &json["events"].as_array().unwrap()[..] else {
        panic!("{json}");
    };
    Received {
        signal: text(&event["data"]["signalId"]),
        ids: (id, text(&event["id"])),
    }
}

/// The delivery of "left" has been taken by a server that is dead now. Others are `alive`, and `end` ends the lease.
async fn is_made_once_by_the_living(hook: &Hook, alive: &[&Binary], end: impl FnOnce()) {
    // Nobody makes it as long as it is leased, although others are made.
    publish(alive[0], "other").await;
    until(|| hook.requests().len() == 2);
    assert_eq!(received(hook)[1].signal, "other");
    end();
    until(|| hook.requests().len() == 3);
    publish(alive[0], "last").await;
    let start = Instant::now();
    loop {
        let mut delivered = 0;
        for binary in alive {
            let row = "roomcast_webhook_deliveries_total{result=\"delivered\"}";
            delivered += binary.metric(row).await;
        }
        if delivered == 3 {
            break;
        }
        assert!(start.elapsed().as_secs() < 60, "{:?}", received(hook));
        sleep(Duration::from_millis(20)).await; // The pace of asking.
    }
    let received = received(hook);
    let signals: Vec<_> = received.iter().map(|one| &*one.signal).collect();
    assert_eq!(signals, ["left", "other", "left", "last"]);
    assert_eq!(
        received[0], received[2],
        "the same delivery of the same event"
    );
    assert_ne!(received[0].ids, received[1].ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_had_taken_is_delivered_once_when_it_is_back_and_the_lease_is_over() {
    let hook = Hook::start(&[Reply::Hang, Reply::Answer(204, "")]);
    let url = hook.url();
    let server = Server::start(&telling(&url));
    publish(&server.binary, "left").await;
    until(|| hook.requests().len() == 1);
    let server = server.restarted(&telling(&url));
    let database = rusqlite::Connection::open(server.folder().join("chat.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    let end = || {
        let ended = database.execute(END_LEASE, []);
        assert_eq!(ended.unwrap(), 1);
    };
    is_made_once_by_the_living(&hook, &[&server.binary], end).await;
    // What was delivered is noted behind the count.
    until(|| {
        let left = "SELECT count(*) FROM webhook_deliveries";
        let left: i64 = database.query_row(left, [], |row| row.get(0)).unwrap();
        left == 0
    });
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_had_taken_is_delivered_once_by_another_when_the_lease_is_over() {
    let hook = Hook::start(&[Reply::Hang, Reply::Answer(204, "")]);
    let url = hook.url();
    let database = Database::new();
    let variables = telling(&url);
    // The other one begins when the first has taken it, or might take it itself.
    let dying = database.server_with(&variables);
    publish(&dying, "left").await;
    until(|| hook.requests().len() == 1);
    let alive = [
        database.server_with(&variables),
        database.server_with(&variables),
    ];
    drop(dying);
    let end = || {
        database.sql(END_LEASE);
    };
    // Two are there to make it, and one does.
    is_made_once_by_the_living(&hook, &[&alive[0], &alive[1]], end).await;
    until(|| database.sql("SELECT count(*) FROM webhook_deliveries") == "0");
}
