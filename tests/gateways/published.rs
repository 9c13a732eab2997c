//! Data that services read over HTTP: pages of trades, signals and notifications, and portfolios.

use serde_json::{Value, json};

use crate::guard::{KEY, Server};
use crate::market::{client, signal, start, trade};
use crate::server::UNLIMITED;

fn publish(server: &Server, path: &str, body: &Value) {
    let (status, answer) = server.call("POST", path, "service", &body.to_string());
    assert_eq!(status, 200, "{answer}");
}

fn get(server: &Server, path: &str) -> Value {
    let (status, answer) = server.call("GET", path, "service", "");
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

fn notice(id: &str, message: &str) -> Value {
    json!({"notificationId": id, "userId": "ann", "type": "info", "title": "T", "message": message})
}

/// Returns the ids of all items of a list, page by page, and calls a function between pages.
fn all_pages(
    server: &Server,
    path: &str,
    (list, id): (&str, &str),
    mut between: impl FnMut(),
) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page = get(server, &next);
        assert_eq!(page["hasMore"], page["cursor"].is_string(), "{page}");
        let items = page[list].as_array().unwrap().iter();
        let revisions: Vec<_> = items.clone().map(|item| &item["revision"]).collect();
        assert!(
            revisions.is_sorted_by(|a, b| a.as_u64() > b.as_u64()),
            "{page}"
        );
        let ids = items.map(|item| item[id].as_str().unwrap().to_owned());
        pages.push(ids.collect());
        let Some(cursor) = page["cursor"].as_str() else {
            return pages;
        };
        next = format!("{path}&cursor={cursor}");
        between();
    }
}

fn downwards(name: &str, from: usize) -> Vec<String> {
    let numbers = (0..from).rev();
    numbers.map(|n| format!("{name}{n}")).collect()
}

const TRADES: (&str, &str) = ("trades", "tradeId");
const SIGNALS: (&str, &str) = ("signals", "signalId");
const NOTIFICATIONS: (&str, &str) = ("notifications", "notificationId");

#[test]
fn lists_are_empty_without_publications() {
    let server = start(&[]);
    for (path, list) in [
        ("/users/ann/trades", "trades"),
        ("/signals", "signals"),
        ("/signals?channelId=gold", "signals"),
        ("/users/ann/notifications/history", "notifications"),
    ] {
        let empty = json!({"revision": 0, list: [], "hasMore": false});
        assert_eq!(get(&server, path), empty, "{path}");
    }
    let empty = json!({"revision": 0, "notifications": [], "unread": 0, "hasMore": false});
    assert_eq!(get(&server, "/users/ann/notifications"), empty);
    let none = json!({"revision": 0, "portfolio": null});
    assert_eq!(get(&server, "/users/ann/portfolio"), none);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_has_current_items_of_only_its_user_or_channel() {
    let server = start(&[]);
    let mut ann = client(&server.binary, "ann", "user").await;
    for (event, payload) in [
        ("subscribe:trades", json!({"userId": "ann"})),
        ("subscribe:portfolio", json!({"userId": "ann"})),
        ("subscribe:signals", json!({"channelId": "gold"})),
        ("subscribe:notifications", json!({})),
    ] {
        ann.must(event, payload).await;
    }
    let mut other = trade("t9", "failed");
    other["userId"] = json!("bob");
    publish(&server, "/trades", &other);
    publish(&server, "/trades", &trade("t1", "pending"));
    publish(&server, "/signals", &signal("s1", Some("oil")));
    publish(&server, "/signals", &signal("s2", Some("gold")));
    publish(&server, "/signals", &signal("s3", None));
    publish(&server, "/trades", &trade("t1", "executed"));
    let portfolio = json!({"userId": "ann", "totalValue": 1.5, "cash": 1, "positions": []});
    publish(&server, "/portfolios", &portfolio);
    publish(&server, "/notifications", &notice("n1", "M"));

    ann.event("trade:update").await;
    let executed = ann.event("trade:update").await;
    let trades = get(&server, "/users/ann/trades");
    assert_eq!(
        (&trades["trades"], &trades["revision"]),
        (&json!([executed]), &json!(2))
    );
    let received = ann.event("signal:new").await;
    let gold = get(&server, "/signals?channelId=gold");
    assert_eq!(
        (&gold["signals"], &gold["revision"]),
        (&json!([received]), &json!(3))
    );
    let all = all_pages(&server, "/signals?limit=2", SIGNALS, || {});
    assert_eq!(all, [vec!["s3", "s2"], vec!["s1"]]);
    let received = ann.event("notification:new").await;
    let listed = get(&server, "/users/ann/notifications");
    assert_eq!(listed["notifications"], json!([received]));
    let mut received = ann.event("portfolio:update").await;
    let revision = received.as_object_mut().unwrap().remove("revision");
    let read = get(&server, "/users/ann/portfolio");
    assert_eq!(
        (&read["portfolio"], &read["revision"]),
        (&received, &revision.unwrap())
    );

    // Acknowledged notifications are no longer in the list.
    ann.must("notification:ack", json!({"notificationId": "n1"}))
        .await;
    let listed = get(&server, "/users/ann/notifications");
    assert_eq!(
        listed,
        json!({"revision": 2, "notifications": [], "unread": 0, "hasMore": false})
    );
    // Reading is no subscription: a user without a subscription receives nothing.
    for user in ["bob", "carl"] {
        let listed = get(&server, &format!("/users/{user}/trades"));
        let count = listed["trades"].as_array().unwrap().len();
        assert_eq!(count, usize::from(user == "bob"));
    }
}

#[test]
fn unchanged_item_is_on_exactly_one_page() {
    const COUNT: usize = 11;
    let server = start(&[]);
    for n in 0..COUNT {
        publish(&server, "/trades", &trade(&format!("t{n}"), "executed"));
        publish(&server, "/signals", &signal(&format!("s{n}"), Some("gold")));
        publish(&server, "/signals", &signal(&format!("x{n}"), None));
        publish(&server, "/notifications", &notice(&format!("n{n}"), "M"));
    }
    for (path, names, name) in [
        ("/users/ann/trades", TRADES, "t"),
        ("/signals?channelId=gold&", SIGNALS, "s"),
        ("/users/ann/notifications", NOTIFICATIONS, "n"),
    ] {
        for limit in [1, 4, COUNT, 200] {
            let mark = if path.ends_with('&') { "" } else { "?" };
            let path = format!("{path}{mark}limit={limit}");
            let mut late = 0;
            let pages = all_pages(&server, &path, names, || {
                // New items are newer than everything that is still to be read.
                late += 1;
                let late = format!("{name}-{limit}-{late}");
                let (path, body) = match name {
                    "t" => ("/trades", trade(&late, "executed")),
                    "s" => ("/signals", signal(&late, Some("gold"))),
                    _ => ("/notifications", notice(&late, "M")),
                };
                publish(&server, path, &body);
            });
            let all_but_last = &pages[..pages.len() - 1];
            assert!(
                all_but_last.iter().all(|page| page.len() == limit),
                "{pages:?}"
            );
            let listed = pages.concat();
            let first = listed.iter().filter(|id| !id.contains('-')).cloned();
            assert_eq!(first.collect::<Vec<_>>(), downwards(name, COUNT), "{path}");
            let mut once = listed.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), listed.len(), "none of them twice");
        }
    }
}

