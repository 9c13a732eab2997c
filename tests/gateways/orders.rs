//! Repeated orders, many orders, and unfinished orders of servers that have ended.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::Client;
use crate::guard::{KEY, until};
use crate::market::{client, must, start};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::UNLIMITED;
use crate::trades::{FILLED, Hook, Reply, header, order, states, trader, webhook};

/// Returns an order with an id of its client.
fn order_with_id(id: &str) -> Value {
    let mut order = order("AAPL");
    order["clientTradeId"] = json!(id);
    order
}

/// Returns the keys of the requests that a hook received.
fn request_keys(hook: &Hook) -> Vec<String> {
    let requests = hook.requests();
    let request_keys = requests
        .iter()
        .map(|request| header(request, "idempotency-key").unwrap());
    request_keys.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_order_executes_once_with_the_same_answer() {
    let rejected = Reply::Answer(200, r#"{"status":"failed","message":"no funds"}"#);
    let hook = Hook::start(&[Reply::Answer(200, FILLED), rejected]);
    let url = hook.url();
    let server = start(&webhook(&url));
    let mut ann = trader(&server).await;
    let first = ann.must("execute:trade", order_with_id("one")).await;
    assert_eq!(
        ann.event("trade:executed").await["tradeId"],
        first["tradeId"]
    );
    let failed = ann
        .refused("execute:trade", order_with_id("two"), "CONFLICT")
        .await;
    assert_eq!(failed["details"]["reason"], "REJECTED");
    assert_ne!(ann.event("trade:error").await["tradeId"], first["tradeId"]);
    states(&mut ann, &["pending", "executed", "pending", "failed"]).await;
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY], &webhook(&url)].concat());
    let mut back = trader(&server).await;
    for ann in [&mut back, &mut trader(&server).await] {
        let again = ann.must("execute:trade", order_with_id("one")).await;
        assert_eq!(again, first);
        let received = ann.event("trade:executed").await;
        assert_eq!(
            (&received["tradeId"], &received["timestamp"]),
            (&first["tradeId"], &first["timestamp"])
        );
        let again = ann
            .refused("execute:trade", order_with_id("two"), "CONFLICT")
            .await;
        assert_eq!(again, failed);
        assert!(ann.events_until_now("trade:update").await.is_empty());
    }
    assert_eq!(hook.requests().len(), 2);
    // From another user, or without an id, it is a new trade.
    hook.plan(Reply::Answer(200, FILLED));
    let mut bob = client(&server.binary, "bob", "admin").await;
    let other = bob.must("execute:trade", order_with_id("one")).await;
    assert_ne!(other["tradeId"], first["tradeId"]);
    let other = back.must("execute:trade", order("AAPL")).await;
    assert_ne!(other["tradeId"], first["tradeId"]);
    assert_eq!(hook.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_order_with_a_used_id_and_invalid_id_are_refused() {
    let server = start(&[("ROOMCAST_MARKET__PRICES", "AAPL=100,MSFT=100")]);
    let mut ann = trader(&server).await;
    let with = |field: &str, value: Value| {
        let mut order = order_with_id("one");
        order[field] = value;
        order
    };
    // A number with many digits is equal when it is repeated.
    let exact = with("quantity", json!(60_000.123_456_789));
    let first = ann.must("execute:trade", exact.clone()).await;
    assert_eq!(
        ann.must("execute:trade", exact.clone()).await["tradeId"],
        first["tradeId"]
    );
    for (field, value) in [
        ("symbol", json!("MSFT")),
        ("side", json!("sell")),
        ("quantity", json!(3)),
    ] {
        let mut other = exact.clone();
        other[field] = value;
        let error = ann.refused("execute:trade", other, "CONFLICT").await;
        assert_eq!(error["details"]["reason"], Value::Null, "{field}");
    }
    for wrong in ["", "a\n", &"x".repeat(129)] {
        let error = ann
            .refused("execute:trade", order_with_id(wrong), "INVALID_PAYLOAD")
            .await;
        assert_eq!(error["details"]["field"], "clientTradeId");
    }
    ann.refused(
        "execute:trade",
        with("clientTradeId", json!(7)),
        "INVALID_PAYLOAD",
    )
    .await;
    states(&mut ann, &["pending", "executed"]).await;
    assert!(ann.events_until_now("trade:update").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn order_repeated_during_execution_waits_for_the_outcome() {
    let hook = Hook::start(&[Reply::Hang, Reply::Answer(200, FILLED)]);
    let url = hook.url();
    let server = start(&webhook(&url));
    let mut ann = trader(&server).await;
    let mut tab = client(&server.binary, "ann", "admin").await;
    let first = ann.request("execute:trade", order_with_id("one")).await;
    let second = ann.request("execute:trade", order_with_id("one")).await;
    let third = tab.request("execute:trade", order_with_id("one")).await;
    until(|| hook.requests().len() == 1);
    hook.let_go();
    let first = ann.answer(first).await;
    assert_eq!(first["executedPrice"], 190.5);
    assert_eq!(ann.answer(second).await, first);
    assert_eq!(tab.answer(third).await, first);
    states(&mut ann, &["pending", "executed"]).await;
    assert!(ann.events_until_now("trade:update").await.is_empty());
    let request_keys = request_keys(&hook);
    assert!(
        request_keys.len() == 2 && request_keys[0] == request_keys[1],
        "{request_keys:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_order_of_a_dead_server_resumes_when_repeated() {
    let hook = Hook::start(&[Reply::Hang]);
    let url = hook.url();
    let mut variables = webhook(&url);
    variables.push(("ROOMCAST_MARKET__WEBHOOK__TIMEOUT", "1min"));
    let server = start(&variables);
    let mut ann = trader(&server).await;
    ann.emit("execute:trade", order_with_id("one")).await;
    let pending = states(&mut ann, &["pending"]).await;
    until(|| hook.requests().len() == 1);
    hook.plan(Reply::Answer(200, FILLED));
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY], &variables].concat());
    let mut ann = trader(&server).await;
    let received = ann.must("execute:trade", order_with_id("one")).await;
    assert_eq!(received["tradeId"], pending["tradeId"]);
    let request_keys = request_keys(&hook);
    assert!(
        request_keys.len() == 2 && request_keys[0] == request_keys[1],
        "{request_keys:?}"
    );
    // The trade in the repeated event is the same.
    let again = ann.must("execute:trade", order_with_id("one")).await;
    assert_eq!(again, received);
    assert_eq!(hook.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_order_may_be_repeated_under_its_id() {
    let server = start(&[
        ("ROOMCAST_MARKET__PRICES", "AAPL=100"),
        ("ROOMCAST_MARKET__OPEN_TRADES", "1"),
    ]);
    let mut ann = trader(&server).await;
    let trade = crate::market::trade("t", "pending");
    must(&server.binary, "/trades", trade).await;
    ann.refused("execute:trade", order_with_id("one"), "CONFLICT")
        .await;
    let trade = crate::market::trade("t", "canceled");
    must(&server.binary, "/trades", trade).await;
    ann.must("execute:trade", order_with_id("one")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_orders_execute_at_a_time_and_more_are_refused() {
    const SLOTS: usize = 64;
    let hook = Hook::start(&[Reply::Hang]);
    let url = hook.url();
    let mut variables = webhook(&url);
    variables.push(("ROOMCAST_MARKET__WEBHOOK__TIMEOUT", "1min"));
    let server = start(&variables);
    let mut ann = client(&server.binary, "ann", "admin").await;
    let mut bob = client(&server.binary, "bob", "admin").await;
    for _ in 0..SLOTS / 2 {
        ann.emit("execute:trade", order("AAPL")).await;
        bob.emit("execute:trade", order("AAPL")).await;
    }
    until(|| hook.requests().len() == SLOTS);
    let error = bob
        .refused("execute:trade", order("AAPL"), "RATE_LIMITED")
        .await;
    assert!(error["retryAfter"].is_u64(), "{error}");
    let received = bob.event("trade:error").await;
    assert_eq!(
        (&received["code"], &received["tradeId"]),
        (&json!("RATE_LIMITED"), &Value::Null)
    );
    assert_eq!(hook.requests().len(), SLOTS);
}

/// Number of consecutive failures that open the circuit.
const FAILURES: usize = 5;

/// Returns the variables of a server that sends each order once, and does not retry during a test.
fn single_attempt(url: &str) -> Vec<(&str, &str)> {
    let mut variables = webhook(url);
    variables.extend([
        ("ROOMCAST_MARKET__WEBHOOK__ATTEMPTS", "1"),
        ("ROOMCAST_MARKET__WEBHOOK__RECONCILE_AFTER", "1h"),
        ("ROOMCAST_MARKET__WEBHOOK__TIMEOUT", "1min"),
    ]);
    variables
}

/// Sends orders until the circuit is open, and returns the number of requests to the hook.
async fn open_circuit(ann: &mut Client, hook: &Hook) -> usize {
    let mut requests = 0;
    loop {
        let error = ann
            .refused("execute:trade", order("AAPL"), "CONFLICT")
            .await;
        match error["details"]["reason"].as_str() {
            Some("OUTCOME_UNKNOWN") => requests += 1,
            Some("EXECUTOR_UNAVAILABLE") => break,
            other => panic!("{other:?}"),
        }
        assert_eq!(hook.requests().len(), requests);
        // The delays grow with each failure, up to ten seconds.
        assert!(
            requests < 4 * FAILURES,
            "it is asked however often it fails"
        );
    }
    assert!(requests >= FAILURES, "{requests}");
    assert_eq!(hook.requests().len(), requests, "nobody was asked");
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn five_webhook_failures_open_the_circuit_and_orders_fail_fast() {
    let hook = Hook::start(&[Reply::Answer(500, "")]);
    let url = hook.url();
    let server = start(&single_attempt(&url));
    let mut ann = trader(&server).await;
    let requests = open_circuit(&mut ann, &hook).await;
    for _ in 0..requests {
        let received = ann.event("trade:error").await;
        assert_eq!(received["code"], "OUTCOME_UNKNOWN");
        states(&mut ann, &["pending"]).await;
    }
    let received = ann.event("trade:error").await;
    assert_eq!(
        (&received["code"], &received["symbol"]),
        (&json!("EXECUTOR_UNAVAILABLE"), &json!("AAPL"))
    );
    let failed = states(&mut ann, &["pending", "failed"]).await;
    assert_eq!(failed["tradeId"], received["tradeId"]);
    server.binary.expect_log(&[
        "the executor of trades",
        "circuit breaker opened, requests are suspended",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_probes_an_open_circuit_and_success_closes_it() {
    let hook = Hook::start(&[Reply::Answer(500, "")]);
    let url = hook.url();
    let server = start(&single_attempt(&url));
    let mut ann = client(&server.binary, "ann", "admin").await;
    let mut bob = client(&server.binary, "bob", "admin").await;
    let requests = open_circuit(&mut ann, &hook).await;
    hook.plan(Reply::Hang);
    // One order is sent to the hook after a while. Earlier orders are refused without a request to
    // the hook.
    let probe = loop {
        let id = ann.request("execute:trade", order("AAPL")).await;
        tokio::select! {
            answer = ann.answer(id) => {
                let reason = &answer["error"]["details"]["reason"];
                assert_eq!(reason, "EXECUTOR_UNAVAILABLE", "{answer}");
            }
            () = until_requests(&hook, requests + 1) => break id,
        }
        sleep(Duration::from_millis(20)).await; // Poll interval.
    };
    for _ in 0..3 {
        let error = bob
            .refused("execute:trade", order("AAPL"), "CONFLICT")
            .await;
        assert_eq!(error["details"]["reason"], "EXECUTOR_UNAVAILABLE");
    }
    assert_eq!(hook.requests().len(), requests + 1, "one finds out");
    hook.plan(Reply::Answer(200, FILLED));
    hook.answer_hanging(200, FILLED);
    let executed = ann.answer(probe).await;
    assert_eq!(executed["executedPrice"], 190.5, "{executed}");
    for client in [&mut ann, &mut bob] {
        for _ in 0..FAILURES {
            client.must("execute:trade", order("AAPL")).await;
        }
    }
    // The count of failures starts again.
    hook.plan(Reply::Answer(500, ""));
    for _ in 1..FAILURES {
        let error = bob
            .refused("execute:trade", order("AAPL"), "CONFLICT")
            .await;
        assert_eq!(error["details"]["reason"], "OUTCOME_UNKNOWN");
    }
    hook.plan(Reply::Answer(200, FILLED));
    bob.must("execute:trade", order("AAPL")).await;
    assert_eq!(hook.requests().len(), requests + 1 + 3 * FAILURES);
    server
        .binary
        .expect_log(&["the executor of trades", "requests resume"]);
}

/// Waits until a hook has received this many requests.
async fn until_requests(hook: &Hook, count: usize) {
    while hook.requests().len() < count {
        sleep(Duration::from_millis(10)).await; // Poll interval.
    }
}

/// Connects a user to a server, who follows its trades.
#[cfg(feature = "postgres")]
async fn trader_at(binary: &crate::server::ServerProcess) -> Client {
    let mut ann = client(binary, "ann", "admin").await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    ann
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn another_server_resumes_an_order_of_a_dead_server() {
    let hook = Hook::start(&[Reply::Hang]);
    let url = hook.url();
    let mut variables = webhook(&url);
    variables.extend([KEY, ("ROOMCAST_MARKET__WEBHOOK__TIMEOUT", "1min")]);
    let database = Database::new();
    let (dying, other) = (
        database.server_with(&variables),
        database.server_with(&variables),
    );
    let mut ann = trader_at(&dying).await;
    let mut tab = trader_at(&other).await;
    ann.emit("execute:trade", order("AAPL")).await;
    let pending = states(&mut ann, &["pending"]).await;
    until(|| hook.requests().len() == 1);
    drop(dying);
    hook.plan(Reply::Answer(200, FILLED));
    // The other server waits for longer than the dead server could have taken; that time is
    // simulated.
    let aged = "UPDATE journal_entries SET created_at = created_at - interval '1 h' WHERE journal = 'executions'";
    database.sql(aged);
    let received = tab.event("trade:executed").await;
    assert_eq!(received["tradeId"], pending["tradeId"]);
    states(&mut tab, &["pending", "executed"]).await;
    let request_keys = request_keys(&hook);
    assert!(
        request_keys.len() == 2 && request_keys[0] == request_keys[1],
        "{request_keys:?}"
    );
    assert!(tab.events_until_now("trade:executed").await.is_empty());
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn another_server_emits_an_outcome_stored_by_a_dead_server() {
    let variables = [KEY, ("ROOMCAST_MARKET__PRICES", "AAPL=100")];
    let database = Database::new();
    let (dying, other) = (
        database.server_with(&variables),
        database.server_with(&variables),
    );
    let mut ann = trader_at(&dying).await;
    let mut tab = trader_at(&other).await;
    let first = ann.must("execute:trade", order("AAPL")).await;
    drop(dying);
    // The state left by a server that dies in between: the outcome is stored, the order is open,
    // and no event was sent.
    database.sql(
        "UPDATE journal_entries SET is_open = true, expires_at = '2999-01-01',
             body = (body::jsonb - 'settled')::text
         WHERE journal = 'executions'",
    );
    let received = tab.event("trade:executed").await;
    assert_eq!(received["tradeId"], first["tradeId"]);
}
