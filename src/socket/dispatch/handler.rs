//! Handlers: async functions of an event and its arguments that return the acknowledgement.

use std::marker::PhantomData;

use super::parameter::Parameters;
use crate::socket::{
    core::{BoxHandler, Erased, Event},
    types::{AnswerFuture, IntoAck, Refusal, Reply},
};

/// An async function that handles an event.
///
/// A handler takes the [`Event`] and then up to six [parameters](crate::handler::Parameter),
/// usually the event's arguments in the order the client sent them. It returns an
/// [answer](IntoAck):
///
/// ```
/// use roomcast::{Ack, Args, Event, Refusal};
///
/// async fn join(event: Event, room: String) -> Result<(), roomcast::errors::JoinError> {
///     event.socket.join(room)
/// }
///
/// async fn divide(_: Event, a: f64, b: f64) -> Result<Ack<f64>, Refusal> {
///     if b == 0.0 {
///         return Err(Refusal::new("DIVISION_BY_ZERO", "b is zero"));
///     }
///     Ok(Ack(a / b))
/// }
///
/// async fn echo(_: Event, everything: Args) -> Ack<Args> {
///     Ack(everything)
/// }
///
/// let io = roomcast::Io::builder().namespace("/", |namespace| {
///     namespace.on("join", join).on("divide", divide).on("echo", echo)
/// });
/// ```
///
/// Closures and async closures are handlers, too. A closure that captures a value clones it into
/// its future: `move |event: Event| { let db = db.clone(); async move { … } }`. Pass values that
/// many handlers need to the builder as [`State`](crate::State).
///
/// A handler runs in its connection's task. The part before its first `.await` runs immediately, in
/// the order of events. Run blocking work in [`tokio::task::spawn_blocking`]. A panic fails only
/// its event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not an async function of `Event` and its arguments",
    note = "a handler is `async fn(Event, A, B, …) -> R`: `Event` by value comes first, then at most six arguments",
    note = "an async closure must not borrow what it captures"
)]
pub trait Handler<M>: Send + Sync + 'static {
    /// The future that handles one event.
    type Future;

    /// Handles an event with these parameters.
    fn handle(&self, event: Event, parameters: M) -> Self::Future;
}

/// The future of a handler, whose output is an [answer](IntoAck).
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not a future of an answer",
    note = "a handler is an async function, or returns a future that is `Send`",
    note = "its value is `()`, `Ack<T>`, or a `Result` of them whose error converts into `Refusal`"
)]
pub trait HandlerFuture: Future<Output: IntoAck> + Send + 'static {}

impl<R: Future<Output: IntoAck> + Send + 'static> HandlerFuture for R {}

struct Typed<F, M>(F, PhantomData<fn() -> M>);

impl<M: Parameters, F: Handler<M, Future: HandlerFuture>> Erased for Typed<F, M> {
    fn call(&self, event: Event, reply: Reply) -> Result<AnswerFuture, Refusal> {
        // The parameters are parsed before the call, so wrong arguments never start the handler.
        let parameters = M::take(&event)?;
        let handling = self.0.handle(event, parameters);
        Ok(Box::pin(async move { handling.await.into_ack(reply) }))
    }
}

pub(crate) fn erase<M: Parameters>(handler: impl Handler<M, Future: HandlerFuture>) -> BoxHandler {
    Box::new(Typed(handler, PhantomData))
}

// Only the arity of the function selects the implementation. An invalid parameter or return type is
// then an error about that type, not about the whole function.
macro_rules! handler {
    ($($parameter:ident)*) => {
        impl<F, R, $($parameter),*> Handler<($($parameter,)*)> for F
        where
            F: Fn(Event $(, $parameter)*) -> R + Send + Sync + 'static,
        {
            type Future = R;

            #[allow(non_snake_case, reason = "one macro for all")]
            fn handle(&self, event: Event, ($($parameter,)*): ($($parameter,)*)) -> R {
                self(event $(, $parameter)*)
            }
        }
    };
}

handler!();
handler!(A);
handler!(A B);
handler!(A B C);
handler!(A B C D);
handler!(A B C D E);
handler!(A B C D E G);
