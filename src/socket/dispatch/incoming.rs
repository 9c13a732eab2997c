//! Packet middleware: functions that process incoming events before their handlers start.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use roomcast_protocol::socket::{Args, Arguments, EncodeError};

use super::middleware::Middleware;
use crate::{
    Principal,
    metrics::Counter,
    socket::{
        core::{Incoming, PacketMiddleware, Socket},
        types::{Name, Refusal, args},
    },
};

impl Incoming {
    pub(crate) fn new(socket: Socket, name: Name, args: Args, wants_ack: bool) -> Self {
        Self {
            socket,
            name,
            args,
            wants_ack,
        }
    }

    /// Returns the socket that received the event.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Returns the principal of the socket.
    #[must_use]
    pub fn principal(&self) -> Arc<Principal> {
        self.socket.principal()
    }

    /// Returns the name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        self.socket.event_name(&self.name)
    }

    /// Returns the arguments, unparsed.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Returns whether the client requested an acknowledgement.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.wants_ack
    }

    /// Changes the event's name, so that the handler of that name receives it.
    pub fn set_name(&mut self, name: &str) {
        self.name = Name::Wire(name.into());
    }

    /// Replaces the arguments. A tuple is several arguments, `()` is none.
    ///
    /// # Errors
    ///
    /// Fails if the arguments cannot be serialized. The event then keeps its arguments.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn set_args(&mut self, args: impl Arguments) -> Result<(), EncodeError> {
        self.args = args::arguments(self.socket.io().config().sockets.parser, &args)?;
        Ok(())
    }

    pub(crate) fn into_parts(self) -> (Name, Args) {
        (self.name, self.args)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("name", &self.name())
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// A return type of packet middleware. `Ok(())` passes the event unchanged, `Ok(incoming)` passes a
/// changed event, and an error stops it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what packet middleware returns",
    note = "return `Result<(), E>` or `Result<Incoming, E>` where `E` converts into `Refusal`"
)]
pub trait IntoIncoming {
    #[doc(hidden)]
    fn into_incoming(self, incoming: Incoming) -> Result<Incoming, Refusal>;
}

impl<E: Into<Refusal>> IntoIncoming for Result<(), E> {
    fn into_incoming(self, incoming: Incoming) -> Result<Incoming, Refusal> {
        self.map(|()| incoming).map_err(Into::into)
    }
}

impl<E: Into<Refusal>> IntoIncoming for Result<Incoming, E> {
    fn into_incoming(self, _: Incoming) -> Result<Incoming, Refusal> {
        self.map_err(Into::into)
    }
}

pub(crate) fn erase<M>(
    check: impl Middleware<Incoming, M, Future: Future<Output: IntoIncoming> + Send + 'static>,
) -> PacketMiddleware {
    Arc::new(move |incoming| {
        let deciding = check.call(incoming.clone());
        Box::pin(async move { deciding.await.into_incoming(incoming) })
    })
}

/// An event in packet middleware.
pub(crate) struct MiddlewareRun {
    socket: Socket,
    deciding: BoxFuture<'static, Result<Incoming, Refusal>>,
}

impl MiddlewareRun {
    pub(crate) fn new(incoming: Incoming, middleware: Vec<PacketMiddleware>) -> Self {
        let socket = incoming.socket.clone();
        let deciding = Box::pin(async move {
            let mut incoming = incoming;
            for middleware in middleware {
                incoming = middleware(incoming).await?;
            }
            Ok(incoming)
        });
        Self { socket, deciding }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, Refusal>> {
        let deciding = Pin::new(&mut self.deciding);
        // A panic counts as a refusal, because an unchecked event must not pass.
        catch_unwind(AssertUnwindSafe(|| deciding.poll(cx))).unwrap_or_else(|_| {
            self.socket.metrics().count(Counter::HandlerPanics);
            Poll::Ready(Err(
                Refusal::internal().because("packet middleware has panicked")
            ))
        })
    }
}
