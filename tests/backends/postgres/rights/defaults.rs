//! Rights that default privileges grant to roles when the tables are created.

use roomcast_server::store::Store;
use uuid::Uuid;

use super::Database;
use super::duties::perform;
use crate::harness::{postgres, sql};

/// Returns a database whose tables are created under these default privileges, and the role that
/// the statements name `{role}`.
async fn database_with(privileges: &str) -> (Database, String) {
    let (config, _) = postgres();
    let role = format!("Default_{}", Uuid::new_v4().simple());
    let privileges = privileges.replace("{role}", &format!("\"{role}\""));
    sql(
        &config,
        &format!("CREATE ROLE \"{role}\" LOGIN; {privileges}"),
    );
    Store::migrate(&config).await.unwrap();
    (Database { config }, role)
}

/// Returns the functions that a role may execute.
fn functions_of(database: &Database, role: &str) -> String {
    database.sql(&format!(
        "SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND has_function_privilege('{role}', oid, 'EXECUTE')"
    ))
}

/// Returns the tables on which a role has a right.
fn tables_of(database: &Database, role: &str, right: &str) -> Vec<String> {
    let tables = database.sql(&format!(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
             AND has_table_privilege('{role}', oid, '{right}') ORDER BY relname"
    ));
    tables.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn role_with_default_privileges_on_all_tables_can_serve() {
    let (database, role) = database_with(
        "ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
         ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO {role}",
    )
    .await;
    assert_eq!(perform(&database, &role).await, Ok(()));
    // A server reads the secrets but does not change them.
    let updated = tables_of(&database, &role, "UPDATE");
    assert!(updated.iter().any(|table| table == "audit"));
    assert!(updated.iter().all(|table| table != "cluster_secrets"));
    assert!(!functions_of(&database, &role).contains("roomcast_publish"));
}

#[tokio::test(flavor = "multi_thread")]
async fn role_with_default_privileges_to_read_gets_no_table_of_servers() {
    let reads = "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}";
    let (database, role) = database_with(reads).await;
    let read = tables_of(&database, &role, "SELECT");
    assert!(read.iter().any(|table| table == "messages"));
    assert!(
        read.iter()
            .all(|table| table != "audit" && table != "cluster_secrets")
    );
    assert_eq!(functions_of(&database, &role), "roomcast_words");
}

#[tokio::test(flavor = "multi_thread")]
async fn default_privileges_of_public_give_nothing() {
    let (database, role) = database_with(
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC",
    )
    .await;
    // The table of the migrations is not the server's own.
    let read = tables_of(&database, &role, "SELECT, INSERT, UPDATE, DELETE");
    assert_eq!(read, ["refinery_schema_history"]);
    assert_eq!(functions_of(&database, &role), "");
    let sequences = database.sql(&format!(
        "SELECT count(*) FROM pg_sequence
         WHERE has_sequence_privilege('{role}', seqrelid, 'USAGE, SELECT, UPDATE')"
    ));
    assert_eq!(sequences, "0");
}
