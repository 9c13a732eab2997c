//! Reactions, replies, mentions, pins and notification levels, as members receive them.

use serde_json::{Value, json};

use crate::client::Client;
use crate::market::{client, publish_as, start};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{LOBBY, Server};

const THUMB: &str = "\u{1F44D}";
const FAMILY: &str = "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}\u{200D}\u{1F466}";

/// Sends a message and returns it as stored.
async fn sent(client: &mut Client, id: &Value, more: Value) -> Value {
    let mut message = json!({"conversationId": id, "content": "a message"});
    for (field, value) in more.as_object().unwrap() {
        message[field] = value.clone();
    }
    client.must("message", message).await["message"].clone()
}

fn emoji(message: &Value, emoji: &str) -> Value {
    json!({"messageId": message["id"], "emoji": emoji})
}

fn of(message: &Value) -> Value {
    json!({"messageId": message["id"]})
}

/// Returns the newest message of a conversation as this client reads it.
async fn newest(client: &mut Client, id: &Value) -> Value {
    let request = json!({"conversationId": id, "limit": 1});
    let page = client.must("message_history", request).await;
    page["messages"][0].clone()
}

/// Returns an answer without `success`.
fn payload(mut answer: Value) -> Value {
    answer.as_object_mut().unwrap().remove("success");
    answer
}

/// Connects Ann and Bob, with a conversation that Ann owns.
async fn two(server: &Server) -> (Client, Client, Value) {
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let new = json!({"title": "Two", "memberIds": [bob.user_id()]});
    let id = ann.create(new).await;
    for client in [&mut ann, &mut bob] {
        client.must("join_conversation", id.clone()).await;
    }
    (ann, bob, id)
}

#[tokio::test]
async fn reaction_is_emitted_once_with_count_and_read_with_own_flag() {
    let server = Server::start();
    let (mut ann, mut bob, id) = two(&server).await;
    let message = sent(&mut ann, &id, json!({})).await;
    let done = bob.must("add_reaction", emoji(&message, FAMILY)).await;
    let received = ann.event("message_reaction").await;
    assert_eq!(payload(done), received);
    let expected = json!({
        "conversationId": id, "messageId": message["id"], "seq": 1, "emoji": FAMILY,
        "userId": bob.user_id(), "added": true, "count": 1, "timestamp": received["timestamp"],
    });
    assert_eq!(received, expected);
    // A repetition gets the same answer, and no event is sent.
    let again = bob.must("add_reaction", emoji(&message, FAMILY)).await;
    assert_eq!(
        (&again["added"], &again["count"]),
        (&json!(true), &json!(1))
    );
    assert!(ann.events_until_now("message_reaction").await.is_empty());
    assert!(bob.events_until_now("message_reaction").await.is_empty());

    ann.must("add_reaction", emoji(&message, FAMILY)).await;
    assert_eq!(bob.event("message_reaction").await["count"], 2);
    ann.must("add_reaction", emoji(&message, THUMB)).await;
    let read = newest(&mut bob, &id).await;
    let mut users = [ann.user_id(), bob.user_id()];
    users.sort();
    let reactions = json!([
        {"emoji": FAMILY, "count": 2, "userIds": users, "own": true},
        {"emoji": THUMB, "count": 1, "userIds": [ann.user_id()]},
    ]);
    assert_eq!(read["reactions"], reactions);
    // A user who joins later reads the same, and an edit keeps the reactions.
    let mut tab = server.guest("bob").await;
    let missed = json!({"conversationId": id, "lastSeq": 0});
    let joined = tab.must("join_conversation", missed).await;
    assert_eq!(joined["messages"][0]["reactions"], reactions);
    let edit = json!({"messageId": message["id"], "content": "other words"});
    ann.must("edit_message", edit).await;
    let edited = bob.event("message_edited").await;
    assert_eq!(edited["reactions"][0]["count"], 2);
    assert_eq!(edited["reactions"][0].get("own"), None, "told to all");

    bob.must("remove_reaction", emoji(&message, FAMILY)).await;
    for client in [&mut ann, &mut tab] {
        let mut received = client.event("message_reaction").await;
        while received["userId"] != bob.user_id() || received["added"] == true {
            received = client.event("message_reaction").await;
        }
        assert_eq!(
            (&received["added"], &received["count"]),
            (&json!(false), &json!(1))
        );
    }
    let answer = bob.must("remove_reaction", emoji(&message, FAMILY)).await;
    assert_eq!(
        (&answer["added"], &answer["count"]),
        (&json!(false), &json!(1))
    );
    ann.must("delete_message", of(&message)).await;
    assert_eq!(newest(&mut bob, &id).await.get("reactions"), None);
    bob.refused("add_reaction", emoji(&message, THUMB), "NOT_FOUND")
        .await;
}

