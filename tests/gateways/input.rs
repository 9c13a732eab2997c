//! What clients may send in each field of each event, at its borders and beyond.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::server::{LOBBY, Server};

/// A field of an event: values that are taken, and values that are refused with a code.
struct Field {
    name: &'static str,
    taken: Vec<Value>,
    refused: Vec<(Value, &'static str)>,
}

/// An event with a payload that is right, and its fields.
struct Case {
    event: &'static str,
    right: Value,
    required: &'static [&'static str],
    fields: Vec<Field>,
}

const INVALID: &str = "INVALID_PAYLOAD";
const NOT_FOUND: &str = "NOT_FOUND";
const SOMEBODY: &str = "11111111-1111-4111-8111-111111111111";

fn invalid(values: impl IntoIterator<Item = Value>) -> Vec<(Value, &'static str)> {
    values.into_iter().map(|value| (value, INVALID)).collect()
}

/// Values of every type but those named.
fn other_types(but: &[&str]) -> Vec<(Value, &'static str)> {
    let all = [
        ("null", Value::Null),
        ("bool", json!(true)),
        ("number", json!(7)),
        ("number", json!(-0.5)),
        ("string", json!("text")),
        ("array", json!([])),
        ("array", json!(["text"])),
        ("object", json!({})),
        ("object", json!({"_placeholder": true, "num": 0})),
    ];
    let others = all.into_iter().filter(|(kind, _)| !but.contains(kind));
    invalid(others.map(|(_, value)| value))
}

/// Spellings of an id that are none; each names a conversation or message that exists, or nearly.
fn ids() -> Vec<(Value, &'static str)> {
    let mut refused = other_types(&[]);
    let simple = LOBBY.replace('-', "");
    refused.extend(invalid([
        json!(""),
        json!(simple),
        json!(format!("{{{LOBBY}}}")),
        json!(format!("urn:uuid:{LOBBY}")),
        json!(format!(" {LOBBY}")),
        json!(format!("{LOBBY} ")),
        json!(format!("{LOBBY}\u{0}")),
        json!(format!("\u{feff}{LOBBY}")),
        json!(format!("{}\u{200b}", &LOBBY[..35])),
        json!(LOBBY.replace('0', "\u{ff10}")),
        json!(LOBBY.replace('-', "\u{2010}")),
        json!(&LOBBY[..35]),
        json!(format!("{LOBBY}1")),
        json!(format!("g{}", &LOBBY[1..])),
        json!("0000000-00000-4000-8000-000000000001"),
        json!("conversation:00000000-0000-4000-8000-000000000001"),
        json!("x".repeat(100_000)),
    ]));
    refused.push((json!(SOMEBODY), NOT_FOUND));
    refused.push((json!(Uuid::nil()), NOT_FOUND));
    refused.push((json!(Uuid::max()), NOT_FOUND));
    refused
}

fn conversation_id() -> Field {
    Field {
        name: "conversationId",
        taken: vec![json!(LOBBY), json!(LOBBY.to_uppercase())],
        refused: ids(),
    }
}

/// Numbers that count messages.
fn seq(name: &'static str) -> Field {
    let mut refused = other_types(&["null", "number"]);
    refused.extend(invalid([
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(18_446_744_073_709_551_616.0),
        json!("1"),
        json!("9".repeat(100_000)),
    ]));
    Field {
        name,
        taken: vec![
            Value::Null,
            json!(0),
            json!(1),
            json!(1_000_000),
            json!(9_007_199_254_740_992_u64),
            json!(i64::MAX),
            json!(i64::MAX as u64 + 1),
            json!(u64::MAX),
        ],
        refused,
    }
}

