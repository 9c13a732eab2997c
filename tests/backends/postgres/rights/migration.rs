//! The effect of the migration of rights on existing roles.

use roomcast_server::config;
use roomcast_server::store::Store;
use tokio_postgres::Client;
use uuid::Uuid;

use super::Database;
use super::duties::perform;
use crate::harness::sql;
use crate::older::postgres_of;

/// Schema version before the migration.
const BEFORE: u32 = 18;

/// Statements as the previous version prepared them, on the tables that it knows.
const OF_THE_VERSION_BEFORE: [&str; 6] = [
    "INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at)
     SELECT gen_random_uuid(), id, last_seq + 1, 'ann', 'Ann', 'text', 'user', '{}', now() FROM conversations",
    "UPDATE conversations SET last_seq = last_seq + 1",
    "SELECT outcome FROM roomcast_append('trades:ann', gen_random_uuid()::text, '{}', NULL, true, 'keep', now(), NULL,
         false, 1000)",
    "SELECT roomcast_replace('prices', ARRAY['A'], ARRAY['{}'], now(), 1000)",
    "SELECT roomcast_take_annotation(conversation_id, id, 1, '{}') FROM messages LIMIT 1",
    "SELECT count(*) FROM messages WHERE roomcast_words(content) @@ plainto_tsquery('pg_catalog.simple', 'text')",
];

/// The grants documented before: all tables, or only what is used.
const EVERYTHING: &str =
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
     GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}";
const NO_MORE_THAN_IS_USED: &str = "
     REVOKE INSERT ON changes, changes_kept FROM {role};
     REVOKE INSERT, UPDATE ON conversation_changes FROM {role};
     REVOKE INSERT, UPDATE, DELETE ON roomcast_schema FROM {role};
     REVOKE INSERT ON publications FROM {role};
     REVOKE INSERT, DELETE ON publication_head FROM {role};
     REVOKE INSERT, UPDATE ON publication_keys FROM {role}";

async fn client(config: &config::Store, role: &str) -> Client {
    let url = config.url.replace("//roomcast@", &format!("//{role}@"));
    let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_own_no_table_survive_the_migration_of_rights() {
    let (config, _) = postgres_of(BEFORE).await;
    let name = |what: &str| format!("{what}_{}", Uuid::new_v4().simple());
    let (full, least, group, member) = (name("full"), name("least"), name("group"), name("member"));
    let (of_two, writes) = (name("Of_two"), name("writes"));
    let (half, other_half) = (name("half"), name("other"));
    let everything = |role: &str| EVERYTHING.replace("{role}", role);
    sql(
        &config,
        &format!(
            "CREATE ROLE {full} LOGIN; {};
             CREATE ROLE {least} LOGIN; {}; {};
             CREATE ROLE {group}; {}; CREATE ROLE {member} LOGIN IN ROLE {group};
             CREATE ROLE {half}; GRANT SELECT, INSERT, UPDATE, DELETE ON messages TO {half};
             CREATE ROLE {other_half}; {}; REVOKE ALL ON messages FROM {other_half};
             CREATE ROLE \"{of_two}\" LOGIN IN ROLE {half}, {other_half};
             CREATE ROLE {writes} LOGIN; GRANT pg_read_all_data, pg_write_all_data TO {writes};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {writes}",
            everything(&full),
            everything(&least),
            NO_MORE_THAN_IS_USED.replace("{role}", &least),
            everything(&group),
            everything(&other_half),
        ),
    );
    let roles = [&full, &least, &member, &of_two, &writes];
    // The sessions of the previous version stay open, with their prepared statements.
    let mut sessions = Vec::new();
    for role in roles {
        let client = client(&config, role).await;
        let mut prepared = Vec::new();
        for statement in OF_THE_VERSION_BEFORE {
            let statement = client.prepare(statement).await.unwrap();
            client.query(&statement, &[]).await.unwrap();
            prepared.push(statement);
        }
        sessions.push((role, client, prepared));
    }
    Store::migrate(&config).await.unwrap();
    for (role, client, prepared) in &sessions {
        for (statement, text) in prepared.iter().zip(OF_THE_VERSION_BEFORE) {
            let done = client.query(statement, &[]).await;
            assert!(done.is_ok(), "{role}: {text}: {done:?}");
        }
    }
    let database = Database { config };
    for role in roles {
        let done = perform(&database, role).await;
        assert_eq!(done, Ok(()), "{role}");
    }
    // The group's rights are not granted to its member directly, who would keep them on leaving it.
    let of_member = database.sql(&format!(
        "SELECT count(*) FROM pg_proc, aclexplode(proacl) a WHERE a.grantee = '{member}'::regrole"
    ));
    assert_eq!(of_member, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migration_of_rights_gives_nothing_to_other_roles() {
    let (config, _) = postgres_of(BEFORE).await;
    let name = |what: &str| format!("{what}_{}", Uuid::new_v4().simple());
    let (bare, shop, reader, importer) =
        (name("bare"), name("shop"), name("reader"), name("importer"));
    sql(
        &config,
        &format!(
            "CREATE ROLE {bare} LOGIN;
             CREATE ROLE {shop} LOGIN;
             GRANT EXECUTE ON FUNCTION roomcast_publish(text, text, jsonb, text) TO {shop};
             CREATE ROLE {reader} LOGIN; GRANT SELECT (id, content) ON messages TO {reader};
             CREATE ROLE {importer} LOGIN; GRANT INSERT ON messages, conversations TO {importer};
             GRANT SELECT ON messages, sessions TO PUBLIC; GRANT USAGE ON SEQUENCE shared_numbers TO PUBLIC"
        ),
    );
    Store::migrate(&config).await.unwrap();
    for (role, expected) in [
        (&bare, ""),
        (&shop, "roomcast_publish"),
        (&reader, "roomcast_words"),
        (&importer, "roomcast_words"),
    ] {
        let functions = sql(
            &config,
            &format!(
                "SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc
                 WHERE pronamespace = 'public'::regnamespace AND has_function_privilege('{role}', oid, 'EXECUTE')"
            ),
        );
        assert_eq!(functions, expected, "{role}");
    }
    let of_bare = format!(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (
             relkind = 'r' AND has_any_column_privilege('{bare}', oid, 'SELECT, INSERT, UPDATE')
             OR relkind = 'S' AND has_sequence_privilege('{bare}', oid, 'USAGE'))"
    );
    assert_eq!(sql(&config, &of_bare), "0");
}
