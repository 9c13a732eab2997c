//! Sections `[server.tls]` and `[server.acme]`: certificates, and what a server needs if no proxy
//! stands before it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::{days, store::shown_address};

/// Section `[server.tls]`: both files or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its chain, PEM. Reloaded when it changes. With `server.acme`, the server
    /// writes it.
    pub cert_file: Option<PathBuf>,
    /// The private key of the certificate, PEM. Servers with the same key resume each other's
    /// sessions. With `server.acme`, the server writes it.
    pub key_file: Option<PathBuf>,
    /// Host names by which clients reach this server, as `www.example`. Redirects and ACME use
    /// them. Default none.
    pub names: Vec<String>,
    /// Address at which requests without TLS for one of `names` are redirected to `https`, as
    /// `0.0.0.0:80`. Default: none.
    pub redirect_listen: Option<SocketAddr>,
    /// Port in redirects, if clients reach this server at another port than that of
    /// `server.listen`. Default: the port of `server.listen`.
    pub public_port: Option<u16>,
    /// How long browsers use only TLS for this host after each answer
    /// (`Strict-Transport-Security`). Sent over TLS only, also that of a trusted proxy. With `0s`,
    /// browsers forget it. Default 182 days.
    #[serde(with = "days")]
    pub hsts: Duration,
    /// Whether `hsts` includes all subdomains, also those of other services. Default `false`.
    pub hsts_subdomains: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            names: Vec::new(),
            redirect_listen: None,
            public_port: None,
            // Half a year, a first step that can be reverted.
            hsts: Duration::from_secs(182 * 86_400),
            hsts_subdomains: false,
        }
    }
}

/// Section `[server.acme]`: certificates from an authority (RFC 8555), whose requests to port 80 of
/// `server.tls.names` must reach `server.tls.redirect_listen`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    /// URL of the directory of the authority, as `https://acme-v02.api.letsencrypt.org/directory`.
    /// Default: none, and the certificate is only read.
    pub url: Option<String>,
    /// File of the account with its private key and the names of the certificate, JSON. The server
    /// creates it.
    pub account_file: Option<PathBuf>,
    /// Addresses at which the authority can reach the operator, as `mailto:ops@chat.example`.
    /// Default none.
    pub contact: Vec<String>,
    /// Whether the operator agrees to the terms of service of the authority. Must be `true`.
    pub agree_to_terms: bool,
    /// PEM file with the certificate authorities for `url`. Default: those that this machine
    /// trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether the authority may have an address that is not on the public internet. Default
    /// `false`.
    pub allow_private: bool,
    /// Timeout of one request. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            url: None,
            account_file: None,
            contact: Vec::new(),
            agree_to_terms: false,
            ca_file: None,
            allow_private: false,
            timeout: Duration::from_secs(30),
        }
    }
}

impl Tls {
    pub(in crate::config) fn check(&self) -> Result<(), &'static str> {
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err("server.tls needs both cert_file and key_file");
        }
        if !self.names.iter().all(|name| is_host_name(name)) {
            return Err(
                "server.tls.names has something that is no host name; one is chat.example, without \
                 scheme, port and `*`",
            );
        }
        if self.public_port == Some(0) {
            return Err("server.tls.public_port is zero");
        }
        if self.redirect_listen.is_some() {
            if self.cert_file.is_none() {
                return Err(
                    "server.tls.redirect_listen redirects to TLS: set server.tls.cert_file and key_file",
                );
            }
            if self.names.is_empty() {
                return Err(
                    "server.tls.redirect_listen redirects to known names only: set server.tls.names",
                );
            }
        }
        Ok(())
    }
}

impl Acme {
    pub(in crate::config) fn check(&self, tls: &Tls) -> Result<(), &'static str> {
        if self.url.is_none() {
            return Ok(());
        }
        if tls.cert_file.is_none() {
            return Err(
                "server.acme writes the certificate: set server.tls.cert_file and key_file",
            );
        }
        if tls.redirect_listen.is_none() {
            return Err(
                "server.acme answers the authority at port 80: set server.tls.redirect_listen",
            );
        }
        let is_address = |name: &String| {
            let last = name.rsplit('.').next().unwrap_or_default();
            last.bytes().all(|byte| byte.is_ascii_digit())
        };
        if tls.names.iter().any(is_address) {
            return Err("server.acme is for host names: remove addresses from server.tls.names");
        }
        if self.account_file.is_none() {
            return Err("server.acme needs account_file");
        }
        if !self.agree_to_terms {
            return Err(
                "server.acme: set agree_to_terms after you have read the terms of the authority",
            );
        }
        if self.timeout.is_zero() {
            return Err("server.acme.timeout is zero");
        }
        Ok(())
    }

    /// Returns the settings without secrets.
    pub(in crate::config) fn shown(&self) -> Self {
        Self {
            url: self.url.as_deref().map(shown_address),
            ..self.clone()
        }
    }
}

/// Returns whether a text is a host name or an IPv4 address (RFC 1123, 2.1). Underscores are
/// allowed, because some resolvers have them.
fn is_host_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label =
        |label: &str| (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(is_part);
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

/// Maximum length of a host name in bytes (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
/// Maximum length of a part of a host name in bytes (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_a_host_without_scheme_port_and_wildcard() {
        for name in ["chat.example", "localhost", "a-b_c.example", "192.0.2.1"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "chat.example.",
            "*.example",
            "https://chat.example",
            "chat.example:443",
            "user@chat.example",
            "chat example",
            "chat.example/path",
            "ch\u{e4}t.example",
            "chat.example\r\nSet-Cookie: a=b",
            &"a".repeat(64),
            &"a.".repeat(127),
        ] {
            assert!(!is_host_name(name), "{name}");
        }
    }

    #[test]
    fn each_missing_part_of_a_server_at_the_edge_is_named() {
        let mut tls = Tls::default();
        let mut acme = Acme::default();
        assert_eq!((tls.check(), acme.check(&tls)), (Ok(()), Ok(())));
        tls.redirect_listen = Some(([127, 0, 0, 1], 80).into());
        assert!(tls.check().unwrap_err().contains("cert_file"));
        tls.cert_file = Some("chain.pem".into());
        assert!(tls.check().unwrap_err().contains("key_file"));
        tls.key_file = Some("key.pem".into());
        assert!(tls.check().unwrap_err().contains("names"));
        tls.names = vec!["192.0.2.1".into()];
        assert_eq!(tls.check(), Ok(()));
        tls.public_port = Some(0);
        assert!(tls.check().unwrap_err().contains("public_port"));

        acme.url = Some("https://ca.example/directory".into());
        assert!(acme.check(&tls).unwrap_err().contains("addresses"));
        tls.names = vec!["chat.example".into()];
        assert!(acme.check(&tls).unwrap_err().contains("account_file"));
        acme.account_file = Some("account.json".into());
        assert!(acme.check(&tls).unwrap_err().contains("agree_to_terms"));
        acme.agree_to_terms = true;
        assert_eq!(acme.check(&tls), Ok(()));
        tls.redirect_listen = None;
        assert!(acme.check(&tls).unwrap_err().contains("redirect_listen"));
        tls.cert_file = None;
        assert!(acme.check(&tls).unwrap_err().contains("cert_file"));
    }
}
