//! Whether a database is fit for texts of all languages.

use tokio_postgres::{Client, Error};

use crate::store::OpenError;

/// Texts are Unicode, so the database must be able to keep all of it.
pub(super) async fn check_encoding(
    client: &Client,
    database: &str,
) -> Result<Result<(), OpenError>, Error> {
    let row = client
        .query_one("SELECT current_setting('server_encoding')", &[])
        .await?;
    let encoding: &str = row.try_get(0)?;
    Ok(if encoding == "UTF8" {
        Ok(())
    } else {
        Err(OpenError::Database {
            database: database.into(),
            reason: format!(
                "its encoding is {encoding}: make it with `CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'`"
            ),
        })
    })
}

/// Search takes the database's word for what a letter is. Where that is ASCII only, everything else works
/// but other words are not found: a warning.
pub(super) async fn check_search(client: &Client) -> Result<(), Error> {
    let row = client
        .query_one(
            "SELECT roomcast_words('ÄRGER Ελλάδα') @@ plainto_tsquery('pg_catalog.simple', 'ärger')
                 AND roomcast_words('ÄRGER Ελλάδα') @@ plainto_tsquery('pg_catalog.simple', 'ελλάδα'),
                 datctype::text
             FROM pg_database WHERE datname = current_database()",
            &[],
        )
        .await?;
    if !row.try_get::<_, bool>(0)? {
        let ctype: Option<&str> = row.try_get(1)?;
        // Everything else works, so a server that is already in use is not refused for this.
        tracing::warn!(
            ctype,
            "search finds only ASCII words: the database's LC_CTYPE knows no others, C.UTF-8 or en_US.UTF-8 would"
        );
    }
    Ok(())
}
