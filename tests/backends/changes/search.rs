//! Search, history regardless of membership, and expiry, on every store.

use super::*;

on_every_backend! {
    a_search_finds_messages_that_have_all_words,
    search_finds_only_messages_its_user_may_read,
    a_search_follows_edits_and_deletions,
    last_word_of_a_search_is_a_prefix,
    search_input_is_never_query_syntax,
    search_finds_words_as_long_as_a_query,
    search_continues_before_a_message,
    history_is_read_regardless_of_membership,
    expiry_leaves_the_newest_messages_without_a_gap,
    client_message_id_is_free_after_expiry,
}

async fn a_search_finds_messages_that_have_all_words(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for content in [
        "The quick brown fox",
        "a QUICK-witted reply",
        "quicker than light",
        "Ärger mit dem Fuchs, https://example.org/a_b?c=1",
        "brown bread; quick!",
    ] {
        harness.send(id, "ann", content).await;
    }
    for (query, expected) in [
        ("quick", vec![1, 2, 3, 5]),
        ("Quick brown", vec![1, 5]),
        ("brown quick", vec![1, 5]),
        ("quick fox bread", vec![]),
        ("ärger", vec![4]),
        ("ÄRGER", vec![4]),
        ("arger", vec![]),
        ("example.org", vec![4]),
        ("witted", vec![2]),
        ("", vec![]),
        (" ,.- ", vec![]),
        ("the", vec![1]),
    ] {
        assert_eq!(
            find(&harness, "ann", query, Some(id)).await,
            expected,
            "{query}"
        );
    }
}

async fn last_word_of_a_search_is_a_prefix(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for content in [
        "Hello world",
        "HELL or worse",
        "shell",
        "Größe: 128 GB",
        "你好世界",
    ] {
        harness.send(id, "ann", content).await;
    }
    for (query, expected) in [
        ("hell", vec![1, 2]),
        ("Hel", vec![1, 2]),
        ("h", vec![1, 2]),
        ("ell", vec![]),
        ("hellow", vec![]),
        ("hello wor", vec![1]),
        ("world hel", vec![1]),
        // All other words are complete.
        ("hell wor", vec![2]),
        ("wor hell", vec![]),
        ("grö", vec![4]),
        ("GRÖSS", vec![]),
        ("1", vec![4]),
        ("128 g", vec![4]),
        ("你", vec![5]),
        ("世界", vec![]),
    ] {
        let found = find(&harness, "ann", query, None).await;
        assert_eq!(found, expected, "{query}");
    }
}

async fn search_finds_only_messages_its_user_may_read(backend: Backend) {
    let harness = Harness::new(backend).await;
    let own = harness.conversation(&["ann"]).await;
    let shared = harness.conversation(&["ann", "bob"]).await;
    let open = harness.open_conversation().await;
    for id in [own, shared, open] {
        harness.send(id, "ann", "secret").await;
    }
    let all = |user: &'static str| {
        let harness = &harness;
        async move {
            let search = Search {
                words: words("secret"),
                ..Search::default()
            };
            let found = harness.store.search(user, search, 50).await;
            let mut found: Vec<Uuid> = found
                .unwrap()
                .unwrap()
                .messages
                .iter()
                .map(|m| m.conversation_id)
                .collect();
            found.sort_unstable();
            found
        }
    };
    let sorted = |mut ids: Vec<Uuid>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(all("ann").await, sorted(vec![own, shared, open]));
    assert_eq!(all("bob").await, sorted(vec![shared, open]));
    assert_eq!(all("eve").await, [open]);
    let foreign = Search {
        words: words("secret"),
        conversation: Some(own),
        before: None,
    };
    assert!(
        harness
            .store
            .search("eve", foreign, 50)
            .await
            .unwrap()
            .is_none()
    );
    done(members(&harness, shared, "ann", "bob", true).await);
    assert_eq!(all("bob").await, [open]);
}

