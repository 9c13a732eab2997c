//! TLS to the database server, which is always verified. Encryption without authentication protects
//! nothing.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Socket,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

/// Creates verified connections, with the root certificates of the system or of a file.
#[derive(Clone, Debug)]
pub struct MakeTls(Option<Arc<ClientConfig>>);

impl MakeTls {
    /// Creates a value for connections without TLS.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Trusts the certificates in a PEM file, or those that the system trusts.
    pub(crate) fn new(roots: Option<&Path>) -> Result<Self, String> {
        let mut trusted = RootCertStore::empty();
        match roots {
            Some(path) => {
                let fault = |error| format!("{}: {error}", path.display());
                for certificate in
                    CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?
                {
                    let certificate = certificate.map_err(|error| fault(error.to_string()))?;
                    trusted
                        .add(certificate)
                        .map_err(|error| fault(error.to_string()))?;
                }
                if trusted.is_empty() {
                    return Err(fault("no certificate in it".into()));
                }
            }
            None => {
                trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        // The server expects this name if TLS comes before its own protocol
        // (`sslnegotiation=direct`).
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self(Some(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for MakeTls {
    type Stream = Stream;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Connect> {
        // The driver always requests a handshake, and uses it only if the mode requires it.
        let Some(config) = &self.0 else {
            return Ok(Connect(None));
        };
        let name = ServerName::try_from(domain.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Connect(Some((Arc::clone(config), name))))
    }
}

/// One handshake.
#[derive(Debug)]
pub struct Connect(Option<(Arc<ClientConfig>, ServerName<'static>)>);

impl TlsConnect<Socket> for Connect {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let Some((config, name)) = self.0 else {
                return Err(io::Error::other("TLS is switched off"));
            };
            tokio_rustls::TlsConnector::from(config)
                .connect(name, stream)
                .await
                .map(|stream| Stream(Box::new(stream)))
        })
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate is verified, so there is no man in the middle.
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
