//! Publications: each committed row gets one position, in one order without gaps.

use std::collections::BTreeSet;
use std::time::Duration;

use roomcast_server::store::{Audience, Publications};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::harness::{Harness, postgres};

const HOUR: Duration = Duration::from_secs(3600);

/// More positions than any test uses.
const MANY: i64 = 1_000_000;

struct PublicationDatabase {
    url: String,
    publications: Publications,
    _harness: Harness,
}

impl PublicationDatabase {
    async fn new() -> Self {
        let (config, folder) = postgres();
        let url = config.url.clone();
        let harness = Harness::new((config, folder)).await;
        Self {
            url,
            publications: harness.store.publications().unwrap(),
            _harness: harness,
        }
    }

    /// Connects as another client of the database.
    async fn client(&self) -> Client {
        let connected = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Returns everything after a position, by position and payload.
    async fn behind(&self, position: i64) -> Vec<(i64, String)> {
        let all = self.publications.after(position, 100_000).await.unwrap();
        all.into_iter()
            .map(|publication| (publication.position, publication.payload.unwrap()))
            .collect()
    }
}

/// Publishes numbers from `first` to `last` to everyone, in one transaction.
fn range(first: i64, last: i64) -> String {
    format!(
        "SELECT roomcast_publish_to_everyone('n', to_jsonb(n)) FROM generate_series({first}, {last}) n"
    )
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_store_of_one_server_has_no_publications() {
    assert!(
        Harness::new(crate::harness::sqlite())
            .await
            .store
            .publications()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_committed_publication_gets_one_position_without_gaps() {
    const WRITERS: i64 = 8;
    const EACH: i64 = 30;
    let place = PublicationDatabase::new().await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = place.client().await;
        writers.spawn(async move {
            let mut committed = Vec::new();
            for n in 0..EACH {
                let number = writer * EACH + n;
                // Every third transaction is rolled back, and transactions overlap in all ways.
                let end = if n % 3 == 2 { "ROLLBACK" } else { "COMMIT" };
                let sql = format!(
                    "BEGIN; {}; SELECT pg_sleep({}); {end}",
                    range(number, number),
                    f64::from(u32::try_from((writer * 7 + n * 3) % 5).unwrap()) * 0.002
                );
                client.batch_execute(&sql).await.unwrap();
                if end == "COMMIT" {
                    committed.push(number);
                }
            }
            committed
        });
    }
    // Three servers assign positions concurrently, and each reads what it knows of.
    let mut readers = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for _ in 0..3 {
        let (publications, stopped) = (place.publications.clone(), stopped.clone());
        readers.spawn(async move {
            let (mut position, mut read) = (0, Vec::new());
            loop {
                let is_last = *stopped.borrow();
                let end = publications.number().await.unwrap();
                let page = publications.after(position, 50).await.unwrap();
                for publication in page {
                    assert_eq!(publication.position, position + 1, "without a gap");
                    position = publication.position;
                    assert_eq!(publication.audience, Audience::Everyone);
                    read.push(publication.payload.unwrap().parse::<i64>().unwrap());
                }
                if is_last && position == end {
                    return read;
                }
            }
        });
    }
    let mut committed = BTreeSet::new();
    while let Some(numbers) = writers.join_next().await {
        committed.extend(numbers.unwrap());
    }
    place.publications.number().await.unwrap();
    stop.send(true).unwrap();
    let mut orders = Vec::new();
    while let Some(read) = readers.join_next().await {
        orders.push(read.unwrap());
    }
    // A reader that did not number the last rows itself has read only the positions it knew.
    let longest = orders.iter().max_by_key(|order| order.len()).unwrap();
    assert_eq!(longest.len(), committed.len(), "each once");
    assert_eq!(longest.iter().copied().collect::<BTreeSet<_>>(), committed);
    for order in &orders {
        assert_eq!(order[..], longest[..order.len()], "one order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_publications_beyond_a_batch_are_numbered_in_later_batches() {
    let place = PublicationDatabase::new().await;
    let client = place.client().await;
    client.batch_execute(&range(1, 2500)).await.unwrap();
    for end in [1000, 2000, 2500, 2500] {
        assert_eq!(place.publications.number().await.unwrap(), end);
    }
    let all = place.behind(0).await;
    assert!(all.iter().all(|(position, n)| position.to_string() == *n));
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_ids_of_another_database_hide_nothing() {
    let place = PublicationDatabase::new().await;
    let client = place.client().await;
    assert_eq!(place.publications.number().await.unwrap(), 0);
    // As after restoring a dump: first with ids far ahead, then with ids that the database has
    // passed since.
    for (sql, end) in [
        (
            "UPDATE publication_head SET known = '900000000:900000000:'",
            1,
        ),
        (
            "UPDATE publication_head SET looked_at = now() - interval '61 s', known = pg_current_snapshot()",
            2,
        ),
    ] {
        client.batch_execute(&range(1, 1)).await.unwrap();
        client.batch_execute(sql).await.unwrap();
        assert_eq!(place.publications.number().await.unwrap(), end, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_excess_publications_are_deleted_but_not_pending_rows() {
    let place = PublicationDatabase::new().await;
    let client = place.client().await;
    let publications = &place.publications;
    client.batch_execute(&range(1, 10)).await.unwrap();
    assert_eq!(publications.number().await.unwrap(), 10);
    publications.refuse(2, "the first").await.unwrap();
    publications.refuse(2, "the second").await.unwrap();
    // Committed late: written long ago, and not yet seen by any server.
    client
        .batch_execute(&format!(
            "{}; UPDATE publications SET published_at = now() - interval '1 day';
             UPDATE publications SET numbered_at = now() - interval '2 h' WHERE position <= 4",
            range(11, 11)
        ))
        .await
        .unwrap();
    let positions = async || {
        let all = place.behind(0).await;
        all.into_iter()
            .map(|(position, _)| position)
            .collect::<Vec<_>>()
    };
    assert!(!publications.forget(HOUR, MANY).await.unwrap());
    assert_eq!(positions().await, [2, 5, 6, 7, 8, 9, 10]);
    assert_eq!(publications.number().await.unwrap(), 11);
    assert!(!publications.forget(HOUR, 3).await.unwrap());
    assert_eq!(positions().await, [2, 9, 10, 11]);
    let refused = "SELECT refused FROM publications WHERE position = 2";
    let reason = client.query_one(refused, &[]).await.unwrap();
    assert_eq!(reason.get::<_, &str>(0), "the first");
    client
        .batch_execute("UPDATE publications SET numbered_at = now() - interval '8 days'")
        .await
        .unwrap();
    assert!(!publications.forget(HOUR, MANY).await.unwrap());
    assert!(positions().await.is_empty());
    // Positions are never reused.
    client.batch_execute(&range(12, 12)).await.unwrap();
    assert_eq!(publications.number().await.unwrap(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn event_for_a_channel_is_retained_until_it_is_stored_there() {
    let place = PublicationDatabase::new().await;
    let client = place.client().await;
    let publications = &place.publications;
    client
        .batch_execute(
            "SELECT roomcast_publish_channel('orders:7', 'x', to_jsonb(n), n::text)
             FROM generate_series(1, 3) n;
             SELECT roomcast_publish_to_everyone('n', '1')",
        )
        .await
        .unwrap();
    assert_eq!(publications.number().await.unwrap(), 4);
    let old = "UPDATE publications SET numbered_at = now() - interval '2 h'";
    client.batch_execute(old).await.unwrap();
    publications.forget(HOUR, 1).await.unwrap();
    let waiting = publications.not_stored(2).await.unwrap();
    let rows: Vec<_> = waiting
        .iter()
        .map(|row| (row.position, &*row.channel))
        .collect();
    assert_eq!(rows, [(1, "orders:7"), (2, "orders:7")]);
    assert_eq!(waiting[0].payload, r#"{"id": "1", "data": 1}"#);
    publications.refuse(1, "wrong").await.unwrap();
    publications.note_stored(2).await.unwrap();
    assert_eq!(publications.not_stored(10).await.unwrap()[0].position, 3);
    publications.forget(HOUR, MANY).await.unwrap();
    let left: Vec<_> = place
        .behind(0)
        .await
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    assert_eq!(left, [1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_server_positions_are_deleted_after_a_day() {
    let place = PublicationDatabase::new().await;
    let client = place.client().await;
    client
        .batch_execute(
            "SELECT roomcast_publish_to_everyone('n', '1', key) FROM unnest(ARRAY['old', 'new']) key;
             UPDATE publication_keys SET used_at = now() - interval '25 h' WHERE key = 'old'",
        )
        .await
        .unwrap();
    let publications = &place.publications;
    for node in ["old", "new"] {
        publications.note_place(node, 1).await.unwrap();
    }
    client
        .batch_execute(
            "UPDATE publication_nodes SET told_at = now() - interval '25 h' WHERE node = 'old'",
        )
        .await
        .unwrap();
    publications.forget(HOUR, MANY).await.unwrap();
    let left = "SELECT string_agg(key, ',') || ' ' || (SELECT string_agg(node, ',') FROM publication_nodes)
        FROM publication_keys";
    let left = client.query_one(left, &[]).await.unwrap();
    assert_eq!(left.get::<_, &str>(0), "new new");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_resumes_at_its_position_or_after_outdated_rows() {
    let place = PublicationDatabase::new().await;
    let client = place.client().await;
    let publications = &place.publications;
    client.batch_execute(&range(1, 10)).await.unwrap();
    publications.number().await.unwrap();
    assert_eq!(publications.place_of("a", HOUR).await.unwrap(), None);
    publications.note_place("a", 3).await.unwrap();
    publications.note_place("a", 4).await.unwrap();
    assert_eq!(publications.place_of("a", HOUR).await.unwrap(), Some(4));
    client
        .batch_execute(
            "UPDATE publications SET numbered_at = now() - interval '2 h' WHERE position <= 6",
        )
        .await
        .unwrap();
    assert_eq!(publications.place_of("a", HOUR).await.unwrap(), Some(6));
    // A database that lost its last rows.
    publications.note_place("a", 99).await.unwrap();
    assert_eq!(publications.place_of("a", HOUR).await.unwrap(), Some(10));
}