async fn a_search_follows_edits_and_deletions(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let sent = harness.send(id, "ann", "apple").await;
    done(edit(&harness, &sent, "ann", "pear", None).await);
    for (query, expected) in [
        ("apple", vec![]),
        ("a", vec![]),
        ("pear", vec![1]),
        ("p", vec![1]),
    ] {
        assert_eq!(find(&harness, "ann", query, None).await, expected);
    }
    done(delete(&harness, &sent, user("ann")).await);
    for query in ["pear", "p"] {
        assert_eq!(find(&harness, "ann", query, None).await, [0; 0]);
    }
}

async fn search_input_is_never_query_syntax(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for content in ["this or that and near", "something else", "content thistle"] {
        harness.send(id, "ann", content).await;
    }
    for (query, expected) in [
        ("\"this\" OR nothing", vec![]),
        ("this OR something", vec![]),
        ("this AND that", vec![1]),
        ("this NOT something", vec![]),
        ("NEAR(this that)", vec![1]),
        ("NEAR(this that, 1)", vec![]),
        ("this & tha", vec![1]),
        ("this | something", vec![]),
        ("this <-> that", vec![1]),
        ("that <-> this", vec![1]),
        ("th*", vec![1, 3]),
        ("\"th\" *", vec![1, 3]),
        ("th:*", vec![1, 3]),
        ("th:A", vec![]),
        ("'th':*A", vec![]),
        ("t*s", vec![]),
        ("*", vec![]),
        ("t%", vec![1, 3]),
        ("th__", vec![1, 3]),
        ("content:this", vec![3]),
        ("{content} : this", vec![3]),
        ("') OR 1=1 --", vec![]),
        ("this'", vec![1, 3]),
        ("'this", vec![1, 3]),
        ("this\"", vec![1, 3]),
        ("\\this\\", vec![1, 3]),
        ("this\\", vec![1, 3]),
        ("(this", vec![1, 3]),
        ("this)", vec![1, 3]),
        ("-this", vec![1, 3]),
        ("!that", vec![1]),
        ("^that", vec![1]),
        ("+that", vec![1]),
        ("$1 ?1", vec![]),
        ("th\0is", vec![]),
        ("\0this\u{1}\u{7f}\u{85}", vec![1, 3]),
        ("this\r\n\tthat", vec![1]),
        ("this\u{200b}that", vec![1]),
        ("th\u{feff}", vec![1, 3]),
    ] {
        let found = find(&harness, "ann", query, None).await;
        assert_eq!(found, expected, "{query:?}");
    }
    // The store does not depend on its callers: a word with other characters is no syntax either.
    for word in [
        "this\" OR \"something",
        "this' | 'something",
        "'",
        "\"",
        "\\",
        "*",
        " ",
        "",
    ] {
        let search = Search {
            words: vec![word.into()],
            ..Search::default()
        };
        let found = harness.store.search("ann", search, 50).await.unwrap();
        assert_eq!(seqs(&found.unwrap()), [0; 0], "{word:?}");
    }
}

/// A query has at most 200 characters and 16 words.
async fn search_finds_words_as_long_as_a_query(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let words = (1..=16).map(|n| format!("word{n}")).collect::<Vec<_>>();
    for content in ["x".repeat(300), "𠀀".repeat(300), words.join(" ")] {
        harness.send(id, "ann", &content).await;
    }
    for (query, expected) in [
        ("x".repeat(200), vec![1]),
        ("X".repeat(199), vec![1]),
        ("x".repeat(301), vec![]),
        ("𠀀".repeat(200), vec![2]),
        (words.join(" "), vec![3]),
        (words.join("*"), vec![3]),
    ] {
        let found = find(&harness, "ann", &query, None).await;
        assert_eq!(found, expected, "{query}");
    }
}

