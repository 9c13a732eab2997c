//! Tries every operation on every object of the schema as each documented role, and compares the
//! result with the table of rights in `docs/security.md`.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::Database;
use crate::documented::{document, section};

/// The operations on each object, with the [`ROLES`] that are permitted.
type Rights = BTreeMap<(String, &'static str), BTreeSet<String>>;

/// Roles as the table of rights names them.
const ANY: &str = "any role that connects";
const PUBLISHER: &str = "a publishing role";
const SERVER: &str = "a server's role";
const OWNER: &str = "the owner";
const ROLES: [&str; 3] = [ANY, PUBLISHER, SERVER];

#[tokio::test(flavor = "multi_thread")]
async fn rights_of_roles_match_the_documented_table() {
    let database = Database::new().await;
    let wrong = differences(&database).await;
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_have_no_row_in_the_table_of_rights_are_reported() {
    let database = Database::new().await;
    database.sql(
        "CREATE TABLE later (id bigserial);
         CREATE VIEW seen AS SELECT content FROM messages;
         CREATE MATERIALIZED VIEW copied AS SELECT content FROM messages;
         CREATE FUNCTION roomcast_later() RETURNS bigint LANGUAGE sql SECURITY DEFINER
             AS $$ SELECT count(*) FROM messages $$;
         CREATE FUNCTION roomcast_fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE DOMAIN id_of_a_user AS text",
    );
    let wrong = differences(&database).await;
    for object in [
        "copied: has no row",
        "id_of_a_user: has no row",
        "later: has no row",
        "later_id_seq: has no row",
        "roomcast_fire: has no row",
        "roomcast_fire: any role that connects may EXECUTE",
        "roomcast_later: has no row",
        "roomcast_later: any role that connects may EXECUTE",
        "seen: has no row",
    ] {
        assert!(
            wrong.iter().any(|line| line == object),
            "{object}: {wrong:#?}"
        );
    }
}

/// Returns the differences between the table of rights and the database.
async fn differences(database: &Database) -> Vec<String> {
    let documented = documented();
    let mut wrong = Vec::new();
    let objects = objects(database).await;
    for object in &objects {
        let is_known = |(name, _): &(String, &str)| *name == object.name;
        if !documented.keys().any(is_known) {
            wrong.push(format!("{}: has no row", object.name));
        }
    }
    for (name, _) in documented.keys() {
        if !objects.iter().any(|object| object.name == *name) {
            wrong.push(format!("{name}: does not exist"));
        }
    }
    let roles = [
        (ANY, database.bare_role()),
        (PUBLISHER, database.publishing_role()),
        (SERVER, database.server_role()),
    ];
    for (role, login) in roles {
        let client = database.client_as(&login).await;
        client
            .batch_execute("CREATE TEMP TABLE own (id bigint)")
            .await
            .unwrap();
        for object in &objects {
            let found = tried(&client, object).await;
            let nothing = BTreeSet::new();
            let key = (object.name.clone(), role);
            let expected = documented.get(&key).unwrap_or(&nothing);
            for right in found.difference(expected) {
                wrong.push(format!("{}: {role} may {right}", object.name));
            }
            for right in expected.difference(&found) {
                wrong.push(format!("{}: {role} cannot {right}", object.name));
            }
        }
    }
    wrong
}

/// Returns the rows of the table of rights that concern database objects.
fn documented() -> Rights {
    let section = section(&document("docs/security.md"), "## Who may do what");
    let mut rights = Rights::new();
    for line in section.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [what, permits, whom] = cells.as_slice() else {
            continue;
        };
        let kinds = ["table", "sequence", "function", "trigger function"];
        let kind = what
            .split('`')
            .next()
            .unwrap()
            .trim_end()
            .trim_end_matches('s');
        if !kinds.contains(&kind) {
            continue;
        }
        let names = what.split('`').skip(1).step_by(2);
        let whom = ROLES.iter().find(|role| *role == whom).unwrap_or_else(|| {
            assert_eq!((*whom, *permits), (OWNER, "nothing more"), "{line}");
            &OWNER
        });
        for name in names {
            let known = rights.entry((name.to_owned(), *whom)).or_default();
            if *whom != OWNER {
                known.extend(split(permits));
            }
        }
    }
    assert!(!rights.is_empty(), "the table of rights has no objects");
    rights
}

/// Splits at commas outside parentheses.
pub(super) fn split(list: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in list.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

struct Object {
    name: String,
    kind: Kind,
}

enum Kind {
    /// With the names of its columns.
    Relation(Vec<String>),
    Sequence,
    /// With the types of its arguments.
    Function(Vec<String>),
    TriggerFunction,
    /// An object without rights that can be tried.
    Other,
}

/// Returns all objects of the schema, except indexes and objects that belong to tables.
async fn objects(database: &Database) -> Vec<Object> {
    let client = database.client_as("roomcast").await;
    let rows = client
        .query(
            "SELECT c.relname::text, c.relkind::text, ARRAY(
                 SELECT attname::text FROM pg_attribute
                 WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum)
             FROM pg_class c
             WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind NOT IN ('i', 'I', 't', 'c')
             UNION ALL
             SELECT p.proname::text, CASE WHEN p.prokind <> 'f' THEN 'other'
                     WHEN p.prorettype = 'trigger'::regtype THEN 'trigger' ELSE 'function' END,
                 ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n) ORDER BY n)
             FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace
             UNION ALL
             SELECT o.name::text, 'other', '{}' FROM (
                 SELECT typname, typnamespace FROM pg_type t WHERE typrelid = 0 AND NOT EXISTS (
                     SELECT FROM pg_type element WHERE element.typarray = t.oid)
                 UNION ALL
                 SELECT c.relname, c.relnamespace FROM pg_class c WHERE c.relkind = 'c'
                 UNION ALL SELECT oprname, oprnamespace FROM pg_operator
                 UNION ALL SELECT opcname, opcnamespace FROM pg_opclass
                 UNION ALL SELECT collname, collnamespace FROM pg_collation
                 UNION ALL SELECT conname, connamespace FROM pg_conversion
                 UNION ALL SELECT cfgname, cfgnamespace FROM pg_ts_config
                 UNION ALL SELECT dictname, dictnamespace FROM pg_ts_dict
             ) o (name, namespace) WHERE o.namespace = current_schema()::regnamespace
             ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    let object = |row: tokio_postgres::Row| {
        let kind = match row.get::<_, &str>(1) {
            "S" => Kind::Sequence,
            "r" | "p" | "v" | "m" | "f" => Kind::Relation(row.get(2)),
            "function" => Kind::Function(row.get(2)),
            "trigger" => Kind::TriggerFunction,
            _ => Kind::Other,
        };
        Object {
            name: row.get(0),
            kind,
        }
    };
    rows.into_iter().map(object).collect()
}

