//! Contents of pages of messages, on every store.

use super::*;

on_every_backend! {
    the_newest_messages_come_without_a_bound,
    a_page_before_a_seq_ends_just_before_it,
    a_page_after_a_seq_begins_just_after_it,
    a_page_between_two_seqs_has_the_last_and_not_the_first,
    bounds_beyond_any_seq_are_harmless,
    a_conversation_without_messages_has_an_empty_page,
    a_page_ends_before_it_grows_too_large,
    message_larger_than_a_page_is_still_returned,
}

async fn the_newest_messages_come_without_a_bound(backend: Backend) {
    let (harness, id) = with_messages(backend, 5).await;
    assert_page(&harness, id, Page::Newest, 2, &[4, 5], true).await;
    assert_page(&harness, id, Page::Newest, 4, &[2, 3, 4, 5], true).await;
    assert_page(&harness, id, Page::Newest, 5, &[1, 2, 3, 4, 5], false).await;
    assert_page(&harness, id, Page::Newest, 6, &[1, 2, 3, 4, 5], false).await;
}

async fn a_page_before_a_seq_ends_just_before_it(backend: Backend) {
    let (harness, id) = with_messages(backend, 5).await;
    assert_page(&harness, id, Page::Before(4), 2, &[2, 3], true).await;
    assert_page(&harness, id, Page::Before(4), 3, &[1, 2, 3], false).await;
    assert_page(&harness, id, Page::Before(6), 1, &[5], true).await;
    assert_page(&harness, id, Page::Before(2), 9, &[1], false).await;
    assert_page(&harness, id, Page::Before(1), 9, &[], false).await;
    assert_page(&harness, id, Page::Before(0), 9, &[], false).await;
}

async fn a_page_after_a_seq_begins_just_after_it(backend: Backend) {
    let (harness, id) = with_messages(backend, 5).await;
    assert_page(&harness, id, Page::After(0), 2, &[1, 2], true).await;
    assert_page(&harness, id, Page::After(2), 2, &[3, 4], true).await;
    assert_page(&harness, id, Page::After(2), 3, &[3, 4, 5], false).await;
    assert_page(&harness, id, Page::After(4), 9, &[5], false).await;
    assert_page(&harness, id, Page::After(5), 9, &[], false).await;
    assert_page(&harness, id, Page::After(9), 9, &[], false).await;
}

async fn a_page_between_two_seqs_has_the_last_and_not_the_first(backend: Backend) {
    let (harness, id) = with_messages(backend, 5).await;
    let between = |after, through| Page::Between { after, through };
    assert_page(&harness, id, between(1, 4), 9, &[2, 3, 4], false).await;
    assert_page(&harness, id, between(1, 4), 3, &[2, 3, 4], false).await;
    assert_page(&harness, id, between(1, 4), 2, &[2, 3], true).await;
    assert_page(&harness, id, between(4, 4), 9, &[], false).await;
    assert_page(&harness, id, between(5, 2), 9, &[], false).await;
    assert_page(&harness, id, between(0, 9), 9, &[1, 2, 3, 4, 5], false).await;
}

async fn bounds_beyond_any_seq_are_harmless(backend: Backend) {
    let (harness, id) = with_messages(backend, 3).await;
    for seq in [u64::MAX, u64::MAX - 1, i64::MAX as u64, 1 << 53, 1_000_000] {
        assert_page(&harness, id, Page::Before(seq), 9, &[1, 2, 3], false).await;
        assert_page(&harness, id, Page::After(seq), 9, &[], false).await;
        let all = Page::Between {
            after: 0,
            through: seq,
        };
        assert_page(&harness, id, all, 9, &[1, 2, 3], false).await;
        let none = Page::Between {
            after: seq,
            through: seq,
        };
        assert_page(&harness, id, none, 9, &[], false).await;
    }
}

async fn a_conversation_without_messages_has_an_empty_page(backend: Backend) {
    let (harness, id) = with_messages(backend, 0).await;
    for page in [Page::Newest, Page::Before(1), Page::After(0)] {
        assert_page(&harness, id, page, 50, &[], false).await;
    }
    let empty = page(&harness, id, Page::Newest, 50).await;
    assert_eq!(
        serde_json::to_string(&empty).unwrap(),
        r#"{"messages":[],"hasMore":false}"#
    );
}

async fn a_page_ends_before_it_grows_too_large(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    // Each takes 60 kB: a quote takes two bytes in JSON.
    let content = "\"".repeat(30_000);
    for _ in 0..20 {
        harness.send(id, "ann", &content).await;
    }
    let newest = page(&harness, id, Page::Newest, 200).await;
    assert!(newest.has_more);
    let bytes = serde_json::to_vec(&newest.messages.iter().map(|m| &**m).collect::<Vec<_>>());
    let bytes = bytes.unwrap().len();
    assert!(
        bytes <= PAGE_BYTES && bytes > PAGE_BYTES - 61_000,
        "{bytes}"
    );
    assert_eq!(
        newest.messages.last().unwrap().seq,
        20,
        "the newest are kept"
    );
    let oldest = page(&harness, id, Page::After(0), 200).await;
    assert!(oldest.has_more);
    assert_eq!(
        oldest.messages.first().unwrap().seq,
        1,
        "the oldest are kept"
    );
    assert_eq!(oldest.messages.len(), newest.messages.len());
}

async fn message_larger_than_a_page_is_still_returned(backend: Backend) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    harness.send(id, "ann", &"x".repeat(PAGE_BYTES)).await;
    harness.send(id, "ann", "y").await;
    assert_page(&harness, id, Page::After(0), 50, &[1], true).await;
    assert_page(&harness, id, Page::Before(2), 50, &[1], false).await;
}

/// Opens a store with a conversation of ann that has `count` messages.
async fn with_messages(backend: Backend, count: u64) -> (Harness, Uuid) {
    let harness = Harness::new(backend).await;
    let id = harness.conversation(&["ann"]).await;
    for _ in 0..count {
        harness.send(id, "ann", "x").await;
    }
    (harness, id)
}

async fn assert_page(
    harness: &Harness,
    id: Uuid,
    which: Page,
    limit: usize,
    expected: &[u64],
    has_more: bool,
) {
    let read = page(harness, id, which, limit).await;
    assert_eq!(
        (seqs(&read), read.has_more),
        (expected.to_vec(), has_more),
        "{which:?}, limit {limit}"
    );
}
