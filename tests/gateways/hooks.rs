//! Webhook deliveries that a server has started but not finished. Another server repeats them when
//! the lease has expired, and the receiver can recognize the repetition.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::guard::{KEY, Server, until};
use crate::market::{must, signal};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{ServerProcess, UNLIMITED};
use crate::trades::{Hook, Reply, header};

const SECRET: &str = "a secret of webhooks";

/// Ends the lease of the delivery of "left".
const END_LEASE: &str =
    "UPDATE webhook_deliveries SET due_at = created_at WHERE body LIKE '%\"left\"%'";

/// Returns the variables of a server that sends signals to this address. A lease lasts for 70 s,
/// unless a test ends it.
fn webhook_variables(url: &str) -> Vec<(&str, &str)> {
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

async fn publish(binary: &ServerProcess, id: &str) {
    must(binary, "/signals", signal(id, None)).await;
}

/// A delivery as the receiver sees it.
#[derive(Debug, PartialEq)]
struct Received {
    /// The signal of the delivery.
    signal: String,
    /// The delivery's id, and the id of its event.
    ids: (String, String),
}

/// Returns all deliveries that the receiver got; each must have a valid signature.
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

/// Checks that one of the servers `alive` repeats the delivery of "left", which a dead server has
/// started. `end` ends the lease.
async fn assert_made_once(hook: &Hook, alive: &[&ServerProcess], end: impl FnOnce()) {
    // The delivery is not repeated during its lease, although other deliveries are made.
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
        sleep(Duration::from_millis(20)).await; // Poll interval.
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
async fn restarted_server_repeats_its_delivery_once_after_the_lease() {
    let hook = Hook::start(&[Reply::Hang, Reply::Answer(204, "")]);
    let url = hook.url();
    let server = Server::start(&webhook_variables(&url));
    publish(&server.binary, "left").await;
    until(|| hook.requests().len() == 1);
    let server = server.restarted(&webhook_variables(&url));
    let database = rusqlite::Connection::open(server.folder().join("chat.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    let end = || {
        let ended = database.execute(END_LEASE, []);
        assert_eq!(ended.unwrap(), 1);
    };
    assert_made_once(&hook, &[&server.binary], end).await;
    // The database is updated after the metric.
    until(|| {
        let left = "SELECT count(*) FROM webhook_deliveries";
        let left: i64 = database.query_row(left, [], |row| row.get(0)).unwrap();
        left == 0
    });
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn another_server_repeats_a_lost_delivery_once_after_the_lease() {
    let hook = Hook::start(&[Reply::Hang, Reply::Answer(204, "")]);
    let url = hook.url();
    let database = Database::new();
    let variables = webhook_variables(&url);
    // The surviving servers start after the first has taken the delivery, or one of them might take
    // it.
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
    // Both could repeat it, and one does.
    assert_made_once(&hook, &[&alive[0], &alive[1]], end).await;
    until(|| database.sql("SELECT count(*) FROM webhook_deliveries") == "0");
}
