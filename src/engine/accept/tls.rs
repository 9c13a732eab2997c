//! TLS for HTTP: certificates are read from files, and again when they change.

use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use rustls::{
    HandshakeKind, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::Acceptor,
};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    deferred_ticket::DeferredTicket,
    expiry,
    suites::{self, Configs},
    tickets::Tickets,
};
use crate::{
    engine::primitives::GaugeGuard,
    limit::FairSemaphore,
    metrics::{Counter, Gauge, Metrics},
};

/// The TLS settings of a [`Server`](crate::Server): TLS 1.2 and 1.3 with the safe default cipher
/// suites of `rustls`, and HTTP/1.1 (ALPN). Clones share the same state.
///
/// Clients that prefer AES get AES-128 with SHA-256 if they offer it, and those that prefer
/// ChaCha20 keep their order.
#[derive(Clone)]
pub struct Tls(Arc<TlsInner>);

struct TlsInner {
    cert_file: PathBuf,
    key_file: PathBuf,
    handshakes: FairSemaphore,
    current: RwLock<Current>,
}

struct Current {
    configs: Configs,
    /// The stamp of the files from which the configuration was read.
    stamp: Stamp,
    /// The stamp of files that could not be used, so that the fault is logged once.
    refused: Option<Stamp>,
    /// The end of the validity of the certificate, in seconds since 1970.
    expires_at: Option<i64>,
}

/// Modification time and size of both files, which reveal changes; `None` if a file is missing.
type Stamp = [Option<(Option<SystemTime>, u64)>; 2];

/// Timeout of a handshake, including the wait for a permit.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of concurrent handshakes; further ones wait for a permit.
const HANDSHAKES: usize = 1024;
/// Maximum number of concurrent handshakes of one client address.
const HANDSHAKES_EACH: usize = 64;
/// The interval between checks of the files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// The family of the end of the certificate.
const EXPIRY: &str = "roomcast_tls_certificate_expiry_timestamp_seconds";
const EXPIRY_HELP: &str =
    "Time at which a certificate of the chain in use expires first, in seconds since 1970.";
/// The protocol inside of TLS.
const ALPN: &[u8] = b"http/1.1";

impl Tls {
    /// Reads a certificate chain and its private key, both in PEM format. While a server uses them,
    /// the files are checked every two seconds. Changed files apply to later connections.
    ///
    /// # Errors
    ///
    /// If the files cannot be read, or the key does not match the certificate.
    pub fn from_files(
        cert_file: impl Into<PathBuf>,
        key_file: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let (cert_file, key_file) = (cert_file.into(), key_file.into());
        let stamp = stamp(&cert_file, &key_file);
        let (configs, expires_at) = read(&cert_file, &key_file)?;
        let current = Current {
            configs,
            stamp,
            refused: None,
            expires_at,
        };
        Ok(Self(Arc::new(TlsInner {
            cert_file,
            key_file,
            handshakes: FairSemaphore::new(HANDSHAKES, HANDSHAKES_EACH),
            current: RwLock::new(current),
        })))
    }

    /// Reads the files again if they have changed. Invalid files only cause a log line.
    fn reload(&self, metrics: &Metrics) {
        let inner = &self.0;
        // The stamp is taken before the files are read: if they change in between, the next check
        // finds another stamp and reads them again.
        let found = stamp(&inner.cert_file, &inner.key_file);
        if found == inner.current.read().stamp {
            return;
        }
        // The files are read without the lock, because handshakes lock it for reading.
        let outcome = read(&inner.cert_file, &inner.key_file);
        let mut current = inner.current.write();
        match outcome {
            Ok((configs, expires_at)) => {
                current.configs = configs;
                current.expires_at = expires_at;
                current.stamp = found;
                current.refused = None;
                drop(current);
                metrics.count(Counter::TlsReloads);
                tracing::info!("certificate reloaded");
            }
            // Refused files are read each time, because a changed mode leaves the stamp as it is.
            Err(_) if current.refused == Some(found) => {}
            Err(error) => {
                current.refused = Some(found);
                drop(current);
                metrics.count(Counter::TlsReloadsFailed);
                tracing::error!(%error, "could not load the changed certificate, the previous one stays in use");
            }
        }
    }

    /// Adds the end of the validity of the certificate in use to the metrics.
    pub(crate) fn measured(self, metrics: &Metrics) -> Self {
        let inner = Arc::clone(&self.0);
        metrics.extend(move |out| {
            if let Some(expires_at) = inner.current.read().expires_at {
                out.gauge(EXPIRY, EXPIRY_HELP, expires_at);
            }
        });
        self
    }

