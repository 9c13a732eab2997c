//! Leases of servers that share one PostgreSQL, and the presence of their users.

use std::time::Duration;

use roomcast_server::store::{Leases, PresenceEntry, Time};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::harness::{Harness, postgres};

/// A lease that does not expire during a test.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn presence_of_a_server_is_visible_to_other_servers_only() {
    let (_harness, leases) = open().await;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let (first_room, other_room) = (Uuid::from_u128(1), Uuid::from_u128(2));
    leases.take(first, LONG).await.unwrap();
    leases.take(second, LONG).await.unwrap();
    let rows = [
        row(first_room, "ann", 2),
        row(first_room, "Ærø's \"bob\"", 1),
        row(other_room, "ann", 1),
    ];
    assert!(leases.tell(first, &rows).await.unwrap());
    let seen = leases
        .remote_presence(second, &[first_room, other_room])
        .await
        .unwrap();
    assert_eq!(sorted(seen), sorted(rows.to_vec()));
    assert_eq!(
        leases.remote_presence(second, &[other_room]).await.unwrap(),
        [row(other_room, "ann", 1)]
    );
    assert_eq!(
        leases
            .remote_presence(first, &[first_room, other_room])
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn changed_presence_is_updated_and_absent_users_are_removed() {
    let (_harness, leases) = open().await;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let room = Uuid::from_u128(1);
    leases.take(first, LONG).await.unwrap();
    let rows = [row(room, "ann", 1), row(room, "bob", 1)];
    assert!(leases.tell(first, &rows).await.unwrap());
    let rows = [
        row(room, "ann", 0),
        row(room, "bob", 3),
        row(room, "nobody", 0),
        row(room, "cid", 1),
    ];
    for _ in 0..2 {
        assert!(leases.tell(first, &rows).await.unwrap());
        let seen = leases.remote_presence(second, &[room]).await.unwrap();
        assert_eq!(seen, [row(room, "bob", 3), row(room, "cid", 1)]);
    }
    assert!(leases.tell(first, &[]).await.unwrap());
}

#[tokio::test]
async fn user_at_two_servers_is_one_entry_with_all_connections() {
    let (_harness, leases) = open().await;
    let room = Uuid::from_u128(1);
    let nodes = [Uuid::new_v4(), Uuid::new_v4()];
    for (node, since) in nodes
        .iter()
        .zip(["2030-01-01T00:00:02Z", "2030-01-01T00:00:01Z"])
    {
        leases.take(*node, LONG).await.unwrap();
        let entry = PresenceEntry {
            since: since.parse().unwrap(),
            ..row(room, "ann", 2)
        };
        assert!(leases.tell(*node, &[entry]).await.unwrap());
    }
    let seen = leases
        .remote_presence(Uuid::new_v4(), &[room])
        .await
        .unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].connections, 4);
    assert_eq!(seen[0].since, "2030-01-01T00:00:01Z".parse().unwrap());
}

