//! Who joins at a server that has not emitted yet what the client has from another one.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::nodes::Database;
use crate::server::LOBBY;

/// How long anything may take that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_where_a_lane_is_in_doubt_gets_nothing_live_that_it_has_already() {
    let database = Database::apart();
    let servers = ["20s", "8s"].map(|patience| {
        database.server_with(&[
            ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "user"),
            ("ROOMCAST_STORE__LANES", "1"),
            ("ROOMCAST_STORE__STATEMENT_TIMEOUT", patience),
        ])
    });
    let mut ann = servers[0].guest("ann").await;
    let mut bob = servers[1].guest("bob").await;
    // With somebody in it the conversation has an order at the other server as well.
    let mut other = servers[1].guest("other").await;
    let members = json!({"title": "One", "memberIds": [bob.user_id(), other.user_id()]});
    let id = ann.create(members).await;
    for client in [&mut ann, &mut other] {
        client.must("join_conversation", id.clone()).await;
    }

    // The commit of a message of the Lobby does not end, and neither does the process that it is in.
    database.sql(
        "CREATE FUNCTION stick() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER stick AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.content = 'stuck') EXECUTE FUNCTION stick()",
    );
    let stuck = json!({"conversationId": LOBBY, "content": "stuck", "clientMessageId": "stuck"});
    let answer = other.request("message", stuck).await;
    let process = stop_whoever_sleeps(&database).await;
    servers[1].expect_log(&["the connection was lost during a commit"]);

    // Bob has the message from Ann's server, and comes to the one that cannot have emitted it.
    let message = json!({"conversationId": id, "content": "first"});
    let first = ann.must("message", message).await["message"].clone();
    let join = json!({"conversationId": id, "lastSeq": first["seq"]});
    let refused = bob
        .refused("join_conversation", join.clone(), "STORE_UNAVAILABLE")
        .await;
    assert!(refused["retryAfter"].as_u64().unwrap() > 0, "{refused}");

    kill_process(process, Signal::CONT).unwrap();
    other.answer(answer).await;
    let start = Instant::now();
    while bob.ask("join_conversation", join.clone()).await["success"] != true {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await; // The pace of asking.
    }
    let message = json!({"conversationId": id, "content": "second"});
    ann.must("message", message).await;
    assert_eq!(bob.event("message").await["content"], "second");
    for content in ["first", "second"] {
        assert_eq!(other.event("message").await["content"], content);
    }
}

/// Stops the process of the database that sleeps within a commit, as soon as there is one.
async fn stop_whoever_sleeps(database: &Database) -> Pid {
    let start = Instant::now();
    loop {
        let sleeping =
            database.sql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
        if let Some(process) = sleeping.parse().ok().and_then(Pid::from_raw) {
            kill_process(process, Signal::STOP).unwrap();
            return process;
        }
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await; // The pace of asking.
    }
}
