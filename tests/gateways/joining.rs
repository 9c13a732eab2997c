//! Clients that join at a server which has not yet emitted what they received from another server.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::broker::suspend;
use crate::nodes::Database;
use crate::server::LOBBY;

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn join_during_in_doubt_commit_repeats_no_known_message() {
    let database = Database::apart();
    let servers = ["20s", "8s"].map(|timeout| {
        database.server_with(&[
            ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "user"),
            ("ROOMCAST_STORE__WRITERS", "1"),
            ("ROOMCAST_STORE__STATEMENT_TIMEOUT", timeout),
        ])
    });
    let mut ann = servers[0].guest("ann").await;
    let mut bob = servers[1].guest("bob").await;
    // With a member present, the conversation has an order at the other server as well.
    let mut other = servers[1].guest("other").await;
    let members = json!({"title": "One", "memberIds": [bob.user_id(), other.user_id()]});
    let id = ann.create(members).await;
    for client in [&mut ann, &mut other] {
        client.must("join_conversation", id.clone()).await;
    }

    // The commit of a message in the Lobby does not end, because its database process will be
    // suspended.
    database.sql(
        "CREATE FUNCTION stick() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER stick AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.content = 'stuck') EXECUTE FUNCTION stick()",
    );
    let stuck = json!({"conversationId": LOBBY, "content": "stuck", "clientMessageId": "stuck"});
    let answer = other.request("message", stuck).await;
    let process = suspend_sleeping_commit(&database).await;
    servers[1].expect_log(&["connection lost during a commit"]);

    // Bob has the message from Ann's server, and joins at the server that cannot have emitted it.
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
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
    let message = json!({"conversationId": id, "content": "second"});
    ann.must("message", message).await;
    assert_eq!(bob.event("message").await["content"], "second");
    for content in ["first", "second"] {
        assert_eq!(other.event("message").await["content"], content);
    }
}

/// Suspends the database process that sleeps within a commit, as soon as there is one.
async fn suspend_sleeping_commit(database: &Database) -> Pid {
    let start = Instant::now();
    loop {
        let sleeping =
            database.sql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
        if let Some(process) = sleeping.parse().ok().and_then(Pid::from_raw) {
            suspend(&[process]);
            return process;
        }
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await; // Poll interval.
    }
}
