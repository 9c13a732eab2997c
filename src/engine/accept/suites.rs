//! Chooses the cipher suite of a TLS connection.
//!
//! With the suites of AES-256, a handshake hashes with SHA-384. Most processors have no
//! instructions for that, so it takes a tenth of the handshake's processor time. So clients that
//! prefer AES get AES-128 with SHA-256 if they offer it. Clients without instructions for AES,
//! which prefer ChaCha20, keep their order.

use std::sync::Arc;

use rustls::{CipherSuite, ServerConfig, crypto::CryptoProvider, crypto::ring};

/// The same settings with two orders of cipher suites.
pub(super) struct Configs {
    aes_128_first: Arc<ServerConfig>,
    client_order: Arc<ServerConfig>,
}

const AES_128: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];
const CHACHA20: [CipherSuite; 3] = [
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Returns the algorithms of the server, with its order of cipher suites.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    let suites = &mut provider.cipher_suites;
    suites.sort_by_key(|suite| !AES_128.contains(&suite.suite()));
    provider
}

impl Configs {
    /// Creates both from one configuration with [`provider`]. They share tickets and sessions.
    pub(super) fn new(config: ServerConfig) -> Self {
        let mut aes_128_first = config.clone();
        aes_128_first.ignore_client_order = true;
        Self {
            aes_128_first: Arc::new(aes_128_first),
            client_order: Arc::new(config),
        }
    }

    /// Returns the configuration for a client that offers these suites, in its order.
    pub(super) fn for_client(&self, offered: &[CipherSuite]) -> Arc<ServerConfig> {
        let known = &self.client_order.crypto_provider().cipher_suites;
        let is_known = |suite: &&CipherSuite| known.iter().any(|known| known.suite() == **suite);
        match offered.iter().find(is_known) {
            Some(first) if CHACHA20.contains(first) => Arc::clone(&self.client_order),
            Some(_) | None => Arc::clone(&self.aes_128_first),
        }
    }
}
