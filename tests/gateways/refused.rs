//! Requests that are refused as a whole: never stored in part, never repaired, always with the
//! field at fault.

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{LOBBY, Server};

/// An event, the wrong field, and its arguments as literal JSON.
type Wrong = (&'static str, &'static str, String);

fn message(rest: &str) -> String {
    format!(r#",{{"conversationId":"{LOBBY}","content":"x"{rest}}}"#)
}

fn about_the_lobby(rest: &str) -> String {
    format!(r#",{{"conversationId":"{LOBBY}"{rest}}}"#)
}

/// Sends each request and expects that nothing is done and the field is named.
async fn refused(client: &mut Client, wrong: &[Wrong]) {
    for (event, field, arguments) in wrong {
        let answer = client.ask_raw(event, arguments).await;
        let error = &answer["error"];
        assert_eq!(
            error["code"], "INVALID_PAYLOAD",
            "{event} {arguments}: {answer}"
        );
        assert_eq!(
            error["details"],
            json!({"field": field}),
            "{event} {arguments}: {answer}"
        );
    }
    let history = json!({"conversationId": LOBBY});
    let history = client.must("message_history", history).await;
    assert_eq!(history["messages"], json!([]));
}

#[tokio::test]
async fn lone_surrogates_are_refused_in_every_text() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    refused(
        &mut ann,
        &[
            (
                "message",
                "content",
                about_the_lobby(r#","content":"\ud800""#),
            ),
            (
                "message",
                "clientMessageId",
                message(r#","clientMessageId":"a\udfff""#),
            ),
            ("message", "type", message(r#","type":"\ud800""#)),
            (
                "message",
                "metadata",
                message(r#","metadata":{"a":["\ud800"]}"#),
            ),
            (
                "message",
                "metadata",
                message(r#","metadata":{"\ud800":1}"#),
            ),
            (
                "message",
                "conversationId",
                r#",{"conversationId":"\ud800","content":"x"}"#.into(),
            ),
            ("join_conversation", "[0]", r#","\ud800""#.into()),
            (
                "edit_message",
                "content",
                format!(r#",{{"messageId":"{id}","content":"\ud800"}}"#),
            ),
            (
                "create_conversation",
                "title",
                r#",{"title":"\ud800","memberIds":[]}"#.into(),
            ),
            (
                "create_conversation",
                "memberIds[1]",
                r#",{"memberIds":["bob","\ude00\ud83d"]}"#.into(),
            ),
            (
                "rename_conversation",
                "title",
                about_the_lobby(r#","title":"\ud800""#),
            ),
            (
                "add_member",
                "userId",
                about_the_lobby(r#","userId":"\ud800""#),
            ),
            (
                "remove_member",
                "userId",
                about_the_lobby(r#","userId":"\ud800""#),
            ),
            ("message_search", "query", r#",{"query":"\ud800"}"#.into()),
            ("auth:refresh", "token", r#",{"token":"\ud800"}"#.into()),
        ],
    )
    .await;
    // Two ids that could be decoded as the same id are one refusal and one message, and neither is
    // lost.
    let sent = |id: &str| message(&format!(r#","clientMessageId":"{id}""#));
    for (id, success) in [(r"\ud800", false), (r"\ufffd", true), (r"\ud801", false)] {
        let answer = ann.ask_raw("message", &sent(id)).await;
        assert_eq!(answer["success"], success, "{id}: {answer}");
    }
}

#[tokio::test]
async fn binary_data_is_refused_wherever_json_belongs() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let binary = r#"{"_placeholder":true,"num":0}"#;
    // Written by hand, the placeholder could become another attachment of some packet.
    refused(
        &mut ann,
        &[
            (
                "message",
                "metadata",
                message(&format!(r#","metadata":{binary}"#)),
            ),
            (
                "message",
                "metadata",
                message(&format!(r#","metadata":{{"a":[{binary}]}}"#)),
            ),
            (
                "message",
                "content",
                about_the_lobby(&format!(r#","content":{binary}"#)),
            ),
            (
                "create_conversation",
                "memberIds[0]",
                format!(r#",{{"memberIds":[{binary}]}}"#),
            ),
            ("message", "[0]", format!(",[{binary}]")),
        ],
    )
    .await;
    for (event, field, argument) in [
        (
            "message",
            "metadata",
            message(&format!(r#","metadata":{{"a":{{"b":{binary}}}}}"#)),
        ),
        (
            "message",
            "content",
            about_the_lobby(&format!(r#","content":{binary}"#)),
        ),
        (
            "message",
            "clientMessageId",
            message(&format!(r#","clientMessageId":{binary}"#)),
        ),
        ("join_conversation", "[0]", format!(",{binary}")),
        (
            "add_member",
            "userId",
            about_the_lobby(&format!(r#","userId":{binary}"#)),
        ),
        (
            "message_search",
            "query",
            format!(r#",{{"query":{binary}}}"#),
        ),
    ] {
        ann.send(&format!("451-77[\"{event}\"{argument}]")).await;
        ann.send_binary(b"abc").await;
        let error = ann.answer(77).await["error"].clone();
        assert_eq!(error["code"], "INVALID_PAYLOAD", "{event}: {error}");
        assert_eq!(
            error["details"],
            json!({"field": field}),
            "{event}: {error}"
        );
    }
    let history = ann
        .must("message_history", json!({"conversationId": LOBBY}))
        .await;
    assert_eq!(history["messages"], json!([]));
}

#[tokio::test]
async fn arguments_of_the_wrong_kind_never_succeed() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut wrong: Vec<Wrong> = Vec::new();
    for event in [
        "message",
        "edit_message",
        "delete_message",
        "join_conversation",
        "leave_conversation",
        "typing",
        "message_history",
        "presence",
        "create_conversation",
        "add_member",
        "remove_member",
        "rename_conversation",
        "mark_read",
        "conversations",
        "message_search",
    ] {
        for arguments in ["", ",null", ",7", ",true", ",[]", ",\"lobby\""] {
            wrong.push((event, "[0]", arguments.into()));
        }
    }
    for arguments in [",7", ",true", ",[]", ",\"token\"", ",[\"token\"]"] {
        wrong.push(("auth:refresh", "[0]", arguments.into()));
    }
    for (event, arguments) in [
        ("conversations", ",{}".to_owned()),
        ("message", message("")),
        ("join_conversation", format!(",\"{LOBBY}\"")),
        ("auth:refresh", ",{}".to_owned()),
    ] {
        wrong.push((event, "[1]", format!("{arguments},{{}}")));
    }
    wrong.push(("message", "type", message(r#","type":{"user":null}"#)));
    wrong.push(("message", "content", about_the_lobby("")));
    wrong.push((
        "message",
        "metadata.imageUrl",
        message(r#","metadata":{"imageUrl":"http://%zz/"}"#),
    ));
    let late = r#","metadata":{"timestamp":"2025-01-31T12:00:00+24:00"}"#;
    wrong.push(("message", "metadata.timestamp", message(late)));
    for bound in ["beforeSeq", "afterSeq", "limit"] {
        for value in ["-1", "0.5", "\"1\"", "true", "[1]", "{}", "1e300"] {
            wrong.push((
                "message_history",
                bound,
                about_the_lobby(&format!(",\"{bound}\":{value}")),
            ));
        }
    }
    refused(&mut ann, &wrong).await;
    let whole = about_the_lobby(r#","beforeSeq":50.0,"limit":2e2"#);
    let page = ann.ask_raw("message_history", &whole).await;
    assert_eq!(page["success"], true, "{page}");
}

#[tokio::test]
async fn unparsable_events_count_against_the_limits() {
    for (event, limit) in [
        ("message", 30),
        ("conversations", 20),
        ("no such event", 20),
    ] {
        // Guests of one address share a budget.
        let server = Server::limited(&[]);
        let mut client = server.guest(event).await;
        let mut codes: Vec<Value> = Vec::new();
        while codes.last() != Some(&json!("RATE_LIMITED")) && codes.len() < 1000 {
            let error = client.ask(event, json!(7)).await["error"].clone();
            if error["code"] == "RATE_LIMITED" {
                assert!(error["retryAfter"].as_u64().unwrap() >= 1, "{error}");
            }
            codes.push(error["code"].clone());
        }
        assert!(
            codes.len() > limit && codes.len() < 1000,
            "{event}: {}",
            codes.len()
        );
    }
}

#[tokio::test]
async fn an_event_that_is_unknown_is_answered() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    for event in [
        "no such event",
        "Message",
        "session",
        "user:ann",
        "7",
        // A version that does not exist yet.
        "message:v2",
        "message:v1",
    ] {
        ann.refused(event, json!({}), "NOT_FOUND").await;
    }
    ann.emit("no such event", json!({})).await;
    let error = ann.event("error").await;
    assert_eq!(error["type"], "subscription");
    assert_eq!(
        (&error["code"], &error["event"]),
        (&json!("NOT_FOUND"), &json!("no such event"))
    );
    // An invalid event without an acknowledgement is reported by an event, with the field as well.
    ann.emit("message", json!({"conversationId": LOBBY})).await;
    let error = ann.event("error").await;
    assert_eq!(
        (&error["code"], &error["details"]["field"]),
        (&json!("INVALID_PAYLOAD"), &json!("content"))
    );
}
