use std::{collections::VecDeque, sync::Arc, time::Duration};

use roomcast_protocol::socket::{Args, Packet};
use tokio::{sync::oneshot, time::Instant};

use super::acks::Acks;
use crate::client::{
    ClientError,
    api::{Auth, Listeners, Outgoing, SharedNamespace, SocketState},
};

/// The task's state of one namespace.
pub(super) struct Namespace {
    pub(super) shared: Arc<SharedNamespace>,
    pub(super) listeners: Listeners,
    pub(super) auth: Auth,
    /// Whether the socket is connected, or must connect in each session.
    pub(super) is_active: bool,
    pub(super) stage: Stage,
    /// Receivers of the outcome of connecting.
    pub(super) waiters: Vec<oneshot::Sender<Result<(), ClientError>>>,
    /// Unsent events, with the ids of their acknowledgements.
    pub(super) buffer: VecDeque<(Option<u64>, Outgoing)>,
    /// Events that arrived before the answer to `CONNECT`: the missed events of a recovered
    /// session.
    pub(super) early: Vec<Packet>,
    pub(super) early_bytes: usize,
    pub(super) acks: Acks,
    /// Events that are sent one at a time, each until it is acknowledged.
    pub(super) queue: VecDeque<Queued>,
    pub(super) last_queued: u64,
    /// The secret and the offset that recover the session.
    pub(super) pid: Option<String>,
    pub(super) offset: Option<String>,
}

/// The state of a namespace within the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The client is not in the namespace.
    Out,
    /// The client builds or has sent `CONNECT`. The field is the deadline of the answer.
    Connecting(Instant),
    In,
}

/// An event that is sent again until it is acknowledged.
pub(super) struct Queued {
    pub(super) number: u64,
    pub(super) outgoing: Outgoing,
    pub(super) tries: u32,
    pub(super) is_in_flight: bool,
}

impl Namespace {
    pub(super) fn new(shared: Arc<SharedNamespace>, auth: Auth) -> Self {
        Self {
            shared,
            listeners: Listeners::default(),
            auth,
            is_active: false,
            stage: Stage::Out,
            waiters: Vec::new(),
            buffer: VecDeque::new(),
            early: Vec::new(),
            early_bytes: 0,
            acks: Acks::default(),
            queue: VecDeque::new(),
            last_queued: 0,
            pid: None,
            offset: None,
        }
    }

    pub(super) fn is_in(&self) -> bool {
        self.stage == Stage::In
    }

    /// Returns whether the namespace has events to write.
    pub(super) fn has_unsent(&self) -> bool {
        self.is_in() && !self.buffer.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let connecting = match self.stage {
            Stage::Connecting(until) => Some(until),
            Stage::Out | Stage::In => None,
        };
        [connecting, self.acks.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn activate(&mut self) {
        self.is_active = true;
        self.shared
            .state
            .send_modify(|state| state.is_active = true);
    }

    /// Marks the socket as disconnected. Returns whether it was connected.
    pub(super) fn leave(&mut self) -> bool {
        let was_in = self.is_in();
        self.stage = Stage::Out;
        self.early = Vec::new();
        self.early_bytes = 0;
        let is_active = self.is_active;
        self.shared.state.send_modify(|state| {
            state.id = None;
            state.is_active = is_active;
        });
        was_in
    }

    /// Marks the socket as connected with this id. `pid` is the secret of a recoverable session.
    pub(super) fn enter(&mut self, id: &str, pid: Option<String>) {
        let recovered = pid.is_some() && pid == self.pid;
        self.pid = pid;
        self.stage = Stage::In;
        self.shared.state.send_replace(SocketState {
            id: Some(id.into()),
            recovered,
            is_active: true,
        });
    }

    /// Stores the offset of an event if the session is recoverable. The offset is the last
    /// argument.
    pub(super) fn note(&mut self, args: &Args) {
        if self.pid.is_some()
            && let Some(last) = args.len().checked_sub(1)
            && let Ok(offset) = args.get(last)
        {
            self.offset = Some(offset);
        }
    }

    /// Notifies all callers that wait for the outcome of connecting.
    pub(super) fn settle(&mut self, outcome: Result<(), &ClientError>) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(outcome.map_err(ClientError::copy));
        }
    }
}

/// When the task ends, possibly with its runtime, no handle may report a connected socket.
impl Drop for Namespace {
    fn drop(&mut self) {
        self.shared.state.send_replace(SocketState::default());
    }
}

/// Returns the instant after this duration, at most one year, because longer durations may overflow
/// the clock.
pub(super) fn later(duration: Duration) -> Instant {
    Instant::now() + duration.min(Duration::from_secs(365 * 86_400))
}
