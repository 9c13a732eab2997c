//! What services may publish: their permissions, the limits of fields, and repeats.

use serde_json::{Value, json};

use super::{client, must, publish, publish_as, signal, start, trade};
use crate::{guard::KEY, server::UNLIMITED};

#[tokio::test(flavor = "multi_thread")]
async fn repeated_publication_is_stored_once_and_conflict_is_refused() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    ann.must("subscribe:signals", json!({})).await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    let first = must(binary, "/signals", signal("s1", None)).await;
    assert_eq!(must(binary, "/signals", signal("s1", None)).await, first);
    let mut other = signal("s1", None);
    other["action"] = json!("sell");
    let (status, answer) = publish(binary, "/signals", other).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    ann.event("signal:new").await;

    must(binary, "/trades", trade("t1", "pending")).await;
    let executed = must(binary, "/trades", trade("t1", "executed")).await;
    assert_eq!(
        must(binary, "/trades", trade("t1", "executed")).await,
        executed
    );
    for late in ["pending", "failed", "canceled"] {
        let (status, _) = publish(binary, "/trades", trade("t1", late)).await;
        assert_eq!(status, 409, "{late}");
    }
    let pending = ann.event("trade:update").await;
    assert_eq!(
        (&pending["status"], &pending["executedPrice"]),
        (&json!("pending"), &Value::Null)
    );
    let update = ann.event("trade:update").await;
    assert_eq!(
        (&update["status"], &update["executedPrice"]),
        (&json!("executed"), &json!(190.5))
    );
    must(binary, "/trades", trade("t2", "canceled")).await;
    assert_eq!(ann.event("trade:update").await["tradeId"], "t2");
    assert!(ann.events_until_now("signal:new").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_publishes_only_what_its_role_permits() {
    let server = start(&[
        ("ROOMCAST_AUTH__ROLES__CALLER__PERMISSIONS", "api:*"),
        (
            "ROOMCAST_AUTH__ROLES__ORACLE__PERMISSIONS",
            "prices:publish",
        ),
    ]);
    let binary = &server.binary;
    let price = json!({"symbol": "AAPL", "price": 190});
    let portfolio = json!({"userId": "ann", "totalValue": 1, "cash": 1, "positions": []});
    for (path, body) in [
        ("/trades", trade("t1", "pending")),
        ("/signals", signal("s1", None)),
        ("/portfolios", portfolio),
        ("/prices", price.clone()),
    ] {
        for role in ["user", "coach", "ai", "caller"] {
            let (status, answer) = publish_as(binary, role, path, body.clone()).await;
            assert_eq!(
                (status, &answer["error"]["code"]),
                (403, &json!("FORBIDDEN")),
                "{role} {path}"
            );
        }
        for role in ["service", "admin"] {
            let (status, answer) = publish_as(binary, role, path, body.clone()).await;
            assert_eq!(status, 200, "{role} {path}: {answer}");
        }
    }
    assert_eq!(publish_as(binary, "oracle", "/prices", price).await.0, 200);
    let (status, _) = publish_as(binary, "oracle", "/signals", signal("s2", None)).await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_outside_field_limits_are_refused() {
    let server = start(&[("ROOMCAST_MARKET__OPEN_TRADES", "2")]);
    let binary = &server.binary;
    let with = |mut body: Value, name: &str, value: Value| {
        body[name] = value;
        body
    };
    let price = || json!({"symbol": "AAPL", "price": 190});
    let portfolio = || json!({"userId": "ann", "totalValue": 1, "cash": 1, "positions": []});
    let position = |symbol: &str, quantity: Value| json!([{"symbol": symbol, "quantity": quantity, "avgPrice": 1}]);
    let not_executed = |status: &str| trade("t", status);
    let trade = || trade("t", "executed");
    let signal = || signal("s", None);
    let many = |count: usize| vec![position("A", json!(1))[0].clone(); count];
    let eighth = |field: &str, value: Value| {
        let mut positions = many(8);
        positions[7][field] = value;
        json!(positions)
    };
    for (path, body, field, value, told) in [
        ("/trades", trade(), "tradeId", json!(""), ""),
        ("/trades", trade(), "userId", json!("a\nb"), ""),
        ("/trades", trade(), "symbol", json!("A B"), ""),
        ("/trades", trade(), "status", json!("lost"), ""),
        ("/trades", trade(), "quantity", json!(0), ""),
        ("/trades", trade(), "quantity", json!("2"), ""),
        ("/trades", trade(), "executedPrice", Value::Null, ""),
        ("/trades", trade(), "executedPrice", json!(-1), ""),
        (
            "/trades",
            not_executed("pending"),
            "executedPrice",
            json!(7),
            "",
        ),
        (
            "/trades",
            not_executed("failed"),
            "executedPrice",
            json!(7),
            "",
        ),
        (
            "/trades",
            not_executed("canceled"),
            "executedPrice",
            json!(7),
            "",
        ),
        ("/trades", trade(), "timestamp", json!("yesterday"), ""),
        ("/signals", signal(), "action", json!("wait"), ""),
        ("/signals", signal(), "confidence", json!(101), ""),
        ("/signals", signal(), "stopLoss", json!(0), ""),
        ("/signals", signal(), "channelId", json!(""), ""),
        ("/signals", signal(), "providerName", json!("\u{202e}"), ""),
        ("/portfolios", portfolio(), "cash", json!(1e16), ""),
        (
            "/portfolios",
            portfolio(),
            "positions",
            position("", json!(1)),
            "[0].symbol",
        ),
        (
            "/portfolios",
            portfolio(),
            "positions",
            position("A", json!(null)),
            "[0].quantity",
        ),
        (
            "/portfolios",
            portfolio(),
            "positions",
            eighth("symbol", json!("A B")),
            "[7].symbol",
        ),
        (
            "/portfolios",
            portfolio(),
            "positions",
            eighth("quantity", json!(1e16)),
            "[7].quantity",
        ),
        (
            "/portfolios",
            portfolio(),
            "positions",
            eighth("avgPrice", json!(-1e16)),
            "[7].avgPrice",
        ),
        (
            "/portfolios",
            portfolio(),
            "positions",
            json!(many(1001)),
            "",
        ),
        ("/prices", price(), "price", json!(0), ""),
        ("/prices", price(), "symbol", json!("x".repeat(33)), ""),
    ] {
        let (status, answer) = publish(binary, path, with(body, field, value.clone())).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"]),
            (400, &json!("INVALID_PAYLOAD")),
            "{path} {field} {value}"
        );
        assert_eq!(
            error["details"]["field"],
            format!("{field}{told}"),
            "{path}"
        );
    }
    let most = with(portfolio(), "positions", json!(many(1000)));
    must(binary, "/portfolios", most).await;
    for id in ["o1", "o2", "o1"] {
        must(binary, "/trades", self::trade(id, "pending")).await;
    }
    let (status, _) = publish(binary, "/trades", self::trade("o3", "pending")).await;
    assert_eq!(status, 409, "too many open ones");
    must(binary, "/trades", self::trade("o1", "canceled")).await;
    must(binary, "/trades", self::trade("o3", "pending")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_survive_a_kill() {
    let server = start(&[]);
    must(&server.binary, "/trades", trade("t1", "pending")).await;
    must(&server.binary, "/trades", trade("t1", "executed")).await;
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY]].concat());
    let mut ann = client(&server.binary, "ann", "user").await;
    let answer = ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    let known = &answer["snapshot"]["trades"];
    assert_eq!(
        (&known[0]["status"], known.as_array().unwrap().len()),
        (&json!("executed"), 1)
    );
    must(&server.binary, "/trades", trade("t2", "failed")).await;
    assert_eq!(ann.event("trade:update").await["revision"], 3);
}
