//! Clients that reconnect and continue: by the last revision they know, by cursors, and by lists of
//! their own items.

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::{Server, signed};
use crate::market::{client, must, signal, start, trade};
use crate::support::RawClient;

fn ids(list: &Value, name: &str) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one[name].as_str().unwrap().to_owned())
        .collect()
}

fn numbered(name: &str, numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.map(|n| format!("{name}{n}")).collect()
}

async fn signals(server: &Server, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let signal = signal(&format!("s{n}"), Some("gold"));
        must(&server.binary, "/signals", signal).await;
    }
}

/// Returns the snapshot of a subscription, which the answer and the event share.
async fn snapshot(client: &mut Client, kind: &str, payload: Value) -> Value {
    let answer = client.must(&format!("subscribe:{kind}"), payload).await;
    let event = client.event(&format!("{kind}:subscribed")).await;
    assert_eq!(event["snapshot"], answer["snapshot"]);
    answer["snapshot"].clone()
}

/// Returns all pages from a cursor on, the oldest item first.
async fn rest(client: &mut Client, kind: &str, id: &str, mut request: Value) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = client
            .must(&format!("{kind}:history"), request.clone())
            .await;
        assert_eq!(page["hasMore"], page["cursor"].is_string(), "{page}");
        let items = ids(&page[kind], id);
        assert!(!items.is_empty(), "a page that was announced: {page}");
        all.extend(items);
        if page["hasMore"] == false {
            all.reverse();
            return all;
        }
        request["cursor"] = page["cursor"].clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_of_signals_reports_more_exactly_if_there_are_older() {
    let server = start(&[]);
    let mut ann = client(&server.binary, "ann", "user").await;
    signals(&server, 0..20).await;
    for payload in [json!({}), json!({"channelId": "gold"})] {
        let snapshot = snapshot(&mut ann, "signals", payload).await;
        assert_eq!(snapshot["hasMore"], false);
        assert_eq!(snapshot["cursor"], Value::Null);
    }
    signals(&server, 20..21).await;
    for payload in [json!({}), json!({"channelId": "gold"})] {
        let snapshot = snapshot(&mut ann, "signals", payload.clone()).await;
        assert_eq!(snapshot["hasMore"], true);
        assert_eq!(ids(&snapshot["signals"], "signalId")[0], "s1");
        let mut request = payload;
        request["cursor"] = snapshot["cursor"].clone();
        assert_eq!(rest(&mut ann, "signals", "signalId", request).await, ["s0"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_of_trades_reports_more_exactly_if_there_are_older() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    let own = json!({"userId": "ann"});
    must(binary, "/trades", trade("open", "pending")).await;
    for n in 0..50 {
        must(binary, "/trades", trade(&format!("t{n}"), "executed")).await;
    }
    let whole = snapshot(&mut ann, "trades", own.clone()).await;
    let mut expected = vec!["open".to_owned()];
    expected.extend(numbered("t", 0..50));
    assert_eq!(ids(&whole["trades"], "tradeId"), expected);
    assert_eq!(whole["hasMore"], false);
    for n in 50..53 {
        must(binary, "/trades", trade(&format!("t{n}"), "executed")).await;
    }
    let newest = snapshot(&mut ann, "trades", own).await;
    assert_eq!(newest["hasMore"], true);
    let request = json!({"cursor": newest["cursor"], "limit": 2});
    // A page may repeat a trade that is open.
    let older = rest(&mut ann, "trades", "tradeId", request).await;
    assert_eq!(older, ["open", "t0", "t1", "t2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_continues_after_its_revision_without_gap_or_double() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    signals(&server, 0..5).await;
    let known = snapshot(&mut ann, "signals", json!({})).await;
    assert_eq!(known["sinceRevision"], Value::Null);
    let since = known["revision"].clone();
    let nothing = snapshot(&mut ann, "signals", json!({"sinceRevision": since})).await;
    assert_eq!(
        nothing,
        json!({"revision": 5, "signals": [], "hasMore": false, "sinceRevision": 5})
    );
    drop(ann);
    // As many as a snapshot has, and then one more.
    for (until, missing) in [(205, vec![]), (206, vec!["s5".to_owned()])] {
        let from = until - 200;
        signals(
            &server,
            if from == 5 {
                5..until
            } else {
                until - 1..until
            },
        )
        .await;
        for payload in [
            json!({"sinceRevision": since}),
            json!({"sinceRevision": since, "channelId": "gold"}),
        ] {
            let mut ann = client(binary, "ann", "user").await;
            let missed = snapshot(&mut ann, "signals", payload.clone()).await;
            assert_eq!(missed["sinceRevision"], since);
            assert_eq!(
                ids(&missed["signals"], "signalId"),
                numbered("s", from..until)
            );
            assert_eq!(missed["hasMore"], !missing.is_empty());
            if !missing.is_empty() {
                let mut request = payload;
                request["cursor"] = missed["cursor"].clone();
                assert_eq!(
                    rest(&mut ann, "signals", "signalId", request).await,
                    missing
                );
            }
        }
    }
    // A revision that never existed, as after a restore, returns the whole list.
    let mut ann = client(binary, "ann", "user").await;
    let whole = snapshot(&mut ann, "signals", json!({"sinceRevision": 9999})).await;
    assert_eq!(whole["sinceRevision"], Value::Null);
    assert_eq!(ids(&whole["signals"], "signalId"), numbered("s", 186..206));
    signals(&server, 206..207).await;
    assert_eq!(ann.event("signal:new").await["signalId"], "s206");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_continues_with_trades_that_have_changed() {
    let server = start(&[]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    for id in ["t0", "t1", "t2"] {
        must(binary, "/trades", trade(id, "pending")).await;
    }
    let known = snapshot(&mut ann, "trades", json!({"userId": "ann"})).await;
    drop(ann);
    must(binary, "/trades", trade("t1", "executed")).await;
    must(binary, "/trades", trade("t3", "pending")).await;
    must(binary, "/trades", trade("t3", "failed")).await;
    let mut ann = client(binary, "ann", "user").await;
    let since = json!({"userId": "ann", "sinceRevision": known["revision"]});
    let missed = snapshot(&mut ann, "trades", since).await;
    assert_eq!(ids(&missed["trades"], "tradeId"), ["t1", "t3"]);
    assert_eq!(
        (&missed["trades"][1]["status"], &missed["hasMore"]),
        (&json!("failed"), &json!(false))
    );
    let page = json!({"sinceRevision": known["revision"], "limit": 1});
    assert_eq!(
        rest(&mut ann, "trades", "tradeId", page).await,
        ["t1", "t3"]
    );
    for wrong in [json!(-1), json!("1"), json!(1.5)] {
        let payload = json!({"userId": "ann", "sinceRevision": wrong});
        ann.refused("subscribe:trades", payload, "INVALID_PAYLOAD")
            .await;
        ann.refused(
            "trades:history",
            json!({"sinceRevision": wrong}),
            "INVALID_PAYLOAD",
        )
        .await;
    }
    // A cursor is valid only for the list of its user.
    let first = ann.must("trades:history", json!({"limit": 1})).await;
    let mut bob = client(binary, "bob", "user").await;
    let cursor = json!({"cursor": first["cursor"]});
    bob.refused("trades:history", cursor, "NOT_FOUND").await;
    let none = bob.must("trades:history", Value::Null).await;
    assert_eq!(
        (&none["trades"], &none["hasMore"]),
        (&json!([]), &json!(false))
    );
}

#[test]
fn pages_since_a_revision_end_exactly_at_every_limit() {
    const COUNT: usize = 6;
    let server = start(&[]);
    let get = |path: &str| {
        let (status, answer) = server.call("GET", path, "service", "");
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    for n in 0..COUNT {
        for (path, body) in [
            ("/trades", trade(&format!("t{n}"), "executed")),
            ("/signals", signal(&format!("s{n}"), Some("gold"))),
        ] {
            let (status, answer) = server.call("POST", path, "service", &body.to_string());
            assert_eq!(status, 200, "{answer}");
        }
    }
    for (path, list, id, name) in [
        ("/users/ann/trades?", "trades", "tradeId", "t"),
        ("/signals?", "signals", "signalId", "s"),
        ("/signals?channelId=gold&", "signals", "signalId", "s"),
    ] {
        for since in 0..=COUNT {
            for limit in 1..=COUNT + 1 {
                let path = format!("{path}limit={limit}&sinceRevision={since}");
                let (mut next, mut seen, mut pages) = (path.clone(), Vec::new(), 0);
                loop {
                    let page = get(&next);
                    assert_eq!(page["sinceRevision"], since, "{page}");
                    seen.extend(ids(&page[list], id));
                    pages += 1;
                    assert_eq!(page["hasMore"], seen.len() < COUNT - since, "{page}");
                    let Some(cursor) = page["cursor"].as_str() else {
                        break;
                    };
                    next = format!("{path}&cursor={cursor}");
                }
                assert_eq!(seen, numbered(name, (since..COUNT).rev()), "{path}");
                assert_eq!(pages, (COUNT - since).div_ceil(limit).max(1), "{path}");
            }
        }
        let whole = get(&format!("{path}sinceRevision=99"));
        assert_eq!(ids(&whole[list], id).len(), COUNT);
        assert_eq!(whole["sinceRevision"], Value::Null);
        let (status, answer) =
            server.call("GET", &format!("{path}sinceRevision=-1"), "service", "");
        assert_eq!(
            (status, &answer["error"]["details"]["field"]),
            (400, &json!("sinceRevision"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_history_is_refused_to_those_who_may_not_follow() {
    let server = start(&[(
        "ROOMCAST_MARKET__SIGNALS",
        r#"[{channel = "gold", follow = ["role:premium"]}]"#,
    )]);
    signals(&server, 0..2).await;
    must(&server.binary, "/signals", signal("o", Some("oil"))).await;
    let mut ann = client(&server.binary, "ann", "user").await;
    for payload in [json!({"channelId": "gold"}), json!({}), Value::Null] {
        ann.refused("signals:history", payload, "FORBIDDEN").await;
    }
    let oil = ann
        .must("signals:history", json!({"channelId": "oil"}))
        .await;
    assert_eq!(ids(&oil["signals"], "signalId"), ["o"]);
    let mut premium = client(&server.binary, "bob", "premium").await;
    let gold = premium
        .must("signals:history", json!({"channelId": "gold"}))
        .await;
    assert_eq!(ids(&gold["signals"], "signalId"), ["s1", "s0"]);
}

#[test]
fn users_read_only_their_own_lists_over_http() {
    let server = start(&[]);
    let notice = json!({"notificationId": "n", "userId": "ann", "type": "info", "title": "T", "message": "M"});
    let portfolio = json!({"userId": "ann", "totalValue": 1, "cash": 1, "positions": []});
    for (path, body) in [
        ("/trades", trade("t1", "executed")),
        ("/portfolios", portfolio),
        ("/notifications", notice),
    ] {
        let (status, answer) = server.call("POST", path, "service", &body.to_string());
        assert_eq!(status, 200, "{answer}");
    }
    let call = |method: &str, user: &str, roles: Value, path: &str| {
        let claims = json!({"sub": user, "roles": roles, "exp": 4_000_000_000_u64});
        let mut client = RawClient::connect(server.binary.address());
        client.send(format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Length: 0\r\n\r\n",
            signed(&claims)
        ));
        let answer = client.response();
        let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        (answer.status, body)
    };
    let (status, own) = call("GET", "ann", json!(["user"]), "/users/ann/trades?limit=1");
    assert_eq!(
        (status, ids(&own["trades"], "tradeId")),
        (200, vec!["t1".to_owned()])
    );
    let (_, by_service) = server.call("GET", "/users/ann/trades", "service", "");
    assert_eq!(own, by_service);
    for list in [
        "trades",
        "portfolio",
        "notifications",
        "notifications/history",
    ] {
        let path = format!("/users/ann/{list}");
        for (user, roles, expected) in [
            ("ann", json!(["user"]), 200),
            ("ann", json!([]), 200),
            ("ann", json!(["coach"]), 200),
            ("bob", json!(["user"]), 403),
            ("bob", json!([]), 403),
            ("bob", json!(["service"]), 200),
            ("bob", json!(["admin"]), 200),
        ] {
            let (status, answer) = call("GET", user, roles.clone(), &path);
            assert_eq!(status, expected, "{user} {roles} {path}: {answer}");
        }
    }
    // Nothing else is accessible, and an encoded id counts as the user that it denotes.
    assert_eq!(
        call("GET", "ann", json!(["user"]), "/users/%61nn/trades").0,
        200
    );
    for (method, path) in [
        ("GET", "/users/ann/presence"),
        ("GET", "/signals"),
        ("POST", "/users/ann/trades"),
        ("DELETE", "/users/ann/sockets"),
        ("GET", "/users/ann%2Ftrades"),
        ("GET", "/users/Ann/trades"),
    ] {
        assert_eq!(call(method, "ann", json!(["user"]), path).0, 403, "{path}");
    }
    let guest = RawClient::connect(server.binary.address()).get("/api/v1/users/ann/trades");
    assert_eq!(guest.status, 401);
}