    /// Checks the files periodically; never returns.
    pub(crate) async fn watch(self, metrics: Arc<Metrics>) {
        let mut interval = tokio::time::interval(RELOAD_INTERVAL);
        loop {
            interval.tick().await;
            let (tls, metrics) = (self.clone(), Arc::clone(&metrics));
            // Reading files blocks, so it must not run on a worker of the runtime.
            let reloaded = tokio::task::spawn_blocking(move || tls.reload(&metrics)).await;
            if let Err(error) = reloaded
                && error.is_panic()
            {
                // A panic is propagated here, so that the supervisor of this task counts it and
                // restarts the task.
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// Performs the handshake with a client at this address; `None` if the address stands for many
    /// clients. Returns `None` if the handshake failed, which is counted.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        client: Option<IpAddr>,
        metrics: &Metrics,
    ) -> Option<TlsStream<DeferredTicket<TcpStream>>> {
        let handshake = async {
            // The permit and the count are guards: both are returned when the timeout below drops
            // this future.
            let _permit = self.0.handshakes.take(client).await;
            let _counted = GaugeGuard::new(metrics, Gauge::TlsHandshakes);
            let stream = DeferredTicket::new(stream);
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let offered = hello.client_hello();
            let config = {
                let current = self.0.current.read();
                current.configs.for_client(offered.cipher_suites())
            };
            hello.into_stream(config).await
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(mut stream)) => {
                let (below, connection) = stream.get_mut();
                below.end_handshake();
                metrics.count(match connection.handshake_kind() {
                    Some(HandshakeKind::Resumed) => Counter::TlsResumed,
                    _ => Counter::TlsFull,
                });
                Some(stream)
            }
            Ok(Err(error)) => {
                metrics.count(Counter::TlsFailed);
                tracing::debug!(%error, "tls handshake failed");
                None
            }
            Err(_) => {
                metrics.count(Counter::TlsTimeouts);
                None
            }
        }
    }
}

fn stamp(cert_file: &Path, key_file: &Path) -> Stamp {
    [cert_file, key_file].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok(), metadata.len()))
    })
}

/// Returns the configurations with the certificate, and when the certificate expires.
fn read(cert_file: &Path, key_file: &Path) -> Result<(Configs, Option<i64>), TlsError> {
    let fault = |path: &Path, reason: String| TlsError {
        path: path.to_owned(),
        reason,
    };
    let open = |path: &Path| fs::read(path).map_err(|error| fault(path, error.to_string()));
    let certificates = CertificateDer::pem_slice_iter(&open(cert_file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault(cert_file, error.to_string()))?;
    if certificates.is_empty() {
        return Err(fault(cert_file, "there is no certificate in it".into()));
    }
    // Clients refuse a chain as soon as one of its certificates has expired.
    let ends = certificates.iter().filter_map(|der| expiry::validity(der));
    let expires_at = ends.map(|(_, not_after)| not_after).min();
    // The parser's message is not included, because it could quote a part of the key.
    let key = PrivateKeyDer::from_pem_slice(&open(key_file)?)
        .map_err(|_| fault(key_file, "there is no private key in it".into()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(suites::provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(cert_file, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certificates, key.clone_key())
        .map_err(|error| fault(cert_file, error.to_string()))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A new key opens no tickets of its predecessor, which may have been replaced because it is
    // known to others.
    config.ticketer = Arc::new(Tickets::new(&key));
    // A client reconnects once, so it needs one ticket.
    config.send_tls13_tickets = 1;
    Ok((Configs::new(config), expires_at))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("cert_file", &self.0.cert_file)
            .finish_non_exhaustive()
    }
}

/// A certificate or key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_unusable_files_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
        fs::write(&cert, issued.cert.pem()).unwrap();
        let tls = Tls::from_files(&cert, &key).unwrap();
        let metrics = Metrics::new();
        // Each report is a log line and a count.
        let reports = || {
            for _ in 0..3 {
                tls.reload(&metrics);
            }
            [Counter::TlsReloadsFailed, Counter::TlsReloads].map(|counter| metrics.counter(counter))
        };
        assert_eq!(reports(), [0, 0]);
        fs::remove_file(&cert).unwrap();
        assert_eq!(reports(), [1, 0], "the certificate is missing");
        fs::write(&cert, "no certificate").unwrap();
        assert_eq!(reports(), [2, 0], "the certificate is invalid");
        fs::remove_file(&cert).unwrap();
        assert_eq!(reports(), [3, 0], "the certificate is missing again");
        fs::remove_file(&key).unwrap();
        assert_eq!(reports(), [4, 0], "the key is missing as well");
        fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
        fs::write(&cert, issued.cert.pem()).unwrap();
        assert_eq!(reports(), [4, 1], "both are usable again");
        // As after a change of the mode alone, size and time are those of the refused file.
        let pem = issued.cert.pem();
        fs::write(&cert, "x".repeat(pem.len())).unwrap();
        let modified = SystemTime::now() + Duration::from_secs(1);
        let stamped = || {
            let file = fs::File::options().append(true).open(&cert).unwrap();
            file.set_modified(modified).unwrap();
        };
        stamped();
        assert_eq!(reports(), [5, 1], "the certificate is invalid");
        fs::write(&cert, pem).unwrap();
        stamped();
        assert_eq!(
            reports(),
            [5, 2],
            "it is usable, which its stamp does not show"
        );
    }
}