/// Tries every operation on an object and returns the permitted ones.
async fn tried(client: &Client, object: &Object) -> BTreeSet<String> {
    let Object { name, kind } = object;
    let mut permitted = BTreeSet::new();
    match kind {
        Kind::Relation(columns) => {
            for right in ["SELECT", "INSERT", "UPDATE"] {
                let mut possible = Vec::new();
                for column in columns {
                    let column = format!("\"{column}\"");
                    let statement = match right {
                        "SELECT" => format!("SELECT {column} FROM {name} LIMIT 0"),
                        "INSERT" => format!("INSERT INTO {name} ({column}) VALUES (DEFAULT)"),
                        _ => format!("UPDATE {name} SET {column} = DEFAULT WHERE false"),
                    };
                    if is_permitted(client, name, &statement).await {
                        possible.push(column.replace('"', ""));
                    }
                }
                if possible.len() == columns.len() {
                    permitted.insert(right.to_owned());
                } else if !possible.is_empty() {
                    permitted.insert(format!("{right} ({})", possible.join(", ")));
                }
            }
            for (right, statement) in [
                ("DELETE", format!("DELETE FROM {name} WHERE false")),
                ("TRUNCATE", format!("TRUNCATE {name}")),
                ("OWN", format!("ALTER TABLE {name} OWNER TO CURRENT_USER")),
                (
                    "TRIGGER",
                    format!(
                        "CREATE TRIGGER planted BEFORE UPDATE ON {name} FOR EACH ROW
                         EXECUTE FUNCTION suppress_redundant_updates_trigger()"
                    ),
                ),
            ] {
                if is_permitted(client, name, &statement).await {
                    permitted.insert(right.into());
                }
            }
            let references = format!("SELECT has_any_column_privilege('{name}', 'REFERENCES')");
            let row = client.query_one(&references, &[]).await.unwrap();
            if row.get(0) {
                permitted.insert("REFERENCES".into());
            }
        }
        Kind::Sequence => {
            for (right, statement) in [
                ("USAGE", format!("SELECT nextval('{name}')")),
                ("SELECT", format!("SELECT last_value FROM {name}")),
                ("UPDATE", format!("SELECT setval('{name}', 1000)")),
            ] {
                if is_permitted(client, name, &statement).await {
                    permitted.insert(right.into());
                }
            }
        }
        Kind::Function(types) => {
            let arguments: Vec<_> = types.iter().map(|t| format!("NULL::{t}")).collect();
            let statement = format!("SELECT {name}({})", arguments.join(", "));
            if is_permitted(client, name, &statement).await {
                permitted.insert("EXECUTE".into());
            }
        }
        Kind::TriggerFunction => {
            let statement = format!(
                "CREATE TRIGGER planted BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION {name}()"
            );
            if is_permitted(client, name, &statement).await {
                permitted.insert("EXECUTE".into());
            }
        }
        Kind::Other => {}
    }
    permitted
}

/// Returns whether the rights to an object allow a statement, which is rolled back. Every other
/// error occurs after the check of the rights.
async fn is_permitted(client: &Client, object: &str, statement: &str) -> bool {
    client.batch_execute("BEGIN").await.unwrap();
    let done = client.batch_execute(statement).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    let Err(error) = done else {
        return true;
    };
    let error = error.as_db_error().unwrap();
    match error.code().code() {
        // A function may also lack the right to what it uses.
        "42501" => !error.message().contains(object),
        // No such right exists for an object of this kind.
        "42809" => false,
        _ => true,
    }
}
