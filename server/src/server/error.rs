//! The reasons why the server did not start, or stopped.

use std::{fmt, net::SocketAddr, path::PathBuf};

use super::edge::FileFault;
use crate::auth::{RolesError, configured::ConfiguredError, outbound::OutboundFault};
use crate::config::private_files;
use crate::gateway::HashFault;
use crate::http::scrape::TokenFileError;
use crate::service::{KindFault, cluster};
use crate::store::{OpenError, StoreError};
use roomcast::service::TlsError;

/// The reason why the server did not start, or stopped.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The configuration is refused, with the reason.
    Refused(Box<Self>),
    /// A configuration value is invalid.
    Settings(&'static str),
    /// The hash of the password of the admin UI cannot be used.
    AdminUi(HashFault),
    /// The keys of tokens cannot be used.
    Keys(ConfiguredError),
    /// The roles are invalid.
    Roles(RolesError),
    /// The declaration of a kind of channels is wrong.
    Channels(KindFault),
    /// The configuration of an outbound service is invalid.
    Outbound(OutboundFault),
    /// The adapter is unknown, or its settings are invalid.
    Adapter(cluster::AdapterFault),
    /// Messages between servers cannot be sealed.
    Sealing(cluster::SealingFault),
    /// The store cannot be opened.
    Open(OpenError),
    /// Every user of the machine can replace the files of this configuration key, through this
    /// folder.
    Folder(&'static str, PathBuf),
    /// The store cannot be read or prepared.
    Store(StoreError),
    /// The TLS certificate cannot be used.
    Tls(TlsError),
    /// Options are invalid, or the address is in use.
    Server(roomcast::Error),
    /// The file with the token of scrapers cannot be used.
    MetricsToken(TokenFileError),
    /// The configured admin address cannot be bound.
    Admin(SocketAddr, std::io::Error),
    /// The address of redirects cannot be bound.
    Redirect(SocketAddr, std::io::Error),
    /// The configuration needs a feature, named by the text, without which this server was built.
    Absent(&'static str),
    /// The files of the certificate cannot be written.
    Certificate(FileFault),
    /// Signals cannot be received.
    Signals(std::io::Error),
    /// The service manager cannot be notified.
    ServiceManager(std::io::Error),
    /// A second signal arrived during shutdown.
    Hurried,
    /// Tasks with these names ended and cannot be restarted.
    Tasks(Vec<&'static str>),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Settings(fault) => f.write_str(fault),
            Self::AdminUi(fault) => write!(f, "admin_ui.password_hash {fault}"),
            Self::Keys(_) => f.write_str("the token keys are unusable"),
            Self::Roles(_) => f.write_str("the roles are invalid"),
            Self::Channels(fault) => fault.fmt(f),
            Self::Adapter(fault) => fault.fmt(f),
            Self::Sealing(fault) => fault.fmt(f),
            Self::Outbound(fault) => fault.fmt(f),
            Self::Open(_) => f.write_str("cannot open the store"),
            Self::Folder(key, folder) => {
                f.write_str(&private_files::open_folder_fault(key, folder))
            }
            Self::Store(_) => f.write_str("cannot prepare the store"),
            Self::Tls(_) => f.write_str("cannot encrypt connections"),
            Self::Server(_) => f.write_str("cannot start the server"),
            Self::MetricsToken(error) => error.fmt(f),
            Self::Admin(address, _) => {
                write!(f, "cannot listen on {address} (server.admin_listen)")
            }
            Self::Redirect(address, _) => {
                write!(f, "cannot listen on {address} (server.tls.redirect_listen)")
            }
            Self::Absent(fault) => f.write_str(fault),
            Self::Certificate(_) => f.write_str("cannot write the certificate"),
            Self::Signals(_) => f.write_str("cannot receive signals"),
            Self::ServiceManager(_) => {
                f.write_str("cannot notify the service manager (NOTIFY_SOCKET)")
            }
            Self::Hurried => f.write_str("received a second signal during shutdown"),
            Self::Tasks(names) => {
                let names = names.join(", ");
                write!(f, "tasks that cannot be restarted have ended: {names}")
            }
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => error.source(),
            Self::Settings(_)
            | Self::AdminUi(_)
            | Self::Folder(_, _)
            | Self::Channels(_)
            | Self::Outbound(_)
            | Self::Adapter(_)
            | Self::MetricsToken(_)
            | Self::Absent(_)
            | Self::Hurried
            | Self::Tasks(_) => None,
            Self::Keys(error) => Some(error),
            Self::Sealing(fault) => fault.source(),
            Self::Roles(error) => Some(error),
            Self::Open(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Server(error) => Some(error),
            Self::Certificate(fault) => Some(fault),
            Self::Admin(_, error)
            | Self::Redirect(_, error)
            | Self::Signals(error)
            | Self::ServiceManager(error) => Some(error),
        }
    }
}
