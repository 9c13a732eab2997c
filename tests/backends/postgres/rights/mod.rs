//! Rights of database roles, and where they are documented.

mod defaults;
mod duties;
mod grants;
mod objects;
mod planted;

use roomcast_server::config;
use roomcast_server::store::Store;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::documented;
use crate::harness::{postgres, sql};

/// A database with the current tables and the table of the adapter.
pub(super) struct Database {
    pub(super) config: config::Store,
}

impl Database {
    pub(super) async fn new() -> Self {
        let (config, _) = postgres();
        Store::migrate(&config).await.unwrap();
        let database = Self { config };
        let statements = documented::of_a_server("", "");
        let tables = statements.iter().filter(|text| text.starts_with("CREATE"));
        tables.for_each(|table| drop(database.sql(table)));
        database
    }

    pub(super) fn sql(&self, text: &str) -> String {
        sql(&self.config, text)
    }

    /// Returns the name of the database.
    pub(super) fn name(&self) -> &str {
        self.config.url.rsplit_once('/').unwrap().1
    }

    /// Creates a role with nothing but `LOGIN`.
    pub(super) fn bare_role(&self) -> String {
        let role = format!("r_{}", Uuid::new_v4().simple());
        self.sql(&format!("CREATE ROLE {role} LOGIN"));
        role
    }

    /// Creates a role with the grants in `docs/storage.md` for a server that does not own the
    /// tables.
    pub(super) fn server_role(&self) -> String {
        let role = self.bare_role();
        self.sql(&self.server_grants(&role).join("; "));
        role
    }

    /// Returns the statements that grant a role what a server needs.
    pub(super) fn server_grants(&self, role: &str) -> Vec<String> {
        let mut statements = documented::of_a_server(self.name(), role);
        statements.retain(|text| text.starts_with("GRANT"));
        statements
    }

    /// Creates a role with the grants in `docs/publications.md` for a publishing service.
    pub(super) fn publishing_role(&self) -> String {
        let role = self.bare_role();
        self.sql(&documented::of_a_publisher(&role).join("; "));
        role
    }

    /// Returns the configuration of a server with this role.
    pub(super) fn config_as(&self, role: &str) -> config::Store {
        config::Store {
            url: self
                .config
                .url
                .replace("//roomcast@", &format!("//{role}@")),
            migrate: false,
            ..self.config.clone()
        }
    }

    /// Connects as this role.
    pub(super) async fn client_as(&self, role: &str) -> Client {
        let url = self.config_as(role).url;
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        tokio::spawn(connection);
        client
    }
}