#[test]
fn trade_changed_during_paging_moves_to_the_front() {
    let server = start(&[]);
    for n in 0..6 {
        publish(&server, "/trades", &trade(&format!("t{n}"), "pending"));
    }
    let first = get(&server, "/users/ann/trades?limit=2");
    let revision = first["revision"].as_u64().unwrap();
    // An item that was read, and an item that was not.
    for id in ["t5", "t1"] {
        publish(&server, "/trades", &trade(id, "executed"));
    }
    let cursor = first["cursor"].as_str().unwrap();
    let rest = get(
        &server,
        &format!("/users/ann/trades?limit=200&cursor={cursor}"),
    );
    let ids = |page: &Value| -> Vec<String> {
        let trades = page["trades"].as_array().unwrap().iter();
        trades
            .map(|one| one["tradeId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        (ids(&first), ids(&rest)),
        (
            vec!["t5".into(), "t4".into()],
            vec!["t3".into(), "t2".into(), "t0".into()],
        )
    );
    assert!(rest["revision"].as_u64() > Some(revision));
    let again = get(&server, "/users/ann/trades");
    let changed = again["trades"].as_array().unwrap().iter();
    let changed: Vec<_> = changed
        .filter(|one| one["revision"].as_u64() > Some(revision))
        .map(|one| {
            (
                one["tradeId"].as_str().unwrap(),
                one["status"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(changed, [("t1", "executed"), ("t5", "executed")]);
}

#[test]
fn page_of_long_notifications_is_shorter_and_skips_none() {
    const COUNT: usize = 60;
    let server = start(&[]);
    let message = "ü".repeat(2000);
    for n in 0..COUNT {
        publish(
            &server,
            "/notifications",
            &notice(&format!("n{n}"), &message),
        );
    }
    let pages = all_pages(
        &server,
        "/users/ann/notifications?limit=200",
        NOTIFICATIONS,
        || {},
    );
    assert!(pages.len() > 1, "{}", pages.len());
    assert_eq!(pages.concat(), downwards("n", COUNT));
}

#[test]
fn cursor_of_another_list_and_invalid_page_are_refused() {
    let server = start(&[]);
    let lists = [
        "/users/ann/trades",
        "/users/bob/trades",
        "/users/ann/notifications",
        "/users/bob/notifications",
        "/signals?channelId=gold",
        "/signals?channelId=oil",
        "/signals",
    ];
    for n in 0..2 {
        for user in ["ann", "bob"] {
            let mut trade = trade(&format!("{user}{n}"), "executed");
            trade["userId"] = json!(user);
            publish(&server, "/trades", &trade);
            let mut notice = notice(&format!("{user}{n}"), "M");
            notice["userId"] = json!(user);
            publish(&server, "/notifications", &notice);
        }
        for channel in ["gold", "oil"] {
            publish(
                &server,
                "/signals",
                &signal(&format!("{channel}{n}"), Some(channel)),
            );
        }
    }
    let with = |list: &str, query: &str| {
        let mark = if list.contains('?') { '&' } else { '?' };
        format!("{list}{mark}{query}")
    };
    let refused = |path: &str, field: Value| {
        let (status, answer) = server.call("GET", path, "service", "");
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"]),
            (400, &json!("INVALID_PAYLOAD")),
            "{path}: {answer}"
        );
        assert_eq!(error["details"]["field"], field, "{path}: {answer}");
    };
    for own in lists {
        let page = get(&server, &with(own, "limit=1"));
        let cursor = format!("cursor={}", page["cursor"].as_str().unwrap());
        for list in lists {
            let path = with(list, &cursor);
            if list == own {
                get(&server, &path);
            } else {
                let (status, answer) = server.call("GET", &path, "service", "");
                let code = &answer["error"]["code"];
                assert_eq!(
                    (status, code),
                    (404, &json!("NOT_FOUND")),
                    "{path}: {answer}"
                );
            }
        }
        for (query, field) in [
            ("cursor=", json!("cursor")),
            ("cursor=1", json!("cursor")),
            ("cursor=1.x", json!("cursor")),
            ("limit=0", json!("limit")),
            ("limit=201", json!("limit")),
            ("limit=x", json!("limit")),
            ("newest=1", json!("newest")),
        ] {
            refused(&with(own, query), field);
        }
    }
    refused("/signals?channelId=", json!("channelId"));
    let long = "x".repeat(129);
    for list in ["trades", "portfolio", "notifications"] {
        refused(&format!("/users/{long}/{list}"), json!("userId"));
    }
}

#[test]
fn each_list_requires_exactly_its_permission() {
    let lists = [
        ("trades:read", "/users/ann/trades"),
        ("signals:read", "/signals"),
        ("portfolio:read", "/users/ann/portfolio"),
        ("notifications:read", "/users/ann/notifications"),
    ];
    let publish = "api:*,trades:publish,signals:publish,portfolio:publish,notifications:publish";
    let mut variables = vec![("ROOMCAST_AUTH__ROLES__PUBLISHER__PERMISSIONS", publish)];
    for (name, (permission, _)) in [
        "ROOMCAST_AUTH__ROLES__READER0__PERMISSIONS",
        "ROOMCAST_AUTH__ROLES__READER1__PERMISSIONS",
        "ROOMCAST_AUTH__ROLES__READER2__PERMISSIONS",
        "ROOMCAST_AUTH__ROLES__READER3__PERMISSIONS",
    ]
    .into_iter()
    .zip(lists)
    {
        variables.push((name, permission));
    }
    let server = start(&variables);
    let status = |role: &str, path: &str| server.call("GET", path, role, "").0;
    for (n, (_, path)) in lists.into_iter().enumerate() {
        for role in ["user", "coach", "ai", "publisher"] {
            assert_eq!(status(role, path), 403, "{role} {path}");
        }
        for role in ["service", "admin"] {
            assert_eq!(status(role, path), 200, "{role} {path}");
        }
        for (m, _) in lists.iter().enumerate() {
            let expected = if n == m { 200 } else { 403 };
            assert_eq!(status(&format!("reader{m}"), path), expected, "{m} {path}");
        }
    }
    assert!(server.metric("roomcast_api_calls_total{result=\"read\"}") >= 12);
}

#[test]
fn old_cursor_still_works_after_a_kill() {
    let server = start(&[]);
    for n in 0..4 {
        publish(&server, "/trades", &trade(&format!("t{n}"), "executed"));
    }
    let first = get(&server, "/users/ann/trades?limit=3");
    let cursor = first["cursor"].as_str().unwrap();
    let server = server.restarted(&[UNLIMITED.as_slice(), &[KEY]].concat());
    let rest = get(&server, &format!("/users/ann/trades?cursor={cursor}"));
    assert_eq!(rest["trades"][0]["tradeId"], "t0");
    assert_eq!(rest["hasMore"], false);
}
