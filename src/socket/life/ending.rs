//! Ends sockets, for any cause.

use std::{sync::atomic::Ordering, time::Duration};

use roomcast_protocol::{
    engine::CloseReason,
    socket::{Args, Parser},
};
use serde::Serialize;

use crate::{
    Principal,
    engine::Mode,
    socket::{
        core::{BoxHandler, Erased, Lifecycle, LogKind, Socket},
        dispatch::{Call, Running},
        types::{DisconnectReason, Refusal, args},
    },
};

impl Socket {
    /// Checks the principal again, and disconnects the socket if it is no longer valid. Returns
    /// whether the socket stays connected.
    pub(crate) fn revalidate(&self) -> bool {
        let Some(authenticator) = &self.0.namespace.handlers.authenticate else {
            return true;
        };
        match (authenticator.revalidate)(&self.principal()) {
            Ok(()) => true,
            Err(refusal) => {
                self.expel(&refusal);
                false
            }
        }
    }

    /// Returns whether a disconnected client may recover this socket. Expired credentials are
    /// allowed, because the client sends new ones.
    pub(crate) fn may_recover(&self) -> bool {
        let Some(authenticator) = &self.0.namespace.handlers.authenticate else {
            return true;
        };
        let principal = self.principal();
        if principal.expires_at.is_none() {
            return (authenticator.revalidate)(&principal).is_ok();
        }
        let endless = Principal {
            expires_at: None,
            ..Principal::clone(&principal)
        };
        (authenticator.revalidate)(&endless).is_ok()
    }

    /// Disconnects a client whose credentials are no longer valid, and notifies it before.
    pub(crate) fn expel(&self, refusal: &Refusal) {
        // Several tasks may detect this concurrently; the client is notified once. The others wait,
        // because their callers rely on its end. An observer of events that calls this gives up.
        let Some(mut expelled) = self.0.expelled.try_lock_for(MAX_EXPULSION) else {
            return;
        };
        if !self.is_connected() || std::mem::replace(&mut *expelled, true) {
            return;
        }
        let reason = refusal.reason();
        let address = self.handshake().address().ip();
        let _scope = self.log_scope();
        if let Some(more) = self.0.io.permit_connection_log(LogKind::Expelled, address) {
            crate::socket::core::io::connection_log!(
                self.0.io,socket = %self.0.id, namespace = self.nsp(), reason, more, "expelled");
        }
        if self.outbox().is_held() {
            return self.expel_held(refusal);
        }
        self.emit("error", ErrorEvent::of(refusal));
        self.disconnect();
    }

    /// Disconnects the client while all sessions are held after a stall of the process: what is
    /// queued may have been queued after the session should have ended.
    fn expel_held(&self, refusal: &Refusal) {
        // Other tasks send events to its rooms meanwhile, so the socket leaves them first.
        self.close(DisconnectReason::ServerNamespaceDisconnect);
        self.outbox().drop_queued();
        let parser = self.0.io.config().sockets.parser;
        let error = parser.event(self.nsp(), None, "error", &ErrorEvent::of(refusal));
        for frame in [error, parser.disconnect(self.nsp())].into_iter().flatten() {
            // A disconnected or overflowing client ends anyway.
            let _ = self.shared().push(&frame, Mode::Reliable, self.metrics());
        }
        if !self.shared().sockets().is_empty() {
            // The dropped frames may have belonged to these sockets.
            self.drop_connection();
        }
    }

    /// Disconnects the client from this namespace. The client does not reconnect by itself.
    ///
    /// Starts the `disconnecting` and `disconnect` handlers before it returns.
    pub fn disconnect(&self) {
        self.leave_namespace();
    }

    /// Disconnects the client from all its namespaces, like [`disconnect`](Self::disconnect), and
    /// closes the connection: `disconnect(true)` of the official server.
    pub fn close_connection(&self) {
        for socket in self.shared().sockets() {
            socket.leave_namespace();
        }
        self.outbox().close(CloseReason::ForcedClose);
    }

    /// Closes the connection without a packet to any namespace. The client sees a lost connection,
    /// and stock clients reconnect.
    pub fn drop_connection(&self) {
        self.outbox().close(CloseReason::ForcedClose);
    }

    fn leave_namespace(&self) {
        if !self.is_connected() {
            return;
        }
        let reason = DisconnectReason::ServerNamespaceDisconnect;
        // A client of Engine.IO v3 has the same id after it has joined again, so this socket ends
        // before the client learns of it.
        let is_v3 = self.outbox().revision().is_v3();
        if is_v3 {
            self.close(reason);
        }
        if let Ok(frame) = self.0.io.config().sockets.parser.disconnect(self.nsp()) {
            // A disconnected or overflowing client ends anyway.
            let _ = self.shared().push(&frame, Mode::Reliable, self.metrics());
        }
        if !is_v3 {
            self.close(reason);
        }
    }