fn content() -> Field {
    let mut refused = other_types(&["string"]);
    refused.extend(invalid([
        json!(""),
        json!("x".repeat(10_001)),
        json!("€".repeat(10_001)),
        json!("😀".repeat(10_001)),
        // Nothing is composed before it is counted.
        json!("e\u{301}".repeat(5_000) + "e"),
    ]));
    for code in (0..0x20_u8).chain(0x7f..0xa0) {
        let c = char::from(code);
        if !matches!(c, '\n' | '\r' | '\t') {
            refused.push((json!(format!("a{c}b")), INVALID));
        }
    }
    Field {
        name: "content",
        taken: vec![
            json!("x"),
            json!("x".repeat(9_999)),
            json!("😀".repeat(10_000)),
            json!("e\u{301}".repeat(5_000)),
            json!(" "),
            json!("\n\r\t"),
            json!("\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}"),
            json!("\u{202e}right to left\u{2028}\u{2029}"),
            json!("\u{fffe}\u{ffff}\u{10ffff}\u{fdd0}"),
            json!("<script>alert(1)</script> & &amp;"),
            json!("'; DROP TABLE messages; --"),
        ],
        refused,
    }
}

fn user_id(name: &'static str) -> Field {
    let mut refused = other_types(&["string"]);
    refused.extend(invalid([
        json!(""),
        json!("x".repeat(129)),
        json!("ä".repeat(129)),
        json!("a\u{0}"),
        json!("a\nb"),
        json!("\u{7f}"),
        json!(" "),
        json!("\u{200b}"),
        json!("ro\u{200d}ot"),
        json!("\u{202e}toor"),
    ]));
    Field {
        name,
        taken: vec![
            json!("x"),
            json!("x".repeat(128)),
            json!("😀".repeat(128)),
            json!("é"),
            json!("e\u{301}"),
        ],
        refused,
    }
}

