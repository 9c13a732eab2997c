//! The end of a socket, whoever causes it.

use std::sync::atomic::Ordering;

use roomcast_protocol::{
    engine::CloseReason,
    socket::{Args, Parser},
};
use serde::Serialize;

use crate::{
    Principal,
    engine::Mode,
    socket::{
        core::{BoxHandler, Erased, Lifecycle, Socket},
        dispatch::{Call, Running},
        types::{DisconnectReason, Refusal, args},
    },
};

impl Socket {
    /// Asks the authenticator again and disconnects the socket if it is not valid any more. Returns
    /// whether the socket stays.
    pub(crate) fn revalidate(&self) -> bool {
        let Some(authenticator) = &self.0.namespace.handlers.authenticate else {
            return true;
        };
        match authenticator.revalidate(&self.principal()) {
            Ok(()) => true,
            Err(refusal) => {
                self.expel(&refusal);
                false
            }
        }
    }

    /// Whether a client that is away may come back as this socket. Expired credentials do not
    /// prevent that, since the client comes back with new ones.
    pub(crate) fn may_go_on(&self) -> bool {
        let Some(authenticator) = &self.0.namespace.handlers.authenticate else {
            return true;
        };
        let principal = self.principal();
        if principal.expires_at.is_none() {
            return authenticator.revalidate(&principal).is_ok();
        }
        let endless = Principal {
            expires_at: None,
            ..Principal::clone(&principal)
        };
        authenticator.revalidate(&endless).is_ok()
    }

    /// Disconnects a client whose credentials are not valid any more, after telling it so.
    pub(crate) fn expel(&self, refusal: &Refusal) {
        // Several tasks may find out at the same time; the client is told once.
        if !self.is_connected() || self.0.expelled.swap(true, Ordering::AcqRel) {
            return;
        }
        let reason = refusal.reason();
        let address = self.handshake().address().ip();
        if let Some(more) = self.0.io.may_log_coming(address) {
            crate::socket::core::io::connection_log!(
                self.0.io,socket = %self.0.id, namespace = self.nsp(), reason, more, "expelled");
        }
        self.emit("error", ErrorEvent::of(refusal));
        self.disconnect(false);
    }

    /// Disconnects the client from this namespace; with `close`, from all its namespaces, and
    /// closes the connection. The client does not come back by itself.
    ///
    /// The `disconnecting` and `disconnect` handlers are started before it returns.
    pub fn disconnect(&self, close: bool) {
        if close {
            for socket in self.shared().sockets() {
                socket.leave_namespace();
            }
            self.outbox().close(CloseReason::ForcedClose);
        } else {
            self.leave_namespace();
        }
    }

    /// Closes the connection without telling any namespace: to the client it is lost, and stock
    /// clients come back.
    pub fn drop_connection(&self) {
        self.outbox().close(CloseReason::ForcedClose);
    }

    fn leave_namespace(&self) {
        if !self.is_connected() {
            return;
        }
        if let Ok(frame) = self.0.io.config().sockets.parser.disconnect(self.nsp()) {
            // A client that is gone, or for which too much waits, ends anyway.
            let _ = self.shared().push(&frame, Mode::Reliable, self.metrics());
        }
        self.close(DisconnectReason::ServerNamespaceDisconnect);
    }

    /// Ends the socket for any cause: tells the application, leaves all rooms, and fails what waits
    /// for the client. Only the first call has an effect.
    pub(crate) fn close(&self, reason: DisconnectReason) {
        self.close_described(reason, None);
    }

    /// Ends the socket with a description of the reason.
    pub(crate) fn close_described(&self, reason: DisconnectReason, description: Option<&str>) {
        // The cell is set once, so that of several causes at the same time one ends the socket.
        if self.0.reason.set(reason).is_err() {
            return;
        }
        let address = self.handshake().address().ip();
        if let Some(more) = self.0.io.may_log_coming(address) {
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
        // The application may end a socket on a thread of its own, and handlers must be able to spawn tasks there.
        let _runtime = self.0.io.enter_runtime();
        // The client counts as leaving before any handler runs: if it comes back meanwhile, it
        // waits for the end of this instead of being told that there is no such socket.
        let recoverable = self.begin_leaving(reason);
        // These handlers may look at the rooms of the socket, which therefore is still in them.
        let mut waiting = self.start_own("disconnecting", &handlers.disconnecting, &args);
        let leaving = recoverable.map(|recoverable| self.keep_away(recoverable));
        if leaving.is_none() {
            self.end_for_good();
        }
        self.acks().close(self.metrics());
        self.0.namespace.questions.leave(self.0.id);
        self.shared().forget(self);
        let socket = self;
        self.0.io.tell(&Lifecycle::Disconnected {
            socket,
            reason,
            description,
        });
        waiting.extend(self.start_own("disconnect", &handlers.disconnect, &args));
        // The listeners are dropped last, because they may handle `disconnect` themselves.
        if let Some(listeners) = self.listeners() {
            listeners.close();
        }
        if self.listeners().is_some() || self.conn_watchers().is_some() {
            self.0.namespace.set_observed(self, false);
        }
        self.0.io.detach(waiting, &self.0.shared);
        // Only now may the client go on, here or at another server: its new socket is connected after the handlers of this one
        // have begun. Whoever asks for it waits, and not for longer than a moment, if one of them blocks this thread.
        drop(leaving);
    }

    /// Starts the handlers of an event of the library's own. Returns those that wait.
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

    /// Ends the whole connection, whose client is known to have a new one. What was queued for it still leaves: its client
    /// may be about to be told that it is connected.
    pub(crate) fn break_off(&self) {
        self.outbox().supersede();
        for socket in self.shared().sockets() {
            socket.close(DisconnectReason::TransportClose);
        }
    }
}

/// The event `error` that is sent to a client that is expelled.
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

/// The arguments of `disconnecting` and `disconnect`.
fn reason_arguments(reason: DisconnectReason, description: Option<&str>) -> Args {
    match description {
        Some(description) => {
            args::arguments(Parser::Json, &(reason, description)).unwrap_or_default()
        }
        None => args::literal(&format!("[\"{reason}\"]")),
    }
}
