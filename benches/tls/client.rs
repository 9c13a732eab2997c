//! Blocking Socket.IO clients over TLS.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::support;

/// The certificate that clients trust, and whether they resume sessions.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    pub fn new(folder: &Path) -> Self {
        let pem = fs::read(folder.join("cert.pem")).expect("a certificate");
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(&pem).expect("a certificate");
        roots.add(certificate).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the versions are supported")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    pub fn without_resumption(&self) -> Self {
        self.resuming(Resumption::disabled())
    }

    /// Returns a copy that resumes TLS sessions, with an empty store of them.
    pub fn with_resumption(&self) -> Self {
        self.resuming(Resumption::in_memory_sessions(8))
    }

    fn resuming(&self, resumption: Resumption) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = resumption;
        Self(Arc::new(config))
    }
}

/// A client over TLS that has joined `/`.
pub type Client = support::Client<StreamOwned<ClientConnection, TcpStream>>;

/// Connects a client.
pub fn connect(address: SocketAddr, trust: &Trust) -> Client {
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = ClientConnection::new(Arc::clone(&trust.0), name).expect("a configuration");
    let mut client = Client::over(StreamOwned::new(tls, support::connected(address)));
    client.enter();
    client
}
