//! Plain Engine.IO for applications with their own protocol, like `engine.io` without `socket.io`.

use std::{fmt, sync::Arc, time::Instant};

use roomcast_protocol::{
    Frame, Sid,
    engine::{CloseReason, Message},
};

use super::{
    application::{Application, SessionHandler},
    engine::Engine,
};
use crate::{
    Config,
    engine::{
        admission::Handshake,
        outbox::{Mode, Outbox, Push},
    },
    metrics::Metrics,
    tasks::{EndedTask, Tasks},
};

type OnMessage = Arc<dyn Fn(&RawSession, Message) + Send + Sync>;

/// An Engine.IO endpoint without Socket.IO: one function receives every message.
///
/// [`Server::raw`](crate::Server::raw) serves it next to Socket.IO under its own
/// [`path`](Config::path).
pub struct RawEngine(pub(crate) Arc<Engine>);

impl RawEngine {
    /// Creates an endpoint that calls `on_message` for every message of every session, in order.
    ///
    /// The function runs in the session's task and must not block.
    pub fn new(
        config: Config,
        on_message: impl Fn(&RawSession, Message) + Send + Sync + 'static,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        Self(Engine::new(
            Box::new(Raw(Arc::new(on_message))),
            Arc::new(config),
            Arc::default(),
            Arc::clone(&metrics),
            Tasks::new(metrics),
            None,
            None,
        ))
    }

    /// Returns the ended tasks of this engine, like [`Io::ended_tasks`](crate::Io::ended_tasks) for
    /// Socket.IO.
    #[must_use]
    pub fn ended_tasks(&self) -> Vec<EndedTask> {
        self.0.tasks().ended()
    }

    /// Returns the metrics of this engine, which are not shared with another engine.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }
}

impl fmt::Debug for RawEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawEngine").finish()
    }
}

/// One session of a [`RawEngine`].
#[derive(Clone, Debug)]
pub struct RawSession {
    outbox: Outbox,
    handshake: Arc<Handshake>,
}

impl RawSession {
    /// Returns the session's id. It is a secret that authorizes the client, so keep it
    /// confidential.
    #[must_use]
    pub fn sid(&self) -> Sid {
        self.outbox.sid()
    }

    /// Returns the request that opened the session.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// Queues a message. Returns `false` if the session is closed, or is being closed because the
    /// client is too slow.
    pub fn send(&self, message: &Message) -> bool {
        let frame = match message {
            Message::Text(text) => Frame::text(text),
            Message::Binary(data) => Frame::binary(data),
        };
        self.outbox.push(&frame, Mode::Reliable) == Push::Queued
    }

    /// Flushes the queue and closes the session.
    pub fn close(&self) {
        self.outbox.close(CloseReason::ForcedClose);
    }
}

/// The application of a [`RawEngine`].
struct Raw(OnMessage);

impl Application for Raw {
    fn open(
        &self,
        outbox: Outbox,
        handshake: Arc<Handshake>,
        _now: Instant,
    ) -> Box<dyn SessionHandler> {
        Box::new(RawHandler {
            on_message: Arc::clone(&self.0),
            session: RawSession { outbox, handshake },
        })
    }
}

/// The handler of one session of a [`RawEngine`].
struct RawHandler {
    on_message: OnMessage,
    session: RawSession,
}

impl SessionHandler for RawHandler {
    fn message(&mut self, message: Message, _now: Instant) -> Result<(), CloseReason> {
        (self.on_message)(&self.session, message);
        Ok(())
    }
}
