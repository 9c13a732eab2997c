//! Makes the first connection to a database: checks it and runs migrations.

mod rights;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_postgres::Error;

use super::address::{Address, ConnectError};
use super::failure::{self, Fault};
use super::shared::secrets;
use super::texts;
use crate::config;
use crate::store::{Examination, OpenError, migrate as migrations};

/// Checks that a URL is usable, without connecting.
pub(in crate::store) fn check(url: &str, config: &config::Store) -> Result<(), OpenError> {
    Address::new(url, config).map(|_| ())
}

/// Migrates a database to the schema of this version.
pub(in crate::store) async fn migrate(
    url: &str,
    config: &config::Store,
) -> Result<Vec<String>, OpenError> {
    let address = Address::new(url, config)?;
    set_up(&address, config, true).await
}

/// Checks that the database is reachable and fit for this version, without changing it.
pub(in crate::store) async fn try_out(url: &str, config: &config::Store) -> Result<(), OpenError> {
    let address = Address::new(url, config)?;
    // This check does not wait for a database that is starting.
    let config = config::Store {
        retry_timeout: Duration::ZERO,
        ..config.clone()
    };
    match set_up(&address, &config, false).await {
        // The server migrates at start, if it has the rights.
        Err(OpenError::Migration { .. }) if config.migrate => {
            let client = address.connect().await;
            let client = client.map_err(|_| address.failed("cannot connect"))?;
            match migrations::missing_right(&client).await {
                Ok(None) => Ok(()),
                Ok(Some(right)) => Err(address.failed(&right)),
                Err(error) => Err(address.refused(&error)),
            }
        }
        tried => tried.map(drop),
    }
}

/// Reads the version of the tables, and compares the clocks.
pub(in crate::store) async fn examine(
    url: &str,
    config: &config::Store,
) -> Result<Examination, OpenError> {
    let address = Address::new(url, config)?;
    let client = address.connect().await;
    let client = client.map_err(|_| address.failed("cannot connect"))?;
    let read = async {
        let version = migrations::postgres_version(&client).await?;
        let before = Timestamp::now();
        let clock = client.query_one("SELECT clock_timestamp()", &[]).await?;
        let clock: Timestamp = clock.try_get(0)?;
        let after = Timestamp::now();
        // The database has read its clock between these two.
        let (early, late) = (before.duration_since(clock), after.duration_since(clock));
        let ahead = (early.as_secs_f64() + late.as_secs_f64()) / 2.0;
        Ok::<_, Error>((version, ahead))
    };
    let (version, ahead) = read.await.map_err(|error| address.refused(&error))?;
    Ok(Examination {
        schema: version.known(&address.name())?,
        newest: migrations::newest_postgres(),
        clock_ahead: Some(ahead),
    })
}

/// Connects, retries while the database starts, and migrates.
pub(super) async fn set_up(
    address: &Address,
    config: &config::Store,
    apply: bool,
) -> Result<Vec<String>, OpenError> {
    let deadline = Instant::now() + config.retry_timeout;
    loop {
        match address.connect().await {
            Ok(mut client) => {
                let refused = |error: Error| address.refused(&error);
                // The encoding is checked before the tables are created, because it cannot be
                // changed afterwards.
                texts::check_encoding(&client, &address.name())
                    .await
                    .map_err(refused)??;
                let applied = migrations::postgres(&mut client, &address.name(), apply).await?;
                texts::check_search(&client).await.map_err(refused)?;
                rights::check(&client).await.map_err(refused)?;
                if apply {
                    secrets::make(&client).await.map_err(refused)?;
                }
                return Ok(applied);
            }
            Err(ConnectError::Refused(error)) => {
                let transient = failure::fault(&error) == Fault::Lost
                    && error.code().is_none_or(|code| {
                        // Retrying does not help with wrong credentials or a missing database.
                        !code.code().starts_with("28") && !code.code().starts_with("3D")
                    });
                if !transient || Instant::now() >= deadline {
                    return Err(address.refused(&error));
                }
                tracing::debug!(%error, "could not connect to the database, retrying");
            }
            Err(ConnectError::TimedOut) if Instant::now() >= deadline => {
                return Err(OpenError::Database {
                    database: address.name(),
                    reason: "it does not answer".into(),
                });
            }
            Err(ConnectError::TimedOut) => {}
        }
        // The delay is short because the server is just starting and serves no clients yet.
        sleep(Duration::from_millis(200)).await;
    }
}
