//! Each field of each event, with values at its limits and beyond.

mod fields;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::server::{LOBBY, Server};
use fields::{Case, Field, cases, content, ids, invalid, other_types, user_id};

const INVALID: &str = "INVALID_PAYLOAD";
const NOT_FOUND: &str = "NOT_FOUND";
const UNKNOWN_USER: &str = "11111111-1111-4111-8111-111111111111";

#[tokio::test]
async fn each_field_is_accepted_up_to_its_limit_and_refused_beyond() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    for case in cases() {
        check(&mut ann, &case).await;
    }
    assert_eq!(
        ann.ask("presence", json!({"conversationId": LOBBY})).await["success"],
        true,
        "the socket is still there"
    );
}

#[tokio::test]
async fn change_fields_are_accepted_up_to_limit_and_refused_beyond() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let own = ann.create(json!({"memberIds": ["bob"]})).await;
    let sent = ann
        .must("message", json!({"conversationId": LOBBY, "content": "x"}))
        .await;
    let message = sent["message"]["id"].clone();
    let message_id = || {
        let id = message.as_str().unwrap();
        Field {
            name: "messageId",
            accepted: vec![json!(id), json!(id.to_uppercase())],
            refused: ids(),
        }
    };
    let conversation_id = || {
        let id = own.as_str().unwrap();
        Field {
            name: "conversationId",
            accepted: vec![json!(id), json!(id.to_uppercase())],
            refused: ids(),
        }
    };
    let version = Field {
        name: "version",
        accepted: vec![Value::Null],
        refused: {
            let mut refused = other_types(&["null", "number"]);
            refused.extend(invalid([
                json!(-1),
                json!(1.5),
                json!(4_294_967_296_u64),
                json!("1"),
            ]));
            refused.push((json!(0), "CONFLICT"));
            refused.push((json!(u32::MAX), "CONFLICT"));
            refused
        },
    };
    let reaction = |event| Case {
        event,
        right: json!({"messageId": message, "emoji": "\u{1F44D}"}),
        required: &["messageId", "emoji"],
        fields: vec![
            message_id(),
            Field {
                name: "emoji",
                accepted: vec![json!("\u{2764}\u{FE0F}"), json!("\u{1F1E9}\u{1F1EA}")],
                refused: {
                    let mut refused = other_types(&[]);
                    refused.extend(invalid([
                        json!(""),
                        json!("1"),
                        json!("\u{1F44D}\u{1F44D}"),
                        json!("\u{1F44D} "),
                        json!("\u{1F44D}\u{0}"),
                        json!("\u{1F44D}".repeat(20_000)),
                    ]));
                    refused
                },
            },
        ],
    };
    let in_own = ann
        .must("message", json!({"conversationId": own, "content": "x"}))
        .await;
    let in_own = in_own["message"]["id"].clone();
    let pin = |event| {
        let id = in_own.as_str().unwrap();
        Case {
            event,
            right: json!({"messageId": id}),
            required: &["messageId"],
            fields: vec![Field {
                name: "messageId",
                accepted: vec![json!(id), json!(id.to_uppercase())],
                refused: ids(),
            }],
        }
    };
    let member = |event| Case {
        event,
        right: json!({"conversationId": own, "userId": "bob"}),
        required: &["conversationId", "userId"],
        fields: vec![conversation_id(), user_id("userId")],
    };
    for case in [
        Case {
            event: "edit_message",
            right: json!({"messageId": message, "content": "y"}),
            required: &["messageId", "content"],
            fields: vec![message_id(), content(), version],
        },
        reaction("add_reaction"),
        reaction("remove_reaction"),
        Case {
            event: "set_notification_level",
            right: json!({"conversationId": own, "level": "none"}),
            required: &["conversationId", "level"],
            fields: vec![
                conversation_id(),
                Field {
                    name: "level",
                    accepted: vec![json!("all"), json!("mentions"), json!("none")],
                    refused: {
                        let mut refused = other_types(&[]);
                        refused.extend(invalid([json!(""), json!("All"), json!("all ")]));
                        refused
                    },
                },
            ],
        },
        pin("pin_message"),
        pin("unpin_message"),
        member("add_member"),
        member("remove_member"),
        Case {
            event: "delete_message",
            right: json!({"messageId": message}),
            required: &["messageId"],
            fields: vec![message_id()],
        },
    ] {
        check(&mut ann, &case).await;
    }
}

