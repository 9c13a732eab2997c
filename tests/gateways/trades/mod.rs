//! Trades that are executed on paper or by a service behind a webhook, including one that
//! misbehaves.

mod hook;

use std::{net::TcpListener, time::Duration};

use serde_json::{Value, json};

pub(crate) use self::hook::{Hook, Reply, header};
use crate::client::Client;
use crate::guard::{KEY, Server, until};
use crate::market::{client, must, publish, start};
use crate::server::UNLIMITED;
use crate::support::UnusedAddress;

pub(crate) const FILLED: &str = r#"{"status":"executed","executedPrice":190.5}"#;

/// A short timeout for services that do not answer. On a slow machine it may also be too short for
/// services that do.
const HURRIED: (&str, &str) = ("ROOMCAST_MARKET__WEBHOOK__TIMEOUT", "300ms");

/// Returns the variables of a server that sends trades to this address.
pub(crate) fn webhook(url: &str) -> Vec<(&str, &str)> {
    vec![
        ("ROOMCAST_MARKET__EXECUTOR", "webhook"),
        ("ROOMCAST_MARKET__WEBHOOK__URL", url),
        ("ROOMCAST_MARKET__WEBHOOK__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_MARKET__WEBHOOK__TOKEN", "let me in"),
        ("ROOMCAST_MARKET__WEBHOOK__TIMEOUT", "10s"),
        ("ROOMCAST_MARKET__WEBHOOK__RETRY_DELAY", "10ms"),
        ("ROOMCAST_MARKET__WEBHOOK__RECONCILE_AFTER", "1s"),
    ]
}

pub(crate) fn order(symbol: &str) -> Value {
    json!({"symbol": symbol, "side": "buy", "quantity": 2})
}

/// Connects an admin who follows its trades.
pub(crate) async fn trader(server: &Server) -> Client {
    let mut ann = client(&server.binary, "ann", "admin").await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    ann
}

