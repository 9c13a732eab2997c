//! Joining a conversation, missed messages, and history.

use super::*;

#[tokio::test]
async fn join_returns_the_conversation_and_its_present_users() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let id = server.conversation(&[&ann, &bob]).await;
    let joined = ann.must("join_conversation", json!(id)).await;
    let mut members = [ann.user_id(), bob.user_id()];
    members.sort();
    let conversation = &joined["conversation"];
    assert_eq!(
        joined,
        json!({
            "success": true,
            "conversation": {"id": id, "title": null, "ownerId": null, "memberIds": members,
                "createdAt": conversation["createdAt"], "updatedAt": conversation["createdAt"]},
            "users": [{"userId": ann.user_id(), "name": "ann", "guest": true, "connections": 1,
                "since": joined["users"][0]["since"]}],
            "messages": [],
            "hasMore": false,
            "pins": [],
            "notificationLevel": "all",
            "statuses": [],
        })
    );
    let joined = bob
        .must("join_conversation", json!({"conversationId": id}))
        .await;
    assert_eq!(joined["users"].as_array().unwrap().len(), 2);
    let lobby = bob.must("join_conversation", json!(LOBBY)).await;
    assert_eq!(lobby["conversation"]["title"], "Lobby");
    assert_eq!(lobby["conversation"]["memberIds"], json!([]));
}

#[tokio::test]
async fn join_with_last_seq_returns_missed_messages() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    for n in 1..=5 {
        ann.must("message", say(&n.to_string())).await;
    }
    let mut bob = server.guest("bob").await;
    for (last_seq, missed) in [
        (0, vec![1, 2, 3, 4, 5]),
        (3, vec![4, 5]),
        (5, vec![]),
        (9, vec![]),
    ] {
        let join = json!({"conversationId": LOBBY, "lastSeq": last_seq});
        let joined = bob.must("join_conversation", join).await;
        assert_eq!((seqs(&joined), &joined["hasMore"]), (missed, &json!(false)));
    }
    let joined = bob
        .must("join_conversation", json!({"conversationId": LOBBY}))
        .await;
    assert_eq!(seqs(&joined), [0; 0], "none without lastSeq");
    for wrong in [json!(-1), json!("3"), json!(1.5)] {
        let join = json!({"conversationId": LOBBY, "lastSeq": wrong});
        bob.refused("join_conversation", join, "INVALID_PAYLOAD")
            .await;
    }
}

#[tokio::test]
async fn missed_and_live_messages_have_no_gap_and_no_duplicates() {
    const MESSAGES: u64 = 400;
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let sending = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            ann.must("message", say("x")).await;
        }
    });
    let mut watcher = server.guest("watcher").await;
    let mut rounds = 0;
    let mut last_seq = 0;
    // Leaves and joins repeatedly while messages are being sent.
    while last_seq < MESSAGES {
        let join = json!({"conversationId": LOBBY, "lastSeq": last_seq});
        let joined = watcher.must("join_conversation", join).await;
        let mut seen = seqs(&joined);
        let mut more = joined["hasMore"] == true;
        while more {
            let after = seen.last().copied().unwrap_or(last_seq);
            let page = json!({"conversationId": LOBBY, "afterSeq": after, "limit": 200});
            let page = watcher.must("message_history", page).await;
            seen.extend(seqs(&page));
            more = page["hasMore"] == true;
        }
        if seen.last().copied().unwrap_or(last_seq) < MESSAGES {
            let live = watcher.event("message").await;
            seen.push(live["seq"].as_u64().unwrap());
        }
        watcher.must("leave_conversation", json!(LOBBY)).await;
        let rest = watcher.events_until_now("message").await;
        seen.extend(rest.iter().map(|message| message["seq"].as_u64().unwrap()));
        let expected: Vec<u64> = (last_seq + 1..=last_seq + seen.len() as u64).collect();
        assert_eq!(seen, expected, "in round {rounds}");
        last_seq += seen.len() as u64;
        rounds += 1;
    }
    sending.await.unwrap();
    assert_eq!(last_seq, MESSAGES);
}

