//! What operators look at: the state of all servers, one socket, conversations and alerts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Caller, start, user};
use crate::guard::KEY;
use crate::server::{LOBBY, Server};

/// Returns the users of all sockets that a search finds, page by page.
async fn found(service: &Caller, query: &str) -> Vec<String> {
    let mut users = Vec::new();
    let mut path = format!("/sockets?limit=2&{query}");
    loop {
        let page = service.get(&path).await;
        let sockets = page["sockets"].as_array().unwrap();
        assert!(sockets.len() <= 2, "{page}");
        users.extend(
            sockets
                .iter()
                .map(|socket| socket["userId"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["cursor"].as_str() else {
            assert_eq!(page["hasMore"], false);
            users.sort();
            return users;
        };
        path = format!("/sockets?limit=2&{query}&cursor={cursor}");
    }
}

#[tokio::test]
async fn sockets_are_found_by_the_beginning_of_what_is_known() {
    let server = start();
    let service = Caller::service(&server);
    let mut clients = Vec::new();
    for name in ["ann", "anna", "bob", "Annabel", "hannah"] {
        clients.push(user(&server, name).await);
    }
    assert_eq!(
        found(&service, "search=ANN").await,
        ["Annabel", "ann", "anna"]
    );
    assert_eq!(found(&service, "search=127.0.0").await.len(), 5);
    assert_eq!(found(&service, "search=127.0.0.2").await.len(), 0);
    assert_eq!(found(&service, "userId=bob&search=ann").await.len(), 0);
    let all = service.get("/sockets?userId=bob").await;
    let id = all["sockets"][0]["id"].as_str().unwrap().to_owned();
    let begin = &id[..6];
    assert_eq!(found(&service, &format!("search={begin}")).await, ["bob"]);
    let long = "x".repeat(257);
    for wrong in ["", "%20", &long] {
        let path = format!("/sockets?search={wrong}");
        service
            .refused(400, "INVALID_PAYLOAD", ("GET", &path, Value::Null))
            .await;
    }
}

#[tokio::test]
async fn search_counts_towards_the_rate_limit_of_its_caller() {
    let server = Server::with(&[KEY, ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "1")]);
    let service = Caller::service(&server);
    let mut statuses = BTreeSet::new();
    for _ in 0..50 {
        statuses.insert(service.send("GET", "/sockets?search=a", "").await.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn socket_is_read_and_moved_between_rooms_of_services_only() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let listed = service.get("/sockets?userId=ann").await;
    let id = listed["sockets"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/sockets/{id}");
    let socket = service.get(&path).await;
    for (field, expected) in [
        ("userId", json!("ann")),
        ("transport", json!("websocket")),
        ("queuedBytes", json!(0)),
        ("recovered", json!(false)),
        ("rooms", json!(["user:ann"])),
    ] {
        assert_eq!(socket[field], expected, "{field}");
    }
    let vip = format!("{path}/rooms/vip%20room");
    for changed in [true, false] {
        let moved = service.must(200, "PUT", &vip, Value::Null).await;
        assert_eq!(moved, json!({"changed": changed}));
    }
    let emit = json!({"event": "offer", "args": [1], "rooms": ["vip room"]});
    service.must(200, "POST", "/emit", emit).await;
    assert_eq!(ann.event("offer").await, json!(1));
    for changed in [true, false] {
        let moved = service.must(200, "DELETE", &vip, Value::Null).await;
        assert_eq!(moved, json!({"changed": changed}));
    }
    assert_eq!(service.get(&path).await["rooms"], json!(["user:ann"]));
    for room in ["user%3Abob", "admin", "signals%3Ax", "conversation%3Ax"] {
        for method in ["PUT", "DELETE"] {
            let managed = format!("{path}/rooms/{room}");
            service
                .refused(409, "CONFLICT", (method, &managed, Value::Null))
                .await;
        }
    }
    let _bob = user(&server, "bob").await;
    let others = service.get("/sockets?userId=bob").await;
    let other = others["sockets"][0]["id"].as_str().unwrap();
    // The rooms of a connected socket, of itself, and of a socket that may connect later.
    for room in [other, &*id, "zZ09-_zZ09-_zZ09-_zZ"] {
        for method in ["PUT", "DELETE"] {
            let own = format!("{path}/rooms/{room}");
            service
                .refused(409, "CONFLICT", (method, &own, Value::Null))
                .await;
        }
    }
    assert_eq!(service.get(&path).await["rooms"], json!(["user:ann"]));
    let long = format!("{path}/rooms/{}", "x".repeat(257));
    service
        .refused(400, "INVALID_PAYLOAD", ("PUT", &long, Value::Null))
        .await;
    let absent = "/sockets/AAAAAAAAAAAAAAAAAAAA";
    for (method, path) in [
        ("GET", absent.to_owned()),
        ("GET", "/sockets/x".to_owned()),
        ("PUT", format!("{absent}/rooms/vip")),
        ("DELETE", "/sockets/x/rooms/vip".to_owned()),
    ] {
        service
            .refused(404, "NOT_FOUND", (method, &path, Value::Null))
            .await;
    }
    let admin = Caller::of(&server, "root", &["admin"]);
    let audit = admin.get("/audit?operation=joinRoom").await;
    let entries = audit["entries"].as_array().unwrap();
    assert!(entries.len() >= 2, "{audit}");
    assert!(
        entries.iter().all(|entry| entry["userId"] == "backend"),
        "{audit}"
    );
}

#[tokio::test]
async fn state_of_a_single_server_has_recent_durations_and_no_missing_server() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    let message = json!({"conversationId": LOBBY, "content": "hello"});
    ann.must("message", message).await;
    let all = service.get("/stats/cluster").await;
    let [one] = &all["servers"].as_array().unwrap()[..] else {
        panic!("{all}");
    };
    assert_eq!(all["missing"], json!([]));
    assert_eq!(all["total"]["sessions"]["total"], 1);
    assert_eq!(one["statistics"]["store"], "ok");
    assert_eq!(one["parts"]["endedTasks"], json!([]));
    assert!(one["parts"].get("certificateExpiresAt").is_none());
    let nodes = service.get("/nodes").await;
    assert_eq!(one["name"], nodes["nodes"][0]["name"]);
    let windows = all["recent"].as_array().unwrap();
    let minutes: Vec<&Value> = windows.iter().map(|window| &window["minutes"]).collect();
    assert_eq!(json!(minutes), json!([1, 5, 60]));
    for times in windows.iter().map(|window| &window["times"]) {
        assert_eq!(times["processing"]["count"], 1, "{times}");
        assert!(times["processing"]["p99"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(all["times"]["processing"]["count"], 1);
}

#[tokio::test]
async fn conversations_are_found_by_title_or_ids_without_their_members() {
    let server = start();
    let service = Caller::service(&server);
    let mut ids = Vec::new();
    for title in ["Weekly plan", "weekend", "A week", "Budget"] {
        let new = json!({"title": title, "ownerId": "ann", "memberIds": ["bob"]});
        let made = service.must(201, "POST", "/conversations", new).await;
        ids.push(made["conversation"]["id"].as_str().unwrap().to_owned());
    }
    let mut titles = Vec::new();
    let mut path = "/conversations?title=WEEK&limit=2".to_owned();
    loop {
        let page = service.get(&path).await;
        for conversation in page["conversations"].as_array().unwrap() {
            assert_eq!(conversation["members"], 2);
            assert!(conversation.get("memberIds").is_none());
            titles.push(conversation["title"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        path = format!("/conversations?title=WEEK&limit=2&cursor={cursor}");
    }
    titles.sort();
    assert_eq!(titles, ["A week", "Weekly plan", "weekend"]);
    // All of them, with the Lobby, which is open to everyone.
    let all = service.get("/conversations").await;
    let all = all["conversations"].as_array().unwrap();
    assert_eq!(all.len(), 5);
    assert!(
        all.iter()
            .any(|one| one["id"] == LOBBY && one["open"] == true)
    );
    let some = format!("/conversations?ids={},{}", ids[3], ids[0]);
    let some = service.get(&some).await;
    assert_eq!(some["conversations"].as_array().unwrap().len(), 2);
    assert_eq!(some["hasMore"], false);
    for wrong in ["ids=x", "ids=", "title=", "cursor=x", "limit=201"] {
        let path = format!("/conversations?{wrong}");
        service
            .refused(400, "INVALID_PAYLOAD", ("GET", &path, Value::Null))
            .await;
    }
    for other in ["title=week".to_owned(), format!("cursor={}", ids[0])] {
        let path = format!("/conversations?ids={}&{other}", ids[0]);
        service
            .refused(409, "CONFLICT", ("GET", &path, Value::Null))
            .await;
    }
    let gone = format!("/conversations/{}", ids[0]);
    let admin = Caller::of(&server, "root", &["admin"]);
    admin.must(200, "DELETE", &gone, Value::Null).await;
    let rest = service.get("/conversations?title=weekly").await;
    assert_eq!(rest["conversations"], json!([]));
}

#[tokio::test]
async fn alerts_of_earlier_processes_are_listed_with_begin_and_end() {
    let mut server = start();
    // A process that is killed before it has recorded its start is not reported.
    crate::guard::until(|| {
        let sql = "SELECT count(*) FROM journal_entries WHERE journal = 'runs'";
        let count = server.database().query_row(sql, [], |row| row.get(0));
        count == Ok(1_i64)
    });
    // Each process is killed, and the next one reports that. It has done so before it is killed.
    let mut alerts = Vec::new();
    for killed in 1..=3 {
        server = server.restart(&[KEY, super::QUICK]);
        let service = Caller::service(&server);
        let start = std::time::Instant::now();
        while alerts.len() < killed {
            assert!(start.elapsed().as_secs() < 20, "{alerts:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await; // Poll interval.
            let page = service.get("/alerts").await;
            alerts = page["alerts"].as_array().unwrap().clone();
            alerts.retain(|alert| alert["state"] == "ok");
        }
    }
    let service = Caller::service(&server);
    assert_eq!(alerts.len(), 3, "{alerts:?}");
    for alert in &alerts {
        assert_eq!(alert["part"], "server", "{alert}");
        let time = |field: &str| alert[field].as_str().unwrap().parse::<jiff::Timestamp>();
        assert!(
            time("beganAt").unwrap() < time("endedAt").unwrap(),
            "{alert}"
        );
    }
    let mut ids = Vec::new();
    let mut path = "/alerts?limit=2".to_owned();
    loop {
        let page = service.get(&path).await;
        let listed = page["alerts"].as_array().unwrap();
        ids.extend(listed.iter().map(|alert| alert["id"].clone()));
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        path = format!("/alerts?limit=2&cursor={cursor}");
    }
    let all: Vec<_> = alerts.iter().map(|alert| alert["id"].clone()).collect();
    assert_eq!(ids, all);
    service
        .refused(
            400,
            "INVALID_PAYLOAD",
            ("GET", "/alerts?cursor=+1", Value::Null),
        )
        .await;
}

/// Waits until the server has this state of the cluster, and returns it.
#[cfg(feature = "postgres")]
async fn until(service: &Caller, is_expected: impl Fn(&Value) -> bool) -> Value {
    let start = std::time::Instant::now();
    loop {
        let all = service.get("/stats/cluster").await;
        if is_expected(&all) {
            return all;
        }
        assert!(start.elapsed().as_secs() < 60, "{all}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await; // Poll interval.
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn state_of_all_servers_is_added_up_and_a_silent_server_is_named() {
    let database = crate::nodes::Database::new();
    let (ids, variables) = (["one", "two"], [KEY, super::QUICK]);
    let [one, two] = database.cluster(database.url(), ids, &variables).await;
    let token = |name: &str| json!({"token": super::token(name, &["user"])});
    let mut clients = Vec::new();
    for (server, name) in [(&one, "ann"), (&two, "bob"), (&two, "cat")] {
        let client = crate::client::Client::connect(server.address(), &token(name)).await;
        clients.push(client.unwrap());
    }
    for client in &mut clients {
        client.must("join_conversation", json!(LOBBY)).await;
        let message = json!({"conversationId": LOBBY, "content": "hello"});
        client.must("message", message).await;
    }
    let service = Caller::at(one.address(), "backend", &["service"]);
    let both = |all: &Value| all["servers"].as_array().unwrap().len() == 2;
    let all = until(&service, both).await;
    let servers = all["servers"].as_array().unwrap().iter();
    let ids: Vec<_> = servers
        .map(|server| &server["statistics"]["node"])
        .collect();
    assert_eq!(json!(ids), json!(["one", "two"]));
    assert_eq!(
        (&all["total"]["sockets"], &all["missing"]),
        (&json!(3), &json!([]))
    );
    // The room of the conversation is at both servers, and so is a user with two connections.
    let rooms = |all: &Value| (all["total"]["users"].clone(), all["total"]["rooms"].clone());
    assert_eq!(rooms(&all), (json!(3), json!(4)));
    let tab = crate::client::Client::connect(one.address(), &token("bob")).await;
    let tab = tab.unwrap();
    let counted = until(&service, |all| all["total"]["sockets"] == 4).await;
    assert_eq!(rooms(&counted), (json!(3), json!(4)));
    tab.disconnect().await;
    until(&service, |all| all["total"]["sockets"] == 3).await;
    // Durations are added by their buckets: one message at one server, two at the other.
    for times in [&all["times"], &all["recent"][0]["times"]] {
        assert_eq!(times["processing"]["count"], 3, "{times}");
    }
    let followers = all["servers"][1]["parts"]["followers"].as_array().unwrap();
    assert!(!followers.is_empty(), "{all}");
    // A socket of the other server is found, read and moved.
    let found = service.get("/sockets?search=bob").await;
    let id = found["sockets"][0]["id"].as_str().unwrap();
    assert_eq!(
        service.get(&format!("/sockets/{id}")).await["userId"],
        "bob"
    );
    let room = format!("/sockets/{id}/rooms/vip");
    let moved = service.must(200, "PUT", &room, Value::Null).await;
    assert_eq!(moved, json!({"changed": true}));
    // Nor may it receive what is sent to a socket of this server alone, or the reverse.
    let near = service.get("/sockets?search=ann").await;
    let near = near["sockets"][0]["id"].as_str().unwrap();
    for (id, room) in [(id, near), (near, id)] {
        let own = format!("/sockets/{id}/rooms/{room}");
        service
            .refused(409, "CONFLICT", ("PUT", &own, Value::Null))
            .await;
    }
    // A frozen server is named, and its values are not added.
    two.pause();
    let all = until(&service, |all| !both(all)).await;
    two.resume();
    assert_eq!(all["missing"][0]["id"], "two", "{all}");
    assert_eq!(all["total"]["sockets"], 1);
    until(&service, both).await;
}
