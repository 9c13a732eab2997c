//! Where the database is, and how to get there: the URL, TLS, timeouts, connections.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::MakeTls;
use crate::config;
use crate::store::OpenError;

/// A database that connections can be made to.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    tls: MakeTls,
    connect_timeout: Duration,
    pool_timeout: Duration,
}

impl Address {
    /// Reads a URL. Errors do not repeat it, since it has credentials.
    pub(super) fn new(url: &str, store: &config::Store) -> Result<Self, OpenError> {
        if store.max_bytes.is_some() {
            return Err(OpenError::Url(
                "store.max_bytes is not for PostgreSQL, which has quotas of its own",
            ));
        }
        let (url, security) = Security::split(url)?;
        let mut config = Config::from_str(&url).map_err(|_| {
            OpenError::Url("expected `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`")
        })?;
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        let tls = if security.encrypts(config.get_hosts()) {
            config.ssl_mode(SslMode::Require);
            MakeTls::new(security.roots.as_deref()).map_err(|reason| OpenError::Database {
                database: name(&config),
                reason,
            })?
        } else {
            config.ssl_mode(SslMode::Disable);
            MakeTls::none()
        };
        if config.get_application_name().is_none() {
            config.application_name("roomcast");
        }
        // Own settings first, so that the URL's win where they are repeated; but the last one is
        // what an acknowledgement promises.
        let options = format!(
            "-c statement_timeout={0} -c idle_in_transaction_session_timeout={0} {1} \
             -c synchronous_commit=on -c default_transaction_isolation=read\\ committed",
            store.statement_timeout.as_millis().max(1),
            config.get_options().unwrap_or_default(),
        );
        config
            .options(options)
            .connect_timeout(store.connect_timeout)
            .tcp_user_timeout(store.statement_timeout + store.connect_timeout)
            .keepalives_idle(Duration::from_secs(30));
        Ok(Self {
            config,
            tls,
            connect_timeout: store.connect_timeout,
            pool_timeout: store.pool_timeout,
        })
    }

    /// A pool of at most `size` connections, opened when needed.
    pub(super) fn pool(&self, size: usize) -> Result<Pool, OpenError> {
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), manager);
        Pool::builder(manager)
            .max_size(size.max(1))
            .wait_timeout(Some(self.pool_timeout))
            .create_timeout(Some(self.connect_timeout))
            .recycle_timeout(Some(self.connect_timeout))
            .runtime(Runtime::Tokio1)
            .post_recycle(plan_again(self.connect_timeout))
            .build()
            .map_err(|error| self.refused(&error))
    }

    /// One connection outside of any pool, without a limit on how long a statement may take.
    pub(super) async fn connect(&self) -> Result<tokio_postgres::Client, ConnectError> {
        let mut config = self.config.clone();
        let options = config.get_options().unwrap_or_default();
        let options = format!("{options} -c statement_timeout=0");
        config.options(options);
        match timeout(self.connect_timeout, config.connect(self.tls.clone())).await {
            Ok(Ok((client, connection))) => {
                tokio::spawn(async move {
                    // The task ends with the client; errors of the connection reach the client's
                    // queries.
                    let _ = connection.await;
                });
                Ok(client)
            }
            Ok(Err(error)) => Err(ConnectError::Refused(error)),
            Err(_) => Err(ConnectError::TimedOut),
        }
    }

    /// Server and database, without credentials.
    pub(super) fn name(&self) -> String {
        name(&self.config)
    }

    pub(super) fn refused(&self, error: &dyn std::error::Error) -> OpenError {
        OpenError::Database {
            database: self.name(),
            reason: chain(error),
        }
    }
}

/// Lets a connection forget its plans whenever it has been used twice as often as the last time.
///
/// PostgreSQL keeps the plan of a prepared statement until it has gathered statistics about the
/// tables, which takes minutes. A plan from when the tables were empty reads them from end to end
/// ever after; this way none is used for longer than the connection had been before.
fn plan_again(patience: Duration) -> Hook {
    Hook::async_fn(move |client, uses| {
        Box::pin(async move {
            if !uses.recycle_count.is_power_of_two() {
                return Ok(());
            }
            match timeout(patience, client.batch_execute("DISCARD PLANS")).await {
                Ok(done) => done.map_err(HookError::Backend),
                Err(_) => Err(HookError::message("no answer in time")),
            }
        })
    })
}

