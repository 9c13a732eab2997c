//! TLS to servers, always verified.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::client::ClientError;

/// The trusted certificates of a client. Clones are handles to the same configuration.
///
/// Uses TLS 1.2 and 1.3 with the default cipher suites of `rustls`, implemented by `ring`. The
/// server's certificate is always verified.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Trusts the system's certificates, which are loaded by this call. This is the default.
    ///
    /// # Errors
    /// Returns [`ClientError::Options`] if the system has no certificates.
    pub fn native_roots() -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::new(roots, "the system")
    }

    /// Trusts only these PEM certificates: authorities, or a self-signed certificate of the server.
    ///
    /// # Errors
    /// Returns [`ClientError::Options`] if there are no certificates or one is invalid.
    pub fn roots_from_pem(pem: &[u8]) -> Result<Self, ClientError> {
        let wrong = |error: &dyn fmt::Display| ClientError::Options(format!("PEM: {error}"));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        Self::new(roots, "the PEM")
    }

    /// Trusts Mozilla's certificate authorities, as of compile time.
    ///
    /// # Errors
    /// Does not fail in practice.
    #[cfg(feature = "client-webpki-roots")]
    pub fn webpki_roots() -> Result<Self, ClientError> {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        Self::new(RootCertStore::from_iter(roots), "the package")
    }

    fn new(roots: RootCertStore, of: &str) -> Result<Self, ClientError> {
        if roots.is_empty() {
            return Err(ClientError::Options(format!("{of} has no certificates")));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ClientError::Options(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Returns the name that the certificate of this host must contain.
    pub(in crate::client) fn name(host: &str) -> Result<ServerName<'static>, ClientError> {
        ServerName::try_from(host.to_owned())
            .map_err(|_| ClientError::Options(format!("{host:?} cannot be the name of a server")))
    }

    /// Performs the TLS handshake on a connection.
    pub(in crate::client) async fn encrypt(
        &self,
        stream: TcpStream,
        name: ServerName<'static>,
    ) -> Result<Encrypted, ClientError> {
        let connector = TlsConnector::from(Arc::clone(&self.0));
        let stream = connector.connect(name, stream).await;
        Ok(Encrypted {
            stream: stream.map_err(ClientError::Unreachable)?,
            is_flushed: true,
        })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

/// A connection after its TLS handshake.
#[derive(Debug)]
pub(in crate::client) struct Encrypted {
    stream: TlsStream<TcpStream>,
    /// Whether all encrypted data has reached the kernel.
    is_flushed: bool,
}

impl Encrypted {
    /// Writes the bytes that the kernel accepts immediately. Buffered encrypted data is sent by the
    /// next write or flush.
    pub(in crate::client) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Callers that leave data unwritten poll again with their own waker.
        let cx = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(written) = self.poll_write(cx, bytes) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let written = written?;
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(written),
        }
    }

    pub(in crate::client) fn unflushed(&self) -> usize {
        usize::from(!self.is_flushed)
    }

    pub(in crate::client) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buffer)) {
            // Many peers close without a `close_notify`. This counts as a normal end, because
            // messages contain their lengths, so truncation is always detected.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }

    pub(in crate::client) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    pub(in crate::client) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    pub(in crate::client) fn poll_shutdown(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