async fn check(ann: &mut Client, case: &Case) {
    let Case {
        event,
        right,
        required,
        fields,
    } = case;
    // Values other than objects, and no payload.
    let is_named_by_id = ["join_conversation", "leave_conversation"].contains(event);
    for (wrong, code) in other_types(&["object"]) {
        refused(ann, event, wrong, code).await;
    }
    if !is_named_by_id {
        refused(ann, event, json!(LOBBY), INVALID).await;
    }
    let id = 1_000_000;
    ann.send(&format!("42{id}[\"{event}\"]")).await;
    assert_eq!(ann.answer(id).await["error"]["code"], INVALID, "{event}");

    for name in *required {
        let mut without = right.clone();
        without.as_object_mut().unwrap().remove(*name);
        refused(ann, event, without, INVALID).await;
    }
    let mut more = right.clone();
    let unknown = json!({"unknown": [1, {"deep": null}], "": 1, "__proto__": {"x": 1},
        "conversationid": 7, "success": false});
    let unknown: Map<String, Value> = unknown.as_object().unwrap().clone();
    more.as_object_mut().unwrap().extend(unknown);
    accepted(ann, event, more).await;

    for field in fields {
        for value in &field.accepted {
            let mut payload = right.clone();
            payload[field.name] = value.clone();
            accepted(ann, event, payload).await;
        }
        for (value, code) in &field.refused {
            let mut payload = right.clone();
            payload[field.name] = value.clone();
            let error = refused(ann, event, payload, code).await;
            if *code != INVALID {
                continue;
            }
            let place = error["details"]["field"].as_str().unwrap_or_default();
            let inside = place.strip_prefix(field.name);
            assert!(
                inside.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])),
                "{event} with {} = {}: {error}",
                field.name,
                short(value)
            );
        }
    }
}

async fn accepted(ann: &mut Client, event: &str, payload: Value) {
    let answer = ann.ask(event, payload.clone()).await;
    assert_eq!(
        answer["success"],
        true,
        "{event} {}: {answer}",
        short(&payload)
    );
}

async fn refused(ann: &mut Client, event: &str, payload: Value, code: &str) -> Value {
    let answer = ann.ask(event, payload.clone()).await;
    assert_eq!(answer["success"], false, "{event} {}", short(&payload));
    let error = &answer["error"];
    assert_eq!(error["code"], code, "{event} {}: {answer}", short(&payload));
    // The error does not repeat long input.
    let message = error["message"].as_str().unwrap();
    assert!(
        !message.is_empty() && message.len() < 500,
        "{event} {}: {} bytes",
        short(&payload),
        message.len()
    );
    error.clone()
}

fn short(payload: &Value) -> String {
    payload.to_string().chars().take(300).collect()
}

#[tokio::test]
async fn two_spellings_of_an_id_name_one_conversation() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.guest("bob").await;
    let upper = LOBBY.to_uppercase();
    let joined = bob.must("join_conversation", json!(upper)).await;
    assert_eq!(joined["conversation"]["id"], LOBBY);
    let sent = json!({"conversationId": upper, "content": "x", "clientMessageId": "1"});
    let sent = ann.must("message", sent).await;
    assert_eq!(sent["message"]["conversationId"], LOBBY);
    assert_eq!(bob.event("message").await, sent["message"]);
    let again = json!({"conversationId": LOBBY, "content": "x", "clientMessageId": "1"});
    assert_eq!(ann.must("message", again).await, sent);
    let left = bob.must("leave_conversation", json!(LOBBY)).await;
    assert_eq!(left, json!({"success": true}));
    assert_eq!(
        ann.must("presence", json!({"conversationId": upper})).await["count"],
        1
    );
}

