//! The upgrade from polling to a WebSocket.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use roomcast_protocol::{
    Frame,
    engine::{Action, Packet, Probe, Session, Source},
};

use super::{ClientError, options::Target, polling::Polling, websocket::WebSocket};

/// The WebSocket that a polling session may switch to.
pub(super) enum Candidate {
    /// No upgrade is in progress, or it failed. Polling continues.
    None,
    Connecting(Pin<Box<dyn Future<Output = Result<WebSocket, ClientError>> + Send + Sync>>),
    /// The probe was sent, and its answer is pending.
    Probing(Box<WebSocket>),
    /// The probe succeeded. The last polling requests are still in flight.
    Ready(Box<WebSocket>),
}

impl Candidate {
    /// Starts to connect.
    pub(super) fn connect(target: Arc<Target>, sid: String) -> Self {
        Self::Connecting(Box::pin(async move {
            let open = WebSocket::open(&target, Some(&sid));
            let opened = tokio::time::timeout(target.options.connect_timeout, open).await;
            opened.map_err(|_| ClientError::Timeout("the upgrade"))?
        }))
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Continues the upgrade. Completes when the candidate has failed or is ready.
    ///
    /// A failed candidate is dropped, and the session stays open.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        polling: &mut Polling,
    ) -> Poll<()> {
        loop {
            match self {
                Self::None | Self::Ready(_) => return Poll::Ready(()),
                Self::Connecting(future) => {
                    *self = match ready!(future.as_mut().poll(cx)) {
                        Ok(websocket) => Self::probe(websocket, session),
                        Err(_) => Self::None,
                    };
                }
                Self::Probing(websocket) => {
                    let mut inbox = VecDeque::new();
                    let result = ready!(poll_probe(websocket, cx, &mut inbox));
                    let mut is_ready = false;
                    for packet in inbox {
                        let action =
                            session.handle_packet(Instant::now(), Source::Candidate, packet);
                        is_ready |= action == Action::Switch;
                    }
                    if result.is_err() || !is_ready {
                        session.handle_detach();
                        *self = Self::None;
                    } else if let Self::Probing(websocket) = std::mem::replace(self, Self::None) {
                        // No request starts after this. The server answers the pending poll, and
                        // its packets precede those of the WebSocket.
                        polling.pause();
                        *self = Self::Ready(websocket);
                    }
                }
            }
        }
    }

    fn probe(mut websocket: WebSocket, session: &mut Session) -> Self {
        let ping = Frame::packet(&Packet::Ping(Probe::Probe));
        if session.handle_attach(Instant::now()) && websocket.push(&ping).is_ok() {
            Self::Probing(Box::new(websocket))
        } else {
            session.handle_detach();
            Self::None
        }
    }

    /// Returns the WebSocket when the polling transport has no request in flight.
    pub(super) fn take_over(&mut self, polling: &Polling) -> Option<Box<WebSocket>> {
        if !matches!(self, Self::Ready(_)) || !polling.is_quiet() {
            return None;
        }
        let Self::Ready(websocket) = std::mem::replace(self, Self::None) else {
            return None;
        };
        Some(websocket)
    }
}

fn poll_probe(
    websocket: &mut WebSocket,
    cx: &mut Context<'_>,
    inbox: &mut VecDeque<Packet>,
) -> Poll<Result<(), ClientError>> {
    if websocket.queued() > 0 {
        ready!(websocket.poll_write(cx))?;
    }
    websocket.poll_read(cx, inbox)
}
