//! The options that all adapters of this library have.

use std::time::Duration;

use super::{BrokerState, Limits, SharedAddress, StateCell};
use crate::adapter::seal::SealOptions;

/// The options of an adapter that all adapters have, and its state after it was attached to a
/// server.
pub(in crate::adapter) struct Options<S: BrokerState> {
    pub(in crate::adapter) address: SharedAddress<S::Address>,
    pub(in crate::adapter) key: String,
    pub(in crate::adapter) timeout: Duration,
    pub(in crate::adapter) limits: Limits,
    pub(in crate::adapter) sealing: SealOptions,
    pub(in crate::adapter) state: StateCell<S>,
}

impl<S: BrokerState> Options<S> {
    /// Returns the defaults for an address. `message_bytes` is the maximum size of a message.
    pub(in crate::adapter) fn new(address: S::Address, message_bytes: usize) -> Self {
        Self {
            address: SharedAddress::new(address),
            key: "socket.io".to_owned(),
            timeout: Duration::from_secs(5),
            limits: Limits {
                messages: 65_536,
                bytes: 64 << 20,
                message_bytes,
            },
            sealing: SealOptions::default(),
            state: StateCell::default(),
        }
    }
}

/// Defines the methods that set the [`Options`] of an adapter. The attributes add what an option
/// means for its broker.
macro_rules! option_methods {
    (
        $Adapter:ident {
            $(#[$key:meta])*
            key;
            $(#[$request_timeout:meta])*
            request_timeout;
            $(#[$queue:meta])*
            queue;
            $(#[$max_message:meta])*
            max_message;
            $(#[$sealed:meta])*
            sealed;
        }
    ) => {
        impl $Adapter {
            /// Sets the key, which separates clusters on one broker. Default `socket.io`.
            $(#[$key])*
            #[must_use]
            pub fn key(mut self, key: &str) -> Self {
                key.clone_into(&mut self.options.key);
                self
            }

            /// Sets the time limit for requests to other servers that have no time limit of their
            /// own. Default 5 s.
            $(#[$request_timeout])*
            #[must_use]
            pub fn request_timeout(mut self, timeout: Duration) -> Self {
                self.options.timeout = timeout;
                self
            }

            /// Sets the limits of the send queue: messages, default 65,536, and their bytes,
            /// default 64 MiB.
            $(#[$queue])*
            #[must_use]
            pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
                self.options.limits.messages = messages;
                self.options.limits.bytes = bytes;
                self
            }

            /// Sets the maximum size of a message in bytes. Emitting a larger message fails.
            $(#[$max_message])*
            #[must_use]
            pub fn max_message(mut self, bytes: usize) -> Self {
                self.options.limits.message_bytes = bytes;
                self
            }

            /// Seals outgoing messages, and ignores incoming messages that are not sealed with one
            /// of these secrets. All servers and emitters of the cluster need the same list. See
            /// `docs/cluster.md`.
            ///
            $(#[$sealed])*
            #[must_use]
            pub fn sealed(mut self, secrets: $crate::adapter::Secrets) -> Self {
                self.options.sealing.secrets = Some(secrets);
                self
            }

            /// Accepts unsealed messages too, and sends each message in both forms. This serves one
            /// rolling upgrade of a cluster whose servers do not seal yet. The unsealed messages of
            /// a server that seals are ignored.
            ///
            /// It has no effect unless [`sealed`](Self::sealed) is set. With it, nothing is
            /// protected.
            #[must_use]
            pub fn accept_plain(mut self) -> Self {
                self.options.sealing.accepts_plain = true;
                self
            }

            /// Returns the URL, which can be replaced while the adapter is in use.
            #[must_use]
            pub fn live_url(&self) -> $crate::adapter::LiveUrl<Self> {
                let address = self.options.address.clone();
                let replace = move |other: &Self| address.replace(&other.options.address);
                $crate::adapter::LiveUrl::new(replace)
            }
        }
    };
}

pub(in crate::adapter) use option_methods;
