//! Moderation in the namespace `/`: which events are recorded, and with what.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::audit::{entries, newest};
use super::{Caller, catalogue, start, token, user};
use crate::client::Client;
use crate::server::Server;

/// The text of a user, which no entry of the audit may contain.
const CANARY: &str = "canary-of-a-text";

async fn moderator(server: &Server) -> Client {
    let auth = json!({"token": token("mod", &["admin"])});
    server.connect(&auth).await.unwrap()
}

/// Stores a message, and returns its id.
async fn write(client: &mut Client, room: &Value) -> Value {
    let message = json!({"conversationId": room, "content": CANARY});
    client.must("message", message).await["message"]["id"].clone()
}

/// Returns the number of recorded events of a user.
async fn count(admin: &Caller, user: &str) -> usize {
    let page = admin.get(&format!("/audit?limit=200&userId={user}")).await;
    assert!(!page.to_string().contains(CANARY), "{page}");
    entries(&page).len()
}

#[tokio::test]
async fn moderation_of_others_data_is_recorded_with_before_and_after() {
    let server = start();
    let admin = Caller::of(&server, "root", &["admin"]);
    let mut ann = user(&server, "ann").await;
    let mut moderator = moderator(&server).await;
    let new = json!({"title": "before", "memberIds": ["bob"]});
    let room = ann.create(new).await;
    let message = write(&mut ann, &room).await;
    let of_message = json!({"messageId": message});
    let of_room = json!({"conversationId": room});
    let with = |field: &str, value: &str| {
        let mut payload = of_room.clone();
        payload[field] = value.into();
        payload
    };
    let path = format!("/conversations/{}", room.as_str().unwrap());
    let message_path = format!("/messages/{}", message.as_str().unwrap());
    let member = |user: &str| format!("{path}/members/{user}");
    let edit = json!({"messageId": message, "content": format!("another {CANARY}")});
    let acts = [
        ("edit_message", edit, &message_path),
        ("pin_message", of_message.clone(), &message_path),
        ("unpin_message", of_message.clone(), &message_path),
        ("rename_conversation", with("title", "after"), &path),
        ("add_member", with("userId", "carl"), &member("carl")),
        ("remove_member", with("userId", "bob"), &member("bob")),
        ("create_invite", of_room.clone(), &path),
        ("revoke_invites", of_room.clone(), &path),
        ("delete_message", of_message, &message_path),
        ("delete_conversation", of_room.clone(), &path),
    ];
    // All events that `chat:moderate` can allow.
    let events = catalogue();
    let rows = events.lines().filter(|line| line.starts_with("| [`"));
    let rows = rows.filter(|line| line.contains("a user with `chat:moderate`"));
    let listed: BTreeSet<_> = rows.map(|line| line.split('`').nth(1).unwrap()).collect();
    let acted: BTreeSet<_> = acts.iter().map(|(event, ..)| *event).collect();
    assert_eq!(listed, acted);

    for (index, (event, mut payload, target)) in acts.into_iter().enumerate() {
        // Fields that the event does not have are ignored, also by the audit log.
        for (field, value) in [
            ("messageId", json!(uuid::Uuid::new_v4())),
            ("conversationId", json!(7)),
            ("userId", json!(5)),
        ] {
            if payload.get(field).is_none() {
                payload[field] = value;
            }
        }
        let answer = moderator.must(event, payload).await;
        let entry = newest(&admin, event).await;
        assert_eq!(
            (&entry["userId"], &entry["via"], &entry["outcome"]),
            (&json!("mod"), &json!("socket"), &json!("done")),
            "{entry}"
        );
        assert_eq!(entry["address"], "127.0.0.1", "{entry}");
        assert_eq!(entry["connectionId"].as_str().unwrap().len(), 16, "{entry}");
        assert_eq!(entry["target"], *target, "{entry}");
        let (before, after) = (&entry["before"], &entry["after"]);
        assert!(before.is_object(), "{entry}");
        let both = |field: &str| (before[field].clone(), after[field].clone());
        let members = |state: &Value| state["memberIds"].to_string();
        match event {
            "edit_message" => assert_eq!(
                (&before["version"], &after["version"]),
                (&json!(1), &json!(2))
            ),
            "rename_conversation" => assert_eq!(
                (&before["title"], &after["title"]),
                (&json!("before"), &json!("after"))
            ),
            "add_member" => assert!(!members(before).contains("carl"), "{entry}"),
            "remove_member" => {
                assert!(members(before).contains("bob") && !members(after).contains("bob"));
            }
            "create_invite" => {
                let invite = answer["token"].as_str().unwrap();
                assert!(!entry.to_string().contains(invite), "{entry}");
                assert_eq!(both("invites"), (json!(0), json!(1)));
            }
            "revoke_invites" => assert_eq!(both("invites"), (json!(1), json!(0))),
            "pin_message" => {
                assert_eq!(both("pinnedBy"), (Value::Null, json!("mod")));
                assert!(before["pinnedAt"].is_null() && after["pinnedAt"].is_string());
            }
            "unpin_message" => assert_eq!(both("pinnedBy"), (json!("mod"), Value::Null)),
            "delete_message" => assert_eq!(
                (&before["isDeleted"], &after["isDeleted"]),
                (&json!(false), &json!(true))
            ),
            "delete_conversation" => assert_eq!(after, &Value::Null),
            _ => {}
        }
        assert_eq!(count(&admin, "mod").await, index + 1);
    }
    assert_eq!(count(&admin, "ann").await, 0);
}