#[tokio::test]
async fn text_is_not_normalised() {
    const COMPOSED: &str = "\u{e9}";
    const DECOMPOSED: &str = "e\u{301}";
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    for (seq, text) in [(1, COMPOSED), (2, DECOMPOSED)] {
        let sent = json!({"conversationId": LOBBY, "content": text, "clientMessageId": text,
            "metadata": {"title": text}});
        let sent = ann.must("message", sent).await;
        assert_eq!(sent["message"]["seq"], seq, "two ids of clients are two");
        let seen = bob.event("message").await;
        assert_eq!(
            (&seen["content"], &seen["metadata"]["title"]),
            (&json!(text), &json!(text))
        );
    }
    let made = json!({"title": DECOMPOSED, "memberIds": [COMPOSED, DECOMPOSED]});
    let made = ann.must("create_conversation", made).await;
    let conversation = &made["conversation"];
    assert_eq!(conversation["title"], DECOMPOSED);
    assert_eq!(conversation["memberIds"].as_array().unwrap().len(), 3);
    let removal = json!({"conversationId": conversation["id"], "userId": COMPOSED});
    let left = ann.must("remove_member", removal).await;
    let left = left["conversation"]["memberIds"]
        .as_array()
        .unwrap()
        .clone();
    assert!(left.contains(&json!(DECOMPOSED)) && !left.contains(&json!(COMPOSED)));
}

#[tokio::test]
async fn second_edit_of_the_same_version_gets_a_conflict() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut tab = server.guest("ann").await;
    let mut bob = server.in_lobby("bob").await;
    for round in 0..20 {
        let sent = json!({"conversationId": LOBBY, "content": "draft"});
        let sent = ann.must("message", sent).await;
        let id = &sent["message"]["id"];
        let edit = |text: &str| json!({"messageId": id, "content": text, "version": 1});
        let first = ann.request("edit_message", edit("by the first")).await;
        let second = tab.request("edit_message", edit("by the second")).await;
        let answers = [ann.answer(first).await, tab.answer(second).await];
        let won: Vec<_> = answers.iter().filter(|a| a["success"] == true).collect();
        let lost: Vec<_> = answers.iter().filter(|a| a["success"] == false).collect();
        assert_eq!(
            (won.len(), lost.len()),
            (1, 1),
            "round {round}: {answers:?}"
        );
        assert_eq!(lost[0]["error"]["code"], "CONFLICT");
        assert_eq!(won[0]["message"]["version"], 2);
        assert_eq!(bob.event("message_edited").await, won[0]["message"]);
    }
    assert!(bob.events_until_now("message_edited").await.is_empty());
}

#[tokio::test]
async fn member_removed_while_typing_stops_typing_and_gets_no_events() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut tab = server.guest("bob").await;
    let members = json!({"memberIds": [bob.user_id()]});
    let id = ann.create(members).await;
    ann.must("join_conversation", id.clone()).await;
    bob.must("join_conversation", id.clone()).await;
    // The other tab has not joined: a member may type and send nevertheless.
    let typing = json!({"conversationId": id, "isTyping": true});
    tab.must("typing", typing.clone()).await;
    assert_eq!(ann.event("typing").await["isTyping"], true);

    let removal = json!({"conversationId": id, "userId": bob.user_id()});
    ann.must("remove_member", removal).await;
    assert_eq!(ann.event("typing").await["isTyping"], false);
    assert_eq!(ann.event("user_left").await["userId"], bob.user_id());
    // All tabs are notified, including tabs that have not joined.
    for one in [&mut bob, &mut tab] {
        loop {
            let received = one.event("conversation_updated").await;
            if received["conversation"]["memberIds"] == json!([ann.user_id()]) {
                break;
            }
        }
        one.refused("typing", typing.clone(), NOT_FOUND).await;
    }
    ann.must("message", json!({"conversationId": id, "content": "x"}))
        .await;
    for one in [&mut bob, &mut tab] {
        assert!(one.events_until_now("message").await.is_empty());
    }
    assert!(ann.events_until_now("typing").await.is_empty());
    let here = ann.must("presence", json!({"conversationId": id})).await;
    assert_eq!(here["count"], 1);
}

#[tokio::test]
async fn member_removed_while_joining_is_not_in_the_room() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let id = ann.create(json!({"memberIds": []})).await;
    ann.must("join_conversation", id.clone()).await;
    let member = json!({"conversationId": id, "userId": bob.user_id()});
    for round in 0..50 {
        ann.must("add_member", member.clone()).await;
        let removal = ann.request("remove_member", member.clone()).await;
        let joined = bob.request("join_conversation", id.clone()).await;
        assert_eq!(ann.answer(removal).await["success"], true);
        bob.answer(joined).await;
        let here = ann.must("presence", json!({"conversationId": id})).await;
        assert_eq!(here["count"], 1, "round {round}");
        ann.must("message", json!({"conversationId": id, "content": "x"}))
            .await;
        let seen = bob.events_until_now("message").await;
        assert!(seen.is_empty(), "round {round}: {seen:?}");
    }
}
