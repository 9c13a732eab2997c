//! Whether an adapter seals, and what it accepts.

use std::collections::HashSet;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Opener, Purpose, Secrets, header};
use crate::adapter::{Envelope, Inbox, Unopened, WireError, envelope::NodeId};

/// How an adapter was told to seal.
#[derive(Clone, Debug, Default)]
pub(in crate::adapter) struct SealOptions {
    pub(in crate::adapter) secrets: Option<Secrets>,
    pub(in crate::adapter) accepts_plain: bool,
}

/// Whether messages of other servers are accepted.
#[derive(Debug, Default)]
pub(in crate::adapter) struct Protection(Option<Sealed>);

#[derive(Debug)]
struct Sealed {
    opener: Opener,
    accepts_plain: bool,
    /// The servers that seal. While plain messages are accepted, those servers send each message in both forms.
    sealing: Mutex<HashSet<NodeId>>,
}

/// A message as it was before it was sealed.
#[derive(Debug)]
pub(in crate::adapter) struct Opened {
    pub(in crate::adapter) message: Bytes,
    pub(in crate::adapter) was_sealed: bool,
}

impl Protection {
    pub(in crate::adapter) fn new(options: &SealOptions, purpose: &Purpose) -> Self {
        Self(options.secrets.as_ref().map(|secrets| Sealed {
            opener: Opener::new(secrets, purpose),
            accepts_plain: options.accepts_plain,
            sealing: Mutex::default(),
        }))
    }

    /// The opener, if messages are sealed.
    pub(in crate::adapter) fn opener(&self) -> Option<&Opener> {
        self.0.as_ref().map(|sealed| &sealed.opener)
    }

    /// Whether plain messages are accepted.
    pub(in crate::adapter) fn accepts_plain(&self) -> bool {
        self.0.as_ref().is_none_or(|sealed| sealed.accepts_plain)
    }

    /// Opens a message. See [`Opener::open`].
    pub(in crate::adapter) fn open(
        &self,
        place: &[u8],
        message: Bytes,
        kept: Option<u64>,
    ) -> Result<Opened, WireError> {
        let Some(sealed) = self
            .0
            .as_ref()
            .filter(|_| header::is_sealed(&message) || !self.accepts_plain())
        else {
            let was_sealed = false;
            return Ok(Opened {
                message,
                was_sealed,
            });
        };
        let message = sealed.opener.open(place, message, kept)?;
        let was_sealed = true;
        Ok(Opened {
            message,
            was_sealed,
        })
    }

    /// Returns whether a message of this server counts. A server that seals also sends the plain form while plain
    /// messages are accepted, and the plain form is left out then.
    pub(in crate::adapter) fn admits(&self, node: &NodeId, was_sealed: bool) -> bool {
        let Some(sealed) = self.0.as_ref().filter(|sealed| sealed.accepts_plain) else {
            return true;
        };
        let mut sealing = sealed.sealing.lock();
        if !was_sealed {
            return !sealing.contains(node);
        }
        if !sealing.contains(node) && sealing.len() < MAX_NODES {
            sealing.insert(node.clone());
        }
        true
    }

    /// Delivers an envelope that was opened.
    pub(in crate::adapter) fn deliver(&self, inbox: &Inbox, opened: Opened) {
        match Envelope::from_bytes(opened.message) {
            Ok(mut envelope) => {
                if self.admits(&envelope.node, opened.was_sealed) {
                    envelope.was_sealed = opened.was_sealed;
                    inbox.deliver(envelope);
                }
            }
            Err(error) => inbox.ignore(&error),
        }
    }

    /// Whether a server is known to seal.
    pub(in crate::adapter) fn seals(&self, node: &NodeId) -> bool {
        let sealed = self.0.as_ref();
        sealed.is_some_and(|sealed| !sealed.accepts_plain || sealed.sealing.lock().contains(node))
    }

    /// # Errors
    ///
    /// If plain messages are not accepted.
    pub(in crate::adapter) fn accept_plain(&self) -> Result<(), WireError> {
        match self.accepts_plain() {
            true => Ok(()),
            false => Err(WireError::Unopened(Unopened::Plain)),
        }
    }
}

/// Servers that are remembered as sealing, which only servers with the secret can add to.
const MAX_NODES: usize = 4096;
