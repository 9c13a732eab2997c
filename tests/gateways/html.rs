//! `chat.content = "html"`: what clients may insert into their pages.

use serde_json::{Value, json};

use crate::server::{LOBBY, Server};

const HTML: (&str, &str) = ("ROOMCAST_CHAT__CONTENT", "html");

fn say(content: &str) -> Value {
    json!({"conversationId": LOBBY, "content": content})
}

#[tokio::test]
async fn html_messages_are_stored_emitted_and_searched_sanitised() {
    let server = Server::with(&[HTML]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    const ATTACK: &str =
        "<b onclick=alert(1)>bold</b><script>alert(1)</script><img src=x onerror=alert(1)> & more";
    const CLEAN: &str = "<b>bold</b> &amp; more";
    let sent = ann.must("message", say(ATTACK)).await;
    assert_eq!(sent["message"]["content"], CLEAN);
    assert_eq!(bob.event("message").await["content"], CLEAN);
    let id = &sent["message"]["id"];

    let edit = json!({"messageId": id, "content": "<a href='javascript:x'>link</a><u>under</u>"});
    let edited = ann.must("edit_message", edit).await;
    let clean = "<a rel=\"noopener noreferrer nofollow\">link</a><u>under</u>";
    assert_eq!(edited["message"]["content"], clean);
    assert_eq!(bob.event("message_edited").await["content"], clean);
    let history = json!({"conversationId": LOBBY});
    let history = bob.must("message_history", history).await;
    assert_eq!(history["messages"][0]["content"], clean);
    let found = bob.must("message_search", json!({"query": "under"})).await;
    assert_eq!(found["messages"][0]["content"], clean);

    for refused in [
        "<script>alert(1)</script>",
        "<!-- -->",
        &"<i>x".repeat(251),
        &"&".repeat(2001),
    ] {
        let error = ann
            .refused("message", say(refused), "INVALID_PAYLOAD")
            .await;
        assert_eq!(error["details"]["field"], "content");
    }
}

#[tokio::test]
async fn texts_stored_before_html_are_sanitised_when_emitted() {
    const STORED: &str = "1 < 2 <img src=x onerror=alert(1)><script>alert(1)</script>";
    const SHOWN: &str = "1 &lt; 2 ";
    let server = Server::with(&[]);
    let mut ann = server.in_lobby("ann").await;
    let mut message = say(STORED);
    message["clientMessageId"] = json!("before");
    let sent = ann.must("message", message.clone()).await;
    assert_eq!(
        sent["message"]["content"], STORED,
        "text is delivered as it was sent"
    );
    let many = "<".repeat(300);
    ann.must("message", say(&many)).await;

    let server = server.restart(&[HTML]);
    let mut bob = server.guest("bob").await;
    let join = json!({"conversationId": LOBBY, "lastSeq": 0});
    let joined = bob.must("join_conversation", join).await;
    assert_eq!(joined["messages"][0]["content"], SHOWN);
    assert_eq!(joined["messages"][1]["content"], "&lt;".repeat(300));
    let history = json!({"conversationId": LOBBY, "limit": 1, "beforeSeq": 2});
    let history = bob.must("message_history", history).await;
    assert_eq!(history["messages"][0]["content"], SHOWN);
    let list = bob.must("conversations", json!({})).await;
    let last = &list["conversations"][0]["lastMessage"];
    assert_eq!(last["excerpt"], "&lt;".repeat(200));
    let found = bob
        .must("message_search", json!({"query": "onerror"}))
        .await;
    assert_eq!(found["messages"][0]["content"], SHOWN);
    let mut ann = server.guest("ann").await;
    let repeated = ann.must("message", message).await;
    assert_eq!(repeated["message"]["content"], SHOWN);
    assert_eq!(repeated["message"]["id"], sent["message"]["id"]);
}