#[tokio::test]
async fn expired_lease_does_not_count_and_cannot_be_renewed() {
    let (_harness, leases) = open().await;
    let (dead, alive) = (Uuid::new_v4(), Uuid::new_v4());
    let room = Uuid::from_u128(1);
    leases.take(dead, LONG).await.unwrap();
    leases.take(alive, LONG).await.unwrap();
    // The lease is renewed before it expires.
    assert!(leases.tell(dead, &[row(room, "ann", 1)]).await.unwrap());
    assert!(leases.renew(dead, Duration::from_millis(1)).await.unwrap());
    until_expired(&leases, alive, room).await;
    // Nothing was removed yet, and the lease is over nevertheless.
    assert!(!leases.renew(dead, LONG).await.unwrap());
    assert!(!leases.tell(dead, &[row(room, "bob", 1)]).await.unwrap());
    // Other servers see its users as absent until the lease has been expired for long enough.
    assert_eq!(leases.remove_expired(LONG).await.unwrap(), 0);
    let remaining = [row(room, "ann", 0)];
    assert_eq!(
        leases.remote_presence(alive, &[room]).await.unwrap(),
        remaining
    );
    assert_eq!(leases.remove_expired(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(leases.remove_expired(Duration::ZERO).await.unwrap(), 0);
    assert!(!leases.renew(dead, LONG).await.unwrap());
    assert!(!leases.tell(dead, &[row(room, "bob", 1)]).await.unwrap());
    assert_eq!(leases.remote_presence(alive, &[room]).await.unwrap(), []);
    assert!(leases.renew(alive, LONG).await.unwrap());
}

#[tokio::test]
async fn user_at_expired_and_live_server_counts_at_the_live_server() {
    let (_harness, leases) = open().await;
    let (dead, alive, third) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let room = Uuid::from_u128(1);
    for node in [dead, alive] {
        leases.take(node, LONG).await.unwrap();
    }
    let both = [row(room, "ann", 2), row(room, "bob", 1)];
    assert!(leases.tell(dead, &both).await.unwrap());
    assert!(leases.tell(alive, &[row(room, "ann", 1)]).await.unwrap());
    leases.take(dead, Duration::ZERO).await.unwrap();
    let seen = leases.remote_presence(third, &[room]).await.unwrap();
    assert_eq!(seen, [row(room, "ann", 1), row(room, "bob", 0)]);
}

#[tokio::test]
async fn next_lease_end_of_another_server_is_returned() {
    let (_harness, leases) = open().await;
    let nodes = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    let hour = Duration::from_secs(3600);
    assert_eq!(leases.next_end(nodes[0]).await.unwrap(), None);
    for (node, lease) in nodes.iter().zip([hour, 2 * hour, Duration::ZERO]) {
        leases.take(*node, lease).await.unwrap();
    }
    let next_end = async |node| leases.next_end(node).await.unwrap().unwrap();
    // A server's own lease is ignored, and so is one that has already expired.
    let (of_first, of_second) = (next_end(nodes[0]).await, next_end(nodes[1]).await);
    assert!(of_first > hour && of_first <= 2 * hour, "{of_first:?}");
    assert!(of_second <= hour && of_second > hour / 2, "{of_second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_of_more_users_than_a_page_is_returned_whole() {
    /// More rows than one statement returns.
    const USERS: usize = 100_001;
    let (_harness, leases) = open().await;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let rooms = [Uuid::from_u128(1), Uuid::from_u128(2)];
    leases.take(first, LONG).await.unwrap();
    let mut rows: Vec<_> = (0..USERS)
        .map(|n| row(rooms[0], &format!("u{n}"), 1))
        .collect();
    rows.push(row(rooms[1], "ann", 1));
    for some in rows.chunks(10_000) {
        assert!(leases.tell(first, some).await.unwrap());
    }
    let seen = leases.remote_presence(second, &rooms).await.unwrap();
    // `assert_eq` would print all rows.
    assert_eq!(seen.len(), rows.len());
    assert!(sorted(seen) == sorted(rows));
}

#[tokio::test]
async fn stopping_server_removes_its_presence() {
    let (_harness, leases) = open().await;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let room = Uuid::from_u128(1);
    leases.take(first, LONG).await.unwrap();
    assert!(leases.tell(first, &[row(room, "ann", 1)]).await.unwrap());
    leases.end(first).await.unwrap();
    assert_eq!(leases.remote_presence(second, &[room]).await.unwrap(), []);
    assert!(!leases.renew(first, LONG).await.unwrap());
    leases.end(first).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_lease_operations_do_not_deadlock() {
    let (_harness, leases) = open().await;
    let room = Uuid::from_u128(1);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let leases = leases.clone();
        tasks.spawn(async move {
            let node = Uuid::new_v4();
            leases.take(node, LONG).await.unwrap();
            for round in 0..20 {
                let user = format!("u{n}");
                let renewed = leases.tell(node, &[row(room, &user, round % 2)]).await;
                assert!(renewed.unwrap());
                assert!(leases.renew(node, LONG).await.unwrap());
                leases.take(Uuid::new_v4(), Duration::ZERO).await.unwrap();
                leases.remove_expired(Duration::ZERO).await.unwrap();
            }
        });
    }
    let all = timeout(Duration::from_secs(60), tasks.join_all());
    all.await.expect("nobody waits for ever");
    let seen = leases
        .remote_presence(Uuid::new_v4(), &[room])
        .await
        .unwrap();
    assert_eq!(seen.len(), 8);
    assert_eq!(leases.remove_expired(Duration::ZERO).await.unwrap(), 0);
}

async fn open() -> (Harness, Leases) {
    let harness = Harness::new(postgres()).await;
    let leases = harness.store.leases().expect("PostgreSQL is shared");
    (harness, leases)
}

/// Waits until other servers list no users.
async fn until_expired(leases: &Leases, node: Uuid, room: Uuid) {
    let poll = async {
        let is_there = |seen: Vec<PresenceEntry>| seen.iter().any(|one| one.connections > 0);
        while is_there(leases.remote_presence(node, &[room]).await.unwrap()) {
            sleep(Duration::from_millis(5)).await; // Poll interval.
        }
    };
    timeout(Duration::from_secs(60), poll).await.unwrap();
}

fn row(conversation_id: Uuid, user: &str, connections: u32) -> PresenceEntry {
    let since: Time = "2030-01-01T00:00:00.123Z".parse().unwrap();
    PresenceEntry {
        conversation_id,
        user_id: user.into(),
        name: format!("{user}'s name"),
        connections,
        since,
    }
}

fn sorted(mut rows: Vec<PresenceEntry>) -> Vec<PresenceEntry> {
    rows.sort_by(|a, b| (a.conversation_id, &a.user_id).cmp(&(b.conversation_id, &b.user_id)));
    rows
}