#[tokio::test]
async fn join_after_many_missed_messages_reports_more() {
    let server = Server::with(&[("ROOMCAST_CHAT__PAGE", "3")]);
    let mut ann = server.in_lobby("ann").await;
    for _ in 0..5 {
        ann.must("message", say("x")).await;
    }
    let join = json!({"conversationId": LOBBY, "lastSeq": 1});
    let joined = ann.must("join_conversation", join).await;
    assert_eq!(
        (seqs(&joined), &joined["hasMore"]),
        (vec![2, 3, 4], &json!(true))
    );
}

#[tokio::test]
async fn history_comes_in_pages() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    for _ in 1..=60 {
        ann.request("message", say("x")).await;
    }
    let page = async |ann: &mut Client, query: Value| {
        let mut page = json!({"conversationId": LOBBY});
        page.as_object_mut()
            .unwrap()
            .extend(query.as_object().unwrap().clone());
        let page = ann.must("message_history", page).await;
        (seqs(&page), page["hasMore"].as_bool().unwrap())
    };
    ann.must("message", say("last")).await;
    let range = |from: u64, to: u64| (from..=to).collect::<Vec<_>>();
    assert_eq!(page(&mut ann, json!({})).await, (range(12, 61), true));
    assert_eq!(
        page(&mut ann, json!({"limit": 200})).await,
        (range(1, 61), false)
    );
    assert_eq!(page(&mut ann, json!({"limit": 1})).await, (vec![61], true));
    assert_eq!(
        page(&mut ann, json!({"beforeSeq": 12})).await,
        (range(1, 11), false)
    );
    assert_eq!(
        page(&mut ann, json!({"beforeSeq": 12, "limit": 2})).await,
        (vec![10, 11], true)
    );
    assert_eq!(
        page(&mut ann, json!({"afterSeq": 59})).await,
        (vec![60, 61], false)
    );
    assert_eq!(
        page(&mut ann, json!({"afterSeq": 0, "limit": 2})).await,
        (vec![1, 2], true)
    );
    assert_eq!(
        page(
            &mut ann,
            json!({"afterSeq": null, "beforeSeq": null, "limit": null})
        )
        .await
        .0,
        range(12, 61)
    );
    assert_eq!(
        page(&mut ann, json!({"afterSeq": 61})).await,
        (vec![], false)
    );
    assert_eq!(
        page(&mut ann, json!({"beforeSeq": 1})).await,
        (vec![], false)
    );
    assert_eq!(
        page(&mut ann, json!({"beforeSeq": u64::MAX, "limit": 1})).await,
        (vec![61], true)
    );
    assert_eq!(
        page(&mut ann, json!({"afterSeq": u64::MAX})).await,
        (vec![], false)
    );
    for wrong in [
        json!({"conversationId": LOBBY, "limit": 0}),
        json!({"conversationId": LOBBY, "limit": 201}),
        json!({"conversationId": LOBBY, "limit": -1}),
        json!({"conversationId": LOBBY, "limit": "10"}),
        json!({"conversationId": LOBBY, "beforeSeq": 1, "afterSeq": 1}),
        json!({"conversationId": LOBBY, "beforeSeq": -1}),
        json!({"conversationId": "x"}),
        json!({}),
        Value::Null,
    ] {
        ann.refused("message_history", wrong, "INVALID_PAYLOAD")
            .await;
    }
}

#[tokio::test]
async fn a_page_of_long_messages_has_the_newest_that_fit() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    // 30 kB each, at three bytes per character.
    let long = "€".repeat(10_000);
    for _ in 0..20 {
        ann.must("message", say(&long)).await;
    }
    let page = ann
        .must(
            "message_history",
            json!({"conversationId": LOBBY, "limit": 200}),
        )
        .await;
    assert_eq!(
        (seqs(&page), &page["hasMore"]),
        ((4..=20).collect(), &json!(true))
    );
}