/// Why there is no connection.
pub(super) enum ConnectError {
    Refused(tokio_postgres::Error),
    TimedOut,
}

/// What the URL says about TLS.
struct Security {
    /// None if it does not say.
    encrypts: Option<bool>,
    /// A file with the certificates to trust; else those of the system.
    roots: Option<PathBuf>,
}

impl Security {
    /// Takes the parameters about TLS out of a URL.
    fn split(url: &str) -> Result<(String, Self), OpenError> {
        let mut security = Self {
            encrypts: None,
            roots: None,
        };
        let Some((base, query)) = url.split_once('?') else {
            return Ok((url.into(), security));
        };
        let mut rest = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match (key, value) {
                ("sslmode", "disable") => security.encrypts = Some(false),
                ("sslmode", "require" | "verify-ca" | "verify-full") => {
                    security.encrypts = Some(true);
                }
                ("sslmode", _) => {
                    return Err(OpenError::Url(
                        "sslmode must be `disable` or `verify-full`; what is between protects nothing",
                    ));
                }
                ("sslrootcert", path) => {
                    let path = form_urlencoded::parse(format!("p={path}").as_bytes())
                        .map(|(_, path)| path.into_owned())
                        .next();
                    security.roots = path.map(PathBuf::from);
                }
                _ => rest.push(parameter),
            }
        }
        Ok((format!("{base}?{}", rest.join("&")), security))
    }

    /// Without a word in the URL, TLS is used unless everything stays on this machine.
    fn encrypts(&self, hosts: &[Host]) -> bool {
        self.encrypts
            .unwrap_or_else(|| self.roots.is_some() || !hosts.iter().all(is_local))
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn name(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config
        .get_dbname()
        .or_else(|| config.get_user())
        .unwrap_or_default();
    format!("{database} on {host}:{port}")
}

/// An error with its causes: the database's own words are only in the cause.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypts(url: &str) -> bool {
        let (url, security) = Security::split(url).unwrap();
        security.encrypts(Config::from_str(&url).unwrap().get_hosts())
    }

    #[test]
    fn a_line_that_leaves_the_machine_is_encrypted_unless_told_otherwise() {
        assert!(encrypts("postgres://u:p@db.example/chat"));
        assert!(encrypts("postgres://u:p@10.0.0.1/chat"));
        assert!(!encrypts("postgres://u:p@db.example/chat?sslmode=disable"));
        assert!(!encrypts("postgres://u:p@localhost/chat"));
        assert!(!encrypts("postgres://u:p@127.0.0.1:5433/chat"));
        assert!(!encrypts("postgres://u:p@[::1]/chat"));
        assert!(!encrypts("postgres:///chat?host=/run/postgresql"));
        assert!(encrypts(
            "postgres://u:p@localhost/chat?sslmode=verify-full"
        ));
        assert!(encrypts("postgres://u:p@localhost/chat?sslmode=require"));
    }

    #[test]
    fn a_mode_that_protects_nothing_is_refused() {
        for mode in ["prefer", "allow", "", "REQUIRE"] {
            let url = format!("postgres://u:secret@h/d?sslmode={mode}");
            let error = Address::new(&url, &config::Store::default()).err().unwrap();
            assert!(matches!(error, OpenError::Url(_)), "{mode}");
        }
    }

    #[test]
    fn parameters_of_tls_are_taken_out_and_the_others_stay() {
        let (url, security) = Security::split(
            "postgres://u@h/d?application_name=x&sslrootcert=%2Fetc%2Fmy+ca.pem&sslmode=verify-full&options=-c%20x%3D1",
        )
        .unwrap();
        assert_eq!(
            url,
            "postgres://u@h/d?application_name=x&options=-c%20x%3D1"
        );
        assert_eq!(security.roots, Some("/etc/my ca.pem".into()));
    }

    #[test]
    fn an_unusable_url_is_refused_without_being_repeated() {
        for url in [
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?nonsense=1",
            "postgres://u:secret@h/d?connect_timeout=x",
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
