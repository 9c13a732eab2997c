//! Publications of services in their own transactions reach clients at every server, once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_postgres::Client as Sql;

use crate::client::Client;
use crate::nodes::Database;
use crate::server::{ServerProcess, UNLIMITED};
use crate::support::RawClient;

/// Maximum duration of anything that is expected to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Publishes to all clients and commits.
pub(crate) async fn publish(sql: &Sql, event: &str, payload: &str) {
    let statement = "SELECT roomcast_publish_to_everyone($1, $2::text::jsonb)";
    sql.query(statement, &[&event, &payload]).await.unwrap();
}

/// Returns the numbers in the events `n` that a client receives before the end.
async fn numbers(client: &mut Client) -> Vec<i64> {
    let mut numbers = Vec::new();
    loop {
        let n = client.event("n").await.as_i64().unwrap();
        if n < 0 {
            return numbers;
        }
        numbers.push(n);
    }
}

/// Returns the readiness report for load balancers.
pub(crate) async fn readiness(server: &ServerProcess) -> Value {
    let address = server.address();
    let request = move || RawClient::connect(address).get("/health/ready").body;
    let answer = tokio::task::spawn_blocking(request).await.unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_publication_reaches_its_audience_at_every_server() {
    let database = Database::new();
    let servers = [database.server_with(&[]), database.server_with(&[])];
    let mut sql = database.client().await;
    let mut clients = Vec::new();
    for server in &servers {
        let mut ann = server.guest("ann").await;
        ann.must("subscribe:signals", json!({})).await;
        clients.push((ann, server.guest("bob").await));
    }
    let ann_id = clients[0].0.user_id();
    let undone = sql.transaction().await.unwrap();
    publish(undone.client(), "news", "\"undone\"").await;
    undone.rollback().await.unwrap();
    let done = sql.transaction().await.unwrap();
    done.query(
        "SELECT roomcast_publish('signals', 'to:room', '{\"a\": [1, \"x\"]}')",
        &[],
    )
    .await
    .unwrap();
    done.query("SELECT roomcast_publish_to_user($1, 'to:user')", &[&ann_id])
        .await
        .unwrap();
    publish(done.client(), "news", "null").await;
    done.commit().await.unwrap();
    for (ann, bob) in &mut clients {
        assert_eq!(
            ann.packet_of("to:room").await,
            r#"42["to:room",{"a": [1, "x"]}]"#
        );
        assert_eq!(ann.packet_of("to:user").await, r#"42["to:user"]"#);
        assert_eq!(ann.packet_of("news").await, r#"42["news",null]"#);
        // The earlier event is not for Bob, and the first was never committed.
        assert!(bob.event("news").await.is_null());
        assert!(bob.queued_events().is_empty(), "{:?}", bob.queued_events());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commit_is_emitted_late_and_not_skipped() {
    let database = Database::new();
    let servers = [database.server_with(&[]), database.server_with(&[])];
    let (mut late, sql) = (database.client().await, database.client().await);
    let mut clients = [servers[0].guest("ann").await, servers[1].guest("ann").await];
    let late = late.transaction().await.unwrap();
    publish(late.client(), "n", "1").await;
    for n in 2..5 {
        publish(&sql, "n", &n.to_string()).await;
        for client in &mut clients {
            assert_eq!(client.event("n").await, json!(n));
        }
    }
    late.commit().await.unwrap();
    for client in &mut clients {
        assert_eq!(client.event("n").await, json!(1));
    }
    publish(&sql, "n", "-1").await;
    for client in &mut clients {
        assert!(numbers(client).await.is_empty(), "each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_transactions_have_the_same_order_at_every_server() {
    const WRITERS: i64 = 6;
    const EACH: i64 = 40;
    let database = Database::new();
    let servers = [database.server_with(&[]), database.server_with(&[])];
    let mut clients = [servers[0].guest("ann").await, servers[1].guest("ann").await];
    database.sql("CREATE TABLE counter (n bigint); INSERT INTO counter VALUES (0)");
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (counting, mut free) = (database.client().await, database.client().await);
        writers.push(tokio::spawn(async move {
            for n in 0..EACH {
                // Transactions that wait for one another have the order of their numbers.
                counting
                    .batch_execute(
                        "BEGIN; UPDATE counter SET n = n + 1;
                         SELECT roomcast_publish_to_everyone('n', to_jsonb((SELECT n FROM counter))); COMMIT",
                    )
                    .await
                    .unwrap();
                // These transactions do not wait for others.
                let free = free.transaction().await.unwrap();
                publish(free.client(), "free", &(writer * EACH + n).to_string()).await;
                free.commit().await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    publish(&database.client().await, "n", "-1").await;
    let mut free = Vec::new();
    for client in &mut clients {
        assert_eq!(
            numbers(client).await,
            (1..=WRITERS * EACH).collect::<Vec<_>>()
        );
        free.push(client.queued_events());
    }
    assert_eq!(free[0], free[1], "one order");
    assert_eq!(free[0].len() as i64, WRITERS * EACH, "each once");
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for (_, n) in &free[0] {
        let n = n.as_i64().unwrap();
        assert!(last.insert(n / EACH, n).is_none_or(|before| before < n));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn named_server_resumes_after_restart_and_skips_old_publications() {
    let database = Database::new();
    let other = database.server_with(&[]);
    let named = [
        ("ROOMCAST_NODE__ID", "a"),
        ("ROOMCAST_PUBLICATIONS__RESUME_DELAY", "10s"),
    ];
    let server = database.server_with(&named);
    let sql = database.client().await;
    let mut ann = server.guest("ann").await;
    let mut bob = other.guest("bob").await;
    publish(&sql, "n", "1").await;
    assert_eq!(ann.event("n").await, json!(1));
    drop(server);
    // Some are older than `publications.catch_up` when the server is back, and some are not.
    for n in 2..6 {
        publish(&sql, "n", &n.to_string()).await;
        while bob.event("n").await != json!(n) {}
        if n == 3 {
            database.sql("UPDATE publications SET numbered_at = now() - interval '61 s'");
        }
    }
    let server = database.server_with(&named);
    expect_log_line(
        &server,
        "resuming with publications made while this server was down",
    );
    let mut ann = server.guest("ann").await;
    publish(&sql, "n", "6").await;
    publish(&sql, "n", "-1").await;
    assert_eq!(numbers(&mut ann).await, [4, 5, 6]);
    assert_eq!(numbers(&mut bob).await, [6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn named_server_that_has_emitted_nothing_resumes_after_restart() {
    let database = Database::new();
    let named = [
        ("ROOMCAST_NODE__ID", "a"),
        ("ROOMCAST_PUBLICATIONS__RESUME_DELAY", "10s"),
    ];
    let server = database.server_with(&named);
    let start = Instant::now();
    while database.sql("SELECT node FROM publication_nodes").trim() != "a" {
        assert!(start.elapsed() < DEADLINE, "the position is not stored");
        sleep(Duration::from_millis(20)).await; // Poll interval.
    }
    drop(server);
    // More than a server numbers at a time.
    database.sql(
        "SELECT roomcast_publish_to_everyone('n', to_jsonb(n)) FROM generate_series(1, 2500) n",
    );
    let server = database.server_with(&named);
    let mut ann = server.guest("ann").await;
    publish(&database.client().await, "n", "-1").await;
    let expected: Vec<i64> = (1..=2500).collect();
    assert_eq!(numbers(&mut ann).await, expected);
    // A server without a name begins after all of them, however many are not numbered yet.
    drop(server);
    database.sql(
        "SELECT roomcast_publish_to_everyone('n', to_jsonb(n)) FROM generate_series(1, 2500) n",
    );
    let server = database.server_with(&[]);
    let mut ann = server.guest("ann").await;
    publish(&database.client().await, "n", "-1").await;
    assert_eq!(numbers(&mut ann).await, Vec::<i64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn server_killed_while_emitting_loses_few_and_repeats_none() {
    const ROUNDS: usize = 2;
    /// Maximum number of lost events: a batch whose position was stored, and what waits in the
    /// process to be written to the client. That is not visible from outside, but less than a page
    /// together.
    const FEW: i64 = 256;
    let database = Database::new();
    let named = [
        ("ROOMCAST_NODE__ID", "a"),
        ("ROOMCAST_PUBLICATIONS__RESUME_DELAY", "10s"),
        ("ROOMCAST_PUBLICATIONS__CATCH_UP", "10min"),
    ];
    let mut server = database.server_with(&named);
    let sql = database.client().await;
    let (mut batches, mut published) = (Vec::new(), 0);
    for round in 0..=ROUNDS {
        let mut ann = server.guest("ann").await;
        if round == ROUNDS {
            publish(&sql, "n", "-1").await;
            batches.push(numbers(&mut ann).await);
            break;
        }
        // Many pages, so that the server is killed while it emits.
        let first = published + 1;
        published += 2000;
        let statement = "SELECT count(roomcast_publish_to_everyone('n', to_jsonb(n)))
                         FROM generate_series($1::bigint, $2::bigint) n";
        sql.query(statement, &[&first, &published]).await.unwrap();
        let mut received = Vec::new();
        while received
            .last()
            .is_none_or(|last| *last < first + 100 * round as i64)
        {
            received.push(ann.event("n").await.as_i64().unwrap());
        }
        drop(server);
        // Data in flight still arrives.
        while let Some(packet) = ann.packet_if_any().await {
            let number = packet.strip_prefix("42[\"n\",").unwrap().strip_suffix(']');
            received.push(number.unwrap().parse().unwrap());
        }
        batches.push(received);
        server = database.server_with(&named);
    }
    let mut last = 0;
    for (round, received) in batches.iter().enumerate() {
        for (place, n) in received.iter().enumerate() {
            // Within the life of a server there are no gaps.
            let most = if place == 0 && round > 0 { FEW } else { 0 };
            let lost = n - last - 1;
            assert!((0..=most).contains(&lost), "{last}, then {n}");
            last = *n;
        }
    }
    assert_eq!(last, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn unnamed_server_warns_that_it_cannot_resume_publications() {
    let database = Database::new();
    let warning = "publications made while this server is down will not be emitted";
    let first = database.server_with(&[]);
    let mut ann = first.guest("ann").await;
    publish(&database.client().await, "n", "1").await;
    assert_eq!(ann.event("n").await, json!(1));
    assert!(!first.early_log().contains(warning), "nobody had published");
    expect_log_line(&database.server_with(&[]), warning);
    let named = database.server_with(&[("ROOMCAST_NODE__ID", "a")]);
    assert!(!named.early_log().contains(warning));
}

/// Waits until the server has logged this text, before it listened or since.
fn expect_log_line(server: &ServerProcess, text: &str) {
    if !server.early_log().contains(text) {
        server.expect_log(&[text]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_server_emits_no_earlier_publications() {
    let database = Database::new();
    let first = database.server_with(&[]);
    let sql = database.client().await;
    publish(&sql, "n", "1").await;
    let mut ann = first.guest("ann").await;
    publish(&sql, "n", "2").await;
    while ann.event("n").await != json!(2) {}
    let second = database.server_with(&[]);
    let mut bob = second.guest("bob").await;
    publish(&sql, "n", "3").await;
    publish(&sql, "n", "-1").await;
    assert_eq!(numbers(&mut bob).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_outage_delays_publications_without_loss() {
    let mut database = Database::apart();
    let server = database.server_with(&[]);
    let mut ann = server.guest("ann").await;
    for n in 0..3 {
        database.own().kill();
        database.own().restart();
        publish(&database.client().await, "n", &n.to_string()).await;
    }
    publish(&database.client().await, "n", "-1").await;
    assert_eq!(numbers(&mut ann).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn publication_that_cannot_be_emitted_is_refused_or_set_aside() {
    let database = Database::new();
    let server = database.server_with(&[]);
    let mut ann = server.guest("ann").await;
    let sql = database.client().await;
    let long = "x".repeat(129);
    let large = format!("\"{}\"", "x".repeat(65_536));
    for (statement, constraint) in [
        (
            "SELECT roomcast_publish_to_everyone('disconnect')".to_owned(),
            "publications_event",
        ),
        (
            "SELECT roomcast_publish_to_everyone('')".to_owned(),
            "publications_event",
        ),
        (
            format!("SELECT roomcast_publish_to_everyone('{long}')"),
            "publications_event",
        ),
        (
            "SELECT roomcast_publish('', 'n')".to_owned(),
            "publications_name",
        ),
        (
            "SELECT roomcast_publish(NULL, 'n')".to_owned(),
            "publications_name",
        ),
        (
            "SELECT roomcast_publish('conversation:00000000-0000-4000-8000-000000000001', 'n')"
                .to_owned(),
            "publications_name",
        ),
        (
            format!("SELECT roomcast_publish_to_user('{long}', 'n')"),
            "publications_name",
        ),
        (
            format!("SELECT roomcast_publish_to_everyone('n', '{large}')"),
            "publications_payload",
        ),
        (
            "SELECT roomcast_publish_to_everyone('n', NULL, '')".to_owned(),
            "publications_key",
        ),
        (
            "INSERT INTO publications (target, name, event) VALUES ('everyone', 'x', 'n')"
                .to_owned(),
            "publications_name",
        ),
        (
            "INSERT INTO publications (target, event) VALUES ('nobody', 'n')".to_owned(),
            "publications_target_check",
        ),
    ] {
        let error = sql.batch_execute(&statement).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.constraint(), Some(constraint), "{error}");
    }
    // An event of the chat, an invalid id, and deeper nesting than a client may be sent.
    let deep = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    sql.batch_execute(&format!(
        "SELECT roomcast_publish_to_everyone('message', '{{}}');
         SELECT roomcast_publish_to_everyone('trade:update', '{{}}');
         SELECT roomcast_publish_to_user(E'a\\nb', 'n');
         SELECT roomcast_publish_to_everyone('n', '{deep}');
         SELECT roomcast_publish_to_everyone('n', '7')"
    ))
    .await
    .unwrap();
    assert_eq!(ann.event("n").await, json!(7));
    let start = Instant::now();
    let reasons = loop {
        let reasons = database.sql("SELECT refused FROM publications ORDER BY id");
        if reasons.lines().filter(|reason| !reason.is_empty()).count() == 4 {
            break reasons;
        }
        assert!(start.elapsed() < DEADLINE, "{reasons}");
        sleep(Duration::from_millis(10)).await; // Poll interval.
    };
    let fields: Vec<_> = reasons
        .lines()
        .map(|reason| reason.split(' ').next().unwrap())
        .collect();
    assert_eq!(fields, ["event", "event", "users[0]", "args"], "{reasons}");
    let refused = "roomcast_publications_total{result=\"refused\"}";
    assert_eq!(server.metric(refused).await, 4);
    let emitted = "roomcast_publications_total{result=\"emitted\"}";
    assert_eq!(server.metric(emitted).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_key_within_a_day_publishes_once() {
    let database = Database::new();
    let server = database.server_with(&[]);
    let mut ann = server.guest("ann").await;
    let mut sql = database.client().await;
    let publish_with =
        "SELECT roomcast_publish_to_everyone('n', $1::text::jsonb, 'order-1') IS NULL";
    let undone = sql.transaction().await.unwrap();
    undone.query(publish_with, &[&"1"]).await.unwrap();
    undone.rollback().await.unwrap();
    let mut left_out = Vec::new();
    for n in ["2", "3"] {
        let row = sql.query_one(publish_with, &[&n]).await.unwrap();
        left_out.push(row.get::<_, bool>(0));
    }
    database.sql("UPDATE publication_keys SET used_at = now() - interval '25 h'");
    let row = sql.query_one(publish_with, &[&"4"]).await.unwrap();
    left_out.push(row.get::<_, bool>(0));
    assert_eq!(left_out, [false, true, false]);
    publish(&sql, "n", "-1").await;
    assert_eq!(numbers(&mut ann).await, [2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn publisher_role_can_only_publish() {
    let database = Database::new();
    let server = database.server_with(&[]);
    let mut ann = server.guest("ann").await;
    let role = format!("shop_{}", uuid::Uuid::new_v4().simple());
    database.sql(&format!("CREATE ROLE {role} LOGIN"));
    let shop = database.client_as(&role).await;
    let publishing = "SELECT roomcast_publish_to_everyone('n', '1')";
    let denied = |error: tokio_postgres::Error| error.code().unwrap().code().to_owned();
    let error = shop.batch_execute(publishing).await.unwrap_err();
    assert_eq!(denied(error), "42501", "nobody may from the start");
    database.sql(&format!(
        "GRANT EXECUTE ON FUNCTION roomcast_publish_to_everyone(text, jsonb, text) TO {role};
         GRANT INSERT (target, name, event, payload, key) ON publications TO {role}"
    ));
    shop.batch_execute(publishing).await.unwrap();
    shop.batch_execute(
        "INSERT INTO publications (target, event, payload) VALUES ('everyone', 'n', '2')",
    )
    .await
    .unwrap();
    publish(&database.client().await, "n", "-1").await;
    assert_eq!(numbers(&mut ann).await, [1, 2]);
    for other in [
        "SELECT * FROM publications",
        "INSERT INTO publications (target, event, position) VALUES ('everyone', 'n', 1)",
        "DELETE FROM publications",
        "SELECT roomcast_publish('x', 'n')",
        "SELECT roomcast_number_publications(1)",
        "SELECT * FROM messages",
    ] {
        let error = shop.batch_execute(other).await.unwrap_err();
        assert_eq!(denied(error), "42501", "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_publication_right_warns_and_works_otherwise() {
    let database = Database::new();
    drop(database.server_with(&[]));
    let role = database.restricted_role(
        "REVOKE ALL ON publications, publication_head, publication_nodes, publication_keys FROM {role}",
    );
    let server = ServerProcess::start(
        database.folder(),
        &[
            UNLIMITED.as_slice(),
            &[
                ("ROOMCAST_ADAPTER__URL", "none"),
                ("ROOMCAST_STORE__MIGRATE", "false"),
                ("ROOMCAST_STORE", &database.url_as(&role)),
            ],
        ]
        .concat(),
    );
    server.expect_log(&["permission denied"]);
    let report = readiness(&server).await;
    assert_eq!(
        (&report["status"], &report["publications"]),
        (&json!("ok"), &json!("unavailable"))
    );
    let mut ann = server.guest("ann").await;
    ann.must("join_conversation", json!(crate::server::LOBBY))
        .await;
    database.sql(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON publications, publication_head, publication_nodes, publication_keys
         TO {role}"
    ));
    let start = Instant::now();
    while readiness(&server).await["publications"] != json!("ok") {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(50)).await; // Poll interval.
    }
    publish(&database.client().await, "n", "1").await;
    assert_eq!(ann.event("n").await, json!(1));
}
