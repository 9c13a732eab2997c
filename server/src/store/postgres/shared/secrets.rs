//! The secrets of the cluster, and the rights that protect them.

use tokio_postgres::{Client, Error};

use crate::config;
use crate::store::postgres::address::{Address, ConnectError};
use crate::store::{ClusterSecrets, OpenError};

/// Creates the first secret if there is none.
pub(in crate::store::postgres) async fn make(client: &Client) -> Result<(), Error> {
    let mut secret = [0_u8; SECRET_BYTES];
    if getrandom::fill(&mut secret).is_err() {
        // A server without a secret refuses to start and reports why.
        return Ok(());
    }
    // If several servers start at the same time, the first creates the secret.
    let insert = "INSERT INTO cluster_secrets (position, secret)
         SELECT 1, $1 WHERE NOT EXISTS (SELECT FROM cluster_secrets) ON CONFLICT DO NOTHING";
    client
        .execute(insert, &[&secret.as_slice()])
        .await
        .map(drop)
}

/// Reads the secrets and the roles that could read or replace them.
pub(in crate::store) async fn cluster_secrets(
    url: &str,
    config: &config::Store,
) -> Result<ClusterSecrets, OpenError> {
    let address = Address::new(url, config)?;
    let client = connect(&address).await?;
    let read = async {
        let rows = client.query(SECRETS, &[]).await?;
        let secrets = rows.iter().map(|row| row.try_get(0));
        let secrets = secrets.collect::<Result<Vec<Vec<u8>>, _>>()?;
        let rows = client.query(READERS, &[]).await?;
        let readers = rows.iter().map(|row| row.try_get(0));
        let readers = readers.collect::<Result<Vec<String>, _>>()?;
        Ok(ClusterSecrets { secrets, readers })
    };
    read.await.map_err(|error: Error| address.refused(&error))
}

/// Returns the statements that revoke PUBLIC's right to connect to the database, or `None` if
/// PUBLIC has no such right.
pub(in crate::store) async fn public_connect_revocation(
    url: &str,
    config: &config::Store,
) -> Result<Option<String>, OpenError> {
    let address = Address::new(url, config)?;
    let client = connect(&address).await?;
    let row = client.query_one(PUBLIC, &[]).await;
    let statements = row.and_then(|row| row.try_get(0));
    statements.map_err(|error| address.refused(&error))
}

async fn connect(address: &Address) -> Result<Client, OpenError> {
    address.connect().await.map_err(|error| match error {
        ConnectError::Refused(error) => address.refused(&error),
        ConnectError::TimedOut => OpenError::Database {
            database: address.name(),
            reason: "it does not answer".into(),
        },
    })
}

/// The length in bytes of a generated secret.
const SECRET_BYTES: usize = 32;

const SECRETS: &str = "SELECT secret FROM cluster_secrets ORDER BY position";

/// Selects the roles that could read or replace the secrets, except the owner, superusers and the
/// server's own role.
///
/// Roles inherit rights from the roles of which they are members, or acquire them with `SET ROLE`.
/// Predefined roles have ids below 16384. Their members are selected, but not the predefined roles,
/// because no session connects as one. The same applies to a group role through which the server's
/// own role has its rights.
const READERS: &str = "
    WITH secrets AS (SELECT oid, relowner, relacl FROM pg_class WHERE oid = 'cluster_secrets'::regclass::oid),
    able AS (
        SELECT r.oid FROM pg_roles r, secrets s
        WHERE NOT r.rolsuper AND (
            has_any_column_privilege(r.oid, s.oid, 'SELECT, INSERT, UPDATE')
            OR has_table_privilege(r.oid, s.oid, 'DELETE, TRUNCATE, TRIGGER')))
    SELECT 'PUBLIC' AS name FROM secrets s WHERE EXISTS (SELECT FROM aclexplode(s.relacl) WHERE grantee = 0)
    UNION ALL
    SELECT r.rolname::text FROM pg_roles r, secrets s
    WHERE NOT r.rolsuper AND r.rolname <> current_user AND r.oid >= 16384
        AND NOT pg_has_role(r.oid, s.relowner, 'MEMBER')
        AND NOT (
            NOT r.rolcanlogin AND pg_has_role(current_user, r.oid, 'USAGE')
            AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
        AND EXISTS (SELECT FROM able a WHERE pg_has_role(r.oid, a.oid, 'MEMBER'))
    ORDER BY name";

/// Selects the statements that revoke CONNECT from PUBLIC. The server's role gets CONNECT first,
/// because it may have it only through PUBLIC.
const PUBLIC: &str = "
    SELECT CASE WHEN has_database_privilege('public', current_database(), 'CONNECT') THEN format(
        'GRANT CONNECT ON DATABASE %1$I TO %2$I; REVOKE CONNECT ON DATABASE %1$I FROM PUBLIC;',
        current_database(), current_user) END";