async fn search_continues_before_a_message(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(harness.send(id, "ann", "xylophone").await);
    }
    // The smallest prefix; the limit applies to it as well.
    let search = |before| Search {
        words: words("x"),
        conversation: None,
        before,
    };
    let first = harness.store.search("ann", search(None), 2).await;
    let first = first.unwrap().unwrap();
    assert_eq!((seqs(&first), first.has_more), (vec![4, 5], true));
    let second = harness
        .store
        .search("ann", search(Some(first.messages[0].id)), 3)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((seqs(&second), second.has_more), (vec![1, 2, 3], false));
    assert_eq!(second.messages[0].id, sent[0].id);
}

async fn history_is_read_regardless_of_membership(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for _ in 0..3 {
        harness.send(id, "ann", "x").await;
    }
    let read = harness.store.history(id, Page::After(1), 9).await;
    assert_eq!(seqs(&read.unwrap().unwrap()), [2, 3]);
    let unknown = Uuid::new_v4();
    assert!(
        harness
            .store
            .history(unknown, Page::Newest, 9)
            .await
            .unwrap()
            .is_none()
    );
    assert!(harness.store.conversation(unknown).await.unwrap().is_none());
    let known = harness.store.conversation(id).await.unwrap().unwrap();
    assert_eq!(known.last_seq, 3);
}

async fn expiry_leaves_the_newest_messages_without_a_gap(backend: Backend) {
    let harness = Harness::new(backend).await;
    let (first, second) = (
        harness.conversation(&["ann"]).await,
        harness.conversation(&["ann"]).await,
    );
    for n in 0..6 {
        let sent = harness.send(first, "ann", "old").await;
        if n == 0 {
            done(edit(&harness, &sent, "ann", "older", None).await);
        }
    }
    harness.send(second, "ann", "old").await;
    let after_all: Time = soon();
    let long_ago: Time = "2001-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(harness.store.expire(long_ago, 100).await.unwrap(), 0);
    let mut removed = 0;
    loop {
        let some = harness.store.expire(after_all, 2).await.unwrap();
        if some == 0 {
            break;
        }
        removed += some;
        let left = page(&harness, first, Page::After(0)).await;
        let left = seqs(&left);
        let last = left.len() as u64;
        assert_eq!(left, (7 - last..=6).collect::<Vec<_>>());
    }
    assert_eq!(removed, 7);
    assert_eq!(find(&harness, "ann", "old", None).await, [0; 0]);
    let next = harness.send(first, "ann", "new").await;
    assert_eq!(next.seq, 7, "seq goes on");
    assert_eq!(seqs(&page(&harness, first, Page::Before(9)).await), [7]);
    let known = harness.store.conversation(first).await.unwrap().unwrap();
    assert_eq!(known.last_seq, 7);
    done(edit(&harness, &next, "ann", "newer", None).await);
    assert_eq!(newest(&harness, first).await.content, "newer");
}

async fn client_message_id_is_free_after_expiry(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    let send = || {
        harness
            .store
            .insert_message(retriable(id, "ann", "m1"), Origin::default())
    };
    assert!(matches!(send().await.unwrap(), Insert::Stored(_)));
    assert!(matches!(send().await.unwrap(), Insert::Repeated(_)));
    let removed = harness.store.expire(soon(), 100).await;
    assert_eq!(removed.unwrap(), 1);
    let Insert::Stored(again) = send().await.unwrap() else {
        panic!()
    };
    assert_eq!(again.seq, 2);
}

/// Returns the `seq`s of the messages found.
async fn find(harness: &Harness, user: &str, query: &str, conversation: Option<Uuid>) -> Vec<u64> {
    let search = Search {
        words: words(query),
        conversation,
        before: None,
    };
    let found = harness.store.search(user, search, 50).await.unwrap();
    seqs(&found.unwrap())
}

/// Returns a time after everything that was stored so far.
fn soon() -> Time {
    let now: jiff::Timestamp = Time::now().to_string().parse().unwrap();
    Time::from(now + std::time::Duration::from_secs(1))
}
