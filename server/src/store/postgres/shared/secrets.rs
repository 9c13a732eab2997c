//! The secrets of the cluster, and whom the database keeps out.

use tokio_postgres::{Client, Error};

use crate::config;
use crate::store::postgres::address::{Address, ConnectError};
use crate::store::{ClusterSecrets, OpenError};

/// Makes the first secret, unless there is one.
pub(in crate::store::postgres) async fn make(client: &Client) -> Result<(), Error> {
    let mut secret = [0_u8; SECRET_BYTES];
    if getrandom::fill(&mut secret).is_err() {
        // A server that finds no secret refuses to start and says why.
        return Ok(());
    }
    // Of servers that start at the same time the first one makes the secret.
    let insert = "INSERT INTO cluster_secrets (position, secret)
         SELECT 1, $1 WHERE NOT EXISTS (SELECT FROM cluster_secrets) ON CONFLICT DO NOTHING";
    client
        .execute(insert, &[&secret.as_slice()])
        .await
        .map(drop)
}

/// Reads the secrets, and which roles could read or replace them.
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

/// Returns the statements by which PUBLIC loses the right to connect to the database; `None` if it has none.
pub(in crate::store) async fn open_to_public(
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

/// Bytes of a secret that a server makes.
const SECRET_BYTES: usize = 32;

const SECRETS: &str = "SELECT secret FROM cluster_secrets ORDER BY position";

/// The roles that could read the secrets or put others in their place, and neither own the table, nor are superusers,
/// nor are the server's own. Roles inherit rights from the roles of which they are members, or take them on by `SET
/// ROLE`. The predefined roles have ids below 16384: who is in them counts, and nobody connects as one. Neither does
/// anybody as a group by which the server's own role has its rights.
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

/// The server's own role may have the right by PUBLIC alone.
const PUBLIC: &str = "
    SELECT CASE WHEN has_database_privilege('public', current_database(), 'CONNECT') THEN format(
        'GRANT CONNECT ON DATABASE %1$I TO %2$I; REVOKE CONNECT ON DATABASE %1$I FROM PUBLIC;',
        current_database(), current_user) END";
