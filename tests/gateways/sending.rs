//! Notifications that services send to many users and withdraw.

use serde_json::{Value, json};

use crate::client::Client;
use crate::market::{client, must, publish, publish_as, start};
#[cfg(feature = "postgres")]
use crate::{guard::KEY, nodes::Database};

const PATH: &str = "/notifications";
const WITHDRAW: &str = "/notifications/withdraw";

/// Returns a notification for these users.
fn notice(id: &str, users: Value) -> Value {
    let mut notice = json!({
        "notificationId": id, "type": "info", "title": "A title", "message": "text",
    });
    let field = if users.is_array() {
        "userIds"
    } else {
        "userId"
    };
    notice[field] = users;
    notice
}

fn withdrawn(id: &str, users: &Value) -> Value {
    let field = if users.is_array() {
        "userIds"
    } else {
        "userId"
    };
    json!({"notificationId": id, field: users})
}

async fn known(client: &mut Client) -> Vec<String> {
    let answer = client.must("subscribe:notifications", json!({})).await;
    let list = answer["snapshot"]["notifications"].as_array().unwrap();
    let ids = list.iter().map(|one| one["notificationId"].as_str());
    ids.map(|id| id.unwrap().to_owned()).collect()
}

/// Returns the outcome for each user.
fn outcomes(answer: &Value) -> Vec<(&str, &str)> {
    let results = answer["results"].as_array().unwrap().iter();
    results
        .map(|one| {
            let (user, outcome) = (&one["userId"], &one["outcome"]);
            (user.as_str().unwrap(), outcome.as_str().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_notifies_many_users_and_states_each_outcome() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__PER_USER", "2")]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    let mut bob = client(binary, "bob", "user").await;
    assert!(known(&mut ann).await.is_empty());
    // The request names five users: one has no room, one has a different notification with this
    // id, one has acknowledged it, and one has it already.
    for id in ["a", "b"] {
        must(binary, PATH, notice(id, json!("full"))).await;
    }
    let mut other = notice("n1", json!("other"));
    other["title"] = json!("Another title");
    must(binary, PATH, other).await;
    must(binary, PATH, notice("n1", json!("bob"))).await;
    bob.must("notification:ack", json!({"notificationId": "n1"}))
        .await;
    must(binary, PATH, notice("n1", json!("known"))).await;
    let all = json!(["zoe", "full", "other", "bob", "known", "ann"]);
    let answer = must(binary, PATH, notice("n1", all.clone())).await;
    let expected = [
        ("zoe", "stored"),
        ("full", "full"),
        ("other", "conflict"),
        ("bob", "acknowledged"),
        ("known", "known"),
        ("ann", "stored"),
    ];
    assert_eq!(outcomes(&answer), expected);
    assert_eq!(answer["stored"], 2);
    assert_eq!(answer["notification"]["notificationId"], "n1");
    let received = ann.event("notification:new").await;
    assert_eq!(
        (&received["notificationId"], &received["title"]),
        (&json!("n1"), &json!("A title"))
    );
    // A repetition stores it for no user twice.
    let again = must(binary, PATH, notice("n1", all)).await;
    assert_eq!(again["stored"], 0);
    assert_eq!(outcomes(&again)[0], ("zoe", "known"));
    assert!(ann.events_until_now("notification:new").await.is_empty());
    // A different notification with an acknowledged id is not a repetition.
    let mut changed = notice("n1", json!(["bob"]));
    changed["title"] = json!("Another title");
    let changed = must(binary, PATH, changed).await;
    assert_eq!(outcomes(&changed), [("bob", "conflict")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_are_notified_by_one_request() {
    let server = start(&[]);
    let mut last = client(&server.binary, "user-999", "user").await;
    assert!(known(&mut last).await.is_empty());
    let users: Vec<_> = (0..1000).map(|n| format!("user-{n}")).collect();
    let answer = must(&server.binary, PATH, notice("n1", json!(users))).await;
    assert_eq!(answer["stored"], 1000);
    let named: Vec<_> = outcomes(&answer)
        .into_iter()
        .map(|(user, _)| user)
        .collect();
    assert_eq!(named, users);
    assert_eq!(last.event("notification:new").await["notificationId"], "n1");
    let answer = must(&server.binary, WITHDRAW, withdrawn("n1", &json!(users))).await;
    assert_eq!(answer["withdrawn"], 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_names_one_user_or_a_list_of_distinct_users() {
    let server = start(&[("ROOMCAST_AUTH__ROLES__CALLER__PERMISSIONS", "api:*")]);
    let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    let mut both = notice("n1", json!(["ann"]));
    both["userId"] = json!("ann");
    let mut none = notice("n1", json!("ann"));
    none.as_object_mut().unwrap().remove("userId");
    for (wrong, field) in [
        (notice("n1", json!([])), "userIds"),
        (notice("n1", json!(many)), "userIds"),
        (notice("n1", json!(["ann", "bob", "ann"])), "userIds[2]"),
        (notice("n1", json!(["ann", ""])), "userIds[1]"),
        (both, "userIds"),
        (none, "userId"),
    ] {
        let (status, answer) = publish(&server.binary, PATH, wrong.clone()).await;
        let found = &answer["error"]["details"]["field"];
        assert_eq!((status, found), (400, &json!(field)), "{wrong}");
    }
    for (wrong, field) in [
        (withdrawn("", &json!("ann")), "notificationId"),
        (withdrawn("n1", &json!([])), "userIds"),
        (withdrawn("n1", &json!("")), "userId"),
    ] {
        let (status, answer) = publish(&server.binary, WITHDRAW, wrong.clone()).await;
        let found = &answer["error"]["details"]["field"];
        assert_eq!((status, found), (400, &json!(field)), "{wrong}");
    }
    for role in ["user", "caller"] {
        for (path, body) in [
            (PATH, notice("n1", json!(["ann"]))),
            (WITHDRAW, withdrawn("n1", &json!(["ann"]))),
        ] {
            let answer = publish_as(&server.binary, role, path, body).await;
            assert_eq!(answer.0, 403, "{role} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_notification_ends_in_every_tab_and_frees_its_slot() {
    let server = start(&[
        ("ROOMCAST_NOTIFICATIONS__PER_USER", "1"),
        ("ROOMCAST_NOTIFICATIONS__URGENT_RESERVE", "0"),
        ("ROOMCAST_NOTIFICATIONS__WINDOW", "0s"),
    ]);
    let binary = &server.binary;
    let mut ann = client(binary, "ann", "user").await;
    assert!(known(&mut ann).await.is_empty());
    must(binary, PATH, notice("n1", json!("ann"))).await;
    let answer = must(binary, WITHDRAW, withdrawn("n1", &json!("ann"))).await;
    assert_eq!(
        (&answer["notificationId"], &answer["withdrawn"]),
        (&json!("n1"), &json!(1))
    );
    let received = ann.event("notification:withdrawn").await;
    assert_eq!(
        (&received["notificationId"], &received["reason"]),
        (&json!("n1"), &json!("withdrawn"))
    );
    while ann.event("notifications:unread").await["unread"] != 0 {}
    assert!(known(&mut ann).await.is_empty());
    // The repetition is answered alike, for the service and for the user.
    let again = must(binary, WITHDRAW, withdrawn("n1", &json!("ann"))).await;
    assert_eq!(outcomes(&again), [("ann", "withdrawn")]);
    ann.refused(
        "notification:ack",
        json!({"notificationId": "n1"}),
        "NOT_FOUND",
    )
    .await;
    let (status, _) = publish(binary, PATH, notice("n1", json!("ann"))).await;
    assert_eq!(status, 409, "it does not come back");
    // Notifications that were acknowledged or never sent cannot be withdrawn, and each user has an
    // outcome.
    must(binary, PATH, notice("n2", json!(["ann", "bob"]))).await;
    ann.must("notification:ack", json!({"notificationId": "n2"}))
        .await;
    let answer = must(
        binary,
        WITHDRAW,
        withdrawn("n2", &json!(["carl", "bob", "ann"])),
    )
    .await;
    let expected = [
        ("carl", "absent"),
        ("bob", "withdrawn"),
        ("ann", "acknowledged"),
    ];
    assert_eq!(outcomes(&answer), expected);
    assert_eq!(answer["withdrawn"], 1);
    assert!(
        ann.events_until_now("notification:withdrawn")
            .await
            .is_empty()
    );
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn sending_and_withdrawing_at_one_server_reach_tabs_at_another() {
    let database = Database::new();
    let servers = [database.server_with(&[KEY]), database.server_with(&[KEY])];
    let mut ann = client(&servers[1], "ann", "user").await;
    assert!(known(&mut ann).await.is_empty());
    let users = json!(["bob", "ann"]);
    must(&servers[0], PATH, notice("n1", users.clone())).await;
    assert_eq!(ann.event("notification:new").await["notificationId"], "n1");
    must(&servers[0], WITHDRAW, withdrawn("n1", &users)).await;
    let received = ann.event("notification:withdrawn").await;
    assert_eq!(received["notificationId"], "n1");
    assert!(known(&mut ann).await.is_empty());
}
