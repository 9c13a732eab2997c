//! Clients without credentials: whether they are admitted, and as which user.

use serde_json::json;

use crate::guard::{KEY, signed};
use crate::server::{LOBBY, Server};

#[tokio::test]
async fn guest_receives_its_identity() {
    let server = Server::start();
    let auth = json!({"name": "Ann", "guestKey": "0123456789abcdef"});
    let ann = server.connect(&auth).await.unwrap();
    assert_eq!(
        ann.session,
        json!({"userId": "guest:9f9f5111f7b27a78", "name": "Ann", "roles": [], "permissions": ["chat:read", "chat:send", "chat:manage", "chat:type"], "guest": true})
    );
}

#[tokio::test]
async fn guest_without_a_key_gets_a_new_id_each_time() {
    let server = Server::start();
    let first = server.connect(&json!({"name": "Ann"})).await.unwrap();
    let second = server.connect(&json!({"name": "Ann"})).await.unwrap();
    assert_ne!(first.session["userId"], second.session["userId"]);
}

#[tokio::test]
async fn guest_without_a_name_is_named_by_its_id() {
    let server = Server::start();
    let guest = server.connect(&json!({})).await.unwrap();
    assert_eq!(guest.session["name"], guest.session["userId"]);
    assert!(guest.user_id().starts_with("guest:"));
}

#[tokio::test]
async fn invalid_guest_credentials_are_refused() {
    let server = Server::start();
    for auth in [
        json!({"name": ""}),
        json!({"name": "x".repeat(41)}),
        json!({"name": "a\u{0}"}),
        json!({"name": " "}),
        json!({"name": "ro\u{200b}ot"}),
        json!({"name": "\u{202e}toor"}),
        json!({"name": "\u{feff}root"}),
        json!({"name": "root\u{2028}"}),
        json!({"name": 7}),
        json!({"guestKey": "too short"}),
        json!({"guestKey": "x".repeat(65)}),
        json!({"guestKey": ["x"]}),
    ] {
        let Err(error) = server.connect(&auth).await else {
            panic!("{auth} was let in")
        };
        assert_eq!(error["data"]["code"], "INVALID_PAYLOAD", "{auth}: {error}");
    }
    for auth in [
        json!({"name": "x"}),
        json!({"name": "ä".repeat(40), "guestKey": "ä".repeat(16)}),
        json!({"guestKey": "x".repeat(64), "something": {"else": 1}}),
        json!({"name": null, "guestKey": null}),
    ] {
        assert!(server.connect(&auth).await.is_ok(), "{auth}");
    }
}

#[tokio::test]
async fn guest_with_the_name_of_a_user_is_distinguishable() {
    let server = Server::with(&[KEY]);
    let token = |sub: &str| signed(&json!({"sub": sub, "name": "Root", "exp": 4_000_000_000_u64}));
    let mut root = server
        .connect(&json!({"token": token("root")}))
        .await
        .unwrap();
    let mut guest = server.connect(&json!({"name": "Root"})).await.unwrap();
    root.must("join_conversation", json!(LOBBY)).await;
    let joined = guest.must("join_conversation", json!(LOBBY)).await;
    let request = root
        .must("presence", json!({"conversationId": LOBBY}))
        .await;
    for answer in [joined, request] {
        let users = answer["users"].as_array().unwrap().clone();
        let seen: Vec<_> = users
            .iter()
            .map(|user| (user["name"].as_str().unwrap(), user.get("guest")))
            .collect();
        assert_eq!(seen, [("Root", None), ("Root", Some(&json!(true)))]);
    }
    // No token can take the id of a guest.
    let id = guest.user_id();
    let refused = server.connect(&json!({"token": token(&id)})).await;
    assert_eq!(refused.err().unwrap()["data"]["code"], "UNAUTHENTICATED");
}

#[tokio::test]
async fn clients_without_token_are_refused_if_guests_are_disabled() {
    let server = Server::with(&[("ROOMCAST_AUTH__GUESTS", "false")]);
    for auth in [
        json!({}),
        json!({"name": "Ann", "guestKey": "0123456789abcdef"}),
    ] {
        let Err(error) = server.connect(&auth).await else {
            panic!("{auth} was let in")
        };
        assert_eq!(
            error,
            json!({"message": "unauthorized", "data": {"code": "UNAUTHENTICATED"}})
        );
    }
}
