//! Opens and reopens sessions; enters and leaves namespaces.

use std::{collections::HashSet, sync::Arc, time::Duration};

use roomcast_protocol::{engine::CloseReason, socket::Nsp};
use serde_json::{Map, Value};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    Authenticated, Driver,
    namespace::{Namespace, Stage, later},
    phase::Phase,
};
use crate::client::{
    ClientError, DisconnectReason,
    api::{AuthKind, Change, ConnectError, SharedNamespace},
    link::Link,
};

/// Receives the outcome of connecting a socket.
type ConnectWaiter = oneshot::Sender<Result<(), ClientError>>;

impl Driver {
    /// Handles the application's request to connect a socket.
    pub(super) fn open(&mut self, shared: &Arc<SharedNamespace>, waiter: Option<ConnectWaiter>) {
        let namespace = self.namespace(shared);
        namespace.waiters.extend(waiter);
        namespace.activate();
        match (namespace.stage, &self.phase) {
            (Stage::In, _) => self.namespace(shared).settle(Ok(())),
            (Stage::Out, Phase::Open(_)) => self.enter(&shared.nsp),
            (Stage::Out, Phase::Closed) => self.dial(),
            (Stage::Out, Phase::Waiting(_) | Phase::Opening(_)) | (Stage::Connecting(_), _) => {}
        }
    }

    fn dial(&mut self) {
        let settings = Arc::clone(&self.settings);
        self.phase = Phase::Opening(Box::pin(async move {
            let target = Arc::new(settings.target.clone());
            let opened = timeout(target.options.connect_timeout, Link::open(&target)).await;
            opened.unwrap_or(Err(ClientError::Timeout("connecting")))
        }));
    }

    /// Handles an opened session.
    pub(super) fn opened(&mut self, link: Link) {
        // This invalidates acknowledgements and auth payloads of earlier sessions.
        self.epoch += 1;
        self.phase = Phase::Open(Box::new(link));
        self.notify(&Change::Open);
        for nsp in self.active() {
            self.enter(&nsp);
        }
        if std::mem::take(&mut self.is_reconnecting) {
            let attempt = self.backoff.attempts;
            self.notify(&Change::Reconnect(attempt));
        }
        self.backoff.attempts = 0;
    }

    /// Handles a failed attempt to open a session.
    pub(super) fn unreachable(&mut self, error: &ClientError) {
        self.phase = Phase::Closed;
        let words = ConnectError::of(error);
        self.notify(&Change::Error(words.message.clone()));
        for nsp in self.active() {
            self.refuse(&nsp, error);
        }
        if std::mem::take(&mut self.is_reconnecting) {
            self.notify(&Change::ReconnectError(words.message));
            self.reconnect();
        } else if self.backoff.attempts == 0 {
            self.reconnect();
        }
    }

    /// Schedules the next attempt, if another attempt is allowed.
    fn reconnect(&mut self) {
        if !self.may_reconnect || self.active().is_empty() {
            self.backoff.attempts = 0;
        } else if self.backoff.attempts >= self.settings.reconnection_attempts {
            self.backoff.attempts = 0;
            self.end_waits(DisconnectReason::TransportClose);
            self.notify(&Change::ReconnectFailed);
        } else {
            let wait = self.backoff.next(&self.settings);
            self.is_reconnecting = true;
            self.phase = Phase::Waiting(Box::pin(sleep(wait)));
        }
    }

    /// Starts an attempt after its delay.
    pub(super) fn attempt(&mut self) {
        self.dial();
        self.notify(&Change::ReconnectAttempt(self.backoff.attempts));
    }

    pub(super) fn set_reconnection(&mut self, is_on: bool) {
        self.may_reconnect = is_on;
        if !is_on && matches!(self.phase, Phase::Waiting(_)) {
            self.stop_trying();
            self.end_waits(DisconnectReason::ClientDisconnect);
        }
    }

    /// Ends the waits for a connection that no further attempt will open.
    fn end_waits(&mut self, reason: DisconnectReason) {
        let namespaces = self.namespaces.values_mut();
        for namespace in namespaces.filter(|namespace| namespace.is_active) {
            namespace.settle(Err(&ClientError::Disconnected(reason)));
        }
    }

    /// Handles a session that the application did not end.
    pub(super) fn lost(&mut self, error: &ClientError) {
        if !matches!(self.phase, Phase::Open(_)) {
            return;
        }
        let reason = DisconnectReason::of(error);
        self.phase = Phase::Closed;
        self.epoch += 1;
        for nsp in self.active() {
            self.leave_namespace(&nsp, reason);
        }
        self.notify(&Change::Close(reason));
        self.reconnect();
    }

