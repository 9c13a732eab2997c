//! Decides whether an adapter seals, and which messages it accepts.

use std::collections::HashSet;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Opener, Purpose, Secrets, header};
use crate::adapter::{Envelope, Inbox, Unopened, WireError, envelope::NodeId};

/// The sealing options of an adapter.
#[derive(Clone, Debug, Default)]
pub(in crate::adapter) struct SealOptions {
    pub(in crate::adapter) secrets: Option<Secrets>,
    pub(in crate::adapter) accepts_plain: bool,
}

/// Decides whether messages of other servers are accepted.
#[derive(Debug, Default)]
pub(in crate::adapter) struct Protection(Option<Sealed>);

#[derive(Debug)]
struct Sealed {
    opener: Opener,
    accepts_plain: bool,
    /// The servers that seal. While plain messages are accepted, these servers send each message in
    /// both forms.
    sealing: Mutex<HashSet<NodeId>>,
}

/// The content of a message, after it was opened if it was sealed.
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

    /// Returns the opener, if messages are sealed.
    pub(in crate::adapter) fn opener(&self) -> Option<&Opener> {
        self.0.as_ref().map(|sealed| &sealed.opener)
    }

    /// Returns whether plain messages are accepted.
    pub(in crate::adapter) fn accepts_plain(&self) -> bool {
        self.0.as_ref().is_none_or(|sealed| sealed.accepts_plain)
    }

    /// Opens a message; see [`Opener::open`]. Returns plain messages unchanged if they are
    /// accepted.
    pub(in crate::adapter) fn open(
        &self,
        place: &[u8],
        message: Bytes,
        stored_at: Option<u64>,
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
        let message = sealed.opener.open(place, message, stored_at)?;
        let was_sealed = true;
        Ok(Opened {
            message,
            was_sealed,
        })
    }

    /// Returns whether a message of this server counts. While plain messages are accepted, a server
    /// that seals sends both forms, and its plain form is ignored.
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

    /// Delivers an opened envelope.
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

    /// Returns whether a server is known to seal.
    pub(in crate::adapter) fn seals(&self, node: &NodeId) -> bool {
        let sealed = self.0.as_ref();
        sealed.is_some_and(|sealed| !sealed.accepts_plain || sealed.sealing.lock().contains(node))
    }

    /// Accepts a plain message.
    ///
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

/// The maximum number of servers that are stored as sealing. Only servers that know the secret can
/// be added.
const MAX_NODES: usize = 4096;
