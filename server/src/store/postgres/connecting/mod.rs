//! The first connection to a database: whether it is fit, and its migrations.

mod rights;

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::Error;

use super::address::{Address, ConnectError};
use super::failure::{self, Fault};
use super::shared::secrets;
use super::texts;
use crate::config;
use crate::store::{OpenError, migrate as migrations};

/// Whether a URL is usable, without connecting.
pub(in crate::store) fn check(url: &str, config: &config::Store) -> Result<(), OpenError> {
    Address::new(url, config).map(|_| ())
}

/// Brings a database to the tables of this version.
pub(in crate::store) async fn migrate(
    url: &str,
    config: &config::Store,
) -> Result<Vec<String>, OpenError> {
    let address = Address::new(url, config)?;
    set_up(&address, config, true).await
}

/// Whether the database can be reached and is fit for this version, without changing it.
pub(in crate::store) async fn try_out(url: &str, config: &config::Store) -> Result<(), OpenError> {
    let address = Address::new(url, config)?;
    // A database that is just starting is not waited for.
    let config = config::Store {
        retry_timeout: Duration::ZERO,
        ..config.clone()
    };
    match set_up(&address, &config, false).await {
        // The server brings the tables to its version itself, if it may.
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

/// Connects, with some patience for a database that is just starting, and migrates.
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
                // The encoding is checked before the tables are made, since it cannot be changed
                // afterwards.
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
                        // Wrong credentials and missing databases do not mend themselves.
                        !code.code().starts_with("28") && !code.code().starts_with("3D")
                    });
                if !transient || Instant::now() >= deadline {
                    return Err(address.refused(&error));
                }
                tracing::debug!(%error, "the database is not there yet");
            }
            Err(ConnectError::TimedOut) if Instant::now() >= deadline => {
                return Err(OpenError::Database {
                    database: address.name(),
                    reason: "it does not answer".into(),
                });
            }
            Err(ConnectError::TimedOut) => {}
        }
        // The pause is short because the server is just starting, and nobody is served yet.
        sleep(Duration::from_millis(200)).await;
    }
}
