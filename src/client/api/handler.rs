//! Handlers of clients: async functions of an event's arguments, whose value is the acknowledgement.

use std::{marker::PhantomData, sync::Arc};

use roomcast_protocol::socket::Argument;
use serde::de::DeserializeOwned;

use super::{
    Incoming, Socket,
    incoming::{AnswerFuture, Erased},
};
use crate::{Contract, Handling, IntoAck as _, Refusal, Reply};

/// An async function that handles an event of the server.
///
/// A handler takes up to six [parameters](Parameter), usually the event's arguments in the order
/// the server sent them, and returns an [answer](crate::IntoAck): `()`, [`Ack`](crate::Ack),
/// [`NoAck`](crate::NoAck), or a `Result` of them.
///
/// Closures and async closures do as well. One that captures something clones it into its future:
/// `move |text: String| { let db = db.clone(); async move { … } }`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of a client",
    label = "not an async function of an event's arguments",
    note = "a handler is `async fn(A, B, …) -> R` with at most six arguments",
    note = "an async closure must not borrow what it captures"
)]
pub trait Handler<M>: Send + Sync + 'static {
    /// What it does with one event.
    type Future;

    /// Handles an event that had these parameters.
    fn handle(&self, parameters: M) -> Self::Future;
}

/// What a [`Handler`] of a client may take.
///
/// | type | what it is |
/// |---|---|
/// | whatever implements [`DeserializeOwned`](serde::de::DeserializeOwned) | the next argument; `Option<T>` may be missing, `Bytes` is binary, also inside a struct |
/// | [`Value`](crate::Value) | the next argument, whatever it is |
/// | [`Args`](crate::Args) | all arguments that are left, unparsed |
/// | [`Socket`] | the socket that the event came to |
/// | [`Incoming`] | the whole event, its name included; it cannot be acknowledged |
pub trait Parameter: Sized {
    /// Takes it from an event. `position` is that of the next argument, and is moved past those
    /// that are taken.
    ///
    /// # Errors
    ///
    /// What the server is told instead, if it asked for an acknowledgement; the handler does not run.
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

/// The parameters of a handler of a [`Contract`](crate::Contract): the contract, and then any others.
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

impl<M: Parameters, F: Handler<M, Future: Handling>> Erased for Typed<F, M> {
    fn call(&self, event: &Incoming, reply: Reply) -> Result<AnswerFuture, Refusal> {
        let handling = self.0.handle(M::take(event)?);
        Ok(Box::pin(async move { handling.await.into_ack(reply) }))
    }
}

pub(super) fn erase<M: Parameters>(handler: impl Handler<M, Future: Handling>) -> Arc<dyn Erased> {
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
