//! The address of PostgreSQL: its URL, and the TLS settings in it.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr as _};

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use super::tls::MakeTls;

/// The address of a database.
#[derive(Clone)]
pub struct Address {
    /// The location of the database, with credentials.
    pub config: Config,
    /// The TLS settings of connections.
    pub tls: MakeTls,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.name()).finish()
    }
}

/// The reason why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not part of the API")]
pub enum Fault {
    /// The URL is invalid.
    Url(&'static str),
    /// The trusted certificates cannot be read.
    Tls {
        /// The server and the database, without credentials.
        database: String,
        /// The fault in the options.
        reason: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(what) => f.write_str(what),
            Self::Tls { database, reason } => write!(f, "no TLS to {database}: {reason}"),
        }
    }
}

impl Address {
    /// Parses a URL. TLS is used unless the server is on this machine or the URL specifies
    /// otherwise. Certificates are always verified.
    ///
    /// # Errors
    ///
    /// If the URL is invalid, or if the trusted certificates cannot be read.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        let (url, security) = Security::split(url)?;
        let mut config = Config::from_str(&url).map_err(|_| {
            Fault::Url("expected `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`")
        })?;
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        let tls = if security.encrypts(config.get_hosts(), config.get_hostaddrs()) {
            // The default would continue without TLS if the server does not support it.
            config.ssl_mode(SslMode::Require);
            MakeTls::new(security.roots.as_deref()).map_err(|reason| Fault::Tls {
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
        Ok(Self { config, tls })
    }

    /// Returns the server and the database, without credentials.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.config)
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

/// The TLS settings of a URL.
struct Security {
    /// Whether to encrypt; `None` if the URL does not specify it.
    encrypts: Option<bool>,
    /// A file with the trusted certificates. `None` means the certificates of the system.
    roots: Option<PathBuf>,
}

impl Security {
    /// Removes the TLS parameters from a URL, and parses them.
    fn split(url: &str) -> Result<(String, Self), Fault> {
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
                    return Err(Fault::Url(
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

    /// Returns whether to encrypt connections: as the URL specifies, or else unless the server is
    /// on this machine. If the URL contains IP addresses, connections use them, whatever its host
    /// names are.
    fn encrypts(&self, hosts: &[Host], addresses: &[IpAddr]) -> bool {
        self.encrypts.unwrap_or_else(|| {
            let is_local = hosts.iter().all(is_local) && addresses.iter().all(IpAddr::is_loopback);
            self.roots.is_some() || !is_local
        })
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypts(url: &str) -> bool {
        Address::parse(url).unwrap().config.get_ssl_mode() == SslMode::Require
    }

    #[test]
    fn remote_connection_is_encrypted_unless_disabled() {
        assert!(encrypts("postgres://u:p@db.example/chat"));
        assert!(encrypts("postgres://u:p@10.0.0.1/chat"));
        assert!(!encrypts("postgres://u:p@db.example/chat?sslmode=disable"));
        assert!(!encrypts("postgres://u:p@localhost/chat"));
        assert!(!encrypts("postgres://u:p@127.0.0.1:5433/chat"));
        assert!(!encrypts("postgres://u:p@[::1]/chat"));
        assert!(!encrypts("postgres:///chat?host=/run/postgresql"));
        assert!(!encrypts("postgres://u:p@/chat?hostaddr=127.0.0.1"));
        assert!(encrypts("postgres://u:p@/chat?hostaddr=10.0.0.1"));
        assert!(encrypts("postgres://u:p@localhost/chat?hostaddr=10.0.0.1"));
        assert!(encrypts(
            "postgres://u:p@localhost/chat?sslmode=verify-full"
        ));
        assert!(encrypts("postgres://u:p@localhost/chat?sslmode=require"));
    }

    #[test]
    fn a_mode_that_protects_nothing_is_refused() {
        for mode in ["prefer", "allow", "", "REQUIRE"] {
            let url = format!("postgres://u:secret@h/d?sslmode={mode}");
            let error = Address::parse(&url).err().unwrap();
            assert!(matches!(error, Fault::Url(_)), "{mode}");
        }
    }

    #[test]
    fn tls_parameters_are_removed_and_other_parameters_stay() {
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
    fn invalid_url_is_refused_without_being_repeated() {
        for url in [
            "localhost",
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?nonsense=1",
            "postgres://u:secret@h/d?connect_timeout=x",
            "postgres://u:secret@h/d?sslrootcert=/nowhere",
        ] {
            let error = Address::parse(url).err().unwrap();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