    /// Starts to enter a namespace.
    fn enter(&mut self, nsp: &Nsp) {
        let Some(namespace) = self.namespaces.get_mut(nsp) else {
            return;
        };
        let time_limit = self.settings.target.options.connect_timeout;
        match namespace.auth.0.clone() {
            AuthKind::Nothing => self.connect(nsp, None),
            AuthKind::Value(value) => self.connect(nsp, Some(value)),
            AuthKind::Function(function) => {
                // The function and the answer to `CONNECT` each have their own timeout.
                namespace.stage = Stage::Connecting(later(time_limit.saturating_mul(2)));
                let (nsp, epoch) = (nsp.clone(), self.epoch);
                self.auths.push(Box::pin(async move {
                    let credentials = timeout(time_limit, async { function().await }).await;
                    let auth = match credentials {
                        Ok(Ok(auth)) => Ok(auth),
                        Ok(Err(error)) => Err(ClientError::Options(error)),
                        Err(_) => Err(ClientError::Timeout("auth")),
                    };
                    Authenticated { nsp, epoch, auth }
                }));
            }
        }
    }

    /// Handles the payload from an auth function.
    pub(super) fn authenticated(&mut self, credentials: Authenticated) {
        let Authenticated { nsp, epoch, auth } = credentials;
        let namespace = self.namespaces.get(&nsp);
        let is_connecting =
            namespace.is_some_and(|namespace| matches!(namespace.stage, Stage::Connecting(_)));
        // The session changed, or the socket left, while the function was running.
        if epoch != self.epoch || !is_connecting {
            return;
        }
        match auth {
            Ok(auth @ Value::Object(_)) => self.connect(&nsp, Some(auth)),
            Ok(_) => {
                let error = ClientError::Options("auth must be a JSON object".into());
                self.give_up(&nsp, &error);
            }
            Err(error) => self.give_up(&nsp, &error),
        }
    }

    /// Sends `CONNECT`, with the `pid` and offset of a recoverable session.
    fn connect(&mut self, nsp: &Nsp, auth: Option<Value>) {
        let (Phase::Open(link), Some(namespace)) = (&mut self.phase, self.namespaces.get_mut(nsp))
        else {
            return;
        };
        namespace.stage = Stage::Connecting(later(self.settings.target.options.connect_timeout));
        let payload = match (&namespace.pid, auth) {
            (None, auth) => auth,
            (Some(pid), auth) => {
                let mut payload = Map::new();
                payload.insert("pid".into(), pid.as_str().into());
                if let Some(offset) = &namespace.offset {
                    payload.insert("offset".into(), offset.as_str().into());
                }
                if let Some(Value::Object(fields)) = auth {
                    // As in the official client, fields of the application with these names win.
                    payload.extend(fields);
                }
                Some(Value::Object(payload))
            }
        };
        let frame = self
            .settings
            .target
            .options
            .parser
            .connect(nsp.as_str(), &payload);
        let sent = frame.map_err(ClientError::Encode);
        if let Err(error) = sent.and_then(|frame| link.push(&frame)) {
            self.lost(&error);
        }
    }

    /// Handles a timeout of `CONNECT`. Ends the session, because a new session may succeed.
    pub(super) fn enter_after_deadline(&mut self, nsp: &Nsp) {
        let error = ClientError::Timeout("the answer to CONNECT");
        self.refuse(nsp, &error);
        self.lost(&error);
    }

    /// Deactivates a socket that cannot connect.
    pub(super) fn give_up(&mut self, nsp: &Nsp, error: &ClientError) {
        self.deactivate(nsp);
        self.refuse(nsp, error);
        self.close_if_unused(None);
    }

    /// Notifies a socket why it is not connected.
    fn refuse(&mut self, nsp: &Nsp, error: &ClientError) {
        if let Some(namespace) = self.namespaces.get_mut(nsp) {
            namespace.leave();
            namespace.settle(Err(error));
            self.own_event(nsp, "connect_error", &(ConnectError::of(error),));
        }
    }

