//! Alerts of several servers that share a database and a broker.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admins::Admin;
use crate::guard::KEY;
use crate::nodes::Database;
use crate::redis_server::RedisServer;
use crate::server::ServerProcess;
use crate::support::DEADLINE;

const ADAPTER: &str = "RoomcastAdapterUnavailable";
const TASK: &str = "RoomcastTaskDown";
const CRASH: &str = "RoomcastRestarting";

/// Starts the server with this id. The file `kill-ID` names a task that it kills.
fn start(database: &Database, redis: &RedisServer, id: &str) -> ServerProcess {
    let (broker, kill) = (redis.url(), format!("kill-{id}"));
    database.server_with(&[
        KEY,
        ("ROOMCAST_ADAPTER__URL", &broker),
        ("ROOMCAST_NODE__ID", id),
        ("SUPERVISOR_TEST_KILLS", &kill),
    ])
}

/// Returns the stored alerts as node, part, state and id.
fn stored(database: &Database) -> Vec<[String; 4]> {
    let query = "SELECT body FROM journal_entries WHERE journal = 'alerts' ORDER BY revision";
    let text = database.sql(query);
    let alerts = text.lines().filter(|line| !line.is_empty());
    let field = |alert: &Value, name: &str| alert[name].as_str().unwrap().to_owned();
    alerts
        .map(|line| {
            let alert: Value = serde_json::from_str(line).unwrap();
            ["node", "part", "state", "id"].map(|name| field(&alert, name))
        })
        .collect()
}

/// Waits until the stored alerts are as expected, and returns them.
async fn until_stored(
    database: &Database,
    is_expected: impl Fn(&[[String; 4]]) -> bool,
) -> Vec<[String; 4]> {
    let start = Instant::now();
    loop {
        let found = stored(database);
        if is_expected(&found) {
            return found;
        }
        assert!(start.elapsed() < 3 * DEADLINE, "{found:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    }
}

/// Returns the ids of the alerts of a node and a part in this state.
fn ids<'a>(alerts: &'a [[String; 4]], of: [&str; 3]) -> Vec<&'a str> {
    let of = alerts.iter().filter(|alert| alert[..3] == of);
    of.map(|alert| alert[3].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_reach_admins_of_all_servers_and_outlive_a_killed_one() {
    let (redis, database) = (RedisServer::start(), Database::new());
    let [one, two] = ["one", "two"].map(|id| start(&database, &redis, id));
    for server in [&one, &two] {
        server
            .until_metric("roomcast_nodes", |count| count == 2)
            .await;
        server.until_joined(true).await;
    }
    let at_two = Admin::connect(two.address()).await;
    // The broker carries an alert to the admins of the other server.
    fs::write(database.folder().join("kill-one"), "retention").unwrap();
    for state in ["unavailable", "ok"] {
        at_two.until_alert("one", TASK, state).await;
    }

    // Both servers have the same fault, and the store has an alert of each.
    redis.kill();
    at_two.until_alert("two", ADAPTER, "unavailable").await;
    let open = until_stored(&database, |alerts| {
        let count = |node| ids(alerts, [node, "adapter", "unavailable"]).len();
        (count("one"), count("two")) == (1, 1)
    })
    .await;
    let before = ids(&open, ["one", "adapter", "unavailable"]);
    let later_at_two = Admin::connect(two.address()).await;
    for node in ["one", "two"] {
        later_at_two.until_alert(node, ADAPTER, "unavailable").await;
    }

    // The killed server continues its alert, and reports the crash. The other's is as before.
    drop(one);
    let one = start(&database, &redis, "one");
    let at_one = Admin::connect(one.address()).await;
    let restarted = until_stored(&database, |alerts| {
        !ids(alerts, ["one", "server", "ok"]).is_empty()
    })
    .await;
    for node in ["one", "two"] {
        at_one.until_alert(node, ADAPTER, "unavailable").await;
        let of_node = [node, "adapter", "unavailable"];
        assert_eq!(ids(&restarted, of_node), ids(&open, of_node));
        assert_eq!(ids(&restarted, [node, "adapter", "ok"]), [""; 0]);
    }
    let later_at_two = Admin::connect(two.address()).await;
    later_at_two.until_alert("one", CRASH, "ok").await;

    // The alerts end when the broker is back.
    redis.restart();
    for (admin, node) in [(&at_one, "one"), (&at_two, "two")] {
        admin.until_alert(node, ADAPTER, "ok").await;
    }
    let ended = until_stored(&database, |alerts| {
        alerts.iter().all(|alert| alert[2] == "ok")
    })
    .await;
    assert_eq!(ids(&ended, ["one", "adapter", "ok"]), before);
    let mut kinds: Vec<_> = ended.iter().map(|alert| &alert[..2]).collect();
    kinds.sort_unstable();
    let expected = [
        ["one", "adapter"],
        ["one", "server"],
        ["one", "task"],
        ["two", "adapter"],
    ];
    assert_eq!(kinds, expected, "each alert is stored once");
    // A new admin of either server receives the ends, and no open alert.
    for server in [&one, &two] {
        let admin = Admin::connect(server.address()).await;
        for node in ["one", "two"] {
            admin.until_alert(node, ADAPTER, "ok").await;
        }
        let alerts = admin.alerts();
        let is_open = |alert: &&Value| alert["state"] == "unavailable";
        assert_eq!(alerts.iter().find(is_open), None, "{alerts:?}");
    }
}