#[tokio::test]
async fn reaction_needs_an_emoji_and_an_existing_message() {
    let server = Server::start();
    let (mut ann, mut bob, id) = two(&server).await;
    let message = sent(&mut ann, &id, json!({})).await;
    let long = format!("{THUMB}\u{200D}").repeat(2000) + THUMB;
    for wrong in [
        "",
        " ",
        "a",
        "1",
        ":+1:",
        "\u{1F44D}\u{1F44D}",
        "\u{202E}\u{1F44D}",
        &long,
    ] {
        for event in ["add_reaction", "remove_reaction"] {
            let error = bob
                .refused(event, emoji(&message, wrong), "INVALID_PAYLOAD")
                .await;
            assert_eq!(error["details"], json!({"field": "emoji"}));
        }
    }
    for wrong in [
        json!({}),
        json!({"messageId": "x", "emoji": THUMB}),
        json!([]),
        json!(7),
    ] {
        bob.refused("add_reaction", wrong, "INVALID_PAYLOAD").await;
    }
    let unknown = json!({"id": LOBBY});
    bob.refused("add_reaction", emoji(&unknown, THUMB), "NOT_FOUND")
        .await;
    let mut eve = server.guest("eve").await;
    eve.refused("add_reaction", emoji(&message, THUMB), "NOT_FOUND")
        .await;
    // A removed member cannot react, and gets no events about other members' reactions.
    let removal = json!({"conversationId": id, "userId": bob.user_id()});
    ann.must("remove_member", removal).await;
    bob.refused("add_reaction", emoji(&message, THUMB), "NOT_FOUND")
        .await;
    ann.must("add_reaction", emoji(&message, THUMB)).await;
    assert!(bob.events_until_now("message_reaction").await.is_empty());
    assert!(ann.events_until_now("message_reaction").await.is_empty());
}

#[tokio::test]
async fn reply_has_an_excerpt_of_its_original() {
    let server = Server::start();
    let (mut ann, mut bob, id) = two(&server).await;
    let text = "\u{1F600}".repeat(300);
    let original = sent(&mut ann, &id, json!({"content": text})).await;
    let reply = sent(&mut bob, &id, json!({"replyTo": original["id"]})).await;
    let quote = json!({
        "id": original["id"], "seq": 1, "userId": ann.user_id(), "userName": "ann",
        "excerpt": "\u{1F600}".repeat(200),
    });
    assert_eq!(reply["replyTo"], quote);
    assert_eq!(ann.event("message").await, reply);
    assert_eq!(newest(&mut ann, &id).await, reply);
    let edit = json!({"messageId": original["id"], "content": "less"});
    ann.must("edit_message", edit).await;
    let read = newest(&mut bob, &id).await;
    assert_eq!(read["replyTo"]["excerpt"], "less");
    assert!(read["replyTo"]["editedAt"].is_string());
    ann.must("delete_message", of(&original)).await;
    let read = newest(&mut bob, &id).await;
    assert_eq!(read["replyTo"]["excerpt"], "");
    assert!(read["replyTo"]["deletedAt"].is_string());

    let elsewhere = json!({"conversationId": LOBBY, "content": "elsewhere"});
    let elsewhere = ann.must("message", elsewhere).await["message"].clone();
    for wrong in [
        &original["id"],
        &elsewhere["id"],
        &json!(LOBBY),
        &json!("x"),
        &json!(7),
    ] {
        let message = json!({"conversationId": id, "content": "x", "replyTo": wrong});
        let error = bob.refused("message", message, "INVALID_PAYLOAD").await;
        assert_eq!(error["details"], json!({"field": "replyTo"}), "{wrong}");
    }
    let last = sent(&mut bob, &id, json!({"replyTo": null})).await;
    assert_eq!((&last["seq"], last.get("replyTo")), (&json!(3), None));
}

