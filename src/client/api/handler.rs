//! Client handlers: async functions of an event's arguments that return the acknowledgement.

use std::{marker::PhantomData, sync::Arc};

use roomcast_protocol::socket::Argument;
use serde::de::DeserializeOwned;

use super::{
    Incoming, Socket,
    incoming::{AnswerFuture, Erased},
};
use crate::{
    Contract, Refusal,
    socket::{HandlerFuture, IntoAck as _, Reply},
};

/// An async function that handles an event of the server.
///
/// A handler takes up to six [parameters](Parameter), usually the event's arguments in the order
/// the server sent them, and returns an [answer](crate::handler::IntoAck): `()`,
/// [`Ack`](crate::Ack), [`NoAck`](crate::NoAck), or a `Result` of them.
///
/// Closures and async closures are handlers, too. A closure that captures a value clones it into
/// its future: `move |text: String| { let db = db.clone(); async move { … } }`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of a client",
    label = "not an async function of an event's arguments",
    note = "a handler is `async fn(A, B, …) -> R` with at most six arguments",
    note = "an async closure must not borrow what it captures"
)]
pub trait Handler<M>: Send + Sync + 'static {
    /// The future that handles one event.
    type Future;

    /// Handles an event with these parameters.
    fn handle(&self, parameters: M) -> Self::Future;
}

/// A parameter of a client's [`Handler`].
///
/// | type | value |
/// |---|---|
/// | [`DeserializeOwned`] | the next argument; an `Option` may be missing, `Bytes` are binary |
/// | [`Value`](crate::Value) | the next argument, of any type |
/// | [`Args`](crate::Args) | all remaining arguments, unparsed |
/// | [`Socket`] | the socket that received the event |
/// | [`Incoming`] | the whole event with its name; it cannot be acknowledged |
pub trait Parameter: Sized {
    /// Reads the parameter from an event, starting at argument `position`. Advances `position` past
    /// the arguments that it reads.
    ///
    /// # Errors
    ///
    /// Returns the refusal that acknowledges the event, if the server requested an acknowledgement.
    /// The handler does not run.
    fn take(event: &Incoming, position: &mut usize) -> Result<Self, Refusal>;
}

#[diagnostic::do_not_recommend]
impl<A: Argument> Parameter for A {
    fn take(event: &Incoming, position: &mut usize) -> Result<Self, Refusal> {
        Ok(A::take(&event.args, position)?)
    }
}

impl Parameter for Socket {
    fn take(event: &Incoming, _: &mut usize) -> Result<Self, Refusal> {
        Ok(event.socket().clone())
    }
}

impl Parameter for Incoming {
    fn take(event: &Incoming, _: &mut usize) -> Result<Self, Refusal> {
        Ok(event.with_ack(None))
    }
}

/// All parameters of one handler.
pub trait Parameters: Sized + 'static {
    #[doc(hidden)]
    fn take(event: &Incoming) -> Result<Self, Refusal>;
}

/// The parameters of a [`Contract`](crate::Contract) handler: the contract first, then any other
/// parameters.
pub trait ContractParameters: Parameters {
    /// The contract.
    type Contract: Contract;
}

macro_rules! contract {
    ($($parameter:ident)*) => {
        impl<T, $($parameter),*> ContractParameters for (T, $($parameter),*)
        where
            T: Contract + DeserializeOwned + 'static,
            $($parameter: Parameter + 'static),*
        {
            type Contract = T;
        }
    };
}

contract!();
contract!(A);
contract!(A B);
contract!(A B C);
contract!(A B C D);
contract!(A B C D E);

struct Typed<F, M>(F, PhantomData<fn() -> M>);

impl<M: Parameters, F: Handler<M, Future: HandlerFuture>> Erased for Typed<F, M> {
    fn call(&self, event: &Incoming, reply: Reply) -> Result<AnswerFuture, Refusal> {
        let handling = self.0.handle(M::take(event)?);
        Ok(Box::pin(async move { handling.await.into_ack(reply) }))
    }
}

pub(super) fn erase<M: Parameters>(
    handler: impl Handler<M, Future: HandlerFuture>,
) -> Arc<dyn Erased> {
    Arc::new(Typed(handler, PhantomData))
}

macro_rules! handler {
    ($($parameter:ident)*) => {
        impl<F, R, $($parameter),*> Handler<($($parameter,)*)> for F
        where
            F: Fn($($parameter),*) -> R + Send + Sync + 'static,
        {
            type Future = R;

            #[allow(non_snake_case, reason = "one macro for all")]
            fn handle(&self, ($($parameter,)*): ($($parameter,)*)) -> R {
                self($($parameter),*)
            }
        }

        impl<$($parameter: Parameter + 'static),*> Parameters for ($($parameter,)*) {
            #[allow(unused_mut, unused_variables, reason = "one macro for all")]
            fn take(event: &Incoming) -> Result<Self, Refusal> {
                let mut position = 0;
                Ok(($($parameter::take(event, &mut position)?,)*))
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
