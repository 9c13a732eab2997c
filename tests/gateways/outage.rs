//! Database outages: the database is down, slow, full, restarted, or fails in the middle.
//!
//! The sender is asked to retry later, no client sees what is not stored, all clients stay
//! connected, and the server recovers by itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::postgres::Postgres;
use crate::server::{LOBBY, ServerProcess, UNLIMITED};
use crate::support::RawClient;

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Short timeouts, for outages that are detected by timeouts. On a slow machine they may also
/// refuse requests to a working database.
const SHORT_TIMEOUTS: [(&str, &str); 4] = [
    ("ROOMCAST_STORE__CONNECT_TIMEOUT", "2s"),
    ("ROOMCAST_STORE__POOL_TIMEOUT", "500ms"),
    ("ROOMCAST_STORE__STATEMENT_TIMEOUT", "500ms"),
    ("ROOMCAST_STORE__RETRY_TIMEOUT", "300ms"),
];

/// A server with its own PostgreSQL, and two members in the Lobby.
struct Outage {
    postgres: Postgres,
    url: String,
    binary: ServerProcess,
    ann: Client,
    bob: Client,
    _folder: TempDir,
}

impl Outage {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let postgres = Postgres::start();
        let url = postgres.database();
        let folder = TempDir::new().unwrap();
        let mut all = UNLIMITED.to_vec();
        all.extend([
            ("ROOMCAST_STORE", url.as_str()),
            ("ROOMCAST_STORE__HEALTH_INTERVAL", "100ms"),
        ]);
        all.extend(variables);
        let binary = ServerProcess::start(folder.path(), &all);
        let mut ann = binary.guest("ann").await;
        let mut bob = binary.guest("bob").await;
        for client in [&mut ann, &mut bob] {
            client
                .retry_until_stored("join_conversation", json!(LOBBY))
                .await;
        }
        let mut outage = Self {
            postgres,
            url,
            binary,
            ann,
            bob,
            _folder: folder,
        };
        outage.works_again("before", 1).await;
        outage
    }

    fn sql(&self, sql: &str) -> String {
        let (_, database) = self.url.rsplit_once('/').unwrap();
        self.postgres.sql(database, sql)
    }

    /// Checks that a message is stored with the next number and reaches the other member.
    async fn works(&mut self, text: &str, seq: u64) {
        let answer = self.ann.must("message", content(text)).await;
        assert_eq!(answer["message"]["seq"], seq, "{answer}");
        let message = self.bob.event("message").await;
        assert_eq!(message, answer["message"]);
    }

    /// Checks that a message is refused with a retry time, that no client sees it, and that both
    /// stay connected.
    async fn refuses(&mut self, text: &str) {
        self.refuses_message(content(text)).await;
    }

    async fn refuses_message(&mut self, message: Value) {
        let error = self
            .ann
            .refused("message", message, "STORE_UNAVAILABLE")
            .await;
        assert!(error["retryAfter"].as_u64().unwrap() > 0, "{error}");
        assert_eq!(
            self.bob.events_until_now("message").await,
            Vec::<Value>::new()
        );
        let typing = json!({"conversationId": LOBBY, "isTyping": true});
        self.ann.must("typing", typing).await;
        self.bob.event("typing").await;
        let done = json!({"conversationId": LOBBY, "isTyping": false});
        self.ann.must("typing", done).await;
        self.bob.event("typing").await;
    }

    /// Waits until messages are stored again, and retries after the retry time.
    async fn works_again(&mut self, text: &str, seq: u64) {
        let message = self.until_stored(retriable(text)).await;
        assert_eq!(message["seq"], seq, "{message}");
        assert_eq!(self.bob.event("message").await, message);
    }

    /// Sends a message until it is acknowledged.
    async fn until_stored(&mut self, message: Value) -> Value {
        let mut answer = self.ann.retry_until_stored("message", message).await;
        answer["message"].take()
    }

    /// Waits until readiness has this status.
    async fn until_readiness(&self, status: u16) {
        let (address, start) = (self.binary.address(), Instant::now());
        loop {
            let request = move || RawClient::connect(address).get("/health/ready").status;
            let current = tokio::task::spawn_blocking(request).await.unwrap();
            if current == status {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "{current}");
            tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
        }
    }

    async fn stored(&mut self) -> Vec<String> {
        let history = json!({"conversationId": LOBBY});
        let answer = self
            .bob
            .retry_until_stored("message_history", history)
            .await;
        let messages = answer["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["content"].as_str().unwrap().into())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_database_refuses_messages_and_recovers() {
    let mut outage = Outage::start(&SHORT_TIMEOUTS).await;
    outage.postgres.kill();
    for n in 0..8 {
        outage.refuses(&n.to_string()).await;
    }
    outage
        .binary
        .expect_log(&["postgresql", "requests are suspended"]);
    outage.postgres.restart();
    outage.works_again("after", 2).await;
    outage.binary.expect_log(&["postgresql", "requests resume"]);
    assert_eq!(outage.stored().await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_database_refuses_messages_until_it_resumes() {
    let mut outage = Outage::start(&SHORT_TIMEOUTS).await;
    outage.postgres.pause();
    for n in 0..8 {
        outage.refuses(&n.to_string()).await;
    }
    outage.postgres.resume();
    outage.works_again("after", 2).await;
    assert_eq!(outage.stored().await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_are_answered_during_a_stall_and_late_rows_stored_once() {
    // The server would wait for an hour; its clients do not.
    let long_timeouts = [
        ("ROOMCAST_STORE__ANSWER_TIMEOUT", "2s"),
        ("ROOMCAST_STORE__STATEMENT_TIMEOUT", "1h"),
        ("ROOMCAST_STORE__CONNECT_TIMEOUT", "1h"),
        ("ROOMCAST_STORE__HEALTH_INTERVAL", "1h"),
    ];
    let mut outage = Outage::start(&[SHORT_TIMEOUTS, long_timeouts].concat()).await;
    outage.postgres.pause();
    for n in 0..5 {
        let message = retriable(&n.to_string());
        outage.ann.request("message", message).await;
    }
    for _ in 0..5 {
        let (_, answer) = outage.ann.any_answer().await.unwrap();
        assert_eq!(answer["error"]["code"], "STORE_UNAVAILABLE", "{answer}");
        assert!(answer["error"]["retryAfter"].as_u64().unwrap() > 0);
    }
    outage.refuses("and one that is not sent again").await;
    outage.postgres.resume();
    // The requests are not repeated, and all of them are stored and emitted.
    let mut seen = Vec::new();
    for seq in 2..8 {
        let message = outage.bob.event("message").await;
        assert_eq!(message["seq"], seq, "{message}");
        seen.push(message);
    }
    for (n, message) in seen.iter().take(5).enumerate() {
        let repeated = outage.until_stored(retriable(&n.to_string())).await;
        assert_eq!(repeated, *message);
    }
    let again = outage.bob.events_until_now("message").await;
    assert!(again.is_empty(), "{again:?}");
    let all = [
        "before",
        "0",
        "1",
        "2",
        "3",
        "4",
        "and one that is not sent again",
    ];
    assert_eq!(outage.stored().await, all);
    outage.works_again("after", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_opens_on_a_stalled_database_and_closes_afterwards() {
    const MESSAGES: u64 = 12;
    let mut outage = Outage::start(&SHORT_TIMEOUTS).await;
    outage.postgres.pause();
    for n in 0..MESSAGES {
        outage.refuses_message(retriable(&n.to_string())).await;
    }
    let open = ["postgresql", "requests are suspended"];
    outage.binary.expect_log(&open);
    outage.until_readiness(503).await;
    outage.postgres.resume();
    // No requests are sent in the meantime.
    outage.binary.expect_log(&["postgresql", "requests resume"]);
    outage.until_readiness(200).await;
    // It was unknown which of these were stored; now each is stored once and was emitted once.
    let mut stored = Vec::new();
    for n in 0..MESSAGES {
        stored.push(outage.until_stored(retriable(&n.to_string())).await);
    }
    stored.sort_by_key(|message| message["seq"].as_u64());
    for (message, seq) in stored.iter().zip(2..) {
        assert_eq!(message["seq"], seq);
        assert_eq!(outage.bob.event("message").await, *message);
    }
    assert!(outage.bob.events_until_now("message").await.is_empty());
    outage.works_again("after", MESSAGES + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_inserts_are_refused_until_the_database_recovers() {
    let mut outage = Outage::start(&SHORT_TIMEOUTS).await;
    outage.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(3600); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    outage.refuses("slow").await;
    outage.refuses("slower").await;
    outage.sql("DROP TRIGGER slow ON messages");
    outage.works_again("after", 2).await;
    assert_eq!(outage.stored().await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_database_refuses_messages_and_still_reads() {
    let mut outage = Outage::start(&SHORT_TIMEOUTS).await;
    outage.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON messages EXECUTE FUNCTION full_disk();
         CREATE TRIGGER full_disk BEFORE UPDATE ON roomcast_schema EXECUTE FUNCTION full_disk()",
    );
    for n in 0..8 {
        outage.refuses(&n.to_string()).await;
    }
    outage
        .binary
        .expect_log(&["the database does not accept changes", "no space left"]);
    assert_eq!(outage.stored().await, ["before"], "it still reads");
    outage.sql("DROP TRIGGER full_disk ON messages; DROP TRIGGER full_disk ON roomcast_schema");
    outage.works_again("after", 2).await;
    outage
        .binary
        .expect_log(&["the database accepts changes again"]);
    assert_eq!(outage.stored().await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_do_not_notice_a_restarted_database() {
    let mut outage = Outage::start(&[
        ("ROOMCAST_STORE__RETRY_TIMEOUT", "20s"),
        ("ROOMCAST_STORE__STATEMENT_TIMEOUT", "20s"),
        ("ROOMCAST_STORE__HEALTH_INTERVAL", "1h"),
    ])
    .await;
    for seq in 2..5 {
        // No requests are sent between the kill and the restart, so the breaker stays closed.
        outage.binary.pause();
        outage.postgres.kill();
        outage.postgres.restart();
        outage.binary.resume();
        // All connections are broken, and the sender does not notice.
        outage.works("after", seq).await;
    }
    assert_eq!(outage.stored().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_a_restart_of_the_database_breaks_are_answered() {
    let mut outage = Outage::start(&[
        ("ROOMCAST_STORE__READERS", "32"),
        ("ROOMCAST_STORE__STATEMENT_TIMEOUT", "60s"),
        ("ROOMCAST_STORE__HEALTH_INTERVAL", "1h"),
    ])
    .await;
    let connected = tokio_postgres::connect(&outage.url, tokio_postgres::NoTls).await;
    let (locking, connection) = connected.unwrap();
    tokio::spawn(connection);
    let lock = "BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE";
    // The first reads open all connections, most of which are idle during the second. Those are
    // still more than the failures in a row that open the circuit breaker.
    for (count, is_restarted) in [(32, false), (8, true)] {
        locking.batch_execute(lock).await.unwrap();
        let mut reads = Vec::new();
        for _ in 0..count {
            let read = json!({"conversationId": LOBBY, "query": "before"});
            reads.push(outage.ann.request("message_search", read).await);
        }
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let start = Instant::now();
        while outage.sql(waiting).parse::<usize>().unwrap() < count {
            assert!(start.elapsed() < DEADLINE, "the reads do not wait");
            tokio::time::sleep(Duration::from_millis(5)).await; // Poll interval.
        }
        if is_restarted {
            outage.binary.pause();
            outage.postgres.kill();
            outage.postgres.restart();
            outage.binary.resume();
        } else {
            locking.batch_execute("COMMIT").await.unwrap();
        }
        for id in reads {
            let answer = outage.ann.answer(id).await;
            assert_eq!(answer["success"], true, "{answer}");
        }
    }
    outage.works("after", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_at_commit_refuses_only_the_invalid_messages() {
    let mut outage = Outage::start(&[]).await;
    outage.sql(
        "CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'bad'; END $$;
         -- When everything else of the transaction is done.
         CREATE CONSTRAINT TRIGGER bad AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.content = 'bad') EXECUTE FUNCTION bad()",
    );
    outage.refuses("bad").await;
    let mut requests = Vec::new();
    for text in ["a", "bad", "b", "bad", "c"] {
        requests.push((outage.ann.request("message", content(text)).await, text));
    }
    let mut stored = Vec::new();
    for _ in &requests {
        let (id, answer) = outage.ann.any_answer().await.unwrap();
        let (_, text) = requests
            .iter()
            .find(|(requests, _)| *requests == id)
            .unwrap();
        assert_eq!(answer["success"], *text != "bad", "{answer}");
        if answer["success"] == true {
            stored.push(answer["message"].clone());
        }
    }
    stored.sort_by_key(|message| message["seq"].as_u64());
    for (message, seq) in stored.iter().zip(2..) {
        assert_eq!(message["seq"], seq);
        assert_eq!(outage.bob.event("message").await, *message);
    }
    assert_eq!(stored.len(), 3);
    outage.works("after", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_and_all_are_answered_during_an_outage() {
    const SENDERS: usize = 20;
    const MESSAGES: usize = 100;
    let small = [("ROOMCAST_STORE__QUEUE", "100")];
    let mut outage = Outage::start(&[&SHORT_TIMEOUTS[..], &small].concat()).await;
    let mut clients = Vec::new();
    for n in 0..SENDERS {
        clients.push(outage.binary.guest(&format!("u{n}")).await);
    }
    let before = outage.binary.resident_bytes();
    outage.postgres.pause();
    let text = "x".repeat(9000);
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients {
        let message = content(&text);
        tasks.spawn(async move {
            for _ in 0..MESSAGES {
                client.request("message", message.clone()).await;
            }
            for _ in 0..MESSAGES {
                let (_, answer) = client.any_answer().await.unwrap();
                assert_eq!(answer["error"]["code"], "STORE_UNAVAILABLE", "{answer}");
                assert!(answer["error"]["retryAfter"].as_u64().unwrap() > 0);
            }
        });
    }
    tasks.join_all().await;
    let grown = outage.binary.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for what was refused");
    outage.postgres.resume();
    outage.works_again("after", 2).await;
    assert_eq!(outage.stored().await, ["before", "after"]);
}

fn content(text: &str) -> Value {
    json!({"conversationId": LOBBY, "content": text})
}

/// Returns a message that may be sent again.
fn retriable(text: &str) -> Value {
    json!({"conversationId": LOBBY, "content": text, "clientMessageId": text})
}