#[tokio::test]
async fn only_owners_pin_and_pins_are_emitted_and_listed() {
    let server = Server::start();
    let (mut ann, mut bob, id) = two(&server).await;
    let message = sent(&mut bob, &id, json!({})).await;
    let pinned = ann.must("pin_message", of(&message)).await;
    let received = bob.event("message_pinned").await;
    assert_eq!(payload(pinned), received);
    let quote = &received["pin"]["message"];
    assert_eq!(
        (&quote["excerpt"], &quote["seq"]),
        (&json!("a message"), &json!(1))
    );
    assert_eq!(received["pin"]["pinnedBy"], ann.user_id());
    let again = ann.must("pin_message", of(&message)).await;
    assert_eq!(payload(again), received);
    for event in ["pin_message", "unpin_message"] {
        bob.refused(event, of(&message), "FORBIDDEN").await;
        ann.refused(event, json!({"messageId": LOBBY}), "NOT_FOUND")
            .await;
    }
    let joined = bob.must("join_conversation", id.clone()).await;
    assert_eq!(joined["pins"], json!([received["pin"]]));
    assert_eq!(joined["notificationLevel"], "all");

    let unpinned = ann.must("unpin_message", of(&message)).await;
    let received = bob.event("message_unpinned").await;
    assert_eq!(payload(unpinned), received);
    assert_eq!(received["unpinnedBy"], ann.user_id());
    ann.must("unpin_message", of(&message)).await;
    for event in ["message_pinned", "message_unpinned"] {
        assert!(bob.events_until_now(event).await.is_empty());
    }
    ann.must("pin_message", of(&message)).await;
    bob.must("delete_message", of(&message)).await;
    let joined = bob.must("join_conversation", id.clone()).await;
    assert_eq!(joined["pins"], json!([]));
    ann.refused("pin_message", of(&message), "NOT_FOUND").await;
}

#[tokio::test]
async fn notification_level_is_stored_and_sent_to_the_users_other_tabs() {
    let server = Server::start();
    let (mut ann, mut bob, id) = two(&server).await;
    let mut tab = server.guest("bob").await;
    for level in ["none", "mentions", "all", "none"] {
        let set = json!({"conversationId": id, "level": level});
        let answer = bob.must("set_notification_level", set.clone()).await;
        assert_eq!(payload(answer), set);
        assert_eq!(tab.event("notification_level").await, set);
    }
    for client in [&mut ann, &mut bob] {
        assert!(
            client
                .events_until_now("notification_level")
                .await
                .is_empty()
        );
    }
    let list = bob.must("conversations", json!({})).await;
    let levels = list["conversations"].as_array().unwrap().iter();
    let levels: Vec<_> = levels
        .map(|one| (&one["id"], &one["notificationLevel"]))
        .collect();
    assert!(levels.contains(&(&id, &json!("none"))), "{levels:?}");
    assert!(
        levels.contains(&(&json!(LOBBY), &json!("all"))),
        "{levels:?}"
    );
    for wrong in [
        json!("None"),
        json!(""),
        json!(0),
        json!(null),
        json!({"all": null}),
    ] {
        let set = json!({"conversationId": id, "level": wrong});
        bob.refused("set_notification_level", set, "INVALID_PAYLOAD")
            .await;
    }
    let mut eve = server.guest("eve").await;
    let set = json!({"conversationId": id, "level": "none"});
    eve.refused("set_notification_level", set, "NOT_FOUND")
        .await;
}

