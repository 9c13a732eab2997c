//! What a socket and its outbox need for recovery.

#[cfg(feature = "cluster")]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::offer::{Last, Offset, Pid};
#[cfg(feature = "cluster")]
use crate::adapter::Question;
use crate::{config, engine::Limits};

/// The limits of what outboxes keep for recovery.
pub(crate) fn limits(recovery: &config::Recovery) -> Limits {
    Limits {
        messages: recovery.max_messages,
        bytes: recovery.max_bytes,
        total: recovery.max_total_bytes,
    }
}

/// What a socket has whose client may come back as the same socket.
#[derive(Debug)]
pub(crate) struct Recoverable {
    pub(crate) pid: Pid,
    /// Whether this socket was recovered.
    pub(crate) recovered: bool,
    /// The offset with which the client came from another server, and the number here behind which all that it does not have
    /// is kept. Until the client gets an event of this server, it offers that offset again.
    came: Option<(Offset, u64)>,
    /// What another server gave for the application.
    arrival: Option<Arrival>,
    /// The questions of servers by which the client has come here. Who reads one of them late does not give the client away.
    #[cfg(feature = "cluster")]
    answered: Arc<[Question]>,
}

/// What the application has to do for a client that was on another server.
#[derive(Debug)]
struct Arrival {
    /// What the application has said at the other server.
    state: Value,
    is_over: AtomicBool,
}

impl Recoverable {
    pub(crate) fn new() -> Self {
        Self {
            pid: Pid::random(),
            recovered: false,
            came: None,
            arrival: None,
            #[cfg(feature = "cluster")]
            answered: Arc::default(),
        }
    }

    /// What a socket has whose client has been on another server.
    #[cfg(feature = "cluster")]
    pub(crate) fn from_elsewhere(pid: Pid) -> Self {
        Self {
            pid,
            recovered: true,
            came: None,
            arrival: None,
            #[cfg(feature = "cluster")]
            answered: Arc::default(),
        }
    }

    /// What a socket has whose client another server has given away, of which the client has all up to `came`.
    #[cfg(feature = "cluster")]
    pub(crate) fn given(
        pid: Pid,
        came: (Offset, u64),
        state: Value,
        answered: Vec<Question>,
    ) -> Self {
        let is_over = AtomicBool::new(false);
        Self {
            pid,
            recovered: true,
            came: Some(came),
            arrival: Some(Arrival { state, is_over }),
            answered: answered.into(),
        }
    }

    /// What the next socket has, as which the client has come back.
    pub(crate) fn again(&self) -> Self {
        Self {
            pid: self.pid,
            recovered: true,
            came: self.came,
            arrival: None,
            #[cfg(feature = "cluster")]
            answered: Arc::clone(&self.answered),
        }
    }

    /// The number behind which all is kept that a client from another server does not have.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.came.map(|(_, floor)| floor)
    }

    /// The number here that stands for an offset of another server, if the client came with that.
    pub(crate) fn number_of(&self, last: Last) -> Option<u64> {
        let (offset, floor) = self.came?;
        (last.own == Some(offset)).then_some(floor)
    }

    /// The questions by which the client has come here, the latest last.
    #[cfg(feature = "cluster")]
    pub(crate) fn answered(&self) -> &[Question] {
        &self.answered
    }

    /// What another server gave for the application, as long as that has not dealt with it.
    pub(crate) fn arrival(&self) -> Option<&Value> {
        let arrival = self.arrival.as_ref()?;
        (!arrival.is_over.load(Ordering::Acquire)).then_some(&arrival.state)
    }

    /// The application has done what it had to.
    #[cfg(feature = "cluster")]
    pub(crate) fn arrived(&self) {
        if let Some(arrival) = &self.arrival {
            arrival.is_over.store(true, Ordering::Release);
        }
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use super::*;
    use crate::{adapter::NodeId, socket::recovery::Tag};

    #[test]
    fn a_client_from_another_server_is_known_by_what_it_came_with_until_the_application_is_done_and_later()
     {
        let offset = |number, tag| Last {
            own: Some(Offset {
                number,
                tag: Tag::of(tag),
            }),
            position: None,
        };
        let came = offset(7, "server-one").own.unwrap();
        let node = NodeId::new("server-two").unwrap();
        let question = Question { node, request: 3 };
        let asked = vec![question.clone()];
        let known = Recoverable::given(Pid::random(), (came, 100), Value::from(1), asked);
        assert_eq!(known.floor(), Some(100));
        assert_eq!(known.number_of(offset(7, "server-one")), Some(100));
        assert_eq!(known.number_of(offset(8, "server-one")), None);
        assert_eq!(known.number_of(offset(7, "other-one")), None);
        assert_eq!(known.arrival(), Some(&Value::from(1)));
        known.arrived();
        assert_eq!(known.arrival(), None);
        let again = known.again();
        assert_eq!(again.answered(), [question]);
        assert_eq!(again.number_of(offset(7, "server-one")), Some(100));
        assert_eq!((again.arrival(), again.recovered), (None, true));
        assert_eq!(Recoverable::new().number_of(offset(7, "server-one")), None);
    }
}