    /// Handles a disconnect of a socket.
    pub(super) fn leave_namespace(&mut self, nsp: &Nsp, reason: DisconnectReason) {
        use DisconnectReason::{ClientDisconnect, ForcedClose};
        let Some(namespace) = self.namespaces.get_mut(nsp) else {
            return;
        };
        namespace.is_active &= reason.reconnects();
        if matches!(reason, ClientDisconnect | ForcedClose) {
            // The application has ended the session. The next `CONNECT` must not resume it,
            // whatever its `auth`.
            namespace.pid = None;
            namespace.offset = None;
        }
        let was_in = namespace.leave();
        if !reason.reconnects() || !self.may_reconnect {
            namespace.settle(Err(&ClientError::Disconnected(reason)));
        }
        // Unsent events remain in the buffer, with their pending acknowledgements.
        let buffered: HashSet<u64> = namespace.buffer.iter().filter_map(|(id, _)| *id).collect();
        let waiters = namespace.acks.take_all(|id| buffered.contains(&id));
        for waiter in waiters {
            let error = Err(ClientError::Disconnected(reason));
            super::sending::settle(namespace, waiter, error, self.settings.retries);
        }
        if was_in {
            self.own_event(nsp, "disconnect", &(reason,));
        }
    }

    fn deactivate(&mut self, nsp: &Nsp) {
        if let Some(namespace) = self.namespaces.get_mut(nsp) {
            namespace.is_active = false;
        }
    }

    /// Handles the application's request to leave a namespace.
    pub(super) fn disconnect(&mut self, shared: &Arc<SharedNamespace>, done: oneshot::Sender<()>) {
        let nsp = &shared.nsp;
        let mut waiter = Some(done);
        if self.namespace(shared).is_in() {
            self.flush(nsp, usize::MAX);
            // The connection ends with its last socket. Then the caller waits for that end instead.
            let is_last = self.active().len() == 1;
            let handled = if is_last { None } else { waiter.take() };
            self.send_disconnect(nsp, handled);
        }
        self.leave_namespace(nsp, DisconnectReason::ClientDisconnect);
        self.close_if_unused(waiter);
    }

    /// Handles a `DISCONNECT` packet of the server.
    pub(super) fn disconnected(&mut self, nsp: &Nsp) {
        self.leave_namespace(nsp, DisconnectReason::ServerDisconnect);
        self.close_if_unused(None);
    }

    /// Sends a `DISCONNECT` packet, separate from all other packets. `waiter` is notified when the
    /// server has handled it.
    pub(super) fn send_disconnect(&mut self, nsp: &Nsp, waiter: Option<oneshot::Sender<()>>) {
        let frame = self.settings.target.options.parser.disconnect(nsp.as_str());
        if let (Phase::Open(link), Ok(frame)) = (&mut self.phase, frame)
            && let Err(error) = link.push_separate(&frame, waiter)
        {
            self.lost(&error);
        }
    }

    /// Handles the application's request to close the connection.
    pub(super) fn close(&mut self, done: oneshot::Sender<()>) {
        for nsp in self.active() {
            self.flush(&nsp, usize::MAX);
            self.leave_namespace(&nsp, DisconnectReason::ForcedClose);
        }
        self.close_if_unused(Some(done));
    }

    /// Flushes queued events and leaves all namespaces after the last handle is dropped.
    pub(super) fn leave(&mut self) {
        for nsp in self.active() {
            if self.namespaces.get(&nsp).is_some_and(Namespace::is_in) {
                self.release_queue(&nsp);
                self.flush(&nsp, usize::MAX);
                self.send_disconnect(&nsp, None);
            }
            self.deactivate(&nsp);
        }
        self.close_if_unused(None);
    }

    /// Ends the session if no socket needs it. `waiter` is dropped when the close packet is
    /// written, which ends the caller's wait.
    fn close_if_unused(&mut self, waiter: Option<oneshot::Sender<()>>) {
        if !self.active().is_empty() {
            return;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        self.stop_trying();
        let Phase::Open(mut link) = phase else {
            return;
        };
        self.epoch += 1;
        self.notify(&Change::Close(DisconnectReason::ForcedClose));
        self.closings.push(Box::pin(async move {
            let _ = timeout(CLOSING, link.close_gracefully()).await;
            drop(waiter);
        }));
    }

    fn stop_trying(&mut self) {
        self.phase = Phase::Closed;
        self.is_reconnecting = false;
        self.backoff.attempts = 0;
    }

    /// Returns the namespaces that are entered or should be entered.
    fn active(&self) -> Vec<Nsp> {
        let active = self
            .namespaces
            .iter()
            .filter(|(_, namespace)| namespace.is_active);
        active.map(|(nsp, _)| nsp.clone()).collect()
    }
}

/// The error for packets of a namespace that violate the protocol.
pub(super) const MALFORMED: ClientError = ClientError::Closed(CloseReason::ParseError);

/// Timeout of a graceful close.
const CLOSING: Duration = Duration::from_secs(5);
