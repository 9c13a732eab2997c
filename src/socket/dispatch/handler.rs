//! Handlers: async functions of an event and its arguments, whose value is the acknowledgement.

use std::{any::TypeId, fmt, ops::Deref, sync::Arc};

use roomcast_protocol::socket::{Argument, ArgumentError};

use crate::socket::{
    core::{BoxHandler, Erased, Event},
    words::{AnswerFuture, IntoAck, Reply, StateKind},
};

/// An async function that handles an event.
///
/// It takes the [`Event`] and then up to six [parameters](Parameter), usually the event's arguments
/// in the order the client sent them, and returns an [answer](IntoAck):
///
/// ```
/// use roomcast::{Ack, Args, Event, Refusal};
///
/// async fn join(event: Event, room: String) -> Result<(), roomcast::JoinError> {
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
/// let mut io = roomcast::Io::builder();
/// io.namespace("/").on("join", join).on("divide", divide).on("echo", echo);
/// ```
///
/// Closures and async closures do as well. One that captures something clones it into its future:
/// `move |event: Event| { let db = db.clone(); async move { … } }`; what many handlers need is
/// better given to the builder as [`State`].
///
/// A handler runs inside its connection's task: the part before its first `.await` at once, in the
/// order in which events arrive. What takes long without awaiting belongs in
/// [`tokio::task::spawn_blocking`]. A panic fails the one event only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not an async function of `Event` and its arguments",
    note = "a handler is `async fn(Event, A, B, …) -> R` with at most six arguments",
    note = "its arguments implement `serde::de::DeserializeOwned`, or are `Args` or `State<T>`",
    note = "it returns `()`, `Ack<T>`, or a `Result` of them whose error converts into `Refusal`",
    note = "its future is `Send`, and an async closure must not borrow what it captures"
)]
pub trait Handler<M>: Send + Sync + 'static {
    #[doc(hidden)]
    fn call(&self, event: Event, reply: Reply) -> Result<AnswerFuture, ArgumentError>;

    #[doc(hidden)]
    fn states() -> Vec<StateKind>;
}

struct Typed<F, M>(F, std::marker::PhantomData<fn() -> M>);

impl<M, F: Handler<M>> Erased for Typed<F, M> {
    fn call(&self, event: Event, reply: Reply) -> Result<AnswerFuture, ArgumentError> {
        self.0.call(event, reply)
    }
}

pub(crate) fn erase<M: 'static, F: Handler<M>>(handler: F) -> BoxHandler {
    Box::new(Typed(handler, std::marker::PhantomData))
}

macro_rules! handler {
    ($($parameter:ident)*) => {
        impl<F, R, $($parameter),*> Handler<($($parameter,)*)> for F
        where
            F: Fn(Event $(, $parameter)*) -> R + Send + Sync + 'static,
            R: Future<Output: IntoAck> + Send + 'static,
            $($parameter: Parameter,)*
        {
            #[allow(non_snake_case, unused_mut, unused_variables, reason = "one macro for all")]
            fn call(&self, event: Event, reply: Reply) -> Result<AnswerFuture, ArgumentError> {
                let mut position = 0;
                $(let $parameter = $parameter::take(&event, &mut position)?;)*
                let handling = self(event $(, $parameter)*);
                Ok(Box::pin(async move { handling.await.into_ack(reply) }))
            }

            fn states() -> Vec<StateKind> {
                let kinds: &[Option<StateKind>] = &[$($parameter::state()),*];
                kinds.iter().copied().flatten().collect()
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

/// What a handler may take behind the [`Event`].
///
/// Everything that is [`Argument`]: a value of any type that implements
/// [`DeserializeOwned`](serde::de::DeserializeOwned) is the next argument (`Option<T>` may be
/// missing, `Bytes` is an attachment, also inside a struct), [`Args`](crate::Args) are all that are
/// left, unparsed. [`State`] is not one of the event's arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    note = "an argument implements `serde::de::DeserializeOwned`, or is `Args` or `State<T>`"
)]
pub trait Parameter: Sized {
    #[doc(hidden)]
    fn take(event: &Event, position: &mut usize) -> Result<Self, ArgumentError>;

    #[doc(hidden)]
    #[must_use]
    fn state() -> Option<StateKind> {
        None
    }
}

impl<A: Argument> Parameter for A {
    fn take(event: &Event, position: &mut usize) -> Result<Self, ArgumentError> {
        A::take(event.args(), position)
    }
}

/// Something that was given to [`Builder::state`](crate::Builder::state), as a handler's parameter.
///
/// A handler that asks for a state nobody gave makes [`build`](crate::Builder::build) fail.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use roomcast::{Ack, Event, Io, State};
///
/// #[derive(Default)]
/// struct Visits(AtomicU64);
///
/// let mut io = Io::builder().state(Visits::default());
/// io.namespace("/").on("visit", async |_: Event, visits: State<Visits>| {
///     Ack(visits.0.fetch_add(1, Ordering::Relaxed))
/// });
/// # io.build().unwrap();
/// ```
pub struct State<T>(pub(crate) Arc<T>);

impl<T: Send + Sync + 'static> Parameter for State<T> {
    fn take(event: &Event, _: &mut usize) -> Result<Self, ArgumentError> {
        let state = event.socket.io().states().shared();
        Ok(Self(
            state.expect("build has checked that the state is there"),
        ))
    }

    fn state() -> Option<StateKind> {
        Some(StateKind {
            id: TypeId::of::<T>(),
            name: std::any::type_name::<T>(),
        })
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").field(&self.0).finish()
    }
}
