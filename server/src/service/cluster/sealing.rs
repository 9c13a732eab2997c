//! The protection of messages between servers: sealed with the configured secrets, with those of
//! the store's table, or not at all.

use std::fmt;

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
use roomcast::adapter::{InvalidSecrets, Secrets};
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
use tokio::{runtime::Handle, time::timeout};

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
use crate::config::Trust;
use crate::config::{Profile, Settings};
use crate::store::{OpenError, Store};

/// Whether messages between servers are sealed, and with which secrets. By default they are not.
/// Clones share the secrets.
#[derive(Clone, Default)]
pub(crate) struct Sealing {
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    pub(super) secrets: Option<Secrets>,
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    pub(super) accepts_plain: bool,
}

/// The reason why messages cannot be sealed.
#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "nats", feature = "postgres", feature = "redis")),
    expect(dead_code, reason = "a build without adapters seals nothing")
)]
pub(crate) enum SealingFault {
    /// The table of secrets cannot be read.
    Store(OpenError),
    /// The table of secrets is empty.
    None,
    /// There is neither a configured secret nor a table of secrets.
    Absent,
    /// Database roles that belong to no server could read the table.
    Exposed(Vec<String>),
    /// The secrets are invalid.
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    Invalid(InvalidSecrets),
}

#[cfg(not(any(feature = "nats", feature = "postgres", feature = "redis")))]
impl Sealing {
    /// Disables sealing, since a build without adapters has no messages between servers.
    pub(crate) fn open(_: &Settings) -> std::future::Ready<Result<Self, SealingFault>> {
        std::future::ready(Ok(Self::default()))
    }

    /// Replaces nothing.
    pub(crate) fn prepare(&self, _: &Settings) -> Result<impl FnOnce() + use<>, SealingFault> {
        Ok(|| ())
    }
}

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
impl Sealing {
    /// Returns how a server seals its messages.
    ///
    /// Its store must have been opened before, so that the table exists.
    ///
    /// # Errors
    ///
    /// If there is no secret, or if roles that belong to no server could read the table in
    /// production.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, SealingFault> {
        let adapter = &settings.adapter;
        if super::url(settings).is_none() {
            return Ok(Self::default());
        }
        if adapter.trust == Trust::SharedWithNode {
            tracing::warn!(
                "every client of the broker can act as a server (adapter.trust = \"shared-with-node\")"
            );
            return Ok(Self::default());
        }
        if adapter.accept_plain {
            tracing::warn!(
                "every client of the broker can act as a server (adapter.accept_plain): \
                 switch it off after the upgrade"
            );
        }
        let (secrets, readers) = secrets(settings).await?;
        if !readers.is_empty() {
            let roles = readers.join(", ");
            tracing::error!(roles, "{EXPOSED}");
            if settings.profile() == Profile::Production {
                return Err(SealingFault::Exposed(readers));
            }
        }
        Ok(Self {
            secrets: Some(secrets),
            accepts_plain: adapter.accept_plain,
        })
    }

    /// Checks the configured secrets, or reads those of the store's table again, and returns what
    /// replaces those that seal and open messages. Waits for the store, so the thread must be able
    /// to block. If the table cannot be read, its secrets stay in use.
    ///
    /// # Errors
    ///
    /// If the configured secrets are invalid.
    pub(crate) fn prepare(
        &self,
        settings: &Settings,
    ) -> Result<impl FnOnce() + use<>, SealingFault> {
        let configured = configured(settings).map_err(SealingFault::Invalid)?;
        let secrets = self.secrets.clone();
        let new = match (&secrets, configured) {
            (Some(_), None) => reread(settings),
            (_, configured) => configured,
        };
        Ok(move || {
            if let (Some(secrets), Some(new)) = (secrets, new) {
                secrets.replace(&new);
            }
        })
    }

    /// Returns how a program seals the events that it publishes to the servers.
    ///
    /// # Errors
    ///
    /// If there is no secret.
    pub(crate) async fn for_emitter(settings: &Settings) -> Result<Self, SealingFault> {
        if settings.adapter.trust == Trust::SharedWithNode {
            return Ok(Self::default());
        }
        let (secrets, _) = secrets(settings).await?;
        Ok(Self {
            secrets: Some(secrets),
            accepts_plain: settings.adapter.accept_plain,
        })
    }
}

