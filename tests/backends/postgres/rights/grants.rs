//! The grants in `docs/storage.md` are exactly those that a store needs.

use tokio::task::JoinSet;

use super::Database;
use super::duties::{lacks_rights, perform};
use super::objects::split;

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_grants_are_enough_for_a_server() {
    let database = Database::new().await;
    withdraw_from_public(&database);
    let role = database.server_role();
    assert_eq!(perform(&database, &role).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_documented_grant_is_needed() {
    // Side by side, because some failures take 20 s.
    const AT_ONCE: usize = 8;
    let count = single_grants(&Database::new().await, "x").len();
    assert!(count > 100, "{count}");
    let mut trying = JoinSet::new();
    for first in 0..AT_ONCE {
        trying.spawn(async move {
            // Each has its own database, in which nothing else happens.
            let database = Database::new().await;
            withdraw_from_public(&database);
            let role = database.server_role();
            let mut unexpected = Vec::new();
            let grants = single_grants(&database, &role);
            for grant in grants.iter().skip(first).step_by(AT_ONCE) {
                // This table belongs to the adapter, which `perform` does not use.
                if grant.contains("socket_io_attachments") {
                    continue;
                }
                let revoke = grant
                    .replacen("GRANT", "REVOKE", 1)
                    .replacen(" TO ", " FROM ", 1);
                database.sql(&revoke);
                match perform(&database, &role).await {
                    Ok(()) => unexpected.push(format!("{grant}: not needed")),
                    Err(failure) if lacks_rights(&failure) => {}
                    Err(failure) => unexpected.push(format!("{grant}: {failure}")),
                }
                database.sql(grant);
            }
            // All grants together suffice, so nothing else has caused the failures.
            assert_eq!(perform(&database, &role).await, Ok(()));
            unexpected
        });
    }
    let unexpected: Vec<_> = trying.join_all().await.into_iter().flatten().collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

/// Revokes the default rights of every role, so that a server needs its own grants.
fn withdraw_from_public(database: &Database) {
    database.sql(&format!(
        "REVOKE ALL ON DATABASE {} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC",
        database.name()
    ));
}

/// The documented grants, each with one privilege to one object.
fn single_grants(database: &Database, role: &str) -> Vec<String> {
    let mut single = Vec::new();
    for grant in database.server_grants(role) {
        let grant = grant.strip_prefix("GRANT ").unwrap();
        let (privileges, rest) = grant.split_once(" ON ").unwrap();
        let (objects, to) = rest.rsplit_once(" TO ").unwrap();
        let kinds = ["DATABASE ", "SCHEMA ", "SEQUENCE ", "FUNCTION "];
        let kind = kinds.iter().find(|kind| objects.starts_with(**kind));
        let kind = kind.copied().unwrap_or_default();
        for object in split(&objects[kind.len()..]) {
            for privilege in split(privileges) {
                single.push(format!("GRANT {privilege} ON {kind}{object} TO {to}"));
            }
        }
    }
    single
}
