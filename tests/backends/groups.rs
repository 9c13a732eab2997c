//! Messages that wait at the same time are stored in one transaction.

use roomcast_server::metrics::Counter;
use roomcast_server::store::{Insert, Origin};

use crate::harness::{Harness, postgres, text};
use crate::server::shared;

#[tokio::test]
async fn messages_of_many_senders_share_transactions_in_postgresql() {
    const SENDERS: usize = 300;
    let (config, _) = postgres();
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.open_conversation().await;
    let before = harness.metrics.counter(Counter::StoreCommits);
    // All of them wait before the first transaction has begun.
    let sends = (0..SENDERS).map(|n| {
        let message = text(id, &format!("u{n}"), "x");
        harness.store.insert_message(message, Origin::default())
    });
    let answers = futures_util::future::join_all(sends).await;
    for answer in answers {
        assert!(matches!(answer, Ok(Insert::Stored(_))), "{answer:?}");
    }
    let commits = harness.metrics.counter(Counter::StoreCommits) - before;
    assert!(commits <= 4, "{commits} commits for {SENDERS} messages");
    let (_, database) = config.url.rsplit_once('/').unwrap();
    let transactions = shared().sql(
        database,
        &format!("SELECT count(DISTINCT xmin::text) FROM messages WHERE conversation_id = '{id}'"),
    );
    assert!(transactions.parse::<u32>().unwrap() <= 4, "{transactions}");
    let seqs: Vec<u64> = harness.emitted_to(id).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=SENDERS as u64).collect::<Vec<_>>());
}
