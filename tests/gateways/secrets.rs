//! Access of database roles to the secrets with which servers seal, and to the database.

use crate::config::run;
use crate::nodes::Database;
use crate::server::ServerProcess;

const SECRET: &str = "Ooche4quah6yi9Aeghah3eigheiC1oop";

/// Returns the variables of a server in production on this database.
fn production(url: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("ROOMCAST_PROFILE", "production"),
        ("ROOMCAST_AUTH__JWT__SECRET", SECRET),
        ("ROOMCAST_STORE", url),
    ]
}

/// Creates the tables in a new database.
fn migrated() -> Database {
    let database = Database::apart();
    let (works, output) = run(&["migrate"], &[("ROOMCAST_STORE", database.url())]);
    assert!(works, "{output}");
    database
}

#[test]
fn production_refuses_secrets_that_other_roles_can_read_or_replace() {
    let database = migrated();
    database.sql(
        "CREATE ROLE snoop LOGIN; CREATE ROLE helper LOGIN NOINHERIT; CREATE ROLE readers;
         GRANT readers TO helper",
    );
    for (grant, revoke, role) in [
        (
            "GRANT SELECT ON cluster_secrets TO snoop",
            "REVOKE ALL ON cluster_secrets FROM snoop",
            "snoop",
        ),
        (
            "GRANT SELECT (secret) ON cluster_secrets TO snoop",
            "REVOKE ALL (secret) ON cluster_secrets FROM snoop",
            "snoop",
        ),
        (
            "GRANT INSERT ON cluster_secrets TO snoop",
            "REVOKE ALL ON cluster_secrets FROM snoop",
            "snoop",
        ),
        (
            "GRANT TRIGGER ON cluster_secrets TO snoop",
            "REVOKE ALL ON cluster_secrets FROM snoop",
            "snoop",
        ),
        (
            "GRANT pg_read_all_data TO snoop",
            "REVOKE pg_read_all_data FROM snoop",
            "snoop",
        ),
        // By SET ROLE.
        (
            "GRANT SELECT ON cluster_secrets TO readers",
            "REVOKE ALL ON cluster_secrets FROM readers",
            "helper",
        ),
        (
            "GRANT SELECT ON cluster_secrets TO PUBLIC",
            "REVOKE ALL ON cluster_secrets FROM PUBLIC",
            "PUBLIC",
        ),
    ] {
        database.sql(grant);
        let variables = production(database.url());
        let (works, output) = run(&[], &variables);
        let is_refused = output.contains("could read or replace") && output.contains(role);
        assert!(
            !works && is_refused && !output.contains("listening on"),
            "{grant}: {output}"
        );
        // In development the problem is only logged, and servers with their own secret do not use
        // the table.
        let server = database.server_with(&[("ROOMCAST_ADAPTER__URL", database.url())]);
        server.expect_log(&["ERROR", "could read or replace", role]);
        drop(server);
        let own = [
            variables.as_slice(),
            &[("ROOMCAST_ADAPTER__SECRET", SECRET)],
        ]
        .concat();
        drop(
            database.server_with(
                &[own.as_slice(), &[("ROOMCAST_ADAPTER__URL", database.url())]].concat(),
            ),
        );
        database.sql(revoke);
    }
    let url = database.url().to_owned();
    let server = database.server_with(
        &[
            production(&url).as_slice(),
            &[("ROOMCAST_ADAPTER__URL", &*url)],
        ]
        .concat(),
    );
    assert!(
        !server.early_log().contains("could read"),
        "{}",
        server.early_log()
    );
}

#[test]
fn server_that_owns_no_tables_needs_only_select_on_secrets() {
    let database = migrated();
    let role = database.restricted_role(
        "REVOKE ALL ON cluster_secrets FROM {role}; GRANT SELECT ON cluster_secrets TO {role}",
    );
    let url = database.url_as(&role);
    let mut variables = production(&url);
    variables.push(("ROOMCAST_STORE__MIGRATE", "false"));
    variables.push(("ROOMCAST_ADAPTER__URL", &url));
    drop(ServerProcess::start(database.folder(), &variables));
    database.sql("DELETE FROM cluster_secrets");
    let (works, output) = run(&[], &variables);
    assert!(
        !works && output.contains("cluster_secrets has no secret: run `roomcast migrate`"),
        "{output}"
    );
    // The command creates another secret.
    assert!(run(&["migrate"], &[("ROOMCAST_STORE", database.url())]).0);
    drop(ServerProcess::start(database.folder(), &variables));
}

#[test]
fn servers_of_a_database_share_one_secret_that_no_command_shows() {
    let database = migrated();
    let count =
        "SELECT count(*)::text || ' ' || min(octet_length(secret))::text FROM cluster_secrets";
    let servers =
        [(); 3].map(|()| database.server_with(&[("ROOMCAST_ADAPTER__URL", database.url())]));
    assert_eq!(database.sql(count).trim(), "1 32");
    drop(servers);
    let (works, output) = run(&["print-config"], &[("ROOMCAST_ADAPTER__SECRET", SECRET)]);
    assert!(
        works && !output.contains(SECRET) && output.contains("(hidden)"),
        "{output}"
    );
}

#[test]
fn production_logs_once_how_to_revoke_connect_from_public() {
    let database = migrated();
    let url = database.url().to_owned();
    let statement = |server: &ServerProcess| {
        let log = [server.early_log(), &server.log()].concat();
        let lines: Vec<_> = log
            .lines()
            .filter(|line| line.contains("REVOKE CONNECT"))
            .collect();
        assert!(lines.len() <= 1, "{log}");
        let line = lines.first()?;
        let start = line.find("GRANT CONNECT")?;
        let end = line.find("FROM PUBLIC;")? + "FROM PUBLIC;".len();
        Some(line[start..end].replace("\\\"", "\""))
    };
    let server = database.server_with(&production(&url));
    let revoke = statement(&server).unwrap();
    drop(server);
    database.sql(&revoke);
    let server = database.server_with(&production(&url));
    assert_eq!(statement(&server), None);
}

#[test]
fn server_that_trusts_all_broker_clients_warns_at_start() {
    let database = migrated();
    for (variable, value) in [
        ("ROOMCAST_ADAPTER__ACCEPT_PLAIN", "true"),
        ("ROOMCAST_ADAPTER__TRUST", "shared-with-node"),
    ] {
        let server =
            database.server_with(&[("ROOMCAST_ADAPTER__URL", database.url()), (variable, value)]);
        server.expect_log(&["WARN", "every client of the broker can act as a server"]);
    }
}
