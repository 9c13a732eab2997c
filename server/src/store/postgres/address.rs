//! The address of the database and how to connect: URL, TLS, timeouts and pools.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::RwLock;
use roomcast::internal::{MakePostgresTls, PostgresAddress, PostgresFault, chain, while_awake};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error};

use crate::config;
use crate::store::OpenError;

/// A database address, with everything that is needed to connect. Clones share the credentials.
#[derive(Clone)]
pub(super) struct Address {
    name: String,
    current: Current,
    connect_timeout: Duration,
    pool_timeout: Duration,
}

/// How new connections are opened, including the credentials.
#[derive(Clone)]
struct Current {
    config: Arc<RwLock<Config>>,
    tls: MakePostgresTls,
}

impl Current {
    async fn open(self, config: Config) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, connection) = config.connect(self.tls).await?;
        let driver = tokio::spawn(async move {
            // The task ends with the client. Errors of the connection also reach the client's
            // queries.
            let _ = connection.await;
        });
        Ok((client, driver))
    }
}

impl Connect for Current {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = self.config.read().clone();
        self.clone().open(config).boxed()
    }
}

impl Address {
    /// Parses a URL. Errors do not repeat it, because it contains credentials.
    pub(super) fn new(url: &str, store: &config::Store) -> Result<Self, OpenError> {
        if store.max_bytes.is_some() {
            return Err(OpenError::Url(
                "store.max_bytes is not for PostgreSQL, which has quotas of its own",
            ));
        }
        let address = PostgresAddress::parse(url).map_err(|fault| match fault {
            PostgresFault::Url(what) => OpenError::Url(what),
            PostgresFault::Tls { database, reason } => OpenError::Database { database, reason },
        })?;
        let name = address.name();
        let PostgresAddress { mut config, tls } = address;
        // The server's own settings come first, so that settings of the URL override them. The last
        // settings cannot be overridden, because acknowledgements depend on them.
        let options = format!(
            "-c statement_timeout={0} -c idle_in_transaction_session_timeout={0} {1} \
             -c synchronous_commit=on -c default_transaction_isolation=read\\ committed",
            store.statement_timeout.as_millis().max(1),
            config.get_options().unwrap_or_default(),
        );
        config
            .options(options)
            .connect_timeout(store.connect_timeout)
            // The kernel also detects a database host that vanishes silently, not only the next
            // statement.
            .tcp_user_timeout(store.statement_timeout + store.connect_timeout)
            .keepalives_idle(Duration::from_secs(30));
        Ok(Self {
            name,
            current: Current {
                config: Arc::new(RwLock::new(config)),
                tls,
            },
            connect_timeout: store.connect_timeout,
            pool_timeout: store.pool_timeout,
        })
    }

    /// Replaces the credentials by those of another address of the same database, for new
    /// connections.
    pub(super) fn replace_credentials(&self, other: &Self) {
        let config = other.current.config.read().clone();
        *self.current.config.write() = config;
    }

    /// Creates a pool of at most `size` connections, which are opened on demand.
    pub(super) fn pool(&self, size: usize) -> Result<Pool, OpenError> {
        let manager = ManagerConfig {
            // A connection is not tested before each use: a statement that fails on a lost
            // connection is retried anyway.
            recycling_method: RecyclingMethod::Fast,
        };
        let config = self.current.config.read().clone();
        let manager = Manager::from_connect(config, self.current.clone(), manager);
        Pool::builder(manager)
            .max_size(size.max(1))
            .wait_timeout(Some(self.pool_timeout))
            .create_timeout(Some(self.connect_timeout))
            // `reset_plans_hook` has a timeout of its own.
            .recycle_timeout(None)
            .runtime(Runtime::Tokio1)
            .post_recycle(reset_plans_hook(self.connect_timeout))
            .build()
            .map_err(|error| self.refused(&error))
    }

    /// Opens one connection outside of any pool, without a statement timeout.
    pub(super) async fn connect(&self) -> Result<Client, ConnectError> {
        let mut config = self.current.config.read().clone();
        let options = config.get_options().unwrap_or_default();
        // Migrations may take long on large tables; the timeout is not meant for them.
        let options = format!("{options} -c statement_timeout=0");
        config.options(options);
        match timeout(self.connect_timeout, self.current.clone().open(config)).await {
            Ok(Ok((client, _))) => Ok(client),
            Ok(Err(error)) => Err(ConnectError::Refused(error)),
            Err(_) => Err(ConnectError::TimedOut),
        }
    }

    /// Returns the host and the database, without credentials.
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    pub(super) fn failed(&self, reason: &str) -> OpenError {
        OpenError::Database {
            database: self.name(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn refused(&self, error: &dyn std::error::Error) -> OpenError {
        OpenError::Database {
            database: self.name(),
            reason: chain(error),
        }
    }
}

/// Resets a connection's cached plans whenever its use count reaches a power of two.
///
/// PostgreSQL keeps the plan of a prepared statement until it has gathered statistics about the
/// tables, which takes minutes. A plan from when the tables were empty would scan them in full
/// until then. This way no plan is used for more than half of the connection's uses.
fn reset_plans_hook(patience: Duration) -> Hook {
    Hook::async_fn(move |client, uses| {
        Box::pin(async move {
            if !uses.recycle_count.is_power_of_two() {
                return Ok(());
            }
            match while_awake(patience, client.batch_execute("DISCARD PLANS")).await {
                Some(done) => done.map_err(HookError::Backend),
                None => Err(HookError::message("no answer in time")),
            }
        })
    })
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.name).finish()
    }
}

/// The reason why a connection could not be opened.
pub(super) enum ConnectError {
    Refused(Error),
    TimedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_url_is_refused_without_echoing_it() {
        for url in [
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?sslmode=prefer",
        ] {
            let error = Address::new(url, &config::Store::default()).err().unwrap();
            assert!(matches!(error, OpenError::Url(_)), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let limited = config::Store {
            max_bytes: Some(1),
            ..config::Store::default()
        };
        assert!(Address::new("postgres://u@h/d", &limited).is_err());
    }
}
