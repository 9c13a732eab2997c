//! Invitations: links that make a user a member of a conversation.

use serde_json::{Value, json};

use crate::server::{LOBBY, Server};

#[tokio::test]
async fn invitation_token_shows_a_preview_and_admits_its_user() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut tab = server.guest("bob").await;
    let new = json!({"title": "Club", "memberIds": []});
    let id = ann.create(new).await;
    let request = json!({"conversationId": id, "uses": 1, "expiresIn": 60});
    let created = ann.must("create_invite", request).await;
    let token = created["token"].as_str().unwrap();
    assert_eq!(token.len(), 43);

    let preview = bob.must("preview_invite", json!({"token": token})).await;
    let expected = json!({"id": id, "title": "Club", "memberCount": 1});
    assert_eq!(preview["conversation"], expected);
    assert_eq!(preview["isMember"], false);
    assert_eq!(preview["expiresAt"], created["expiresAt"]);
    // The preview does not make the user a member.
    bob.refused("join_conversation", id.clone(), "NOT_FOUND")
        .await;

    let joined = bob.must("join_invite", json!({"token": token})).await;
    let members = joined["conversation"]["memberIds"].as_array().unwrap();
    assert!(members.contains(&json!(bob.user_id())));
    // The other tab of the new member is notified, although it is not in the conversation.
    let received = tab.event("conversation_updated").await;
    assert_eq!(received["conversation"], joined["conversation"]);
    bob.must("join_conversation", id.clone()).await;
    // The invitation is used up now, also for its user.
    let mut eve = server.guest("eve").await;
    for one in [&mut bob, &mut eve] {
        for event in ["preview_invite", "join_invite"] {
            one.refused(event, json!({"token": token}), "NOT_FOUND")
                .await;
        }
    }
}

#[tokio::test]
async fn invalid_invitation_tokens_are_indistinguishable() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let id = ann.create(json!({"memberIds": []})).await;
    let created = ann
        .must("create_invite", json!({"conversationId": id}))
        .await;
    let revoked = ann
        .must("revoke_invites", json!({"conversationId": id}))
        .await;
    assert_eq!(revoked["revoked"], 1);
    let mut received: Vec<Value> = Vec::new();
    let long = "x".repeat(9_000);
    for token in [
        created["token"].as_str().unwrap(),
        &"A".repeat(43),
        "",
        &long,
    ] {
        for event in ["preview_invite", "join_invite"] {
            received.push(
                bob.refused(event, json!({"token": token}), "NOT_FOUND")
                    .await,
            );
        }
    }
    received.dedup();
    assert_eq!(received.len(), 1, "{received:?}");
}

#[tokio::test]
async fn the_owner_alone_invites_within_bounds() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut eve = server.guest("eve").await;
    let new = json!({"memberIds": [bob.user_id()]});
    let id = ann.create(new).await;
    for event in ["create_invite", "revoke_invites"] {
        let of = |id: &Value| json!({"conversationId": id});
        bob.refused(event, of(&id), "FORBIDDEN").await;
        eve.refused(event, of(&id), "NOT_FOUND").await;
        ann.refused(event, of(&json!(LOBBY)), "FORBIDDEN").await;
    }
    for (field, value) in [
        ("expiresIn", json!(59)),
        ("expiresIn", json!(2_592_001)),
        ("expiresIn", json!("60")),
        ("uses", json!(0)),
        ("uses", json!(10_001)),
    ] {
        let mut request = json!({"conversationId": id});
        request[field] = value;
        let error = ann
            .refused("create_invite", request, "INVALID_PAYLOAD")
            .await;
        assert_eq!(error["details"], json!({"field": field}));
    }
    for _ in 0..20 {
        ann.must("create_invite", json!({"conversationId": id}))
            .await;
    }
    let one_more = json!({"conversationId": id});
    ann.refused("create_invite", one_more, "CONFLICT").await;
}
