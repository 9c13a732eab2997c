//! The fields of all commands, with accepted and refused values of each.

use super::*;

/// A field of an event, with accepted values, and refused values with their error codes.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) accepted: Vec<Value>,
    pub(super) refused: Vec<(Value, &'static str)>,
}

/// An event with a valid payload, and its fields.
pub(super) struct Case {
    pub(super) event: &'static str,
    pub(super) right: Value,
    pub(super) required: &'static [&'static str],
    pub(super) fields: Vec<Field>,
}

pub(super) fn invalid(values: impl IntoIterator<Item = Value>) -> Vec<(Value, &'static str)> {
    values.into_iter().map(|value| (value, INVALID)).collect()
}

/// Returns values of every type except these.
pub(super) fn other_types(but: &[&str]) -> Vec<(Value, &'static str)> {
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

/// Returns invalid spellings of ids, which resemble ids that exist.
pub(super) fn ids() -> Vec<(Value, &'static str)> {
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
    refused.push((json!(UNKNOWN_USER), NOT_FOUND));
    refused.push((json!(Uuid::nil()), NOT_FOUND));
    refused.push((json!(Uuid::max()), NOT_FOUND));
    refused
}

pub(super) fn conversation_id() -> Field {
    Field {
        name: "conversationId",
        accepted: vec![json!(LOBBY), json!(LOBBY.to_uppercase())],
        refused: ids(),
    }
}

/// Returns a field with a number that counts messages.
pub(super) fn seq(name: &'static str) -> Field {
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
        accepted: vec![
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

pub(super) fn content() -> Field {
    let mut refused = other_types(&["string"]);
    refused.extend(invalid([
        json!(""),
        json!("x".repeat(10_001)),
        json!("€".repeat(10_001)),
        json!("😀".repeat(10_001)),
        // Text is not normalized before it is counted.
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
        accepted: vec![
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

pub(super) fn user_id(name: &'static str) -> Field {
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
        accepted: vec![
            json!("x"),
            json!("x".repeat(128)),
            json!("😀".repeat(128)),
            json!("é"),
            json!("e\u{301}"),
        ],
        refused,
    }
}

pub(super) fn cases() -> Vec<Case> {
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
                    accepted: vec![Value::Null, json!("user")],
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
                    accepted: vec![
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
                    accepted: vec![
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
                    accepted: vec![Value::Null, json!(true), json!(false)],
                    refused: other_types(&["null", "bool"]),
                },
                Field {
                    name: "replyTo",
                    accepted: vec![Value::Null],
                    refused: {
                        let wrong = ids().into_iter().map(|(id, _)| id);
                        invalid(wrong.filter(|id| !id.is_null()))
                    },
                },
                Field {
                    name: "mentions",
                    accepted: {
                        let many: Vec<_> = (0..20).map(|n| n.to_string()).collect();
                        let mut accepted = vec![Value::Null, json!([]), json!(many)];
                        accepted.extend(user_id("").accepted.into_iter().map(|id| json!([id])));
                        accepted
                    },
                    refused: {
                        let many: Vec<_> = (0..21).map(|n| n.to_string()).collect();
                        let mut refused = other_types(&["null", "array"]);
                        refused.extend(invalid([json!(many), json!([[]]), json!(["x", "x"])]));
                        let ids = user_id("").refused.into_iter();
                        refused.extend(ids.map(|(id, code)| (json!([id]), code)));
                        refused
                    },
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
                    accepted: vec![json!(true), json!(false)],
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
                    accepted: vec![Value::Null, json!(1), json!(199), json!(200)],
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
            event: "set_status",
            right: json!({"status": "busy"}),
            required: &["status"],
            fields: vec![
                Field {
                    name: "status",
                    accepted: ["online", "away", "busy", "offline"]
                        .map(Value::from)
                        .into(),
                    refused: {
                        let mut refused = other_types(&[]);
                        refused.extend(invalid([json!("Busy"), json!("invisible"), json!("")]));
                        refused
                    },
                },
                Field {
                    name: "text",
                    accepted: vec![
                        Value::Null,
                        json!("x"),
                        json!("x".repeat(80)),
                        json!("\u{1f600}".repeat(80)),
                        json!("\u{2600}\u{fe0f} e\u{301} <b>&amp;"),
                        json!(" x "),
                    ],
                    refused: {
                        let mut refused = other_types(&["null", "string"]);
                        refused.extend(invalid([
                            json!(""),
                            json!(" "),
                            json!("x".repeat(81)),
                            json!("\u{1f600}".repeat(81)),
                            json!("a\nb"),
                            json!("a\u{0}"),
                            json!("\u{7f}"),
                            json!("\u{202e}away"),
                            json!("\u{2066}away\u{2069}"),
                            json!("a\u{200b}b"),
                            json!("a\u{200d}b"),
                            json!("a\u{2028}b"),
                            json!("\u{e0041}"),
                        ]));
                        refused
                    },
                },
            ],
        },
        Case {
            event: "statuses",
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
                seq.accepted.remove(0);
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
                    accepted: vec![Value::Null, json!("t"), json!("ä".repeat(200)), json!(" ")],
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
                    accepted: {
                        let many: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
                        let mut accepted = vec![json!([]), json!(many), json!(["x", "x"])];
                        accepted.extend(user_id("").accepted.into_iter().map(|id| json!([id])));
                        accepted
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
                    accepted: vec![
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
                    accepted: vec![Value::Null, json!(LOBBY), json!(LOBBY.to_uppercase())],
                    refused: {
                        let mut refused = ids();
                        refused.retain(|(id, _)| !id.is_null());
                        refused
                    },
                },
                Field {
                    name: "beforeId",
                    accepted: vec![Value::Null, json!(UNKNOWN_USER), json!(Uuid::nil())],
                    refused: {
                        let mut refused = ids();
                        refused.retain(|(id, code)| !id.is_null() && *code == INVALID);
                        refused
                    },
                },
                Field {
                    name: "limit",
                    accepted: vec![Value::Null, json!(1), json!(200)],
                    refused: invalid([json!(0), json!(201), json!("1"), json!(-1)]),
                },
            ],
        },
    ]
}
