//! Checks whether a database can store and search text of all languages.

use tokio_postgres::{Client, Error};

use crate::store::OpenError;

/// Checks the encoding. Text is Unicode, so the database must be able to store all of it.
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
                "its encoding is {encoding}: create it with `CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'`"
            ),
        })
    })
}

/// Warns if the database recognizes only ASCII letters. Search then misses words with other
/// letters; everything else works.
pub(super) async fn check_search(client: &Client) -> Result<(), Error> {
    let row = client
        .query_one(
            "SELECT roomcast_words('ÄRGER Ελλάδα') @@ plainto_tsquery('pg_catalog.simple', 'ärger')
                 AND roomcast_words('ÄRGER Ελλάδα') @@ plainto_tsquery('pg_catalog.simple', 'ελλάδα')
                     AS finds_letters,
                 datctype::text
             FROM pg_database WHERE datname = current_database()",
            &[],
        )
        .await?;
    if !row.try_get::<_, bool>("finds_letters")? {
        let ctype: Option<&str> = row.try_get("datctype")?;
        // A warning suffices, so that a database in use is not refused.
        tracing::warn!(
            ctype,
            "search finds only ASCII words: create the database with LC_CTYPE C.UTF-8 or en_US.UTF-8"
        );
    }
    Ok(())
}
