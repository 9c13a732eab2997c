//! Seals and queues the messages that servers and emitters send to namespaces.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use roomcast_protocol::socket::Nsp;

use super::{
    broker::BrokerLink,
    sealing::{Lane, Sealers},
    wire::{channel, message},
};
use crate::adapter::{common::unwritten, interface::AdapterError, seal::SealOptions};

/// The sender of messages to namespaces.
pub(super) struct Sender {
    pub(super) name: String,
    key: String,
    pub(super) sealers: Option<Sealers>,
    /// The number of the next plain message.
    number: AtomicU64,
}

impl Sender {
    pub(super) fn new(name: &str, key: &str, sealing: &SealOptions) -> Self {
        Self {
            name: name.to_owned(),
            key: key.to_owned(),
            sealers: Sealers::new(sealing, key),
            number: AtomicU64::new(0),
        }
    }

    /// Queues a message: sealed if there are secrets, plain without secrets, in both forms if
    /// servers without secrets are accepted.
    pub(super) fn send(
        &self,
        link: &BrokerLink,
        nsp: &Nsp,
        written: Bytes,
        is_pulse: bool,
    ) -> Result<(), AdapterError> {
        let channel = channel(&self.key, nsp);
        if let Some(sealers) = &self.sealers {
            let lane = match (is_pulse, link.is_apart(nsp)) {
                (true, _) => Lane::Pulses,
                (false, true) => Lane::Apart,
                (false, false) => Lane::Together,
            };
            let body = sealers.body(lane, nsp.as_str(), &written);
            link.publish(Some(nsp), Arc::clone(&channel), body, is_pulse)?;
            if !sealers.accepts_plain {
                return Ok(());
            }
        }
        // Any order will do, because the numbers of a sender only have to differ.
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let body = message(&self.name, number, written).map_err(unwritten)?;
        link.publish(Some(nsp), channel, body, is_pulse)
    }
}
