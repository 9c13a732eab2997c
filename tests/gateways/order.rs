//! The order in which clients of one server see what another server commits in a conversation.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::nodes::Database;
use crate::server::ServerProcess;

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

const GUESTS_AS_USERS: (&str, &str) = ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "user");

/// Ann and Bob in a conversation that Ann owns, at two servers of the same database.
struct TwoServers {
    database: Database,
    servers: [ServerProcess; 2],
    id: Value,
    ann: Client,
    bob: Client,
}

impl TwoServers {
    async fn new() -> Self {
        let database = Database::new();
        let servers = [(); 2].map(|()| database.server_with(&[GUESTS_AS_USERS]));
        let mut ann = servers[0].guest("ann").await;
        let mut bob = servers[1].guest("bob").await;
        let new = json!({"title": "One", "memberIds": [bob.user_id()]});
        let id = ann.create(new).await;
        // This event takes another path than the changes that follow.
        bob.event("conversation_updated").await;
        for client in [&mut ann, &mut bob] {
            client.must("join_conversation", id.clone()).await;
        }
        Self {
            database,
            servers,
            id,
            ann,
            bob,
        }
    }

    fn with(&self, mut payload: Value) -> Value {
        payload["conversationId"] = self.id.clone();
        payload
    }

    /// Checks that Bob is refused the conversation and has received nothing from it since the last
    /// check.
    async fn assert_bob_is_out(&mut self) {
        let about = self.with(json!({}));
        self.bob
            .refused("message_history", about, "NOT_FOUND")
            .await;
        assert!(self.bob.events_until_now("message").await.is_empty());
    }

    async fn send(&mut self, content: &str) -> Value {
        let message = self.with(json!({"content": content}));
        self.ann.must("message", message).await["message"].clone()
    }

    fn sql(&self, sql: &str) -> String {
        let id = self.id.as_str().unwrap();
        self.database.sql(&sql.replace("$ID", &format!("'{id}'")))
    }
}

