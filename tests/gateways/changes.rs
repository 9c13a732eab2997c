//! Edits, deletions, members, read marks, lists and searches, by clients.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::guard::{KEY, signed};
use crate::server::{LOBBY, Server};

#[tokio::test]
async fn edit_is_acknowledged_and_sent_to_members() {
    let server = Server::start();
    let mut ann = server.in_lobby("Ann").await;
    let mut bob = server.in_lobby("Bob").await;
    let sent = ann
        .must(
            "message",
            json!({"conversationId": LOBBY, "content": "first"}),
        )
        .await;
    let id = &sent["message"]["id"];
    let edit = json!({"messageId": id, "content": "second", "version": 1});
    let edited = ann.must("edit_message", edit.clone()).await;
    assert_eq!(edited["message"]["content"], "second");
    assert_eq!(edited["message"]["version"], 2);
    let seen = bob.event("message_edited").await;
    assert_eq!(seen, edited["message"]);

    let again = ann.ask("edit_message", edit).await;
    assert_eq!(again["error"]["code"], "CONFLICT");
    let foreign = json!({"messageId": id, "content": "mine"});
    let foreign = bob.ask("edit_message", foreign).await;
    assert_eq!(foreign["error"]["code"], "FORBIDDEN");
}

#[tokio::test]
async fn deletion_is_acknowledged_and_sent_to_members_once() {
    let server = Server::start();
    let mut ann = server.in_lobby("Ann").await;
    let mut bob = server.in_lobby("Bob").await;
    let sent = ann
        .must("message", json!({"conversationId": LOBBY, "content": "x"}))
        .await;
    let id = &sent["message"]["id"];
    let deleted = ann.must("delete_message", json!({"messageId": id})).await;
    assert_eq!(deleted["message"]["content"], "");
    let seen = bob.event("message_deleted").await;
    assert_eq!(seen["messageId"], *id);
    assert_eq!(seen["conversationId"], LOBBY);
    assert_eq!(seen["seq"], 1);
    assert_eq!(seen["deletedAt"], deleted["message"]["deletedAt"]);
    assert_eq!(seen["deletedBy"], sent["message"]["userId"]);
    let again = ann.must("delete_message", json!({"messageId": id})).await;
    assert_eq!(
        again["message"]["deletedAt"],
        deleted["message"]["deletedAt"]
    );
    let late = json!({"messageId": id, "content": "y"});
    let late = ann.ask("edit_message", late).await;
    assert_eq!(late["error"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn an_owner_makes_a_conversation_and_changes_its_members() {
    let server = Server::start();
    let mut ann = server.guest("Ann").await;
    let mut bob = server.guest("Bob").await;
    let bob_id = bob.session["userId"].clone();
    let made = ann
        .must(
            "create_conversation",
            json!({"title": "Two", "memberIds": []}),
        )
        .await;
    let conversation = made["conversation"].clone();
    assert_eq!(conversation["title"], "Two");
    assert_eq!(conversation["ownerId"], ann.session["userId"]);
    let id = &conversation["id"];
    let join = bob.ask("join_conversation", id.clone()).await;
    assert_eq!(join["error"]["code"], "NOT_FOUND");

    ann.must("join_conversation", id.clone()).await;
    let member = json!({"conversationId": id, "userId": bob_id});
    let added = ann.must("add_member", member.clone()).await;
    assert!(
        added["conversation"]["memberIds"]
            .as_array()
            .unwrap()
            .contains(&bob_id)
    );
    bob.must("join_conversation", id.clone()).await;
    let owner = json!({"conversationId": id, "userId": ann.session["userId"]});
    bob.refused("remove_member", owner, "FORBIDDEN").await;

    let received = bob.event("conversation_updated").await;
    assert_eq!(received["conversation"], added["conversation"]);
    ann.must("remove_member", member).await;
    let received = bob.event("conversation_updated").await;
    assert!(
        !received["conversation"]["memberIds"]
            .as_array()
            .unwrap()
            .contains(&bob_id)
    );
    let sent = json!({"conversationId": id, "content": "still?"});
    let sent = bob.ask("message", sent).await;
    assert_eq!(sent["error"]["code"], "NOT_FOUND");
    let left = ann.event("user_left").await;
    assert_eq!(left["userId"], bob_id);
    // The last member cannot leave.
    let owner = json!({"conversationId": id, "userId": ann.session["userId"]});
    let refused = ann
        .refused("remove_member", owner.clone(), "CONFLICT")
        .await;
    assert!(refused["message"].as_str().unwrap().contains("last member"));
    let member = json!({"conversationId": id, "userId": bob_id});
    ann.must("add_member", member).await;
    bob.must("join_conversation", id.clone()).await;
    let left = ann.must("remove_member", owner).await;
    assert_eq!(left["conversation"]["ownerId"], bob_id);
    assert_eq!(left["conversation"]["memberIds"], json!([bob_id]));
    loop {
        let received = bob.event("conversation_updated").await;
        if received["conversation"]["ownerId"] == bob_id {
            assert_eq!(received["conversation"], left["conversation"]);
            break;
        }
    }
    let title = json!({"conversationId": id, "title": "Mine"});
    bob.must("rename_conversation", title).await;
}

#[tokio::test]
async fn members_can_leave_and_guests_cannot_add_members() {
    let server = Server::with(&[KEY, ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "")]);
    let token = signed(&json!({"sub": "ann", "exp": 4_000_000_000_u64}));
    let mut ann = server.connect(&json!({"token": token})).await.unwrap();
    let mut gil = server.guest("Gil").await;
    let mut tab = server.guest("Gil").await;
    let both = json!({"memberIds": [gil.session["userId"], "carl"]});
    let id = ann.create(both).await;
    let member = |user: &Value| json!({"conversationId": id, "userId": user});
    ann.must("join_conversation", id.clone()).await;
    tab.must("join_conversation", id.clone()).await;

    for (event, payload) in [
        ("create_conversation", json!({"memberIds": ["ann"]})),
        ("create_conversation", json!({"memberIds": []})),
        ("add_member", member(&json!("bob"))),
        ("add_member", member(&gil.session["userId"])),
        ("remove_member", member(&json!("carl"))),
        ("remove_member", member(&json!("ann"))),
    ] {
        gil.refused(event, payload, "FORBIDDEN").await;
    }
    let own = member(&gil.session["userId"]);
    let left = gil.must("remove_member", own.clone()).await;
    assert_eq!(left["conversation"]["memberIds"], json!(["ann", "carl"]));
    assert_eq!(
        ann.event("user_left").await["userId"],
        gil.session["userId"]
    );
    let sent = json!({"conversationId": id, "content": "still?"});
    tab.refused("message", sent, "NOT_FOUND").await;
    gil.refused("remove_member", own, "NOT_FOUND").await;
    // The owner may leave as well, and another member becomes the owner.
    let left = ann.must("remove_member", member(&json!("ann"))).await;
    assert_eq!(left["conversation"]["ownerId"], "carl");
}

#[tokio::test]
async fn members_beyond_the_limit_are_refused() {
    let server = Server::with(&[("ROOMCAST_CHAT__MEMBERS", "2")]);
    let mut ann = server.guest("ann").await;
    let three = json!({"memberIds": ["a", "b", "c"]});
    let error = ann
        .refused("create_conversation", three, "INVALID_PAYLOAD")
        .await;
    assert_eq!(error["details"]["field"], "memberIds");
    let nobody = json!({"memberIds": ["a", ""]});
    let error = ann
        .refused("create_conversation", nobody, "INVALID_PAYLOAD")
        .await;
    assert_eq!(error["details"]["field"], "memberIds[1]");
    let id = ann.create(json!({"memberIds": ["a"]})).await;
    let member = |user: &str| json!({"conversationId": id, "userId": user});
    ann.must("add_member", member("b")).await;
    let full = ann.refused("add_member", member("c"), "CONFLICT").await;
    assert!(full["message"].as_str().unwrap().contains("members"));
    // A user who is a member already takes no place.
    ann.must("add_member", member("b")).await;
    ann.must("add_member", member(&ann.user_id())).await;
    ann.must("remove_member", member("a")).await;
    let added = ann.must("add_member", member("c")).await;
    let members = added["conversation"]["memberIds"].as_array().unwrap();
    assert_eq!(members.len(), 3, "the owner and two others");
}

#[tokio::test]
async fn reading_is_counted_and_listed() {
    let server = Server::start();
    let mut ann = server.in_lobby("Ann").await;
    let mut bob = server.guest("Bob").await;
    for n in 0..3 {
        let message = json!({"conversationId": LOBBY, "content": format!("word{n} apple")});
        ann.must("message", message).await;
    }
    let read = json!({"conversationId": LOBBY, "seq": 2});
    let mark = bob.must("mark_read", read).await;
    assert_eq!((&mark["seq"], &mark["unread"]), (&json!(2), &json!(1)));
    let list = bob.must("conversations", json!({})).await;
    let lobby = &list["conversations"][0];
    assert_eq!(lobby["id"], LOBBY);
    assert_eq!(
        (&lobby["lastSeq"], &lobby["readSeq"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(lobby["unread"], 1);

    let found = bob
        .must("message_search", json!({"query": "apple WORD1"}))
        .await;
    assert_eq!(found["messages"].as_array().unwrap().len(), 1);
    assert_eq!(found["messages"][0]["seq"], 2);
    let empty = bob.ask("message_search", json!({"query": " ! "})).await;
    assert_eq!(empty["error"]["code"], "INVALID_PAYLOAD");
}

#[tokio::test]
async fn read_position_is_sent_to_joined_members() {
    let server = Server::start();
    let mut ann = server.in_lobby("Ann").await;
    let mut bob = server.in_lobby("Bob").await;
    for content in ["one", "two"] {
        let message = json!({"conversationId": LOBBY, "content": content});
        ann.must("message", message).await;
    }
    let read = json!({"conversationId": LOBBY, "seq": 2});
    bob.must("mark_read", read).await;
    let received = json!({"conversationId": LOBBY, "userId": bob.user_id(), "seq": 2});
    assert_eq!(ann.event("message_read").await, received);
    // Marks only advance, and a mark without news causes no event.
    for seq in [1, 2] {
        let again = json!({"conversationId": LOBBY, "seq": seq});
        let answer = bob.must("mark_read", again).await;
        assert_eq!(answer["seq"], 2);
    }
    let message = json!({"conversationId": LOBBY, "content": "three"});
    ann.must("message", message).await;
    let read = json!({"conversationId": LOBBY, "seq": 3});
    bob.must("mark_read", read).await;
    assert_eq!(ann.event("message_read").await["seq"], 3);
}

#[tokio::test]
async fn joining_user_receives_read_positions() {
    let server = Server::start();
    let mut ann = server.in_lobby("Ann").await;
    for content in ["one", "two", "three"] {
        let message = json!({"conversationId": LOBBY, "content": content});
        ann.must("message", message).await;
    }
    let read = |seq: u64| json!({"conversationId": LOBBY, "seq": seq});
    ann.must("mark_read", read(3)).await;
    let joined = ann.must("join_conversation", json!(LOBBY)).await;
    assert_eq!(joined.get("othersReadSeq"), None, "ann alone has read");

    let mut bob = server.guest("Bob").await;
    let joined = bob.must("join_conversation", json!(LOBBY)).await;
    assert_eq!(joined["othersReadSeq"], 3);
    bob.must("mark_read", read(2)).await;
    let joined = ann.must("join_conversation", json!(LOBBY)).await;
    assert_eq!(joined["othersReadSeq"], 2);
}

#[tokio::test]
async fn read_positions_are_not_sent_in_large_conversations() {
    let server = Server::start();
    let mut ann = server.in_lobby("Ann").await;
    let message = json!({"conversationId": LOBBY, "content": "one"});
    ann.must("message", message).await;
    let mut others = Vec::new();
    for n in 0..49 {
        others.push(server.in_lobby(&format!("Other {n}")).await);
    }
    let read = json!({"conversationId": LOBBY, "seq": 1});
    others[0].must("mark_read", read).await;
    assert_eq!(ann.event("message_read").await["seq"], 1);
    let joined = ann.must("join_conversation", json!(LOBBY)).await;
    assert_eq!(joined["othersReadSeq"], 1, "50 are there");
    let one_more = server.in_lobby("One more").await;
    let joined = ann.must("join_conversation", json!(LOBBY)).await;
    assert_eq!(joined.get("othersReadSeq"), None);
    assert_eq!(joined["pins"], json!([]), "the rest is told");
    drop(one_more);
}

#[tokio::test]
async fn malformed_change_is_refused() {
    let server = Server::start();
    let mut ann = server.guest("Ann").await;
    let unknown = Uuid::new_v4();
    for (event, payload, code) in [
        (
            "edit_message",
            json!({"messageId": "x", "content": "y"}),
            "INVALID_PAYLOAD",
        ),
        (
            "edit_message",
            json!({"messageId": unknown, "content": ""}),
            "INVALID_PAYLOAD",
        ),
        (
            "edit_message",
            json!({"messageId": unknown, "content": "a\u{0}"}),
            "INVALID_PAYLOAD",
        ),
        (
            "edit_message",
            json!({"messageId": unknown, "content": "y", "version": -1}),
            "INVALID_PAYLOAD",
        ),
        (
            "edit_message",
            json!({"messageId": unknown, "content": "y"}),
            "NOT_FOUND",
        ),
        ("edit_message", json!([unknown, "y"]), "INVALID_PAYLOAD"),
        (
            "delete_message",
            json!({"messageId": unknown.simple().to_string()}),
            "INVALID_PAYLOAD",
        ),
        ("delete_message", json!({"messageId": unknown}), "NOT_FOUND"),
        ("create_conversation", json!({}), "INVALID_PAYLOAD"),
        (
            "create_conversation",
            json!({"memberIds": [""]}),
            "INVALID_PAYLOAD",
        ),
        (
            "create_conversation",
            json!({"memberIds": ["x".repeat(129)]}),
            "INVALID_PAYLOAD",
        ),
        (
            "create_conversation",
            json!({"memberIds": vec!["x"; 1001]}),
            "INVALID_PAYLOAD",
        ),
        (
            "create_conversation",
            json!({"title": "t".repeat(201), "memberIds": []}),
            "INVALID_PAYLOAD",
        ),
        (
            "add_member",
            json!({"conversationId": unknown, "userId": 7}),
            "INVALID_PAYLOAD",
        ),
        (
            "add_member",
            json!({"conversationId": unknown, "userId": "x"}),
            "NOT_FOUND",
        ),
        (
            "add_member",
            json!({"conversationId": LOBBY, "userId": "x"}),
            "FORBIDDEN",
        ),
        (
            "mark_read",
            json!({"conversationId": LOBBY, "seq": -1}),
            "INVALID_PAYLOAD",
        ),
        (
            "mark_read",
            json!({"conversationId": LOBBY, "seq": 1.5}),
            "INVALID_PAYLOAD",
        ),
        (
            "mark_read",
            json!({"conversationId": unknown, "seq": 1}),
            "NOT_FOUND",
        ),
        ("conversations", json!("all"), "INVALID_PAYLOAD"),
        (
            "message_search",
            json!({"query": "x", "limit": 201}),
            "INVALID_PAYLOAD",
        ),
        (
            "message_search",
            json!({"query": "x", "conversationId": unknown}),
            "NOT_FOUND",
        ),
    ] {
        let answer = ann.ask(event, payload.clone()).await;
        assert_eq!(answer["success"], false, "{event} {payload}");
        assert_eq!(answer["error"]["code"], code, "{event} {payload}: {answer}");
    }
}
