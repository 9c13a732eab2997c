//! Each column of the database is decided on: it has data of users, and `docs/erasure.md` states
//! what an erasure does with it, or it has none. Also dumps all tables, for tests of erasures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::types::ValueRef;

use crate::guard::{KEY, Server};
#[cfg(feature = "postgres")]
use crate::nodes::Database;

/// The tables with data of users: the columns with it, and all other columns.
///
/// If this test fails because of a new column, decide whether it has data of users. If so, add it
/// to a section of `server/src/store/change/erasure/sections.rs` and to `docs/erasure.md`.
const WITH_USERS: &[(&str, &str, &str)] = &[
    (
        "audit",
        "request stated_user state_after state_before target user_id",
        "address connection_id created_at finished_at id node operation outcome via",
    ),
    (
        "api_keys",
        "body",
        "attempt expires_at key locked_until request status",
    ),
    ("changes", "key", "changed_in id topic"),
    (
        "conversation_changes",
        "detail member_ids user_id",
        "changed_at conversation_id kind message_id number seq version",
    ),
    (
        "conversations",
        "deleted_by owner_id",
        "changes created_at deleted_at id is_open last_seq title updated_at",
    ),
    (
        "invites",
        "created_by",
        "conversation_id expires_at token_hash uses_left",
    ),
    (
        "journal_entries",
        "body category journal",
        "created_at expires_at is_current is_open key revision",
    ),
    ("journals", "name", "revision"),
    ("members", "user_id", "conversation_id joined_at"),
    ("message_reactions", "user_id", "emoji message_id"),
    (
        "message_streams",
        "text user_id",
        "chars conversation_id holder message_id touched_at",
    ),
    (
        "message_versions",
        "content metadata replaced_by",
        "message_id replaced_at version",
    ),
    (
        "messages",
        "client_message_id content interrupted mentions metadata user_id user_name",
        "conversation_id created_at deleted_at edited_at id number reply_to seq type version",
    ),
    ("notification_levels", "user_id", "conversation_id level"),
    ("pins", "pinned_by", "conversation_id message_id pinned_at"),
    (
        "presences",
        "name user_id",
        "connections conversation_id node_id since",
    ),
    (
        "publications",
        "key name payload",
        "event id is_stored numbered_at position published_at published_in refused target",
    ),
    ("publication_keys", "key", "used_at"),
    ("reads", "user_id", "conversation_id seq"),
    ("revocations", "value", "created_at kind until"),
    (
        "sessions",
        "data roles user_id",
        "created_at expires_at id_hash ttl_s",
    ),
    ("user_statuses", "status text user_id", "expires_at set_at"),
    (
        "webhook_deliveries",
        "body",
        "attempts created_at due_at id",
    ),
];

/// The tables without data of users, with all their columns.
const WITHOUT_USERS: &[(&str, &str)] = &[
    ("blocks", "cidr created_at expires_at id reason source"),
    ("changes_kept", "only_row since"),
    ("cluster_secrets", "made_at position secret"),
    ("message_emojis", "count emoji first_at message_id"),
    ("nodes", "expires_at id"),
    ("publication_head", "known looked_at only_row position"),
    ("publication_nodes", "node position told_at"),
    (
        "refinery_schema_history",
        "applied_on checksum name version",
    ),
    ("roomcast_schema", "oldest only_row store_id"),
];

/// The rows of all tables as text, with the names of their tables.
pub(crate) type Dump = Vec<(String, String)>;

pub(crate) fn sqlite_dump(file: &Path) -> Dump {
    let database = rusqlite::Connection::open(file).unwrap();
    let sql =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'messages_by_word%'
               AND name NOT LIKE 'sqlite_%'";
    let mut tables = database.prepare(sql).unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut dump = Vec::new();
    for table in tables.map(Result::unwrap) {
        let mut rows = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = (0..columns).map(|n| match row.get_ref_unwrap(n) {
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                value @ (ValueRef::Null
                | ValueRef::Integer(_)
                | ValueRef::Real(_)
                | ValueRef::Blob(_)) => format!("{value:?}"),
            });
            dump.push((table.clone(), values.collect::<Vec<_>>().join(" | ")));
        }
    }
    dump
}

#[cfg(feature = "postgres")]
pub(crate) async fn postgres_dump(database: &Database) -> Dump {
    let client = database.client().await;
    let tables = client
        .query(
            "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
            &[],
        )
        .await
        .unwrap();
    let mut dump = Vec::new();
    for table in tables.iter().map(|row| row.get::<_, String>(0)) {
        let sql = format!(
            "SELECT array_to_string(array(SELECT value FROM
            json_each_text(row_to_json(t))), ' | ', '') FROM \"{table}\" t"
        );
        for row in client.query(&sql, &[]).await.unwrap() {
            dump.push((table.clone(), row.get(0)));
        }
    }
    dump
}

type Tables = BTreeMap<String, BTreeSet<String>>;

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split_whitespace().map(str::to_owned)
}

fn assert_decided(found: &Tables) {
    let with = WITH_USERS.iter().map(|(table, users, others)| {
        let columns = words(users).chain(words(others)).collect();
        ((*table).to_owned(), columns)
    });
    let without = WITHOUT_USERS
        .iter()
        .map(|(table, columns)| ((*table).to_owned(), words(columns).collect()));
    let decided: Tables = with.chain(without).collect();
    for (table, columns) in found {
        let known = decided.get(table);
        let known = known.unwrap_or_else(|| panic!("table `{table}` is not decided on"));
        let new: Vec<&String> = columns.difference(known).collect();
        assert!(
            new.is_empty(),
            "columns of `{table}` are not decided on: {new:?}"
        );
    }
}

#[test]
fn columns_of_sqlite_are_decided_on_for_erasures() {
    let server = Server::start(&[KEY]);
    let database = rusqlite::Connection::open(server.folder().join("chat.db")).unwrap();
    let mut tables = database
        .prepare(
            "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'
                 -- The index of words, which triggers keep in line with the texts.
                 AND t.name NOT LIKE 'messages_by_word%'",
        )
        .unwrap();
    let rows = tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let mut found = Tables::new();
    for (table, column) in rows.unwrap().map(Result::unwrap) {
        found.entry(table).or_default().insert(column);
    }
    assert!(found.len() > 15, "{found:?}");
    assert_decided(&found);
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn columns_of_postgres_are_decided_on_for_erasures() {
    let database = Database::new();
    let _server = database.server_with(&[KEY]);
    let client = database.client().await;
    let rows = client.query(
        "SELECT table_name::text, column_name::text FROM information_schema.columns
         WHERE table_schema = 'public'",
        &[],
    );
    let mut found = Tables::new();
    for row in rows.await.unwrap() {
        found.entry(row.get(0)).or_default().insert(row.get(1));
    }
    assert_decided(&found);
    // A table that no longer exists must not stay in the lists.
    let decided = WITH_USERS.iter().map(|(table, ..)| *table);
    for table in decided.chain(WITHOUT_USERS.iter().map(|(table, _)| *table)) {
        assert!(found.contains_key(table), "there is no table `{table}`");
    }
}

#[test]
fn document_states_what_an_erasure_does_with_each_column() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/erasure.md");
    let document = std::fs::read_to_string(path).unwrap();
    for (table, columns, _) in WITH_USERS {
        let start = format!("| `{table}` |");
        let row = document.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("docs/erasure.md has no row for `{table}`"));
        for column in words(columns) {
            assert!(
                row.contains(&format!("`{column}`")),
                "{table}.{column}: {row}"
            );
        }
    }
}
