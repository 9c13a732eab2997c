//! Tests that the most frequent queries use an index and read no more rows than necessary.

use rusqlite::{Connection, StatementStatus, ToSql, params};
use tempfile::TempDir;
use uuid::Uuid;

use super::sql::Id;
use crate::config;
use crate::store::change::annotations::sqlite::OTHERS_READ;
use crate::store::change::deletion::sqlite::{PURGE, purge};
use crate::store::change::messages::sqlite::{ASCENDING, DESCENDING, SEARCH, messages, search};
use crate::store::change::read_marks::sqlite::UNREAD;
use crate::store::change::{Search, words};
use crate::store::page::Page;

/// The number of messages in one conversation. Messages of other conversations are interleaved.
const LENGTH: i32 = 20_000;
const ROOM: Uuid = Uuid::from_u128(1);
const IN_ORDER: [&str; 1] = ["messages USING INDEX messages_in_order"];

#[test]
fn page_queries_use_the_index_at_any_position() {
    let database = Database::new();
    for (name, after, before, sql) in [
        ("newest", 0, i64::MAX, DESCENDING),
        ("before the end", 0, 19_990, DESCENDING),
        ("before the middle", 0, 10_000, DESCENDING),
        ("before the beginning", 0, 3, DESCENDING),
        ("after everything", 1_000_000, i64::MAX, ASCENDING),
        ("after the middle", 10_000, i64::MAX, ASCENDING),
        ("oldest", 0, i64::MAX, ASCENDING),
        ("what was missed", 9_000, 11_000, ASCENDING),
    ] {
        database.is_direct(name, sql, params![Id(ROOM), after, before, 51], &IN_ORDER);
    }
    database.is_direct(
        "unread",
        UNREAD,
        params![Id(ROOM), 10, "bob", 1000],
        &IN_ORDER,
    );
}

#[test]
fn page_query_cost_is_independent_of_conversation_length() {
    let database = Database::new();
    let steps = |after: i64| database.steps(ASCENDING, params![Id(ROOM), after, i64::MAX, 51]);
    let first = steps(0);
    assert!(first > 50, "{first}");
    for after in [1, 100, 5_000, 15_000, 19_000] {
        let more = steps(after);
        assert!(
            more <= first + 50,
            "{more} steps after {after}, {first} at the beginning"
        );
    }
}

#[test]
fn search_reads_newest_first_and_stops_at_the_limit() {
    let database = Database::new();
    let index = [
        "messages_by_word VIRTUAL TABLE INDEX",
        "messages USING INTEGER PRIMARY KEY",
    ];
    let none: Option<Id> = None;
    for (name, query) in [
        ("everything", "\"message\""),
        ("some", "\"rare7\""),
        ("two words", "\"message\" \"rare7\""),
        ("nothing", "\"nowhere\""),
        ("one letter", "\"m\" *"),
        ("a prefix", "\"message\" \"rar\" *"),
    ] {
        database.is_direct(name, SEARCH, params![query, none, none, "ann", 51], &index);
        let before = Id(id(10_000));
        database.is_direct(
            name,
            SEARCH,
            params![query, before, none, "ann", 51],
            &index,
        );
    }
    for query in ["\"message\"", "\"m\" *"] {
        let all = database.steps(SEARCH, params![query, none, none, "ann", 51]);
        assert!(all < LENGTH, "{all} steps for 51 messages of all");
    }
}

#[test]
fn purge_of_a_long_conversation_reads_only_its_batch() {
    let database = Database::new();
    let index = [
        "conversations USING INDEX conversations_deleted",
        "messages USING COVERING INDEX messages_in_order",
        "messages USING INTEGER PRIMARY KEY",
    ];
    database.is_direct("before it is deleted", PURGE, params![50], &index);
    let delete = "UPDATE conversations SET deleted_at = '2030-01-01T00:00:00.000Z' WHERE id = ?1";
    database.connection.execute(delete, [Id(ROOM)]).unwrap();
    database.is_direct("afterwards", PURGE, params![50], &index);
    let few = database.steps(PURGE, params![50]);
    let left = "SELECT count(*) FROM messages";
    let count = |sql| {
        database
            .connection
            .query_row(sql, [], |row| row.get::<_, i32>(0))
    };
    let before = count(left).unwrap();
    assert_eq!(
        purge(
            &database.connection,
            "2000-01-01T00:00:00.000Z".parse().unwrap(),
            50
        ),
        Ok(50)
    );
    assert_eq!(count(left), Ok(before - 50));
    assert!(few < LENGTH, "{few} steps for 50 messages of {LENGTH}");
}

#[test]
fn others_read_query_cost_is_independent_of_readers() {
    let database = Database::new();
    let index = ["reads USING COVERING INDEX reads_by_seq"];
    let asked = params![Id(ROOM), "reader 1"];
    database.is_direct("of nobody", OTHERS_READ, asked, &index);
    let read = |from: u32, to: u32| {
        let sql = format!(
            "WITH RECURSIVE numbers (n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM numbers WHERE n < {to})
             INSERT INTO reads (conversation_id, user_id, seq)
                 SELECT '{ROOM}', 'reader ' || n, n FROM numbers"
        );
        database.connection.execute_batch(&sql).unwrap();
        database.steps(OTHERS_READ, asked)
    };
    let few = read(1, 3);
    let many = read(4, 5_000);
    assert!(many <= few, "{many} steps for 5,000 readers, {few} for 3");
    // The user's own read mark is skipped, wherever it is in the index.
    let newest = params![Id(ROOM), "reader 5000"];
    database.is_direct("of the others", OTHERS_READ, newest, &index);
    let seq = |asked: &[&dyn ToSql]| {
        let row = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        database.connection.query_row(OTHERS_READ, asked, row)
    };
    assert_eq!((seq(asked), seq(newest)), (Ok(5_000), Ok(4_999)));
}

