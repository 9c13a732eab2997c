//! What services publish is taken as it is written, or refused: numbers, times, sizes and encodings of bodies.

use serde_json::{Value, json};

use crate::guard::Server;
use crate::market::{client, must, publish, start};

/// Publishes a body that is written by hand, and returns the status with the field that an error names.
fn refused(server: &Server, path: &str, body: &str) -> (u16, String) {
    let (status, answer) = server.call("POST", path, "service", body);
    let field = answer["error"]["details"]["field"].as_str();
    (status, field.unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_the_market_that_a_double_would_round_is_refused() {
    let server = start(&[]);
    let trade = |price: &str, quantity: &str| {
        format!(
            r#"{{"tradeId":"t","userId":"ann","symbol":"A","status":"executed","executedPrice":{price},"quantity":{quantity}}}"#
        )
    };
    let signal = |name: &str, number: &str| {
        let confidence = if name == "confidence" { number } else { "50" };
        let price = match name {
            "confidence" => String::new(),
            name => format!(r#","{name}":{number}"#),
        };
        format!(
            r#"{{"signalId":"s","providerId":"p","providerName":"P","symbol":"A","action":"buy","confidence":{confidence}{price}}}"#
        )
    };
    let portfolio = |value: &str, cash: &str, quantity: &str, price: &str| {
        format!(
            r#"{{"userId":"ann","totalValue":{value},"cash":{cash},"positions":[{{"symbol":"A","quantity":{quantity},"avgPrice":{price}}}]}}"#
        )
    };
    for lossy in ["9007199254740993", "50.000000000000000001", "1e-400"] {
        for (path, event, body, field) in [
            (
                "/prices",
                "price:update",
                format!(r#"{{"symbol":"A","price":{lossy}}}"#),
                "price",
            ),
            (
                "/prices",
                "price:update",
                format!(r#"{{"prices":[{{"symbol":"A","price":{lossy}}}]}}"#),
                "prices[0].price",
            ),
            (
                "/trades",
                "trade:update",
                trade(lossy, "1"),
                "executedPrice",
            ),
            ("/trades", "trade:update", trade("1", lossy), "quantity"),
            (
                "/signals",
                "signal:new",
                signal("entryPrice", lossy),
                "entryPrice",
            ),
            (
                "/signals",
                "signal:new",
                signal("stopLoss", lossy),
                "stopLoss",
            ),
            (
                "/signals",
                "signal:new",
                signal("takeProfit", lossy),
                "takeProfit",
            ),
            (
                "/signals",
                "signal:new",
                signal("confidence", lossy),
                "confidence",
            ),
            (
                "/portfolios",
                "portfolio:update",
                portfolio(lossy, "1", "1", "1"),
                "totalValue",
            ),
            (
                "/portfolios",
                "portfolio:update",
                portfolio("1", lossy, "1", "1"),
                "cash",
            ),
            (
                "/portfolios",
                "portfolio:update",
                portfolio("1", "1", lossy, "1"),
                "positions[0].quantity",
            ),
            (
                "/portfolios",
                "portfolio:update",
                portfolio("1", "1", "1", lossy),
                "positions[0].avgPrice",
            ),
        ] {
            let expected = (400, field.to_owned());
            assert_eq!(refused(&server, path, &body), expected, "{body}");
            let emitted = format!(r#"{{"event":"{event}","everyone":true,"args":[{body}]}}"#);
            let expected = (400, format!("args[0].{field}"));
            assert_eq!(refused(&server, "/emit", &emitted), expected, "{body}");
        }
    }
    // Every number that a double holds is taken, however it is written.
    for exact in ["0.1", "100.0", "1e2", "0.30000000000000004", "50.50"] {
        let body = format!(r#"{{"symbol":"A","price":{exact}}}"#);
        let (status, answer) = server.call("POST", "/prices", "service", &body);
        assert_eq!(status, 200, "{answer}");
        let number: f64 = exact.parse().unwrap();
        assert_eq!(answer["price"].as_f64(), Some(number), "{exact}");
    }
    // Events of applications pass on what they are given.
    let generic = r#"{"event":"x","everyone":true,"args":[9223372036854775809]}"#;
    let mut ann = client(&server.binary, "ann", "user").await;
    let (status, answer) = server.call("POST", "/emit", "service", generic);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ann.event("x").await, json!(9_223_372_036_854_775_809_u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_60_is_refused_wherever_a_time_is_given() {
    let server = start(&[]);
    let leap = "2016-12-31T23:59:60Z";
    let common = json!({"userId": "ann", "timestamp": leap});
    let with = |fields: Value| {
        let mut body = common.clone();
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        body
    };
    for (path, body, field) in [
        (
            "/prices",
            json!({"symbol": "A", "price": 1, "timestamp": leap}),
            "timestamp",
        ),
        (
            "/trades",
            with(json!({"tradeId": "t", "symbol": "A", "status": "pending", "quantity": 1})),
            "timestamp",
        ),
        (
            "/portfolios",
            with(json!({"totalValue": 1, "cash": 1, "positions": []})),
            "timestamp",
        ),
        (
            "/notifications",
            with(json!({"type": "info", "title": "T", "message": "M"})),
            "timestamp",
        ),
    ] {
        let expected = (400, field.to_owned());
        assert_eq!(
            refused(&server, path, &body.to_string()),
            expected,
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_number_may_have_a_zero_fraction_in_every_body_and_query() {
    let server = start(&[]);
    let call = |method: &str, path: &str, body: &str| server.call(method, path, "admin", body);
    let emit = r#"{"event":"x","everyone":true,"ackTimeout":100.0}"#;
    let block = r#"{"cidr":"192.0.2.0/24","seconds":100.0,"reason":"r"}"#;
    let login = r#"{"userId":"ann","ttlSeconds":100.0}"#;
    for (path, body) in [("/emit", emit), ("/blocks", block), ("/sessions", login)] {
        let (status, answer) = call("POST", path, body);
        assert!((200..300).contains(&status), "{path}: {answer}");
        let (status, answer) = call("POST", path, &body.replace("100.0", "100.5"));
        assert_eq!(status, 400, "{path}: {answer}");
    }
    for path in [
        "/sockets",
        "/rooms",
        "/blocks",
        "/signals",
        "/users/ann/trades",
        "/users/ann/notifications",
        "/users/ann/conversations",
    ] {
        for (limit, expected) in [
            ("100", 200),
            ("100.0", 200),
            ("1e2", 200),
            ("100.5", 400),
            ("%20100", 400),
            ("+100", 400),
        ] {
            let path = format!("{path}?limit={limit}");
            let (status, answer) = call("GET", &path, "");
            assert_eq!(status, expected, "{path}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portfolio_of_1000_positions_is_taken_by_each_route() {
    let server = start(&[]);
    let mut ann = client(&server.binary, "ann", "user").await;
    ann.must("subscribe:portfolio", json!({"userId": "ann"}))
        .await;
    let position = |n: usize| {
        let symbol = format!("{n:\"<32}");
        json!({"symbol": symbol, "quantity": -123_456_789_012.345_67, "avgPrice": 0.123_456_789_012_345_66})
    };
    let positions: Vec<_> = (0..1000).map(position).collect();
    let portfolio = json!({"userId": "ann", "totalValue": 1, "cash": 1, "positions": positions});
    // As programs write it that put spaces and line ends between all of it.
    let body = serde_json::to_string_pretty(&portfolio).unwrap();
    assert!(body.len() > 160 << 10, "{}", body.len());
    let (status, answer) = server.call("POST", "/portfolios", "service", &body);
    assert_eq!(status, 200, "{answer}");
    let update = ann.event("portfolio:update").await;
    assert_eq!(update["positions"], portfolio["positions"]);
    let emitted = json!({"event": "portfolio:update", "everyone": true, "args": [portfolio]});
    let answer = must(&server.binary, "/emit", emitted).await;
    assert_eq!(answer["published"]["positions"], portfolio["positions"]);
    let update = ann.event("portfolio:update").await;
    assert_eq!(update["positions"], portfolio["positions"]);
    // An event of an application has the limit of before.
    let generic = json!({"event": "x", "everyone": true, "args": ["x".repeat(64 << 10)]});
    assert_eq!(publish(&server.binary, "/emit", generic).await.0, 413);
}
