//! The list of a user's conversations, and their titles.

use serde_json::{Value, json};

use crate::server::{LOBBY, Server};

#[tokio::test]
async fn all_conversations_are_listed_page_by_page() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    for n in 0..25 {
        let new = json!({"title": format!("{n}"), "memberIds": []});
        ann.create(new).await;
    }
    let mut titles: Vec<Value> = Vec::new();
    let mut page = ann.must("conversations", json!({"limit": 10.0})).await;
    loop {
        let listed = page["conversations"].as_array().unwrap();
        titles.extend(listed.iter().map(|c| c["title"].clone()));
        if page["hasMore"] == false {
            assert_eq!(page.get("cursor"), None);
            break;
        }
        assert_eq!(listed.len(), 10);
        let next = json!({"limit": 10, "cursor": page["cursor"]});
        page = ann.must("conversations", next).await;
    }
    // Conversations of one millisecond can be in any order; the Lobby belongs to all users.
    assert_eq!(titles.len(), 26);
    for n in 0..25 {
        assert!(titles.contains(&json!(format!("{n}"))), "{n} in {titles:?}");
    }
    let page = ann.must("conversations", json!({})).await;
    assert_eq!(page["conversations"].as_array().unwrap().len(), 26);
    for (field, value) in [
        ("cursor", json!("")),
        ("cursor", json!("2025-01-31T12:00:00.000Z")),
        ("cursor", json!(7)),
        ("cursor", json!({})),
        ("limit", json!(0)),
        ("limit", json!(201)),
        ("limit", json!("10")),
    ] {
        let error = ann.refused("conversations", json!({field: value}), "INVALID_PAYLOAD");
        assert_eq!(error.await["details"], json!({"field": field}));
    }
}

#[tokio::test]
async fn new_title_reaches_all_tabs_of_all_members() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut tab = server.guest("bob").await;
    let mut eve = server.guest("eve").await;
    let new = json!({"title": "old", "memberIds": [bob.user_id()]});
    let id = ann.create(new).await;
    for one in [&mut bob, &mut tab] {
        assert_eq!(
            one.event("conversation_updated").await["conversation"]["id"],
            id
        );
    }
    let rename = |title: &str| json!({"conversationId": id, "title": title});
    // First no member has joined, then one has.
    for title in ["new", "newer"] {
        let answer = ann.must("rename_conversation", rename(title)).await;
        assert_eq!(answer["conversation"]["title"], title);
        for one in [&mut bob, &mut tab] {
            let received = one.event("conversation_updated").await;
            assert_eq!(received["conversation"], answer["conversation"]);
            assert!(received["timestamp"].is_string());
        }
        ann.must("rename_conversation", rename(title)).await;
        bob.must("join_conversation", id.clone()).await;
    }
    for one in [&mut ann, &mut bob, &mut tab, &mut eve] {
        let more = one.events_until_now("conversation_updated").await;
        assert!(more.is_empty(), "{more:?}");
    }
    let list = bob.must("conversations", json!({"limit": 1})).await;
    assert_eq!(list["conversations"][0]["title"], "newer");

    bob.refused("rename_conversation", rename("no"), "FORBIDDEN")
        .await;
    eve.refused("rename_conversation", rename("no"), "NOT_FOUND")
        .await;
    let lobby = json!({"conversationId": LOBBY, "title": "no"});
    ann.refused("rename_conversation", lobby, "FORBIDDEN").await;
    for title in [
        json!(""),
        json!("t".repeat(201)),
        json!("a\nb"),
        Value::Null,
        json!(7),
    ] {
        let wrong = json!({"conversationId": id, "title": title});
        let error = ann
            .refused("rename_conversation", wrong, "INVALID_PAYLOAD")
            .await;
        assert_eq!(error["details"], json!({"field": "title"}));
    }
}