/// Expects these states of a trade, and returns the last update.
pub(crate) async fn states(client: &mut Client, expected: &[&str]) -> Value {
    let mut last = Value::Null;
    for status in expected {
        let update = client.event("trade:update").await;
        assert_eq!(update["status"], *status, "{update}");
        last = update;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn paper_trade_fills_at_the_last_or_the_configured_price() {
    let server = start(&[("ROOMCAST_MARKET__PRICES", "AAPL=100.5,BTC/USD=60000")]);
    let mut ann = trader(&server).await;
    let answer = ann.must("execute:trade", order("AAPL")).await;
    let told = ann.event("trade:executed").await;
    for (field, value) in [
        ("symbol", json!("AAPL")),
        ("side", json!("buy")),
        ("quantity", json!(2.0)),
        ("executedPrice", json!(100.5)),
    ] {
        assert_eq!((&told[field], &answer[field]), (&value, &value));
    }
    let update = states(&mut ann, &["pending", "executed"]).await;
    assert_eq!(
        (&update["tradeId"], &update["executedPrice"]),
        (&told["tradeId"], &json!(100.5))
    );
    assert_eq!(update["timestamp"], told["timestamp"]);

    let price = json!({"symbol": "AAPL", "price": 101.25});
    must(&server.binary, "/prices", price).await;
    ann.must("execute:trade", order("AAPL")).await;
    assert_eq!(ann.event("trade:executed").await["executedPrice"], 101.25);

    let error = ann
        .refused("execute:trade", order("NONE"), "CONFLICT")
        .await;
    assert_eq!(error["details"]["reason"], "NO_PRICE");
    let told = ann.event("trade:error").await;
    assert_eq!(
        (&told["code"], &told["symbol"]),
        (&json!("NO_PRICE"), &json!("NONE"))
    );
    assert_eq!(told["message"], error["message"]);
    let update = states(&mut ann, &["pending", "executed", "pending", "failed"]).await;
    assert_eq!(update["tradeId"], told["tradeId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_need_the_permission_and_valid_fields() {
    let server = start(&[("ROOMCAST_MARKET__PRICES", "AAPL=1")]);
    for role in ["user", "coach", "service"] {
        let mut bob = client(&server.binary, "bob", role).await;
        bob.refused("execute:trade", order("AAPL"), "FORBIDDEN")
            .await;
    }
    let mut ann = trader(&server).await;
    let with = |name: &str, value: Value| {
        let mut order = order("AAPL");
        order[name] = value;
        order
    };
    for (wrong, is_told) in [
        (with("symbol", json!("")), true),
        (with("symbol", json!("A\n")), true),
        (with("quantity", json!(0)), true),
        (with("quantity", json!(-1)), true),
        (with("quantity", json!(1e16)), true),
        (with("quantity", json!("2")), false),
        (with("side", json!("hold")), false),
        (with("side", json!({"buy": null})), false),
        (with("symbol", json!(7)), false),
        (json!([]), false),
        (Value::Null, false),
    ] {
        ann.refused("execute:trade", wrong.clone(), "INVALID_PAYLOAD")
            .await;
        if is_told {
            let told = ann.event("trade:error").await;
            assert_eq!(told["code"], "INVALID_PAYLOAD");
            assert_eq!(told["symbol"], wrong["symbol"]);
        }
    }
    ann.emit("execute:trade", with("quantity", json!(0))).await;
    ann.event("trade:error").await;
    assert_eq!(ann.event("error").await["event"], "execute:trade");
    assert!(ann.events_until_now("trade:update").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_an_executor_refuses_trades() {
    let server = start(&[("ROOMCAST_MARKET__EXECUTOR", "none")]);
    let mut ann = trader(&server).await;
    ann.refused("execute:trade", order("AAPL"), "CONFLICT")
        .await;
    assert_eq!(ann.event("trade:error").await["code"], "CONFLICT");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_receives_the_trade_and_returns_the_outcome() {
    let hook = Hook::start(&[
        Reply::Answer(200, FILLED),
        Reply::Answer(422, r#"{"status":"failed","message":"no funds"}"#),
        // The second response on the connection belongs to no request.
        Reply::Bytes(
            "HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n\
             {\"status\":\"executed\",\"executedPrice\":190.5}\n\
             HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"status\":\"failed\"}",
        ),
    ]);
    let url = hook.url();
    let server = start(&webhook(&url));
    let mut ann = trader(&server).await;
    let told = ann.must("execute:trade", order("AAPL")).await;
    assert_eq!(told["executedPrice"], 190.5);
    states(&mut ann, &["pending", "executed"]).await;
    let error = ann
        .refused("execute:trade", order("AAPL"), "CONFLICT")
        .await;
    assert_eq!(
        (&error["details"]["reason"], &error["message"]),
        (&json!("REJECTED"), &json!("no funds"))
    );
    states(&mut ann, &["pending", "failed"]).await;
    ann.must("execute:trade", order("AAPL")).await;
    states(&mut ann, &["pending", "executed"]).await;
    assert!(ann.events_until_now("trade:update").await.is_empty());

    let requests = hook.requests();
    assert_eq!(requests.len(), 3);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /trades?x=1 HTTP/1.1\r\n"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        header(head, "idempotency-key"),
        body["tradeId"].as_str().map(Into::into)
    );
    assert_eq!(header(head, "authorization").unwrap(), "Bearer let me in");
    assert_eq!(body["tradeId"], told["tradeId"]);
    assert_eq!(
        (
            &body["userId"],
            &body["symbol"],
            &body["side"],
            &body["quantity"]
        ),
        (&json!("ann"), &json!("AAPL"), &json!("buy"), &json!(2.0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_webhook_request_is_repeated_with_the_same_key() {
    for bad in [
        Reply::Answer(500, ""),
        Reply::Answer(503, ""),
        Reply::Answer(200, "<html>"),
        Reply::Answer(200, r#"{"status":"executed"}"#),
        Reply::Bytes("what is this\r\n\r\n"),
        Reply::Close,
        Reply::Hang,
    ] {
        let hook = Hook::start(&[bad, Reply::Answer(200, FILLED)]);
        let url = hook.url();
        let mut variables = webhook(&url);
        let is_hurried = matches!(bad, Reply::Hang);
        variables.extend(is_hurried.then_some(HURRIED));
        let server = start(&variables);
        let mut ann = trader(&server).await;
        ann.must("execute:trade", order("AAPL")).await;
        states(&mut ann, &["pending", "executed"]).await;
        let mut keys: Vec<_> = hook
            .requests()
            .iter()
            .map(|request| header(request, "idempotency-key").unwrap())
            .collect();
        assert!(keys.len() == 2 || is_hurried && keys.len() > 2, "{keys:?}");
        keys.dedup();
        assert_eq!(keys.len(), 1, "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pauses_between_attempts_double() {
    const PAUSE: Duration = Duration::from_millis(200);
    let bad = Reply::Answer(500, "");
    let hook = Hook::start(&[bad, bad, bad, Reply::Answer(200, FILLED)]);
    let url = hook.url();
    let mut variables = webhook(&url);
    variables.extend([
        ("ROOMCAST_MARKET__WEBHOOK__RETRY_DELAY", "200ms"),
        ("ROOMCAST_MARKET__WEBHOOK__ATTEMPTS", "4"),
    ]);
    let server = start(&variables);
    let mut ann = trader(&server).await;
    ann.must("execute:trade", order("AAPL")).await;
    let times = hook.times();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 3);
    // A busy machine makes them longer, but nothing makes them shorter.
    for (gap, least) in gaps.iter().zip([PAUSE, PAUSE * 2, PAUSE * 4]) {
        assert!(*gap >= least, "{gaps:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uncertain_webhook_answer_leaves_the_trade_pending() {
    for bad in [
        Reply::Answer(200, "garbage"),
        Reply::Answer(303, FILLED),
        Reply::Hang,
        Reply::Close,
    ] {
        // It is asked three times, and then not for a second.
        let hook = Hook::start(&[bad, bad, bad, Reply::Answer(200, FILLED)]);
        let url = hook.url();
        let mut variables = webhook(&url);
        variables.extend(matches!(bad, Reply::Hang).then_some(HURRIED));
        let server = start(&variables);
        let mut ann = trader(&server).await;
        let error = ann
            .refused("execute:trade", order("AAPL"), "CONFLICT")
            .await;
        assert_eq!(error["details"]["reason"], "OUTCOME_UNKNOWN");
        let unknown = ann.event("trade:error").await;
        assert_eq!(unknown["code"], "OUTCOME_UNKNOWN");
        states(&mut ann, &["pending"]).await;
        assert!(hook.requests().len() >= 3);
        let told = ann.event("trade:executed").await;
        assert_eq!(told["tradeId"], unknown["tradeId"]);
        let keys = hook.requests();
        let keys = keys
            .iter()
            .map(|request| header(request, "idempotency-key"));
        assert!(
            keys.clone()
                .all(|key| key.as_deref() == told["tradeId"].as_str())
        );
        states(&mut ann, &["executed"]).await;
        assert!(ann.events_until_now("trade:error").await.is_empty());
    }
}

/// The executor's token is replaced while a trade is unsettled: `docs/operations.md`, R7.
#[tokio::test(flavor = "multi_thread")]
async fn refused_token_keeps_an_unsettled_trade_pending() {
    let refused = Reply::Answer(401, r#"{"status":"failed","message":"bad token"}"#);
    let hook = Hook::start(&[
        Reply::Close,
        Reply::Close,
        refused,
        refused,
        Reply::Answer(200, FILLED),
    ]);
    let url = hook.url();
    let mut variables = webhook(&url);
    variables.push(("ROOMCAST_MARKET__WEBHOOK__ATTEMPTS", "2"));
    let server = start(&variables);
    let mut ann = trader(&server).await;
    let error = ann
        .refused("execute:trade", order("AAPL"), "CONFLICT")
        .await;
    assert_eq!(error["details"]["reason"], "OUTCOME_UNKNOWN");
    let unknown = ann.event("trade:error").await;
    // The refusals of the second round end nothing; the third round is answered.
    let executed = ann.event("trade:executed").await;
    assert_eq!(executed["tradeId"], unknown["tradeId"]);
    states(&mut ann, &["pending", "executed"]).await;
    assert_eq!(hook.requests().len(), 5);

    // No attempt of a new order can have executed it.
    hook.plan(refused);
    let error = ann
        .refused("execute:trade", order("AAPL"), "CONFLICT")
        .await;
    assert_eq!(error["details"]["reason"], "EXECUTOR_UNAVAILABLE");
    states(&mut ann, &["pending", "failed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcome_published_by_the_back_end_during_execution_counts() {
    let hook = Hook::start(&[Reply::Hang]);
    let url = hook.url();
    let server = start(&[webhook(&url), vec![HURRIED]].concat());
    let mut ann = trader(&server).await;
    ann.refused("execute:trade", order("AAPL"), "CONFLICT")
        .await;
    let pending = states(&mut ann, &["pending"]).await;
    let settled = |symbol: &str| {
        json!({
            "tradeId": pending["tradeId"], "userId": "ann", "symbol": symbol, "quantity": 2,
            "status": "executed", "executedPrice": 7,
        })
    };
    let (status, answer) = publish(&server.binary, "/trades", settled("TSLA")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("CONFLICT")),
        "it is a trade of another symbol"
    );
    must(&server.binary, "/trades", settled("AAPL")).await;
    hook.plan(Reply::Answer(200, r#"{"status":"failed"}"#));
    let told = ann.event("trade:executed").await;
    assert_eq!(
        (&told["executedPrice"], &told["side"]),
        (&json!(7.0), &json!("buy"))
    );
    states(&mut ann, &["executed"]).await;
    assert!(ann.events_until_now("trade:update").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_or_redirecting_webhook_executes_nothing() {
    let unheard = UnusedAddress::new();
    let nobody = format!("http://{}/", unheard.address());
    let hook = Hook::start(&[Reply::Answer(307, FILLED), Reply::Answer(308, FILLED)]);
    for url in [nobody, hook.url()] {
        let server = start(&webhook(&url));
        let mut ann = trader(&server).await;
        let error = ann
            .refused("execute:trade", order("AAPL"), "CONFLICT")
            .await;
        assert_eq!(error["details"]["reason"], "EXECUTOR_UNAVAILABLE");
        states(&mut ann, &["pending", "failed"]).await;
    }
    assert_eq!(hook.requests().len(), 3, "and none of them elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_on_the_public_internet_is_not_connected_to() {
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    hook.set_nonblocking(true).unwrap();
    let port = hook.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("https://{host}:{port}/");
        let mut variables = webhook(&url);
        variables.push(("ROOMCAST_MARKET__WEBHOOK__ALLOW_PRIVATE", "false"));
        let server = start(&variables);
        let mut ann = trader(&server).await;
        let error = ann
            .refused("execute:trade", order("AAPL"), "CONFLICT")
            .await;
        assert_eq!(error["details"]["reason"], "EXECUTOR_UNAVAILABLE");
        assert!(hook.accept().is_err(), "{host} was connected to");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_server_resumes_a_trade_under_execution() {
    let hook = Hook::start(&[Reply::Hang]);
    let url = hook.url();
    let mut variables = webhook(&url);
    variables.push(("ROOMCAST_MARKET__WEBHOOK__TIMEOUT", "1min"));
    let server = start(&variables);
    let mut ann = trader(&server).await;
    ann.emit("execute:trade", order("AAPL")).await;
    let pending = states(&mut ann, &["pending"]).await;
    until(|| hook.requests().len() == 1);
    hook.plan(Reply::Answer(200, FILLED));
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY], &variables].concat());
    let mut ann = client(&server.binary, "ann", "admin").await;
    let told = ann.event("trade:executed").await;
    assert_eq!(told["tradeId"], pending["tradeId"]);
    let answer = ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    assert_eq!(answer["snapshot"]["trades"][0]["status"], "executed");
    let keys = hook.requests();
    assert_eq!(
        header(&keys[0], "idempotency-key"),
        header(&keys[1], "idempotency-key")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_but_unsent_outcome_is_emitted_once_after_restart() {
    let server = start(&[("ROOMCAST_MARKET__PRICES", "AAPL=100")]);
    let mut variables = UNLIMITED.to_vec();
    variables.extend([KEY, ("ROOMCAST_MARKET__PRICES", "AAPL=100")]);
    let mut ann = trader(&server).await;
    let first = ann.must("execute:trade", order("AAPL")).await;
    // The state left by a server that dies in between: the outcome is stored, the order is open.
    let open = |database: &rusqlite::Connection| {
        let opened = database.execute(
            "UPDATE journal_entries SET is_open = 1, expires_at = '2999-01-01T00:00:00.000Z'
             WHERE journal = 'executions' AND key = ?1",
            [first["tradeId"].as_str().unwrap()],
        );
        assert_eq!(opened.unwrap(), 1);
    };
    // A running server would send it to the client that is still connected.
    let server = server.restarted_after(open, &variables);
    let database = rusqlite::Connection::open(server.folder().join("chat.db")).unwrap();
    let mut ann = client(&server.binary, "ann", "admin").await;
    let told = ann.event("trade:executed").await;
    assert_eq!(told["tradeId"], first["tradeId"]);
    assert_eq!(told["executedPrice"], 100.0);
    // The order is closed now; a second order shows that the first is not reported again.
    until(|| {
        let open: i64 = database
            .query_row(
                "SELECT count(*) FROM journal_entries WHERE journal = 'executions' AND is_open",
                [],
                |row| row.get(0),
            )
            .unwrap();
        open == 0
    });
    let server = server.restarted(&variables);
    let mut ann = client(&server.binary, "ann", "admin").await;
    let second = ann.must("execute:trade", order("AAPL")).await;
    let told = ann.event("trade:executed").await;
    assert_eq!(told["tradeId"], second["tradeId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn user_with_100_open_orders_leaves_places_to_other_users() {
    let server = start(&[("ROOMCAST_MARKET__PRICES", "AAPL=100")]);
    let mut variables = UNLIMITED.to_vec();
    variables.extend([KEY, ("ROOMCAST_MARKET__PRICES", "AAPL=100")]);
    // The orders are those of a server whose clock is ahead. This server does not settle them.
    let fill = |database: &rusqlite::Connection| {
        for n in 1..=100 {
            let order = json!({
                "tradeId": format!("t{n}"), "userId": "ann", "symbol": "AAPL", "side": "buy",
                "quantity": 1, "timestamp": "2999-01-01T00:00:00.000Z",
            });
            let stored = database.execute(
                "INSERT INTO journal_entries
                     (journal, revision, key, body, category, is_open, created_at, expires_at)
                 VALUES ('executions', ?1, ?2, ?3, 'ann', 1, '2999-01-01T00:00:00.000Z',
                     '2999-01-01T00:00:00.000Z')",
                rusqlite::params![n, format!("t{n}"), json!({"order": order}).to_string()],
            );
            assert_eq!(stored.unwrap(), 1);
        }
        let numbered = "INSERT INTO journals (name, revision) VALUES ('executions', 100)";
        assert_eq!(database.execute(numbered, []).unwrap(), 1);
    };
    let server = server.restarted_after(fill, &variables);
    let mut ann = client(&server.binary, "ann", "admin").await;
    let error = ann
        .refused("execute:trade", order("AAPL"), "CONFLICT")
        .await;
    assert_eq!(error["message"], "too many trades wait for an outcome");
    let mut bob = client(&server.binary, "bob", "admin").await;
    bob.must("execute:trade", order("AAPL")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_client_gets_the_outcome_on_reconnecting() {
    let hook = Hook::start(&[Reply::Hang, Reply::Answer(200, FILLED)]);
    let url = hook.url();
    let server = start(&webhook(&url));
    let mut ann = trader(&server).await;
    ann.emit("execute:trade", order("AAPL")).await;
    let pending = states(&mut ann, &["pending"]).await;
    until(|| hook.requests().len() == 1);
    ann.disconnect().await;
    hook.let_go();
    until(|| hook.requests().len() == 2);
    let mut ann = client(&server.binary, "ann", "admin").await;
    let told = ann.event("trade:executed").await;
    assert_eq!(told["tradeId"], pending["tradeId"]);
}
