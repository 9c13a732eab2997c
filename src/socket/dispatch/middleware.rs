//! Middleware functions for clients, packets and server-side events, and their states.

use super::parameter::{Requirement, State};
use crate::socket::core::{Connect, Incoming, Io, ServerSide};

/// An async middleware function. Its first parameter is a [`Connect`], an [`Incoming`] or a
/// [`ServerSide`]. Up to three [`State`]s may follow.
///
/// ```
/// use std::collections::HashSet;
/// use roomcast::{Connect, Io, Refusal, State};
///
/// struct Beta(HashSet<String>);
///
/// let io = Io::builder().state(Beta(HashSet::new())).namespace("/", |namespace| {
///     namespace.middleware(async |connect: Connect, beta: State<Beta>| {
///         match beta.0.contains(&connect.principal().subject) {
///             true => Ok(()),
///             false => Err(Refusal::new("NO_BETA", "not in the beta")),
///         }
///     })
/// });
/// # io.build().unwrap();
/// ```
///
/// If a state is missing, [`build`](crate::Builder::build) fails, as with handlers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be asked about a `{C}`",
    label = "not a function of `{C}`",
    note = "it is `async fn({C}, State<A>, …) -> R` with at most three states"
)]
pub trait Middleware<C, M>: Send + Sync + 'static {
    /// The future that it returns.
    type Future;

    /// Calls the function.
    fn call(&self, about: C) -> Self::Future;

    #[doc(hidden)]
    fn needs() -> Vec<Requirement>;
}

/// A first parameter of middleware.
#[doc(hidden)]
#[expect(unnameable_types, reason = "users never name this type")]
pub trait About {
    fn io(&self) -> &Io;
}

impl About for Connect {
    fn io(&self) -> &Io {
        &self.0.io
    }
}

impl About for Incoming {
    fn io(&self) -> &Io {
        self.socket.io()
    }
}

impl About for ServerSide {
    fn io(&self) -> &Io {
        self.namespace.io()
    }
}

macro_rules! middleware {
    ($($state:ident)*) => {
        impl<C: About, F, R, $($state: Send + Sync + 'static),*> Middleware<C, ($($state,)*)> for F
        where
            F: Fn(C $(, State<$state>)*) -> R + Send + Sync + 'static,
        {
            type Future = R;

            #[allow(non_snake_case, reason = "one macro for all")]
            fn call(&self, about: C) -> R {
                $(let $state = State::of(about.io().states());)*
                self(about $(, $state)*)
            }

            fn needs() -> Vec<Requirement> {
                vec![$(Requirement::state::<$state>()),*]
            }
        }
    };
}

middleware!();
middleware!(A);
middleware!(A B);
middleware!(A B D);
