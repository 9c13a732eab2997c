//! The address of the admin listener.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::config::Server;

/// The address at which `/metrics` and `/health/websocket/detailed` are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[expect(clippy::exhaustive_enums, reason = "the choice is complete")]
pub enum AdminListen {
    /// Not on a separate address. The main address serves them if a token is configured.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl TryFrom<String> for AdminListen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == OFF {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| "expected an address such as `127.0.0.1:9464`, or `off`".to_owned())
    }
}

impl From<AdminListen> for String {
    fn from(listen: AdminListen) -> Self {
        listen.to_string()
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str(OFF),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Server {
    /// Returns the configured admin address, or the default.
    #[must_use]
    pub fn admin_listen(&self) -> AdminListen {
        self.admin_listen.unwrap_or_else(|| {
            // A server that uses any free port is probably one of several on its machine.
            let port = if self.listen.port() == 0 { 0 } else { PORT };
            AdminListen::At(SocketAddr::from(([127, 0, 0, 1], port)))
        })
    }

    /// Returns whether a token for reading the metrics is configured.
    pub(crate) fn has_metrics_token(&self) -> bool {
        self.metrics_token.is_some() || self.metrics_token_file.is_some()
    }

    /// Checks `admin_listen` and `metrics_token`.
    pub(in crate::config) fn check_admin(&self, has_keys: bool) -> Result<(), &'static str> {
        let is_text = |text: &str| {
            (1..=MAX_TOKEN).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let token = self.metrics_token.as_ref();
        if token.is_some_and(|token| !is_text(token.expose())) {
            return Err("server.metrics_token must have 1 to 512 visible ASCII characters");
        }
        let AdminListen::At(address) = self.admin_listen() else {
            return Ok(());
        };
        if address == self.listen && address.port() != 0 {
            return Err("server.admin_listen and server.listen are the same address");
        }
        if !address.ip().is_loopback() && !self.has_metrics_token() && !has_keys {
            return Err(
                "server.admin_listen is reached from other machines: set server.metrics_token or \
                 server.metrics_token_file, or listen on 127.0.0.1",
            );
        }
        Ok(())
    }
}

const OFF: &str = "off";
/// The default port, which OpenTelemetry also uses for metrics exporters.
const PORT: u16 = 9464;
/// Maximum length of a token in characters.
const MAX_TOKEN: usize = 512;

#[cfg(test)]
mod tests {
    use crate::config::{Secret, Settings};

    #[test]
    fn admin_address_is_loopback_or_requires_a_token() {
        let check = |listen: &str, token: Option<&str>| {
            let mut settings = Settings::default();
            settings.server.admin_listen = Some(listen.to_owned().try_into().unwrap());
            settings.server.metrics_token = token.map(|token| Secret::from(token.to_owned()));
            settings.check()
        };
        for (listen, token) in [
            ("127.0.0.1:1", None),
            ("[::1]:1", None),
            ("off", None),
            ("0.0.0.0:1", Some("x")),
        ] {
            assert_eq!(check(listen, token), Ok(()), "{listen}");
        }
        for (listen, token, fault) in [
            ("0.0.0.0:1", None, "set server.metrics_token"),
            ("192.0.2.1:1", None, "set server.metrics_token"),
            ("127.0.0.1:3000", None, "the same address"),
            ("127.0.0.1:1", Some(""), "visible ASCII"),
            ("127.0.0.1:1", Some("a b"), "visible ASCII"),
        ] {
            let found = check(listen, token).unwrap_err();
            assert!(found.contains(fault), "{listen}: {found}");
        }
    }
}