fn cases() -> Vec<Case> {
    let lobby = json!({"conversationId": LOBBY});
    let with = |fields: Value| {
        let mut payload = lobby.clone();
        let all = payload.as_object_mut().unwrap();
        all.extend(fields.as_object().unwrap().clone());
        payload
    };
    let metadata = |length: usize| json!({"a": "x".repeat(length - 8)});
    vec![
        Case {
            event: "message",
            right: with(json!({"content": "x"})),
            required: &["conversationId", "content"],
            fields: vec![
                conversation_id(),
                content(),
                Field {
                    name: "type",
                    taken: vec![Value::Null, json!("user")],
                    refused: {
                        let mut refused = other_types(&["null"]);
                        refused.extend(invalid([json!("User"), json!("system"), json!("")]));
                        refused.push((json!("x".repeat(100_000)), INVALID));
                        refused.push((json!("ai"), "FORBIDDEN"));
                        refused
                    },
                },
                Field {
                    name: "metadata",
                    taken: vec![
                        Value::Null,
                        json!({}),
                        metadata(4095),
                        metadata(4096),
                        json!({"imageUrl": null, "timestamp": null}),
                        json!({"imageUrl": "https://example.org/a.png"}),
                        json!({"timestamp": "2025-01-31T12:00:00Z", "more": [[{}]]}),
                    ],
                    refused: {
                        let mut refused = other_types(&["null", "object"]);
                        refused.extend(invalid([
                            metadata(4097),
                            json!({"imageUrl": ""}),
                            json!({"imageUrl": 7}),
                            json!({"imageUrl": []}),
                            json!({"imageUrl": "javascript:alert(1)"}),
                            json!({"imageUrl": "data:image/png;base64,AA=="}),
                            json!({"imageUrl": "/a.png"}),
                            json!({"imageUrl": "https://user:secret@example.org/"}),
                            json!({"imageUrl": "https://example.org/\u{202e}gnp.a"}),
                            json!({"imageUrl": " https://example.org/"}),
                            json!({"timestamp": "yesterday"}),
                            json!({"timestamp": 1_738_324_800}),
                        ]));
                        refused
                    },
                },
                Field {
                    name: "clientMessageId",
                    taken: vec![
                        Value::Null,
                        json!("x"),
                        json!("x".repeat(127)),
                        json!("ä".repeat(128)),
                    ],
                    refused: {
                        let mut refused = other_types(&["null", "string"]);
                        refused.extend(invalid([
                            json!(""),
                            json!("x".repeat(129)),
                            json!("a\u{0}"),
                        ]));
                        refused
                    },
                },
                Field {
                    name: "confirmDelivery",
                    taken: vec![Value::Null, json!(true), json!(false)],
                    refused: other_types(&["null", "bool"]),
                },
            ],
        },
        Case {
            event: "join_conversation",
            right: lobby.clone(),
            required: &["conversationId"],
            fields: vec![conversation_id(), seq("lastSeq")],
        },
        Case {
            event: "leave_conversation",
            right: lobby.clone(),
            required: &["conversationId"],
            fields: vec![conversation_id()],
        },
        Case {
            event: "typing",
            right: with(json!({"isTyping": false})),
            required: &["conversationId", "isTyping"],
            fields: vec![
                conversation_id(),
                Field {
                    name: "isTyping",
                    taken: vec![json!(true), json!(false)],
                    refused: other_types(&["bool"]),
                },
            ],
        },
        Case {
            event: "message_history",
            right: lobby.clone(),
            required: &["conversationId"],
            fields: vec![
                conversation_id(),
                seq("beforeSeq"),
                seq("afterSeq"),
                Field {
                    name: "limit",
                    taken: vec![Value::Null, json!(1), json!(199), json!(200)],
                    refused: {
                        let mut refused = other_types(&["null", "number"]);
                        refused.extend(invalid([
                            json!(0),
                            json!(201),
                            json!(-1),
                            json!(1.5),
                            json!(u64::MAX),
                        ]));
                        refused
                    },
                },
            ],
        },
        Case {
            event: "presence",
            right: lobby.clone(),
            required: &["conversationId"],
            fields: vec![conversation_id()],
        },
        Case {
            event: "mark_read",
            right: with(json!({"seq": 0})),
            required: &["conversationId", "seq"],
            fields: vec![conversation_id(), {
                let mut seq = seq("seq");
                seq.taken.remove(0);
                seq.refused.push((Value::Null, INVALID));
                seq
            }],
        },
        Case {
            event: "conversations",
            right: json!({}),
            required: &[],
            fields: vec![],
        },
        Case {
            event: "create_conversation",
            right: json!({"memberIds": []}),
            required: &["memberIds"],
            fields: vec![
                Field {
                    name: "title",
                    taken: vec![Value::Null, json!("t"), json!("ä".repeat(200)), json!(" ")],
                    refused: {
                        let mut refused = other_types(&["null", "string"]);
                        refused.extend(invalid([
                            json!(""),
                            json!("t".repeat(201)),
                            json!("t\u{200b}"),
                            json!("\u{202e}t"),
                            json!("a\nb"),
                            json!("a\u{0}"),
                        ]));
                        refused
                    },
                },
                Field {
                    name: "memberIds",
                    taken: {
                        let many: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
                        let mut taken = vec![json!([]), json!(many), json!(["x", "x"])];
                        taken.extend(user_id("").taken.into_iter().map(|id| json!([id])));
                        taken
                    },
                    refused: {
                        let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
                        let mut refused = other_types(&["array"]);
                        refused.push((json!(many), INVALID));
                        refused.push((json!([[]]), INVALID));
                        let ids = user_id("").refused.into_iter();
                        refused.extend(ids.map(|(id, code)| (json!([id]), code)));
                        refused
                    },
                },
            ],
        },
        Case {
            event: "message_search",
            right: json!({"query": "x"}),
            required: &["query"],
            fields: vec![
                Field {
                    name: "query",
                    taken: vec![
                        json!("x"),
                        json!("x".repeat(200)),
                        json!(vec!["x"; 16].join(" ")),
                        json!("x\u{0}\u{200b}' OR 1=1 --"),
                        json!("\"x\" AND NEAR(*) ^ -y:z"),
                    ],
                    refused: {
                        let mut refused = other_types(&["string"]);
                        refused.extend(invalid([
                            json!(""),
                            json!(" !?"),
                            json!("\u{200b}"),
                            json!("x".repeat(201)),
                            json!(vec!["x"; 17].join(" ")),
                        ]));
                        refused
                    },
                },
                Field {
                    name: "conversationId",
                    taken: vec![Value::Null, json!(LOBBY), json!(LOBBY.to_uppercase())],
                    refused: {
                        let mut refused = ids();
                        refused.retain(|(id, _)| !id.is_null());
                        refused
                    },
                },
                Field {
                    name: "beforeId",
                    taken: vec![Value::Null, json!(SOMEBODY), json!(Uuid::nil())],
                    refused: {
                        let mut refused = ids();
                        refused.retain(|(id, code)| !id.is_null() && *code == INVALID);
                        refused
                    },
                },
                Field {
                    name: "limit",
                    taken: vec![Value::Null, json!(1), json!(200)],
                    refused: invalid([json!(0), json!(201), json!("1"), json!(-1)]),
                },
            ],
        },
    ]
}

