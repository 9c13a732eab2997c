//! Options of permessage-deflate (RFC 7692).

use roomcast_protocol::websocket::deflate::{Settings, Terms, WindowBits};
use serde::{Deserialize, Serialize};

use super::{Session, options::options};

options! {
    /// Compression of WebSocket messages.
    ///
    /// By default, each message is compressed on its own. So all clients with the same window share
    /// one compressed form of an event, and a connection needs no memory for compression.
    PerMessageDeflate {
        /// Minimum size of a compressed message, in bytes. A message that would not become smaller
        /// is sent uncompressed. Default 1,024.
        threshold: usize = 1024;
        /// Compression level, 1 (fast) to 9 (small). Default 6.
        level: u8 = 6;
        /// The window of the server's messages, 9 (512 bytes) to 15 (32 KiB). A client may request
        /// a smaller window. Default 15.
        #[serde(alias = "serverMaxWindowBits")]
        server_max_window_bits: u8 = 15;
        /// The window of the clients' messages, 9 to 15. Below 15, the server declines clients
        /// whose window it cannot limit. Default 15.
        #[serde(alias = "clientMaxWindowBits")]
        client_max_window_bits: u8 = 15;
        /// Whether messages may refer to earlier messages of the same connection, in both
        /// directions. They become smaller, but are compressed separately for each client, and each
        /// connection needs up to 420 KiB. Use it for few clients with large streams. Default
        /// `false`.
        context_takeover: bool = false, context_takeover: true;
    }
}

impl PerMessageDeflate {
    /// Returns the fault of the first option that is out of range, if any.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if !(1..=9).contains(&self.level) {
            return Some("per_message_deflate.level is not 1 to 9");
        }
        if WindowBits::new(self.server_max_window_bits).is_none() {
            return Some("per_message_deflate.server_max_window_bits is not 9 to 15");
        }
        if WindowBits::new(self.client_max_window_bits).is_none() {
            return Some("per_message_deflate.client_max_window_bits is not 9 to 15");
        }
        None
    }

    /// Returns what the server negotiates.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            server_window: WindowBits::new(self.server_max_window_bits).unwrap_or_default(),
            client_window: WindowBits::new(self.client_max_window_bits).unwrap_or_default(),
            context_takeover: self.context_takeover,
        }
    }

    /// Returns how messages are compressed.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            threshold: self.threshold,
            level: self.level,
        }
    }
}

impl Session {
    /// Returns how messages are compressed for clients that negotiate it.
    pub(crate) fn deflate_settings(&self) -> Settings {
        let options = self.per_message_deflate.as_ref();
        options.map(PerMessageDeflate::settings).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_zlib_cannot_use_are_rejected() {
        let options = PerMessageDeflate::default;
        assert_eq!(options().fault(), None);
        for (wrong, name) in [
            (options().level(0), "level"),
            (options().level(10), "level"),
            (
                options().server_max_window_bits(8),
                "server_max_window_bits",
            ),
            (
                options().server_max_window_bits(16),
                "server_max_window_bits",
            ),
            (
                options().client_max_window_bits(8),
                "client_max_window_bits",
            ),
        ] {
            let fault = wrong.fault().unwrap();
            assert!(
                fault.starts_with(&format!("per_message_deflate.{name} ")),
                "{fault}"
            );
        }
    }
}
