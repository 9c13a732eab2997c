//! Processes incoming messages for the adapter.

use std::time::Duration;

use bytes::Bytes;

use super::{
    ALIVE, BYE, HELLO, NatsState,
    broker::Listener,
    read_pulse,
    subjects::{self, Receiver},
};
use crate::adapter::{WireError, common::Broker as _, envelope::NodeId};

impl Listener for NatsState {
    fn receive(&self, subject: &str, payload: Bytes, stored_at: Option<u64>) {
        match self.subjects.receiver(subject) {
            None => {}
            // An envelope for a room that is not open on this server is not decoded.
            Some(Receiver::Room(name)) if !self.rooms.lock().contains(name) => {}
            Some(Receiver::All | Receiver::Room(_)) => {
                match self
                    .protection
                    .open(subjects::place(subject), payload, stored_at)
                {
                    Ok(opened) => self.protection.deliver(&self.inbox, opened),
                    Err(error) => self.inbox.ignore(&error),
                }
            }
            Some(Receiver::Unknown) => {
                self.inbox.ignore(&WireError::Malformed("subject"));
            }
        }
    }

    fn handle_pulse(&self, payload: Bytes) -> bool {
        let place = subjects::place(&self.subjects.pulse);
        let opened = match self.protection.open(place, payload, None) {
            Ok(opened) => opened,
            Err(error) => {
                self.inbox.ignore(&error);
                return false;
            }
        };
        let Some((word, node)) = read_pulse(&opened.message) else {
            self.inbox.ignore(&WireError::Malformed("pulse"));
            return false;
        };
        if !self.protection.admits(&node, opened.was_sealed) {
            return false;
        }
        if node == *self.inbox.node() {
            // Earlier pulses of peers arrived on the same route before this one.
            self.members.alone.probe_returned();
            return true;
        }
        self.handle_peer_pulse(word, node);
        if self.members.are_back() {
            self.link.outbound().release();
        }
        false
    }

    fn report_gap(&self) {
        self.inbox.report_gap();
    }

    fn lost(&self, messages: u64) {
        self.inbox.lost(messages);
    }

    fn listening(&self, is_stored: bool) {
        self.members.listening(is_stored);
        self.send_pulse(HELLO);
        // Stored messages also reach servers that reconnect later.
        if is_stored || self.members.are_back() {
            self.link.outbound().release();
        }
    }

    fn disconnected(&self) {
        self.members.disconnected();
    }

    fn tick(&self, stall: Duration) {
        self.send_pulse(ALIVE);
        for node in self.members.expire(stall) {
            self.inbox.left(&node);
        }
    }
}

impl NatsState {
    fn handle_peer_pulse(&self, word: u8, node: NodeId) {
        match word {
            BYE => {
                if self.members.bye(&node) {
                    self.inbox.left(&node);
                }
            }
            HELLO => {
                self.members.record_pulse(node);
                // The new server must know this server before the next regular pulse.
                self.send_pulse(ALIVE);
            }
            _ => self.members.record_pulse(node),
        }
    }
}
