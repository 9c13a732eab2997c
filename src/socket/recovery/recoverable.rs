//! The recovery state of a socket and the limits of its outbox.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::Value;

use super::offer::{LastOffset, Pid};
use crate::{adapter::HandoverId, config, engine::Limits};

/// Returns the limits of the recovery data in outboxes.
pub(crate) fn limits(recovery: &config::Recovery) -> Limits {
    Limits {
        messages: recovery.max_messages,
        bytes: recovery.max_bytes,
        total: recovery.max_total_bytes,
    }
}

/// The recovery state of a socket.
#[derive(Debug)]
pub(crate) struct Recoverable {
    pub(crate) pid: Pid,
    /// Whether this socket was recovered.
    pub(crate) recovered: bool,
    /// The client's last offset when it came to this server, and the local number after which all
    /// missed events are stored. The client sends that offset until it receives an event here.
    origin: (Option<LastOffset>, u64),
    /// Data from the previous server for the application.
    arrival: Option<Arrival>,
    /// The requests with which servers obtained the client. A delayed copy of such a request does
    /// not hand over the client.
    answered: Arc<[HandoverId]>,
}

/// The pending application part of a handover.
#[derive(Debug)]
struct Arrival {
    /// The application's data from the previous server.
    state: Value,
    is_over: AtomicBool,
}

impl Recoverable {
    /// Creates the state of a new socket. All its events have numbers above `floor`.
    pub(crate) fn new(floor: u64) -> Self {
        Self {
            pid: Pid::random(),
            recovered: false,
            origin: (None, floor),
            arrival: None,
            answered: Arc::default(),
        }
    }

    /// Creates the state of a socket that was restored from another server. The client has all
    /// events up to `origin`.
    pub(crate) fn from_elsewhere(pid: Pid, origin: (Option<LastOffset>, u64)) -> Self {
        Self {
            pid,
            recovered: true,
            origin,
            arrival: None,
            answered: Arc::default(),
        }
    }

    /// Creates the state of a socket that another server handed over. The client has all events up
    /// to `origin`.
    pub(crate) fn handed_over(
        pid: Pid,
        origin: (Option<LastOffset>, u64),
        state: Value,
        answered: Vec<HandoverId>,
    ) -> Self {
        let is_over = AtomicBool::new(false);
        Self {
            arrival: Some(Arrival { state, is_over }),
            answered: answered.into(),
            ..Self::from_elsewhere(pid, origin)
        }
    }

    /// Returns the state of the socket that replaces this one after a recovery.
    pub(crate) fn again(&self) -> Self {
        Self {
            answered: Arc::clone(&self.answered),
            ..Self::from_elsewhere(self.pid, self.origin)
        }
    }

    /// Returns the number after which all missed events of the client are stored.
    pub(crate) fn floor(&self) -> u64 {
        self.origin.1
    }

    /// Returns the local number of the offset, or of no offset, with which the client came to this
    /// server.
    pub(crate) fn number_of(&self, last: Option<LastOffset>) -> Option<u64> {
        let (origin, floor) = self.origin;
        (last == origin).then_some(floor)
    }

    /// Returns the requests that led the client here, the latest one last.
    pub(crate) fn answered(&self) -> &[HandoverId] {
        &self.answered
    }

    /// Returns the data from the previous server, until the application has handled it.
    pub(crate) fn arrival(&self) -> Option<&Value> {
        let arrival = self.arrival.as_ref()?;
        (!arrival.is_over.load(Ordering::Acquire)).then_some(&arrival.state)
    }

    /// Marks the application part of a handover as complete.
    pub(crate) fn arrived(&self) {
        if let Some(arrival) = &self.arrival {
            arrival.is_over.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        adapter::NodeId,
        socket::recovery::{Offset, Tag},
    };

    #[test]
    fn origin_offset_stays_valid_after_arrival_and_recovery() {
        let offset = |number, tag| {
            let tag = Tag::of(tag);
            Some(LastOffset {
                own: Some(Offset { number, tag }),
                position: None,
            })
        };
        let node = NodeId::new("server-two").unwrap();
        let id = HandoverId { node, request: 3 };
        let answered_requests = vec![id.clone()];
        let known = Recoverable::handed_over(
            Pid::random(),
            (offset(7, "server-one"), 100),
            Value::from(1),
            answered_requests,
        );
        assert_eq!(known.floor(), 100);
        assert_eq!(known.number_of(offset(7, "server-one")), Some(100));
        assert_eq!(known.number_of(offset(8, "server-one")), None);
        assert_eq!(known.number_of(offset(7, "other-one")), None);
        assert_eq!(known.number_of(None), None);
        assert_eq!(known.arrival(), Some(&Value::from(1)));
        known.arrived();
        assert_eq!(known.arrival(), None);
        let again = known.again();
        assert_eq!(again.answered(), [id]);
        assert_eq!(again.number_of(offset(7, "server-one")), Some(100));
        assert_eq!((again.arrival(), again.recovered), (None, true));
        let new = Recoverable::new(5);
        assert_eq!(new.number_of(offset(7, "server-one")), None);
        assert_eq!(new.again().number_of(None), Some(5));
    }
}