/// Connects users with tokens and creates a conversation that the first owns.
async fn members(server: &crate::guard::Server, names: &[&str]) -> (Vec<Client>, Value) {
    let mut all = Vec::new();
    for name in names {
        all.push(client(&server.binary, name, "user").await);
    }
    let new = json!({"title": "Engines", "memberIds": names});
    let id = all[0].create(new).await;
    (all, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn mentioned_user_gets_one_notification_unless_disabled() {
    let server = start(&[]);
    let (mut all, id) = members(&server, &["ann", "bob", "carl"]).await;
    let [ann, bob, carl] = all.as_mut_slice() else {
        unreachable!()
    };
    for client in [&mut *ann, &mut *bob, &mut *carl] {
        client.must("subscribe:notifications", json!({})).await;
    }
    let none = json!({"conversationId": id, "level": "none"});
    carl.must("set_notification_level", none).await;
    let mentions = ["ann", "bob", "carl"];
    let more = json!({"mentions": mentions, "clientMessageId": "one"});
    let message = sent(ann, &id, more.clone()).await;
    assert_eq!(message["mentions"], json!(mentions));
    let received = bob.event("notification:new").await;
    let expected = json!({
        "notificationId": format!("mention:{}", message["id"].as_str().unwrap()),
        "type": "info", "priority": "normal", "title": "ann mentioned you", "message": "Engines",
        "actionUrl": format!("/#/c/{}/1", id.as_str().unwrap()),
        "timestamp": message["createdAt"], "expiresAt": received["expiresAt"], "revision": 1,
    });
    assert_eq!(received, expected);
    // Repeated, it is the same message, and no user is notified twice.
    assert_eq!(sent(ann, &id, more).await, message);
    let acked = json!({"notificationId": received["notificationId"]});
    bob.must("notification:ack", acked).await;
    for client in [ann, bob, carl] {
        let snapshot = client.must("subscribe:notifications", json!({})).await;
        assert_eq!(snapshot["snapshot"]["notifications"], json!([]));
        assert!(client.events_until_now("notification:new").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn non_members_and_duplicates_cannot_be_mentioned() {
    let server = start(&[]);
    let (mut all, id) = members(&server, &["ann", "bob"]).await;
    let ann = &mut all[0];
    let many: Vec<String> = (0..21).map(|n| format!("user {n}")).collect();
    for (mentions, field) in [
        (json!(["bob", "eve"]), "mentions[1]"),
        (json!(["bob", "bob"]), "mentions[1]"),
        (json!([""]), "mentions[0]"),
        (json!(["\u{202e}bob"]), "mentions[0]"),
        (json!(many), "mentions"),
        (json!("bob"), "mentions"),
        (json!([7]), "mentions[0]"),
    ] {
        let message = json!({"conversationId": id, "content": "x", "mentions": mentions});
        let error = ann.refused("message", message, "INVALID_PAYLOAD").await;
        assert_eq!(error["details"], json!({"field": field}), "{mentions}");
    }
    let message = sent(ann, &id, json!({"mentions": null})).await;
    assert_eq!(
        (&message["seq"], message.get("mentions")),
        (&json!(1), None)
    );
    let message = sent(ann, &id, json!({"mentions": []})).await;
    assert_eq!(message.get("mentions"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_reply_react_and_pin_over_http() {
    let server = start(&[]);
    let (mut all, id) = members(&server, &["ann", "bob"]).await;
    let [ann, bob] = all.as_mut_slice() else {
        unreachable!()
    };
    for client in [&mut *ann, &mut *bob] {
        client.must("join_conversation", id.clone()).await;
    }
    let message = sent(ann, &id, json!({})).await;
    let (binary, uuid) = (&server.binary, message["id"].as_str().unwrap().to_owned());
    let id = id.as_str().unwrap();
    let reply = json!({
        "userId": "bob", "content": "over HTTP", "replyTo": uuid, "mentions": ["ann"],
    });
    let path = format!("/conversations/{id}/messages");
    let (status, stored) = publish_as(binary, "service", &path, reply).await;
    assert_eq!(status, 201, "{stored}");
    assert_eq!(stored["message"]["replyTo"]["excerpt"], "a message");
    assert_eq!(ann.event("message").await, stored["message"]);
    // The second request matches its schema, but conflicts with the membership.
    for (wrong, more, expected) in [
        ("replyTo", json!("x"), 400),
        ("mentions", json!(["eve"]), 409),
    ] {
        let mut reply = json!({"userId": "bob", "content": "x"});
        reply[wrong] = more;
        let (status, _) = publish_as(binary, "service", &path, reply).await;
        assert_eq!(status, expected, "{wrong}");
    }
    let call = |method: &str, path: String| {
        let (status, body) = server.call(method, &path, "service", "");
        assert_eq!(status, 200, "{method} {path}: {body}");
        body
    };
    let thumb = "%F0%9F%91%8D";
    let path = format!("/messages/{uuid}/reactions/{thumb}?userId=bob");
    let added = tokio::task::block_in_place(|| call("PUT", path.clone()));
    assert_eq!(
        (&added["emoji"], &added["count"]),
        (&json!(THUMB), &json!(1))
    );
    assert_eq!(ann.event("message_reaction").await, added);
    let removed = tokio::task::block_in_place(|| call("DELETE", path));
    assert_eq!(
        (&removed["added"], &removed["count"]),
        (&json!(false), &json!(0))
    );
    let pin = format!("/messages/{uuid}/pin");
    let pinned = tokio::task::block_in_place(|| call("PUT", pin.clone()));
    assert_eq!(bob.event("message_pinned").await, pinned);
    let pins = format!("/conversations/{id}/pins");
    let listed = tokio::task::block_in_place(|| call("GET", pins.clone()));
    assert_eq!(listed, json!({"pins": [pinned["pin"]]}));
    tokio::task::block_in_place(|| call("DELETE", pin));
    let listed = tokio::task::block_in_place(|| call("GET", pins));
    assert_eq!(listed, json!({"pins": []}));
    // A service cannot react on behalf of a user who is not a member.
    let path = format!("/messages/{uuid}/reactions/{thumb}?userId=eve");
    let (status, _) = tokio::task::block_in_place(|| server.call("PUT", &path, "service", ""));
    assert_eq!(status, 404);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn annotations_reach_members_at_other_servers_without_adapter_too() {
    for is_joined in [false, true] {
        let database = Database::new();
        let adapter = if is_joined { database.url() } else { "none" };
        let variables = [
            ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "user"),
            ("ROOMCAST_ADAPTER__URL", adapter),
        ];
        let servers = [(); 2].map(|()| database.server_with(&variables));
        let mut ann = servers[0].guest("ann").await;
        let mut bob = servers[1].guest("bob").await;
        let new = json!({"title": "Apart", "memberIds": [bob.user_id()]});
        let id = ann.create(new).await;
        for client in [&mut ann, &mut bob] {
            client.must("join_conversation", id.clone()).await;
            client.must("subscribe:notifications", json!({})).await;
        }
        let message = sent(&mut ann, &id, json!({})).await;
        let done = ann.must("add_reaction", emoji(&message, THUMB)).await;
        assert_eq!(bob.event("message_reaction").await, payload(done));
        let pinned = ann.must("pin_message", of(&message)).await;
        assert_eq!(bob.event("message_pinned").await, payload(pinned));
        let more = json!({"replyTo": message["id"], "mentions": [bob.user_id()]});
        let reply = sent(&mut ann, &id, more).await;
        // The original message arrives first.
        assert_eq!(bob.event("message").await["id"], message["id"]);
        assert_eq!(bob.event("message").await, reply);
        let received = bob.event("notification:new").await;
        assert_eq!(received["title"], "ann mentioned you");
        let unpinned = ann.must("unpin_message", of(&message)).await;
        assert_eq!(bob.event("message_unpinned").await, payload(unpinned));
        let done = ann.must("remove_reaction", emoji(&message, THUMB)).await;
        assert_eq!(bob.event("message_reaction").await, payload(done));
        // A server that starts later reads the same.
        bob.must("add_reaction", emoji(&message, THUMB)).await;
        let late = database.server_with(&variables);
        let mut tab = late.guest("ann").await;
        let missed = json!({"conversationId": id, "lastSeq": 0});
        let joined = tab.must("join_conversation", missed).await;
        assert_eq!(joined["messages"][0]["reactions"][0]["count"], 1);
        assert_eq!(joined["messages"][1]["replyTo"]["excerpt"], "a message");
    }
}
