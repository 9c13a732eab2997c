//! Processes incoming messages for the adapter.

use std::time::Duration;

use roomcast_protocol::socket::Nsp;

use super::{
    PostgresState,
    broker::{Listener, ReceivedMessage as Arrived, Target},
    wire::read_envelope,
};
use crate::adapter::WireError;

impl Listener for PostgresState {
    fn receive(&self, target: Target, arrived: Arrived) {
        let read = match (target, arrived) {
            (Target::Namespace(nsp), Arrived::Text(payload) | Arrived::Attached(payload)) => {
                self.process(&nsp, payload, false)
            }
            (Target::Namespace(nsp), Arrived::Opened(payload)) => self.process(&nsp, payload, true),
            (Target::Envelopes, Arrived::Opened(message)) => {
                self.deliver(message, true);
                Ok(())
            }
            (Target::Envelopes, Arrived::Attached(payload)) => {
                self.deliver(payload, false);
                Ok(())
            }
            (Target::Envelopes, Arrived::Text(text)) => {
                read_envelope(&text).map(|payload| self.deliver(payload, false))
            }
        };
        if let Err(error) = read {
            self.inbox.ignore(&error);
        }
    }

    fn ignore(&self, error: &WireError) {
        self.inbox.ignore(error);
    }

    fn lost(&self, messages: u64) {
        self.inbox.lost(messages);
    }

    fn listening(&self, namespaces: Vec<Nsp>) {
        for nsp in namespaces {
            self.members.listening(&nsp);
        }
        self.release_if_back();
        self.link.request_pulses();
    }

    fn caught_up(&self) {
        self.members.alone.probe_returned();
    }

    fn disconnected(&self) {
        self.members.disconnected();
    }

    fn send_due_pulses(&self) -> bool {
        let (pulses, has_more) = self.members.pulses(PULSES);
        for (nsp, pulse) in pulses {
            self.send_pulse(&nsp, pulse);
        }
        has_more
    }

    fn tick(&self, stall: Duration) {
        for node in self.members.tick(stall) {
            self.inbox.left(&node);
        }
        self.link.request_pulses();
    }
}

/// The maximum number of namespaces per batch of heartbeats and greetings.
const PULSES: usize = 512;