#[tokio::test]
async fn refused_moderation_is_recorded_and_use_of_own_rights_is_not() {
    let server = start();
    let admin = Caller::of(&server, "root", &["admin"]);
    let mut ann = user(&server, "ann").await;
    let mut bob = user(&server, "bob").await;
    let mut moderator = moderator(&server).await;
    let new = json!({"title": "of ann", "memberIds": ["bob", "carl", "mod"]});
    let room = ann.create(new).await;
    let rename = |room: &Value, title: String| json!({"conversationId": room, "title": title});
    let message = write(&mut ann, &room).await;
    // Calls of the owner, of a member who is refused, and of the author.
    ann.must("rename_conversation", rename(&room, "by ann".into()))
        .await;
    let carl = json!({"conversationId": room, "userId": "carl"});
    ann.must("remove_member", carl).await;
    bob.refused(
        "rename_conversation",
        rename(&room, "by bob".into()),
        "FORBIDDEN",
    )
    .await;
    bob.refused("delete_message", json!({"messageId": message}), "FORBIDDEN")
        .await;
    ann.must("delete_message", json!({"messageId": message}))
        .await;
    // What a moderator could do without the permission.
    let own = moderator
        .create(json!({"title": "of mod", "memberIds": []}))
        .await;
    moderator
        .must("rename_conversation", rename(&own, "still".into()))
        .await;
    let message = write(&mut moderator, &room).await;
    moderator
        .must("delete_message", json!({"messageId": message}))
        .await;
    let unknown = json!({"messageId": uuid::Uuid::new_v4()});
    moderator
        .refused("delete_message", unknown, "NOT_FOUND")
        .await;
    let itself = json!({"conversationId": room, "userId": "mod"});
    moderator.must("remove_member", itself).await;
    for user in ["ann", "bob", "mod"] {
        assert_eq!(count(&admin, user).await, 0, "{user}");
    }
    moderator
        .refused(
            "rename_conversation",
            rename(&room, "x".repeat(5000)),
            "INVALID_PAYLOAD",
        )
        .await;
    let refused = newest(&admin, "rename_conversation").await;
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert_eq!(refused["after"], json!({"error": "INVALID_PAYLOAD"}));
    assert_eq!(count(&admin, "mod").await, 1);
}

#[tokio::test]
async fn moderation_that_cannot_be_recorded_is_refused() {
    let server = start();
    let mut ann = user(&server, "ann").await;
    let mut moderator = moderator(&server).await;
    let new = json!({"title": "T", "memberIds": ["mod"]});
    let room = ann.create(new).await;
    let message = write(&mut ann, &room).await;
    let own = write(&mut moderator, &room).await;
    let gone = "ALTER TABLE audit RENAME TO gone";
    server.database().execute_batch(gone).unwrap();
    let delete = json!({"messageId": message});
    moderator
        .refused("delete_message", delete.clone(), "STORE_UNAVAILABLE")
        .await;
    let history = json!({"conversationId": room});
    let page = ann.must("message_history", history).await;
    assert_eq!(page["messages"][0]["content"], CANARY, "{page}");
    moderator
        .must("delete_message", json!({"messageId": own}))
        .await;
    ann.must("delete_message", delete).await;
}
