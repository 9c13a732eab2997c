//! Databases of older versions: created with the migrations of that version and filled with rows as
//! it stored them.

use std::path::Path;

use uuid::Uuid;

use crate::harness::Backend;

/// A conversation of ann with one message, as the first version stored it, in SQL of both
/// databases.
pub(crate) const CONVERSATION: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
pub(crate) const MESSAGE: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002);
const STORED: &str = "INSERT INTO conversations (id, title, owner_id, last_seq, is_open, created_at, updated_at) VALUES
        ('01900000-0000-7000-8000-000000000001', 'A title', 'ann', 1, FALSE,
         '2025-01-31T12:00:00.000Z', '2025-01-31T12:00:00.000Z');
    INSERT INTO members (conversation_id, user_id, joined_at) VALUES
        ('01900000-0000-7000-8000-000000000001', 'ann', '2025-01-31T12:00:00.000Z');
    INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at) VALUES
        ('01900000-0000-7000-8000-000000000002', '01900000-0000-7000-8000-000000000001', 1, 'ann', 'Ann', 'before',
         'user', '{}', '2025-01-31T12:00:01.000Z')";

/// Returns the text of the migration with this number, or `None` if the database has none.
fn migration(database: &str, number: u32) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let start = format!("V{number}__");
    let mut files = std::fs::read_dir(folder.join(database)).unwrap();
    let file = files.find_map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name()?.to_str()?;
        name.starts_with(&start).then_some(path)
    });
    file.map(|path| std::fs::read_to_string(path).unwrap())
}

/// Creates a PostgreSQL database with the tables of an older version and the conversation.
#[cfg(feature = "postgres")]
pub(crate) async fn postgres_of(version: u32) -> Backend {
    use roomcast_server::store::Store;

    use crate::harness::{postgres, sql};

    let (newest, _) = postgres();
    Store::migrate(&newest).await.unwrap();
    let (config, folder) = postgres();
    for number in 1..=version {
        if let Some(text) = migration("postgres", number) {
            sql(&config, &text);
        }
    }
    let rows =
        "SELECT string_agg(format('(%s, %L, %L, %L)', version, name, applied_on, checksum), ', ')
        FROM refinery_schema_history WHERE version <= ";
    let rows = sql(&newest, &format!("{rows}{version}"));
    let history = "CREATE TABLE refinery_schema_history
        (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255));
        INSERT INTO refinery_schema_history VALUES ";
    sql(&config, &format!("{history}{rows}"));
    sql(&config, STORED);
    (config, folder)
}

/// Creates a SQLite database with the tables of an older version and the conversation.
#[cfg(feature = "sqlite")]
pub(crate) async fn sqlite_of(version: u32) -> Backend {
    use roomcast_server::store::Store;
    use rusqlite::Connection;

    use crate::harness::{file, sqlite};

    let (newest, _folder) = sqlite();
    Store::migrate(&newest).await.unwrap();
    let (config, folder) = sqlite();
    let database = Connection::open(file(&config)).unwrap();
    for number in 1..=version {
        if let Some(text) = migration("sqlite", number) {
            database.execute_batch(&text).unwrap();
        }
    }
    let newest = file(&newest);
    database
        .execute("ATTACH ? AS newest", [newest.to_str().unwrap()])
        .unwrap();
    let history = format!(
        "CREATE TABLE refinery_schema_history
            (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255));
         INSERT INTO refinery_schema_history
            SELECT * FROM newest.refinery_schema_history WHERE version <= {version}"
    );
    database.execute_batch(&history).unwrap();
    database.execute_batch(STORED).unwrap();
    (config, folder)
}