    /// Ends the socket for any cause: notifies the application, leaves all rooms, and fails pending
    /// acknowledgements. Only the first call has an effect.
    pub(crate) fn close(&self, reason: DisconnectReason) {
        self.close_described(reason, None);
    }

    /// Ends the socket, with a description of the reason.
    pub(crate) fn close_described(&self, reason: DisconnectReason, description: Option<&str>) {
        // The cell is set once, so that only one of several concurrent causes ends the socket.
        if self.0.reason.set(reason).is_err() {
            return;
        }
        // Release and acquire: the completion of the admission reads the reason.
        if self.0.is_admitted_or_closed.swap(true, Ordering::AcqRel) {
            self.end(reason, description);
        }
    }

    /// Completes the admission. If the socket was closed meanwhile, it ends now: an end that
    /// overlaps with the admission would leave the socket in some tables.
    pub(crate) fn complete_admission(&self) {
        if self.0.is_admitted_or_closed.swap(true, Ordering::AcqRel)
            && let Some(reason) = self.disconnect_reason()
        {
            self.end(reason, None);
        }
    }

    fn end(&self, reason: DisconnectReason, description: Option<&str>) {
        let address = self.handshake().address().ip();
        let _scope = self.log_scope();
        if let Some(more) = self.0.io.permit_connection_log(LogKind::Left, address) {
            crate::socket::core::io::connection_log!(
                self.0.io,
                socket = %self.0.id,
                namespace = self.nsp(),
                %reason,
                more,
                "disconnected"
            );
        }
        let handlers = &self.0.namespace.handlers;
        let args = reason_arguments(reason, description);
        // The application may end a socket on its own thread, where handlers must be able to spawn
        // tasks.
        let _runtime = self.0.io.enter_runtime();
        // The client counts as leaving before any handler runs. If it reconnects in the meantime,
        // it waits for this function instead of getting a new session.
        let recoverable = self.begin_leaving(reason);
        // These handlers may read the rooms of the socket, so it is still in them.
        let mut waiting = self.start_own("disconnecting", &handlers.disconnecting, &args);
        let leaving = recoverable.map(|recoverable| self.retain_recoverable(recoverable));
        if leaving.is_none() {
            self.end_for_good();
        }
        self.acks().close(self.metrics());
        self.0.namespace.broadcast_requests.leave(&self.0.id);
        self.shared().forget(self);
        let socket = self;
        self.0.io.notify(&Lifecycle::Disconnected {
            socket,
            reason,
            description,
        });
        waiting.extend(self.start_own("disconnect", &handlers.disconnect, &args));
        // The listeners are dropped last, because they may handle `disconnect`.
        if let Some(listeners) = self.listeners() {
            listeners.close();
        }
        if self.listeners().is_some() || self.conn_watchers().is_some() {
            self.0.namespace.set_observed(self, false);
        }
        self.0.io.detach(waiting, &self.0.shared);
        // The client can recover only from now on, here or on another server, so its new socket
        // connects after these handlers have started. A claim that waits has a timeout, in case a
        // handler blocks this thread.
        drop(leaving);
    }

    /// Starts the handlers of an internal event. Returns those that wait.
    fn start_own(&self, event: &'static str, handlers: &[BoxHandler], args: &Args) -> Vec<Running> {
        let mut waiting = Vec::new();
        let start = |handler: &dyn Erased| Call::own(self, event).start(handler, args.clone());
        for handler in handlers {
            waiting.extend(start(&**handler));
        }
        let listeners = self.listeners().map(|known| known.take(event));
        for listener in listeners.unwrap_or_default() {
            waiting.extend(start(&*listener));
        }
        waiting
    }

    /// Ends the whole connection, because its client has a new one. Queued data is still sent,
    /// because it may contain the client's `CONNECT` answer.
    pub(crate) fn break_off(&self) {
        self.outbox().supersede();
        for socket in self.shared().sockets() {
            socket.close(DisconnectReason::TransportClose);
        }
    }
}

/// The event `error` that an expelled client receives.
#[derive(Serialize)]
struct ErrorEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'a str,
    message: &'a str,
    status: u16,
}

impl<'a> ErrorEvent<'a> {
    fn of(refusal: &'a Refusal) -> Self {
        Self {
            kind: "auth",
            code: refusal.code(),
            message: refusal.message(),
            status: 401,
        }
    }
}

/// Returns the arguments of `disconnecting` and `disconnect`.
fn reason_arguments(reason: DisconnectReason, description: Option<&str>) -> Args {
    match description {
        Some(description) => {
            args::arguments(Parser::Json, &(reason, description)).unwrap_or_default()
        }
        None => args::literal(&format!("[\"{reason}\"]")),
    }
}

/// The maximum time to wait for another task that disconnects the same client.
const MAX_EXPULSION: Duration = Duration::from_secs(1);
