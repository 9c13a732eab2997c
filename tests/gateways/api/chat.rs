//! Conversations, members and messages.

use serde_json::{Value, json};

use super::{Caller, start, user};
use crate::server::LOBBY;

/// Creates over HTTP a conversation that Ann owns, with Bob as a member.
async fn conversation(service: &Caller) -> String {
    let new = json!({"title": "Plans", "ownerId": "ann", "memberIds": ["bob"]});
    let made = service.must(201, "POST", "/conversations", new).await;
    made["conversation"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn members_are_notified_of_a_conversation_made_by_a_service() {
    let server = start();
    let service = Caller::service(&server);
    let mut bob = user(&server, "bob").await;
    let id = conversation(&service).await;
    let received = bob.event("conversation_updated").await;
    assert_eq!(received["conversation"]["id"], id.as_str());
    let read = service.get(&format!("/conversations/{id}")).await;
    assert_eq!(read["conversation"], received["conversation"]);
    assert_eq!(read["conversation"]["ownerId"], "ann");
    assert_eq!(read["conversation"]["memberIds"], json!(["ann", "bob"]));
    assert_eq!(
        (&read["lastSeq"], &read["open"]),
        (&json!(0), &json!(false))
    );
    let own = service.must(201, "POST", "/conversations", json!({})).await;
    assert_eq!(own["conversation"]["ownerId"], "backend");
}

#[tokio::test]
async fn the_conversations_of_a_user_are_listed_page_by_page() {
    let server = start();
    let service = Caller::service(&server);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(conversation(&service).await);
    }
    let mut listed = Vec::new();
    let mut path = "/users/bob/conversations?limit=2".to_owned();
    loop {
        let page = service.get(&path).await;
        let page_of = page["conversations"].as_array().unwrap();
        for one in page_of.iter().filter(|one| one["id"] != LOBBY) {
            listed.push(one["id"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page["cursor"].as_str() else {
            assert_eq!(page["hasMore"], false);
            break;
        };
        assert_eq!(page["hasMore"], true);
        path = format!("/users/bob/conversations?limit=2&cursor={cursor}");
    }
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    let nobody = service.get("/users/carl/conversations").await;
    let open = nobody["conversations"].as_array().unwrap();
    assert_eq!(
        open.iter().map(|one| &one["id"]).collect::<Vec<_>>(),
        [LOBBY]
    );
}

#[tokio::test]
async fn list_has_newest_messages_for_callers_that_may_read_messages() {
    let server = crate::server::Server::with(&[
        crate::guard::KEY,
        super::QUICK,
        (
            "ROOMCAST_AUTH__ROLES__CLERK__PERMISSIONS",
            "api:conversations,chat:read",
        ),
    ]);
    let service = Caller::service(&server);
    let clerk = Caller::of(&server, "clerk", &["clerk"]);
    let id = conversation(&service).await;
    let new = json!({"userId": "ann", "userName": "Ann", "content": "hello"});
    let path = format!("/conversations/{id}/messages");
    let sent = service.must(201, "POST", &path, new).await["message"].clone();
    let list = "/users/bob/conversations?limit=1";
    let listed = service.get(list).await["conversations"][0].clone();
    let shown = json!({
        "id": sent["id"], "seq": 1, "userId": "ann", "userName": "Ann", "excerpt": "hello",
        "createdAt": sent["createdAt"],
    });
    assert_eq!(
        (&listed["id"], &listed["lastMessage"]),
        (&json!(id), &shown)
    );
    let bare = clerk.get(list).await["conversations"][0].clone();
    assert_eq!((&bare["id"], &bare["lastSeq"]), (&json!(id), &json!(1)));
    assert_eq!(bare.get("lastMessage"), None);
}

#[tokio::test]
async fn message_of_a_service_reaches_joined_members_once() {
    let server = start();
    let service = Caller::service(&server);
    let id = conversation(&service).await;
    let mut bob = user(&server, "bob").await;
    bob.must("join_conversation", json!(id)).await;
    let path = format!("/conversations/{id}/messages");
    let new = json!({"userId": "ann", "userName": "Ann", "content": "hello", "metadata": {"a": 1}});
    let sent = service.must(201, "POST", &path, new).await["message"].clone();
    assert_eq!(bob.event("message").await, sent);
    let fields = [
        "seq", "userId", "userName", "content", "type", "metadata", "version",
    ];
    let expected = json!([1, "ann", "Ann", "hello", "user", {"a": 1}, 1]);
    assert_eq!(
        fields.map(|field| &sent[field]).to_vec(),
        expected.as_array().unwrap().iter().collect::<Vec<_>>()
    );

    let message = format!("/messages/{}", sent["id"].as_str().unwrap());
    let edit = json!({"content": "good evening", "version": 1});
    let edited = service.must(200, "PATCH", &message, edit.clone()).await;
    assert_eq!(bob.event("message_edited").await, edited["message"]);
    service
        .refused(409, "CONFLICT", ("PATCH", &message, edit))
        .await;
    let deleted = service.must(200, "DELETE", &message, Value::Null).await;
    assert_eq!(deleted["message"]["content"], "");
    let received = bob.event("message_deleted").await;
    assert_eq!(received["deletedBy"], "backend");
    assert!(bob.events_until_now("message").await.is_empty());
    assert!(bob.events_until_now("message_edited").await.is_empty());
}

#[tokio::test]
async fn service_writes_as_itself_if_a_member_and_marked_as_a_machine() {
    let server = start();
    let service = Caller::service(&server);
    let id = conversation(&service).await;
    let path = format!("/conversations/{id}/messages");
    let new = json!({"content": "beep", "type": "ai"});
    service
        .refused(404, "NOT_FOUND", ("POST", &path, new.clone()))
        .await;
    let member = format!("/conversations/{id}/members/backend");
    service.must(200, "PUT", &member, Value::Null).await;
    let sent = service.must(201, "POST", &path, new).await;
    assert_eq!(
        (&sent["message"]["userId"], &sent["message"]["type"]),
        (&json!("backend"), &json!("ai"))
    );
    let stranger = json!({"userId": "carl", "content": "let me in"});
    service
        .refused(404, "NOT_FOUND", ("POST", &path, stranger))
        .await;
}

#[tokio::test]
async fn any_history_is_read_in_pages_by_number() {
    let server = start();
    let service = Caller::service(&server);
    let id = conversation(&service).await;
    let path = format!("/conversations/{id}/messages");
    for n in 1..=5 {
        let new = json!({"userId": "ann", "content": n.to_string()});
        service.must(201, "POST", &path, new).await;
    }
    for (query, expected, has_more) in [
        ("", json!([1, 2, 3, 4, 5]), false),
        ("?limit=2", json!([4, 5]), true),
        ("?limit=2&beforeSeq=4", json!([2, 3]), true),
        ("?limit=2&afterSeq=3", json!([4, 5]), false),
    ] {
        let page = service.get(&format!("{path}{query}")).await;
        let seqs: Vec<_> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| &message["seq"])
            .collect();
        assert_eq!(
            (json!(seqs), &page["hasMore"]),
            (expected, &json!(has_more)),
            "{query}"
        );
    }
    let both = format!("{path}?beforeSeq=1&afterSeq=1");
    service
        .refused(409, "CONFLICT", ("GET", &both, Value::Null))
        .await;
    for query in ["?limit=0", "?limit=201", "?limit=x", "?before=1"] {
        let path = format!("{path}{query}");
        service
            .refused(400, "INVALID_PAYLOAD", ("GET", &path, Value::Null))
            .await;
    }
}

#[tokio::test]
async fn member_and_title_changes_by_services_reach_joined_members() {
    let server = start();
    let service = Caller::service(&server);
    let id = conversation(&service).await;
    let mut bob = user(&server, "bob").await;
    bob.must("join_conversation", json!(id)).await;
    let carl = format!("/conversations/{id}/members/carl");
    for _ in 0..2 {
        let added = service.must(200, "PUT", &carl, Value::Null).await;
        assert_eq!(
            added["conversation"]["memberIds"],
            json!(["ann", "bob", "carl"])
        );
    }
    let received = bob.event("conversation_updated").await;
    assert_eq!(
        received["conversation"]["memberIds"],
        json!(["ann", "bob", "carl"])
    );
    for _ in 0..2 {
        service.must(200, "DELETE", &carl, Value::Null).await;
    }
    bob.event("conversation_updated").await;
    let path = format!("/conversations/{id}");
    let renamed = service
        .must(200, "PATCH", &path, json!({"title": "Other plans"}))
        .await;
    assert_eq!(
        bob.event("conversation_updated").await["conversation"],
        renamed["conversation"]
    );
    let owner = format!("/conversations/{id}/members/ann");
    service
        .refused(409, "CONFLICT", ("DELETE", &owner, Value::Null))
        .await;
    let deleted = service.must(200, "DELETE", &path, Value::Null).await;
    assert_eq!(deleted["deletedBy"], "backend");
    assert_eq!(bob.event("conversation_deleted").await, deleted);
    service
        .refused(404, "NOT_FOUND", ("GET", &path, Value::Null))
        .await;
}

#[tokio::test]
async fn non_moderator_changes_only_its_own_conversations_over_http() {
    let server = crate::server::Server::with(&[
        crate::guard::KEY,
        super::QUICK,
        (
            "ROOMCAST_AUTH__ROLES__CLERK__PERMISSIONS",
            "api:*,chat:send,chat:manage",
        ),
    ]);
    let (service, clerk) = (
        Caller::service(&server),
        Caller::of(&server, "clerk", &["clerk"]),
    );
    let id = conversation(&service).await;
    let path = format!("/conversations/{id}");
    clerk.get(&path).await;
    for (method, path, body) in [
        ("PATCH", path.clone(), json!({"title": "Mine"})),
        ("DELETE", path.clone(), Value::Null),
        ("PUT", format!("{path}/members/carl"), Value::Null),
    ] {
        clerk.refused(404, "NOT_FOUND", (method, &path, body)).await;
    }
    service
        .must(200, "PUT", &format!("{path}/members/clerk"), Value::Null)
        .await;
    clerk
        .refused(403, "FORBIDDEN", ("PATCH", &path, json!({"title": "Mine"})))
        .await;
    let own = clerk
        .must(201, "POST", "/conversations", json!({"title": "Own"}))
        .await;
    let own = format!(
        "/conversations/{}",
        own["conversation"]["id"].as_str().unwrap()
    );
    clerk
        .must(200, "PATCH", &own, json!({"title": "Mine"}))
        .await;
    let machine = json!({"userId": "ann", "content": "x", "type": "ai"});
    clerk
        .refused(
            403,
            "FORBIDDEN",
            ("POST", &format!("{path}/messages"), machine),
        )
        .await;
}

#[tokio::test]
async fn service_reads_and_sets_the_status_of_a_user() {
    let server = start();
    let service = Caller::service(&server);
    let mut bob = user(&server, "bob").await;
    bob.must("join_conversation", json!(LOBBY)).await;
    let path = "/users/ann/status";
    let nothing = json!({"userId": "ann", "status": "online"});
    assert_eq!(service.get(path).await, nothing);
    let busy = json!({"status": "busy", "text": "in a meeting"});
    let said = service.must(200, "PUT", path, busy.clone()).await;
    assert_eq!(bob.event("status").await, said);
    assert_eq!(service.get(path).await, said);
    assert_eq!(service.must(200, "PUT", path, busy).await, said);
    let ann = user(&server, "ann").await;
    assert_eq!(ann.session["status"], said);
    for wrong in [
        json!({}),
        json!({"status": "x"}),
        json!({"status": "busy", "text": "\u{202e}"}),
        json!({"status": "busy", "x": 1}),
    ] {
        service
            .refused(400, "INVALID_PAYLOAD", ("PUT", path, wrong))
            .await;
    }
    let nobody = "/users/%E2%80%AE/status";
    service
        .refused(400, "INVALID_PAYLOAD", ("GET", nobody, Value::Null))
        .await;
    let other = Caller::of(&server, "ann", &["user"]);
    other
        .refused(403, "FORBIDDEN", ("GET", path, Value::Null))
        .await;
}

#[tokio::test]
async fn presence_lists_joined_users_and_none_if_conversation_is_missing() {
    let server = start();
    let service = Caller::service(&server);
    let id = conversation(&service).await;
    let presence = format!("/conversations/{id}/presence");
    let empty = service.get(&presence).await;
    assert_eq!(empty["users"], json!([]), "{empty}");
    let mut ann = user(&server, "ann").await;
    ann.must("join_conversation", json!(id)).await;
    let here = service.get(&presence).await;
    assert_eq!(here["users"][0]["userId"], "ann", "{here}");
    let conversation = format!("/conversations/{id}");
    service
        .must(200, "DELETE", &conversation, Value::Null)
        .await;
    let never = "/conversations/0f8fad5b-d9cb-469f-a165-70867728950e/presence";
    for path in [&presence, never] {
        service
            .refused(404, "NOT_FOUND", ("GET", path, Value::Null))
            .await;
    }
}
