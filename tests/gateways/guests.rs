//! Who may come in without credentials, and as whom.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn a_guest_is_told_who_it_is() {
    let server = Server::start();
    let auth = json!({"name": "Ann", "guestKey": "0123456789abcdef"});
    let ann = server.connect(&auth).await.unwrap();
    assert_eq!(
        ann.session,
        json!({"userId": "guest:9f9f5111f7b27a78", "name": "Ann", "roles": [], "guest": true})
    );
}

#[tokio::test]
async fn a_guest_without_a_key_is_somebody_new_each_time() {
    let server = Server::start();
    let first = server.connect(&json!({"name": "Ann"})).await.unwrap();
    let second = server.connect(&json!({"name": "Ann"})).await.unwrap();
    assert_ne!(first.session["userId"], second.session["userId"]);
}

#[tokio::test]
async fn a_guest_without_a_name_is_called_by_its_id() {
    let server = Server::start();
    let guest = server.connect(&json!({})).await.unwrap();
    assert_eq!(guest.session["name"], guest.session["userId"]);
    assert!(guest.user_id().starts_with("guest:"));
}

#[tokio::test]
async fn what_breaks_the_rules_of_guests_is_refused() {
    let server = Server::start();
    for auth in [
        json!({"name": ""}),
        json!({"name": "x".repeat(41)}),
        json!({"name": "a\u{0}"}),
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
async fn without_guests_nobody_comes_in() {
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
