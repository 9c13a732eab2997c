//! Data of services is accepted unchanged or refused: numbers, times, sizes and encodings of
//! bodies.

use serde_json::{Value, json};

use crate::guard::Server;
use crate::market::{client, must, publish, signal, start};
use crate::server::LOBBY;

/// Publishes a literal body, and returns the status and the field that the error names.
fn refused(server: &Server, path: &str, body: &str) -> (u16, String) {
    let (status, answer) = server.call("POST", path, "service", body);
    let field = answer["error"]["details"]["field"].as_str();
    (status, field.unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn market_number_that_a_double_would_round_is_refused() {
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
    // Every number that a double represents exactly is accepted, however it is written.
    for exact in ["0.1", "100.0", "1e2", "0.30000000000000004", "50.50"] {
        let body = format!(r#"{{"symbol":"A","price":{exact}}}"#);
        let (status, answer) = server.call("POST", "/prices", "service", &body);
        assert_eq!(status, 200, "{answer}");
        let number: f64 = exact.parse().unwrap();
        assert_eq!(answer["price"].as_f64(), Some(number), "{exact}");
    }
    // Events of applications are forwarded unchanged.
    let generic = r#"{"event":"x","everyone":true,"args":[9223372036854775809]}"#;
    let mut ann = client(&server.binary, "ann", "user").await;
    let (status, answer) = server.call("POST", "/emit", "service", generic);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ann.event("x").await, json!(9_223_372_036_854_775_809_u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_60_is_refused_in_every_time() {
    let server = start(&[]);
    let leap = "2016-12-31T23:59:60Z";
    let common = json!({"userId": "ann", "timestamp": leap});
    let with = |fields: Value| {
        let mut body = common.clone();
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        body
    };
    let mut leaping_signal = signal("s", None);
    leaping_signal["timestamp"] = json!(leap);
    let messages = format!("/conversations/{LOBBY}/messages");
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
        (
            "/notifications",
            json!({"userId": "ann", "type": "info", "title": "T", "message": "M", "expiresAt": leap}),
            "expiresAt",
        ),
        ("/signals", leaping_signal, "timestamp"),
        (
            "/revocations",
            json!({"userId": "ann", "until": leap}),
            "until",
        ),
        (
            messages.as_str(),
            json!({"content": "x", "metadata": {"timestamp": leap}}),
            "metadata.timestamp",
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

/// An integer of the bodies or queries that the HTTP API documents.
struct Whole {
    /// The path that an error names.
    field: String,
    /// A body or a query that has only this integer, which stands for `@`.
    form: String,
    /// The least value that its schema allows, but not 0.
    least: u64,
}

/// Collects the integers of a schema; `field` and `form` are those of the schema.
fn integers(document: &Value, schema: &Value, field: &str, form: &str, found: &mut Vec<Whole>) {
    assert!(field.len() < 200, "a schema that refers to itself: {field}");
    if let Some(target) = schema["$ref"].as_str() {
        let target = document.pointer(target.trim_start_matches('#')).unwrap();
        return integers(document, target, field, form, found);
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            integers(document, schema, field, form, found);
        }
    }
    if schema["type"] == "integer" || schema["type"][0] == "integer" {
        found.push(Whole {
            field: field.to_owned(),
            form: form.to_owned(),
            least: schema["minimum"].as_u64().unwrap_or(0).max(1),
        });
    }
    if schema["items"].is_object() {
        let (field, form) = (format!("{field}[0]"), form.replace('@', "[@]"));
        integers(document, &schema["items"], &field, &form, found);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let dot = if field.is_empty() { "" } else { "." };
        let form = form.replace('@', &format!("{{\"{name}\":@}}"));
        integers(
            document,
            schema,
            &format!("{field}{dot}{name}"),
            &form,
            found,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_integer_may_have_a_zero_fraction_and_no_other() {
    const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let server = start(&[]);
    let (status, document) = server.call("GET", "/openapi.json", "admin", "");
    assert_eq!(status, 200);
    let mut tried = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let parts = path.strip_prefix("/api/v1").unwrap().split('/');
        let parts = parts.map(|part| if part.starts_with('{') { ID } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase();
            let (mut queries, mut bodies) = (Vec::new(), Vec::new());
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["in"] == "query" {
                    let name = parameter["name"].as_str().unwrap();
                    let form = format!("?{name}=@");
                    integers(&document, &parameter["schema"], name, &form, &mut queries);
                }
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            integers(&document, body, "", "@", &mut bodies);
            let requests = queries.iter().map(|whole| (whole, true));
            for (whole, is_query) in requests.chain(bodies.iter().map(|whole| (whole, false))) {
                let least = whole.least;
                let ask = |number: String| {
                    let text = whole.form.replace('@', &number);
                    let (status, answer) = if is_query {
                        server.call(&method, &format!("{path}{text}"), "admin", "")
                    } else {
                        server.call(&method, &path, "admin", &text)
                    };
                    let field = answer["error"]["details"]["field"].as_str();
                    (status, field.unwrap_or_default().to_owned())
                };
                // Only this integer is sent: the request may lack others, which is another error.
                let plain = ask(least.to_string());
                let refused = (400, whole.field.clone());
                assert_ne!(plain, refused, "{method} {path}");
                for same in [format!("{least}.0"), format!("{least}e0")] {
                    assert_eq!(ask(same), plain, "{method} {path} {}", whole.field);
                }
                assert_eq!(ask(format!("{least}.5")), refused, "{method} {path}");
                tried.push(whole.field.clone());
            }
        }
    }
    for field in [
        "ackTimeout",
        "limit",
        "seconds",
        "sinceRevision",
        "ttlSeconds",
        "version",
    ] {
        assert!(
            tried.iter().any(|tried| tried == field),
            "{field} of {tried:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn portfolio_of_1000_positions_is_accepted_by_each_route() {
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
    // Formatted with spaces and line breaks, as some programs write it.
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
    // An event of an application keeps its earlier limit.
    let generic = json!({"event": "x", "everyone": true, "args": ["x".repeat(64 << 10)]});
    assert_eq!(publish(&server.binary, "/emit", generic).await.0, 413);
}