#[test]
fn planned_statements_return_correct_results() {
    let database = Database::new();
    let page = messages(&database.connection, ROOM, Page::Before(10_000), 50, None).unwrap();
    let seqs: Vec<_> = page.messages.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (9950..10_000).collect::<Vec<_>>());
    let rare = Search {
        words: words("rare7"),
        conversation: None,
        before: Some(id(10_007)),
    };
    let found = search(&database.connection, "ann", &rare, 3)
        .unwrap()
        .unwrap();
    let seqs: Vec<_> = found.messages.iter().map(|message| message.seq).collect();
    assert_eq!((seqs, found.has_more), (vec![7007, 8007, 9007], true));
    // The first search starts before a missing message, the second before all messages.
    let rare = |before| Search {
        before: Some(before),
        ..rare.clone()
    };
    let later = rare(Uuid::from_u128(id(10_006).as_u128() + 1));
    let found = search(&database.connection, "ann", &later, 1)
        .unwrap()
        .unwrap();
    assert_eq!(found.messages[0].seq, 9007);
    let first = search(&database.connection, "ann", &rare(Uuid::nil()), 3).unwrap();
    assert!(first.unwrap().messages.is_empty());
    let foreign = search(&database.connection, "eve", &later, 3)
        .unwrap()
        .unwrap();
    assert!(foreign.messages.is_empty());
}

/// A database with a long conversation.
struct Database {
    connection: Connection,
    _folder: TempDir,
}

impl Database {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("chat.db");
        let config = config::Store {
            url: format!("sqlite:{}", path.display()),
            ..config::Store::default()
        };
        super::migrate(&path, &config).unwrap();
        let connection = Connection::open(&path).unwrap();
        let at = "'2030-01-01T00:00:00.000Z'";
        connection
            .execute_batch(&format!(
                "BEGIN;
                 INSERT INTO conversations (id, owner_id, created_at, updated_at)
                     VALUES ('{ROOM}', 'ann', {at}, {at}), ('{}', 'bob', {at}, {at});
                 INSERT INTO members (conversation_id, user_id, joined_at) VALUES ('{ROOM}', 'ann', {at});
                 WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {LENGTH})
                 INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at)
                     SELECT printf('0193%04x-%04x-7000-8000-000000000000', n / 65536, n % 65536), '{ROOM}', n,
                         'ann', 'Ann', 'message ' || n || CASE WHEN n % 1000 = 7 THEN ' rare7' ELSE '' END,
                         'user', '{{}}', {at} FROM numbers;
                 INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at)
                     SELECT replace(id, '-7000-', '-7001-'), '{}', seq, 'bob', 'Bob', 'other', 'user', '{{}}', {at}
                     FROM messages WHERE seq % 2 = 0 ORDER BY id;
                 COMMIT",
                Uuid::from_u128(2),
                Uuid::from_u128(2),
            ))
            .unwrap();
        Self {
            connection,
            _folder: folder,
        }
    }

    /// Asserts that the statement uses these indexes, and neither scans nor sorts.
    fn is_direct(&self, name: &str, sql: &str, parameters: &[&dyn ToSql], along: &[&str]) {
        let plan = self.plan(sql, parameters);
        for index in along {
            let found = plan.iter().any(|step| step.contains(index));
            assert!(found, "{name}: no {index} in {plan:#?}");
        }
        for step in &plan {
            let reads_through =
                step.starts_with("SCAN messages") && !step.contains("VIRTUAL TABLE INDEX");
            assert!(
                !reads_through && !step.contains("TEMP B-TREE"),
                "{name}: {plan:#?}"
            );
        }
        let sorts = self.count(StatementStatus::Sort, sql, parameters);
        assert_eq!(sorts, 0, "{name}");
    }

    fn plan(&self, sql: &str, parameters: &[&dyn ToSql]) -> Vec<String> {
        let explain = format!("EXPLAIN QUERY PLAN {sql}");
        let mut statement = self.connection.prepare(&explain).unwrap();
        let steps = statement.query_map(parameters, |row| row.get("detail"));
        steps.unwrap().map(Result::unwrap).collect()
    }

    /// Returns the number of SQLite virtual machine steps of a statement.
    fn steps(&self, sql: &str, parameters: &[&dyn ToSql]) -> i32 {
        self.count(StatementStatus::VmStep, sql, parameters)
    }

    /// Runs a statement to its end and returns how often an event occurred.
    fn count(&self, what: StatementStatus, sql: &str, parameters: &[&dyn ToSql]) -> i32 {
        let mut statement = self.connection.prepare(sql).unwrap();
        let mut rows = statement.query(parameters).unwrap();
        while rows.next().unwrap().is_some() {}
        drop(rows);
        statement.get_status(what)
    }
}

/// Returns the id of the message with this `seq`.
fn id(seq: u128) -> Uuid {
    let (high, low) = (seq / 65536, seq % 65536);
    let text = format!("0193{high:04x}-{low:04x}-7000-8000-000000000000");
    text.parse().unwrap()
}