#[tokio::test]
async fn each_field_is_taken_up_to_its_border_and_refused_beyond() {
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
async fn fields_of_changes_are_taken_up_to_their_border_and_refused_beyond() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let own = ann
        .must("create_conversation", json!({"memberIds": ["bob"]}))
        .await["conversation"]["id"]
        .clone();
    let sent = ann
        .must("message", json!({"conversationId": LOBBY, "content": "x"}))
        .await;
    let message = sent["message"]["id"].clone();
    let message_id = || {
        let id = message.as_str().unwrap();
        Field {
            name: "messageId",
            taken: vec![json!(id), json!(id.to_uppercase())],
            refused: ids(),
        }
    };
    let conversation_id = || {
        let id = own.as_str().unwrap();
        Field {
            name: "conversationId",
            taken: vec![json!(id), json!(id.to_uppercase())],
            refused: ids(),
        }
    };
    let version = Field {
        name: "version",
        taken: vec![Value::Null],
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
    // What is no object, and no payload at all.
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
    taken(ann, event, more).await;

    for field in fields {
        for value in &field.taken {
            let mut payload = right.clone();
            payload[field.name] = value.clone();
            taken(ann, event, payload).await;
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

async fn taken(ann: &mut Client, event: &str, payload: Value) {
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
    // What was sent is not repeated at length.
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
async fn two_spellings_of_an_id_are_one_conversation() {
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
async fn nothing_is_normalised() {
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
    let gone = json!({"conversationId": conversation["id"], "userId": COMPOSED});
    let left = ann.must("remove_member", gone).await;
    let left = left["conversation"]["memberIds"]
        .as_array()
        .unwrap()
        .clone();
    assert!(left.contains(&json!(DECOMPOSED)) && !left.contains(&json!(COMPOSED)));
}

#[tokio::test]
async fn of_two_editors_with_one_version_one_is_told_of_the_conflict() {
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
async fn a_member_that_is_removed_while_typing_types_no_more_and_hears_nothing() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut tab = server.guest("bob").await;
    let members = json!({"memberIds": [bob.user_id()]});
    let made = ann.must("create_conversation", members).await;
    let id = made["conversation"]["id"].clone();
    ann.must("join_conversation", id.clone()).await;
    bob.must("join_conversation", id.clone()).await;
    // The other tab has not joined: a member may type and send all the same.
    let typing = json!({"conversationId": id, "isTyping": true});
    tab.must("typing", typing.clone()).await;
    assert_eq!(ann.event("typing").await["isTyping"], true);

    let removal = json!({"conversationId": id, "userId": bob.user_id()});
    ann.must("remove_member", removal).await;
    assert_eq!(ann.event("typing").await["isTyping"], false);
    assert_eq!(ann.event("user_left").await["userId"], bob.user_id());
    // All tabs are told, those too that have not joined.
    for one in [&mut bob, &mut tab] {
        loop {
            let told = one.event("conversation_updated").await;
            if told["conversation"]["memberIds"] == json!([ann.user_id()]) {
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
async fn a_member_that_is_removed_while_joining_is_not_in_afterwards() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let made = ann
        .must("create_conversation", json!({"memberIds": []}))
        .await;
    let id = made["conversation"]["id"].clone();
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
