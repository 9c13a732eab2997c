//! Prices that services publish and clients follow.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::{KEY, signed};
use crate::market::{client, must, publish, start};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::UNLIMITED;

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

fn price(symbol: &str, price: impl Into<Value>) -> Value {
    json!({"symbol": symbol, "price": price.into()})
}

fn symbols(symbols: &[&str]) -> Value {
    json!({ "symbols": symbols })
}

/// Returns symbol and price of each.
fn received(prices: &Value) -> Vec<(&str, f64)> {
    let prices = prices.as_array().unwrap().iter();
    prices
        .map(|one| {
            (
                one["symbol"].as_str().unwrap(),
                one["price"].as_f64().unwrap(),
            )
        })
        .collect()
}

/// Returns the prices in updates of a symbol up to this price.
async fn updates_until(client: &mut Client, symbol: &str, last: f64) -> Vec<f64> {
    let mut prices = Vec::new();
    while prices.last() != Some(&last) {
        let update = client.event("price:update").await;
        assert_eq!(update["symbol"], symbol);
        prices.push(update["price"].as_f64().unwrap());
    }
    prices
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_of_a_symbol_gets_the_last_price_and_each_update() {
    let server = start(&[("ROOMCAST_MARKET__PRICE_INTERVAL", "0s")]);
    let binary = &server.binary;
    let published = must(binary, "/prices", price("AAPL", 190.5)).await;
    assert_eq!(
        (&published["symbol"], &published["price"]),
        (&json!("AAPL"), &json!(190.5))
    );
    let mut ann = client(binary, "ann", "user").await;
    let mut bob = client(binary, "bob", "user").await;
    // A symbol that is named twice counts once.
    let answer = ann
        .must("subscribe:prices", symbols(&["BTC/USD", "AAPL", "AAPL"]))
        .await;
    assert_eq!(answer["rooms"], json!(["prices:AAPL", "prices:BTC/USD"]));
    assert_eq!(answer["snapshot"]["prices"], json!([published]));
    let subscribed = ann.event("prices:subscribed").await;
    assert_eq!(subscribed["rooms"], answer["rooms"]);
    assert_eq!(subscribed["snapshot"], answer["snapshot"]);
    bob.must("subscribe:prices", symbols(&["AAPL"])).await;

    let time = "2025-01-31T12:00:00.000Z";
    let exact = json!({"symbol": "BTC/USD", "price": 60000, "timestamp": time});
    must(binary, "/prices", exact).await;
    must(binary, "/prices", price("AAPL", 191)).await;
    assert_eq!(
        ann.event("price:update").await,
        json!({"symbol": "BTC/USD", "price": 60000.0, "timestamp": time})
    );
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.event("price:update").await["price"], 191.0);
    }
    // An older price changes nothing, and is answered with the current price.
    let older = json!({"symbol": "AAPL", "price": 1, "timestamp": time});
    assert_eq!(must(binary, "/prices", older).await["price"], 191.0);
    // The same by the event, with one price or many.
    let many = json!({"prices": [price("AAPL", 192), price("ES=F", 5000)]});
    for argument in [price("AAPL", 191.5), many] {
        let body = json!({"event": "price:update", "everyone": true, "args": [argument]});
        must(binary, "/emit", body).await;
    }
    assert_eq!(updates_until(&mut bob, "AAPL", 192.0).await, [191.5, 192.0]);

    let left = ann.must("unsubscribe:prices", symbols(&["AAPL"])).await;
    assert_eq!(left["rooms"], json!(["prices:AAPL"]));
    let received = ann.event("prices:unsubscribed").await;
    assert_eq!(received["rooms"], left["rooms"]);
    ann.events_until_now("price:update").await;
    must(binary, "/prices", price("AAPL", 193)).await;
    must(binary, "/prices", price("BTC/USD", 60001)).await;
    assert_eq!(ann.event("price:update").await["price"], 60001.0);
    updates_until(&mut bob, "AAPL", 193.0).await;
    // Subscribing again returns the newest price.
    let again = ann.must("subscribe:prices", symbols(&["AAPL"])).await;
    assert_eq!(
        self::received(&again["snapshot"]["prices"]),
        [("AAPL", 193.0)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_of_prices_sends_the_first_and_the_last() {
    let server = start(&[("ROOMCAST_MARKET__PRICE_INTERVAL", "300ms")]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    ann.must("subscribe:prices", symbols(&["A"])).await;
    let prices: Vec<_> = (1..=1000).map(|n| price("A", n)).collect();
    let answer = must(binary, "/prices", json!({ "prices": prices })).await;
    assert_eq!(answer, json!({"accepted": 1000}));
    let got = updates_until(&mut ann, "A", 1000.0).await;
    assert!(got.is_sorted() && got[0] == 1.0, "{got:?}");
    assert!(got.len() < 1000, "{got:?}");
    // A client that subscribes while an update is pending has the newest price first, and gets no
    // older update.
    let more: Vec<_> = (1001..=1100).map(|n| price("A", n)).collect();
    must(binary, "/prices", json!({ "prices": more })).await;
    let mut bob = client(binary, "bob", "user").await;
    let answer = bob.must("subscribe:prices", symbols(&["A"])).await;
    assert_eq!(received(&answer["snapshot"]["prices"]), [("A", 1100.0)]);
    updates_until(&mut ann, "A", 1100.0).await;
    must(binary, "/prices", price("A", 1101)).await;
    for client in [&mut ann, &mut bob] {
        let got = updates_until(client, "A", 1101.0).await;
        assert!(got.is_sorted() && got[0] >= 1100.0, "{got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriber_during_publications_ends_with_the_last_price() {
    const LAST: u32 = 300;
    let server = start(&[("ROOMCAST_MARKET__PRICE_INTERVAL", "5ms")]);
    let names: Vec<String> = (0..20).map(|n| format!("S{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = |value: u32| -> Value {
        let prices: Vec<_> = names.iter().map(|symbol| price(symbol, value)).collect();
        json!({ "prices": prices })
    };
    let ((), clients) = tokio::join!(
        async {
            for value in 1..=LAST {
                must(&server.binary, "/prices", all(value)).await;
            }
        },
        async {
            let mut clients = Vec::new();
            for n in 0..10 {
                let mut one = client(&server.binary, &format!("u{n}"), "user").await;
                one.must("subscribe:prices", symbols(&names)).await;
                clients.push(one);
            }
            clients
        }
    );
    for mut one in clients {
        let subscribed = one.event("prices:subscribed").await;
        let mut last: HashMap<_, _> = received(&subscribed["snapshot"]["prices"])
            .into_iter()
            .map(|(symbol, price)| (symbol.to_owned(), price))
            .collect();
        while last.len() < names.len() || last.values().any(|last| *last < f64::from(LAST)) {
            let update = one.event("price:update").await;
            let symbol = update["symbol"].as_str().unwrap().to_owned();
            last.insert(symbol, update["price"].as_f64().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_price_batch_is_refused_as_a_whole_with_the_path() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    for event in ["subscribe:prices", "unsubscribe:prices"] {
        for (payload, field) in [
            (json!({}), "symbols"),
            (json!({"symbols": "A"}), "symbols"),
            (json!({"symbols": ["A", 7]}), "symbols[1]"),
            (json!({"symbols": []}), "symbols"),
            (json!({"symbols": many}), "symbols"),
            (json!({"symbols": ["A", "B", "A B"]}), "symbols[2]"),
            (json!({"symbols": ["x".repeat(33)]}), "symbols[0]"),
            (json!({"symbols": [""]}), "symbols[0]"),
        ] {
            let error = ann.refused(event, payload.clone(), "INVALID_PAYLOAD").await;
            assert_eq!(error["details"]["field"], field, "{event} {payload}");
        }
    }
    let good = price("A", 1);
    for (body, field) in [
        (json!({}), "symbol"),
        (json!({"price": 1}), "symbol"),
        (json!({"symbol": "A"}), "price"),
        (
            json!({"prices": [good, {"symbol": "A"}]}),
            "prices[1].price",
        ),
        (json!({"prices": [good, {"price": 1}]}), "prices[1].symbol"),
        (json!({"symbol": "A", "price": 1, "more": 1}), "more"),
        (json!({"prices": []}), "prices"),
        (json!({"prices": vec![good.clone(); 1001]}), "prices"),
        (json!({"prices": [good, price("A", 0)]}), "prices[1].price"),
        (
            json!({"prices": [good, price("A B", 1)]}),
            "prices[1].symbol",
        ),
        (
            json!({"prices": [good, price("A", "1")]}),
            "prices[1].price",
        ),
        (
            json!({"prices": [{"symbol": "A", "price": 1, "timestamp": "now"}]}),
            "prices[0].timestamp",
        ),
        (json!({"prices": [good], "symbol": "A"}), "symbol"),
        (json!({"prices": [good], "price": 1}), "price"),
        (
            json!({"prices": [good], "timestamp": "2025-01-31T12:00:00.000Z"}),
            "timestamp",
        ),
        (price("A", 1e16), "price"),
        (price("", 1), "symbol"),
    ] {
        let (status, answer) = publish(binary, "/prices", body.clone()).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"]), (400, &json!("INVALID_PAYLOAD")));
        assert_eq!(error["details"]["field"], field, "{body}: {answer}");
        let emitted = json!({"event": "price:update", "everyone": true, "args": [body]});
        let (status, answer) = publish(binary, "/emit", emitted).await;
        let named = &answer["error"]["details"]["field"];
        assert_eq!((status, named), (400, &json!(format!("args[0].{field}"))));
    }
    // The clock excludes this time, the schema does not.
    let early =
        json!({"prices": [good, {"symbol": "A", "price": 1, "timestamp": "2999-01-01T00:00:00Z"}]});
    let emitted = json!({"event": "price:update", "everyone": true, "args": [early]});
    for (path, body, field) in [
        ("/prices", early, "prices[1].timestamp"),
        ("/emit", emitted, "args[0].prices[1].timestamp"),
    ] {
        let (status, answer) = publish(binary, path, body).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"]),
            (409, &json!("CONFLICT")),
            "{answer}"
        );
        assert_eq!(error["details"]["field"], field, "{answer}");
    }
    let long = json!({"prices": [], "more": "x".repeat(256 << 10)});
    assert_eq!(publish(binary, "/prices", long).await.0, 413);
    // None of it was accepted.
    let answer = ann.must("subscribe:prices", symbols(&["A"])).await;
    assert_eq!(answer["snapshot"]["prices"], json!([]));
    // A thousand prices are accepted whatever the names of the symbols.
    let longest = |n: usize| {
        let symbol = format!("{n:\"<32}");
        json!({"symbol": symbol, "price": 0.123_456_789_012_345_6, "timestamp": "2025-01-31T12:00:00.000000000+00:00"})
    };
    let prices: Vec<_> = (0..1000).map(longest).collect();
    must(binary, "/prices", json!({ "prices": prices })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_follows_a_limited_number_of_symbols() {
    let server = start(&[]);
    let mut ann = client(&server.binary, "ann", "user").await;
    let names: Vec<String> = (0..201).map(|n| n.to_string()).collect();
    let some = |range: std::ops::Range<usize>| json!({"symbols": names[range]});
    ann.must("subscribe:prices", some(0..100)).await;
    ann.must("subscribe:prices", some(50..150)).await;
    ann.refused("subscribe:prices", some(101..201), "CONFLICT")
        .await;
    ann.must("subscribe:prices", some(100..200)).await;
    ann.refused("subscribe:prices", some(200..201), "CONFLICT")
        .await;
    // Other rooms do not count.
    ann.must("subscribe:signals", json!({})).await;
    ann.must("unsubscribe:prices", some(0..1)).await;
    ann.must("subscribe:prices", some(200..201)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_server_has_stored_the_newest_price_of_each_symbol() {
    let server = start(&[]);
    let binary = &server.binary;
    // A single price is stored when it is acknowledged, however the server ends.
    must(binary, "/prices", price("one", 1)).await;
    let variables = [UNLIMITED.as_slice(), &[KEY]].concat();
    let server = server.restarted(&variables);
    let last = async |server: &crate::guard::Server, names: &[&str]| {
        let mut ann = client(&server.binary, "ann", "user").await;
        let answer = ann.must("subscribe:prices", symbols(names)).await;
        answer["snapshot"]["prices"].clone()
    };
    assert_eq!(received(&last(&server, &["one"]).await), [("one", 1.0)]);
    for n in 1..=50 {
        let prices = [price("a", n), price("b", n + 1), price("one", n)];
        must(&server.binary, "/prices", json!({ "prices": prices })).await;
    }
    let server = server.stopped_and_started(&variables);
    assert_eq!(
        received(&last(&server, &["a", "b", "one"]).await),
        [("a", 50.0), ("b", 51.0), ("one", 50.0)]
    );
    let mut root = client(&server.binary, "root", "admin").await;
    let order = json!({"symbol": "b", "side": "buy", "quantity": 1});
    let executed = root.must("execute:trade", order).await;
    assert_eq!(executed["executedPrice"], 51.0);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn prices_reach_followers_at_all_servers() {
    let database = Database::new();
    let servers = [database.server_with(&[KEY]), database.server_with(&[KEY])];
    let mut followers = Vec::new();
    for binary in &servers {
        let mut ann = client(binary, "ann", "admin").await;
        ann.must("subscribe:prices", symbols(&["A", "B"])).await;
        followers.push(ann);
    }
    for n in 1..=20 {
        let prices = [price("A", n), price("A", 100 + n)];
        must(&servers[n % 2], "/prices", json!({ "prices": prices })).await;
    }
    must(&servers[0], "/prices", price("A", 500)).await;
    for ann in &mut followers {
        updates_until(ann, "A", 500.0).await;
    }
    // Other servers execute trades at the acknowledged price.
    for n in 1..=4 {
        must(&servers[n % 2], "/prices", price("B", n)).await;
        let order = json!({"symbol": "B", "side": "sell", "quantity": 1});
        let executed = followers[(n + 1) % 2].must("execute:trade", order).await;
        assert_eq!(executed["executedPrice"], n as f64);
    }
    let late = database.server_with(&[KEY]);
    let mut bob = client(&late, "bob", "user").await;
    let answer = bob.must("subscribe:prices", symbols(&["A", "B"])).await;
    assert_eq!(
        received(&answer["snapshot"]["prices"]),
        [("A", 500.0), ("B", 4.0)]
    );
    // When two servers receive prices of one symbol concurrently, both end with the same price.
    let (first, second) = tokio::join!(
        publish(&servers[0], "/prices", price("A", 601)),
        publish(&servers[1], "/prices", price("A", 602)),
    );
    assert_eq!((first.0, second.0), (200, 200));
    let current = async |binary| {
        let mut carl = client(binary, "carl", "user").await;
        let answer = carl.must("subscribe:prices", symbols(&["A"])).await;
        answer["snapshot"]["prices"][0]["price"].as_f64().unwrap()
    };
    let stored =
        "SELECT body::json->>'price' FROM journal_entries WHERE journal = 'prices' AND key = 'A'";
    let agreed = async {
        loop {
            let last: f64 = database.sql(stored).trim().parse().unwrap();
            let mut others = Vec::new();
            for binary in servers.iter().chain([&late]) {
                others.push(current(binary).await);
            }
            if others == [last; 3] {
                break last;
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
        }
    };
    let last = tokio::time::timeout(DEADLINE, agreed).await.unwrap();
    for ann in &mut followers {
        while ann.event("price:update").await["price"] != last {}
    }
}

/// A service that publishes over one connection until the server ends.
struct Service {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Service {
    fn connect(address: SocketAddr) -> Self {
        let claims = json!({"sub": "backend", "roles": ["service"], "exp": 4_000_000_000_u64});
        Self {
            stream: BufReader::new(TcpStream::connect(address).unwrap()),
            token: signed(&claims),
        }
    }

    /// Publishes. Returns the status, or `None` if the server ends before it has answered.
    fn publish(&mut self, body: &Value) -> Option<u16> {
        let body = body.to_string();
        let request = format!(
            "POST /api/v1/prices HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().ok();
            } else if let Some(rest) = line.strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap();
            }
        }
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest).ok()?;
        status
    }
}

/// Publishes until the server at this address is killed, with four services. Each has its own
/// symbols, and sends prices alone and 100 at a time. Calls `kill` when enough is acknowledged.
/// Returns the last acknowledged price of each symbol.
async fn publish_until_killed(address: SocketAddr, kill: impl FnOnce()) -> HashMap<String, f64> {
    let (acknowledged, mut counts) = tokio::sync::watch::channel(0);
    let services: Vec<_> = (0..4)
        .map(|n| {
            let acknowledged = acknowledged.clone();
            tokio::task::spawn_blocking(move || {
                let mut service = Service::connect(address);
                let names: Vec<_> = (0..100).map(|symbol| format!("S{n}-{symbol}")).collect();
                let mut last = HashMap::new();
                for value in 1_u32.. {
                    let (some, body) = if n < 2 {
                        let some = &names[value as usize % 100..][..1];
                        (some, price(&some[0], value))
                    } else {
                        let all = names.iter().map(|symbol| price(symbol, value));
                        (&names[..], json!({"prices": all.collect::<Vec<_>>()}))
                    };
                    let Some(status) = service.publish(&body) else {
                        break;
                    };
                    assert_eq!(status, 200);
                    last.extend(some.iter().cloned().map(|one| (one, f64::from(value))));
                    acknowledged.send_modify(|count| *count += 1);
                }
                last
            })
        })
        .collect();
    tokio::time::timeout(DEADLINE, counts.wait_for(|count| *count >= 200))
        .await
        .unwrap()
        .unwrap();
    kill();
    let mut last = HashMap::new();
    for service in services {
        let one = service.await.unwrap();
        assert!(!one.is_empty(), "nothing was acknowledged to a service");
        last.extend(one);
    }
    last
}

/// Returns the prices of these symbols, as a client receives them.
async fn current(binary: &crate::server::ServerProcess, names: &[&str]) -> HashMap<String, f64> {
    let mut found = HashMap::new();
    for some in names.chunks(100) {
        let mut one = client(binary, "ann", "user").await;
        let answer = one.must("subscribe:prices", symbols(some)).await;
        let prices = received(&answer["snapshot"]["prices"]);
        found.extend(
            prices
                .into_iter()
                .map(|(one, price)| (one.to_owned(), price)),
        );
    }
    found
}

/// Checks that no acknowledged price is missing. A newer price whose answer was in flight may have
/// replaced it.
async fn has_all(binary: &crate::server::ServerProcess, acknowledged: &HashMap<String, f64>) {
    let names: Vec<_> = acknowledged.keys().map(String::as_str).collect();
    let found = current(binary, &names).await;
    for (symbol, price) in acknowledged {
        let stored = found.get(symbol).copied().unwrap_or_default();
        assert!(
            stored >= *price,
            "{symbol}: {price} acknowledged, {stored} stored"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_prices_survive_sigkill_on_sqlite() {
    let variables = [
        UNLIMITED.as_slice(),
        &[KEY, ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0")],
    ]
    .concat();
    let mut server = start(&[]);
    let mut killed = None;
    let address = server.binary.address();
    let acknowledged = publish_until_killed(address, || {
        killed = Some(server.restarted(&variables));
    })
    .await;
    server = killed.unwrap();
    has_all(&server.binary, &acknowledged).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_prices_survive_sigkill_on_postgres() {
    let variables = [KEY, ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0")];
    let database = Database::new();
    let server = database.server_with(&variables);
    let address = server.address();
    let acknowledged = publish_until_killed(address, || drop(server)).await;
    has_all(&database.server_with(&variables), &acknowledged).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_new_prices_reads_few_rows_and_reaches_the_other_node() {
    // Each of 18 batches counts the rows once. If each price did, they would be 40 million.
    const FEW: u64 = 2_000_000;
    let variables = [KEY, ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0")];
    let database = Database::new();
    let servers = [
        database.server_with(&variables),
        database.server_with(&variables),
    ];
    let mut ann = client(&servers[1], "ann", "user").await;
    ann.must("subscribe:prices", symbols(&["S8999", "alone"]))
        .await;
    // The database caches plans of statements, which must not be those for an almost empty table.
    let address = servers[0].address();
    let few = tokio::task::spawn_blocking(move || {
        let mut service = Service::connect(address);
        (1..=20).all(|n| service.publish(&price("alone", n)) == Some(200))
    });
    assert!(few.await.unwrap());
    // Its statistics, taken at the same time, must not mislead it either.
    database.sql("ANALYZE journal_entries");
    let burst: Vec<_> = (0..9)
        .map(|batch| {
            tokio::task::spawn_blocking(move || {
                let names = (batch * 1000..batch * 1000 + 1000).map(|n| format!("S{n}"));
                let prices: Vec<_> = names.map(|symbol| price(&symbol, 7)).collect();
                Service::connect(address).publish(&json!({ "prices": prices }))
            })
        })
        .collect();
    let alone = tokio::task::spawn_blocking(move || {
        Service::connect(address).publish(&price("alone", 900))
    });
    assert_eq!(alone.await.unwrap(), Some(200));
    for one in burst {
        assert_eq!(one.await.unwrap(), Some(200));
    }
    let mut seen = HashMap::new();
    while seen.get("alone") != Some(&900.0) || seen.len() < 2 {
        let update = ann.event("price:update").await;
        let symbol = update["symbol"].as_str().unwrap().to_owned();
        seen.insert(symbol, update["price"].as_f64().unwrap());
    }
    assert_eq!(seen["S8999"], 7.0);
    let count = "SELECT count(*) FROM journal_entries WHERE journal = 'prices'";
    assert_eq!(database.sql(count).trim(), "9001");
    let number = |sql| database.sql(sql).trim().parse::<u64>().unwrap();
    let stored = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'journal_entries'";
    let read = "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
             WHERE relname = 'journal_entries') + seq_tup_read
         FROM pg_stat_user_tables WHERE relname = 'journal_entries'";
    // Connections publish their statistics after up to ten seconds.
    let published = async {
        while number(stored) < 9001 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(DEADLINE, published).await.unwrap();
    let read = number(read);
    assert!(read < FEW, "{read} rows were read");
}
