//! Warns of rights with which any database role could act as this server.

use tokio_postgres::{Client, Error};

/// Checks what PUBLIC may do in the schema, and logs a warning.
///
/// Migrations revoke these rights, but they do not own the schema, and a backup may have been
/// restored without its privileges. The server works nevertheless, so it only warns.
pub(super) async fn check(client: &Client) -> Result<(), Error> {
    let row = client
        .query_one(
            "SELECT CASE WHEN has_schema_privilege('public', current_schema(), 'CREATE')
                     THEN format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema()) END AS create_right,
                 (SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC',
                      string_agg(oid::regprocedure::text, ', ' ORDER BY oid::regprocedure::text))
                  FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(current_schema()))
                      AND proname LIKE 'roomcast\\_%' AND has_function_privilege('public', oid, 'EXECUTE')
                  HAVING count(*) > 0) AS execute_right",
            &[],
        )
        .await?;
    if let Some(statement) = row.try_get::<_, Option<&str>>("create_right")? {
        tracing::warn!(
            statement,
            "every role of the database may create functions and operators in the server's schema, which the \
             server's statements may use: run the statement"
        );
    }
    if let Some(statement) = row.try_get::<_, Option<&str>>("execute_right")? {
        tracing::warn!(
            statement,
            "every role of the database may execute the server's functions: run the statement"
        );
    }
    Ok(())
}