/// Returns the secrets, and the roles other than the servers' that could read their table.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
async fn secrets(settings: &Settings) -> Result<(Secrets, Vec<String>), SealingFault> {
    if let Some(secrets) = configured(settings).map_err(SealingFault::Invalid)? {
        return Ok((secrets, Vec::new()));
    }
    let stored = Store::cluster_secrets(&settings.store).await;
    let stored = stored.map_err(SealingFault::Store)?;
    let stored = stored.ok_or(SealingFault::Absent)?;
    if stored.secrets.is_empty() {
        return Err(SealingFault::None);
    }
    let secrets = Secrets::new(&stored.secrets).map_err(SealingFault::Invalid)?;
    Ok((secrets, stored.readers))
}

/// Reads the table of secrets again. Returns `None` if the previous secrets must stay in use.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
fn reread(settings: &Settings) -> Option<Secrets> {
    let limit = settings.store.connect_timeout + settings.store.statement_timeout;
    let reading = async { timeout(limit, secrets(settings)).await };
    let fault = match Handle::current().block_on(reading) {
        Ok(Ok((secrets, readers))) if readers.is_empty() => return Some(secrets),
        Ok(Ok((_, readers))) => SealingFault::Exposed(readers).to_string(),
        Ok(Err(SealingFault::Store(error))) => error.to_string(),
        Ok(Err(fault)) => fault.to_string(),
        Err(_) => "the database does not answer".to_owned(),
    };
    tracing::error!(
        error = fault,
        "could not read the secrets of the cluster again, the previous ones stay in use"
    );
    None
}

/// Returns the configured secrets, if there are any.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub(super) fn configured(settings: &Settings) -> Result<Option<Secrets>, InvalidSecrets> {
    let configured = &settings.adapter.secret;
    if configured.is_empty() {
        return Ok(None);
    }
    Secrets::new(configured.iter().map(|secret| secret.expose())).map(Some)
}

/// Warns in production if every role of the database server may connect to this server's database.
pub(crate) async fn warn_of_public(settings: &Settings) -> Result<(), OpenError> {
    if settings.profile() == Profile::Production
        && let Some(statement) = Store::public_connect_revocation(&settings.store).await?
    {
        tracing::warn!(
            statement,
            "every role of the database server may connect to the database of this server, and can flood its \
             notifications: run the statement"
        );
    }
    Ok(())
}

const EXPOSED: &str = "roles that are neither the owner nor the server's could read or replace the secrets of \
     the cluster (table cluster_secrets)";

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").finish_non_exhaustive()
    }
}

impl fmt::Display for SealingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(_) => f.write_str("cannot read the secrets of the cluster"),
            Self::None => f.write_str(
                "the table cluster_secrets has no secret: run `roomcast migrate` as the owner of the tables, or set \
                 adapter.secret (`openssl rand -base64 48` makes one)",
            ),
            Self::Absent => f.write_str(
                "no cluster secret is known: set adapter.secret (ROOMCAST_ADAPTER__SECRET) to that of the \
                 servers, or store.url (ROOMCAST_STORE) to their PostgreSQL, or publish unsealed messages with \
                 `--unsealed`",
            ),
            Self::Exposed(roles) => write!(
                f,
                "{EXPOSED}: {}. Revoke their rights, or set adapter.secret (`openssl rand -base64 48` makes one)",
                roles.join(", ")
            ),
            #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
            Self::Invalid(fault) => write!(f, "adapter.secret: {fault}"),
        }
    }
}

impl std::error::Error for SealingFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::None | Self::Absent | Self::Exposed(_) => None,
            #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
            Self::Invalid(fault) => Some(fault),
        }
    }
}