/// Returns the next event of a conversation in short, except presence events.
async fn next(client: &mut Client) -> String {
    loop {
        let packet = client.packet().await;
        let Some(event) = packet.strip_prefix("42") else {
            continue;
        };
        let (name, payload): (String, Value) = serde_json::from_str(event).unwrap();
        return match name.as_str() {
            "message" => format!("message {}", payload["content"]),
            "message_edited" => format!("edited {} {}", payload["seq"], payload["content"]),
            "message_deleted" => format!("deleted {} {}", payload["seq"], payload["deletedBy"]),
            "conversation_updated" => {
                let conversation = &payload["conversation"];
                let members = conversation["memberIds"].as_array().unwrap().len();
                format!("{} of {members}", conversation["title"])
            }
            "conversation_deleted" => format!("gone by {}", payload["deletedBy"]),
            _ => continue,
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_one_server_are_seen_in_order_at_another() {
    let mut all = TwoServers::new().await;
    let (by, eve) = (
        all.ann.user_id(),
        all.servers[0].guest("eve").await.user_id(),
    );
    let first = all.send("first").await;
    let second = all.send("second").await;
    assert_eq!(next(&mut all.bob).await, "message \"first\"");
    assert_eq!(next(&mut all.bob).await, "message \"second\"");
    // Without a message that follows.
    let edit = json!({"messageId": first["id"], "content": "edited"});
    all.ann.must("edit_message", edit).await;
    assert_eq!(next(&mut all.bob).await, "edited 1 \"edited\"");
    let delete = json!({"messageId": second["id"]});
    all.ann.must("delete_message", delete).await;
    assert_eq!(next(&mut all.bob).await, format!("deleted 2 {by:?}"));
    let rename = all.with(json!({"title": "Two"}));
    all.ann.must("rename_conversation", rename).await;
    assert_eq!(next(&mut all.bob).await, "\"Two\" of 2");
    let member = all.with(json!({"userId": eve}));
    all.ann.must("add_member", member.clone()).await;
    assert_eq!(next(&mut all.bob).await, "\"Two\" of 3");
    all.ann.must("remove_member", member).await;
    assert_eq!(next(&mut all.bob).await, "\"Two\" of 2");

    // Many changes at the same time, which are read in one gap that a message of Bob's own server
    // closes. Each text arrives as it was, though all are edited again by then.
    let mut expected = Vec::new();
    for n in 0..40 {
        let sent = all.send(&format!("text {n}")).await;
        expected.push(format!("message \"text {n}\""));
        for turn in 0..2 {
            let content = format!("text {n}.{turn}");
            let edit = json!({"messageId": sent["id"], "content": content});
            all.ann.must("edit_message", edit).await;
            expected.push(format!("edited {} \"{content}\"", sent["seq"]));
        }
        let title = format!("Title {n}");
        let rename = all.with(json!({"title": title}));
        all.ann.must("rename_conversation", rename).await;
        expected.push("renamed".into());
    }
    let mut dan = all.servers[1].guest("bob").await;
    dan.must("join_conversation", all.id.clone()).await;
    dan.must("message", all.with(json!({"content": "last"})))
        .await;
    expected.push("message \"last\"".into());
    for expected in expected {
        let seen = next(&mut all.bob).await;
        if expected == "renamed" {
            // The event has the conversation in its state at the time of reading.
            assert!(seen.starts_with("\"Title "), "{seen}");
        } else {
            assert_eq!(seen, expected);
        }
    }
    assert_eq!(
        all.sql("SELECT changes FROM conversations WHERE id = $ID"),
        "125"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_member_gets_no_later_events_at_another_server() {
    let mut all = TwoServers::new().await;
    let bob = all.bob.user_id();
    // A user stays at Bob's server, so that the conversation remains active there.
    let mut eve = all.servers[1].guest("eve").await;
    let member = all.with(json!({"userId": eve.user_id()}));
    all.ann.must("add_member", member).await;
    assert_eq!(next(&mut eve).await, "\"One\" of 3");
    eve.must("join_conversation", all.id.clone()).await;
    assert_eq!(next(&mut all.bob).await, "\"One\" of 3");

    let member = all.with(json!({"userId": bob}));
    let before = all.with(json!({"content": "before"}));
    let after = all.with(json!({"content": "after"}));
    // Concurrent, so that they may share a transaction.
    let requests = [
        all.ann.request("message", before).await,
        all.ann.request("remove_member", member).await,
        all.ann.request("message", after).await,
    ];
    for request in requests {
        assert_eq!(all.ann.answer(request).await["success"], true);
    }
    assert_eq!(next(&mut eve).await, "message \"before\"");
    assert_eq!(next(&mut eve).await, "\"One\" of 2");
    assert_eq!(next(&mut eve).await, "message \"after\"");
    assert_eq!(next(&mut all.bob).await, "message \"before\"");
    assert_eq!(next(&mut all.bob).await, "\"One\" of 2");
    all.assert_bob_is_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn member_removed_and_readded_between_reads_stays_joined() {
    let mut all = TwoServers::new().await;
    let bob = all.with(json!({"userId": all.bob.user_id()}));
    // The suspended server reads both changes together.
    all.servers[1].pause();
    all.ann.must("remove_member", bob.clone()).await;
    all.ann.must("add_member", bob).await;
    all.servers[1].resume();
    for _ in 0..2 {
        assert_eq!(next(&mut all.bob).await, "\"One\" of 2");
    }
    all.send("still here").await;
    assert_eq!(next(&mut all.bob).await, "message \"still here\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_that_waits_for_a_message_is_emitted_once() {
    let mut all = TwoServers::new().await;
    // Ann's server has not seen what is deleted with the conversation.
    let id = all.id.as_str().unwrap().to_owned();
    let about = all.with(json!({}));
    let insert = "BEGIN;
        INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata,
            client_message_id, created_at)
        SELECT gen_random_uuid(), $ID, 1, 'eve', 'Eve', 'unseen', 'user', '{}', NULL, now();
        UPDATE conversations SET last_seq = 1 WHERE id = $ID; COMMIT";
    all.sql(insert);
    let deleted = all.ann.must("delete_conversation", about).await;
    assert_eq!(deleted["conversationId"], id);
    let received = loop {
        let received = next(&mut all.bob).await;
        // A server that reads before the deletion emits the message first.
        if received != "message \"unseen\"" {
            break received;
        }
    };
    assert_eq!(received, format!("gone by {:?}", all.ann.user_id()));
    for client in [&mut all.ann, &mut all.bob] {
        let again = client.events_until_now("conversation_deleted").await;
        assert!(again.is_empty(), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_is_deleted_at_one_server_ends_at_another() {
    let mut all = TwoServers::new().await;
    let by = all.ann.user_id();
    let mut tab = all.servers[1].guest("bob").await;
    all.send("last").await;
    assert_eq!(next(&mut all.bob).await, "message \"last\"");
    let about = all.with(json!({}));
    all.ann.must("delete_conversation", about.clone()).await;
    assert_eq!(next(&mut all.bob).await, format!("gone by {by:?}"));
    tab.event("conversation_deleted").await;
    all.bob.refused("message_history", about, "NOT_FOUND").await;
    // The removal of members and title is not recorded as separate changes.
    let steps = "SELECT string_agg(kind, ' ') FROM conversation_changes";
    assert_eq!(all.sql(steps), "closed");

    // A server that was suspended for longer than the record is retained detects the deletion as
    // well.
    let mut all = TwoServers::new().await;
    all.servers[1].pause();
    let about = all.with(json!({}));
    all.ann.must("delete_conversation", about.clone()).await;
    all.sql("DELETE FROM conversation_changes WHERE conversation_id = $ID");
    all.servers[1].resume();
    assert_eq!(
        next(&mut all.bob).await,
        format!("gone by {:?}", all.ann.user_id())
    );
    all.bob.refused("message_history", about, "NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_another_program_are_seen_in_order() {
    let mut all = TwoServers::new().await;
    let sent = all.send("first").await;
    assert_eq!(next(&mut all.bob).await, "message \"first\"");
    let id = sent["id"].as_str().unwrap();
    // The program has no right to the tables and columns that triggers write.
    all.sql(&format!(
        "CREATE ROLE of_another_program;
         GRANT SELECT, INSERT, UPDATE, DELETE ON conversations, members, messages, message_versions
             TO of_another_program;
         GRANT EXECUTE ON FUNCTION roomcast_words(text) TO of_another_program;
         SET ROLE of_another_program;
         BEGIN;
         SELECT id, last_seq, is_open, owner_id FROM conversations WHERE id = $ID FOR NO KEY UPDATE;
         INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata,
             client_message_id, created_at)
         SELECT gen_random_uuid(), $ID, 2, 'old', 'Old', 'second', 'user', '{{}}', NULL, now();
         WITH kept AS (
             INSERT INTO message_versions
                 (message_id, version, content, metadata, replaced_at, replaced_by)
             SELECT id, version, content, metadata, now(), 'old' FROM messages WHERE id = '{id}')
         UPDATE messages SET content = 'edited', metadata = '{{}}', version = 2, edited_at = now(),
             deleted_at = NULL WHERE id = '{id}';
         INSERT INTO members (conversation_id, user_id, joined_at)
         VALUES ($ID, 'dan', now()) ON CONFLICT (conversation_id, user_id) DO NOTHING;
         UPDATE conversations SET updated_at = now() WHERE id = $ID;
         UPDATE conversations SET title = 'Old', updated_at = now()
         WHERE id = $ID AND title IS DISTINCT FROM 'Old';
         UPDATE conversations SET last_seq = w.last_seq
         FROM unnest(ARRAY[$ID::uuid], ARRAY[2::int8]) AS w (id, last_seq)
         WHERE conversations.id = w.id;
         COMMIT"
    ));
    for client in [&mut all.ann, &mut all.bob] {
        assert_eq!(next(client).await, "edited 1 \"edited\"");
        assert_eq!(next(client).await, "\"Old\" of 3");
        assert_eq!(next(client).await, "\"Old\" of 3");
        assert_eq!(next(client).await, "message \"second\"");
    }
    let bob = all.bob.user_id();
    all.sql(&format!(
        "BEGIN;
         DELETE FROM members WHERE conversation_id = $ID AND user_id = '{bob}';
         UPDATE conversations SET updated_at = now() WHERE id = $ID;
         COMMIT"
    ));
    assert_eq!(next(&mut all.bob).await, "\"Old\" of 2");
    assert_eq!(next(&mut all.ann).await, "\"Old\" of 2");
    // The server continues from there.
    all.send("third").await;
    assert_eq!(
        all.sql("SELECT last_seq, changes FROM conversations WHERE id = $ID"),
        "3|4"
    );
    all.sql("DELETE FROM conversations WHERE id = $ID");
    assert_eq!(all.sql("SELECT count(*) FROM conversation_changes"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_lagging_beyond_retained_changes_rereads_members() {
    let mut all = TwoServers::new().await;
    let mut eve = all.servers[1].guest("eve").await;
    let member = all.with(json!({"userId": eve.user_id()}));
    all.ann.must("add_member", member).await;
    assert_eq!(next(&mut eve).await, "\"One\" of 3");
    eve.must("join_conversation", all.id.clone()).await;
    assert_eq!(next(&mut all.bob).await, "\"One\" of 3");

    all.servers[1].pause();
    let sent = all.send("first").await;
    let edit = json!({"messageId": sent["id"], "content": "edited"});
    all.ann.must("edit_message", edit).await;
    let member = all.with(json!({"userId": all.bob.user_id()}));
    all.ann.must("remove_member", member).await;
    let rename = all.with(json!({"title": "Two"}));
    all.ann.must("rename_conversation", rename).await;
    all.send("second").await;
    // As if it had been suspended for longer than changes are retained.
    all.sql("DELETE FROM conversation_changes WHERE number <= 3");
    all.servers[1].resume();

    assert_eq!(next(&mut eve).await, "\"Two\" of 2");
    assert_eq!(next(&mut eve).await, "message \"edited\"", "as it is now");
    assert_eq!(next(&mut eve).await, "message \"second\"");
    // The title is one that was set later.
    assert_eq!(next(&mut all.bob).await, "null of 2");
    all.assert_bob_is_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_retained_changes_is_bounded() {
    let mut all = TwoServers::new().await;
    all.sql(
        "DO $$ BEGIN FOR n IN 1..1100 LOOP
             UPDATE conversations SET title = n::text WHERE id = $ID; END LOOP; END $$",
    );
    let bounds = "SELECT min(number), max(number) FROM conversation_changes";
    assert_eq!(all.sql(bounds), "101|1100");
    let start = Instant::now();
    while next(&mut all.bob).await != "\"1100\" of 2" {
        assert!(start.elapsed() < DEADLINE);
    }
    all.send("goes on").await;
    // Each retained change is emitted separately, with the current title.
    let next = loop {
        let next = next(&mut all.bob).await;
        if next != "\"1100\" of 2" {
            break next;
        }
    };
    assert_eq!(next, "message \"goes on\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversation_without_a_row_has_no_users() {
    let mut all = TwoServers::new().await;
    all.send("before").await;
    assert_eq!(next(&mut all.bob).await, "message \"before\"");
    // Together with the record of its end, as after a day.
    all.sql("DELETE FROM conversations WHERE id = $ID");
    let ask = all.with(json!({}));
    let start = Instant::now();
    for client in [&mut all.ann, &mut all.bob] {
        // Members who have joined are answered without the store.
        while client.ask("presence", ask.clone()).await["success"] == true {
            assert!(start.elapsed() < DEADLINE);
            tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
        }
    }
}
