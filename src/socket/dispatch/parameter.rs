//! The parameters of a handler after the event.

use std::{fmt, ops::Deref, sync::Arc};

use roomcast_protocol::socket::Argument;
use serde::de::DeserializeOwned;

use crate::{
    Principal,
    socket::{
        core::Event,
        types::{Contract, Refusal, StateKind, States},
    },
};

/// A parameter of a handler after the [`Event`].
///
/// | type | value |
/// |---|---|
/// | any [`DeserializeOwned`] | the next argument; an `Option` may be missing, `Bytes` are binary |
/// | [`Value`](crate::Value) | the next argument, of any type |
/// | [`Args`](crate::Args) | all remaining arguments, unparsed; no other argument may follow |
/// | [`State<T>`](State) | a value that was passed to the builder |
/// | [`Data<T>`](Data) | a value that is stored with the socket |
/// | [`Extension<T>`](Extension) | a request extension of an outer layer |
/// | [`Principal`](crate::Principal) | the current principal of the socket |
///
/// For a parameter of your own, implement this trait. Its type must not implement `Deserialize`,
/// because the trait is implemented for all types that do:
///
/// ```
/// use roomcast::{Ack, Event, Io, Refusal, handler::Parameter};
///
/// struct Admin(String);
///
/// impl Parameter for Admin {
///     fn take(event: &Event, _: &mut usize) -> Result<Self, Refusal> {
///         let principal = event.principal();
///         if !principal.has("admin") {
///             return Err(Refusal::new("FORBIDDEN", "for admins only"));
///         }
///         Ok(Self(principal.name.clone()))
///     }
/// }
///
/// let io = Io::builder().namespace("/", |namespace| {
///     namespace.on("close", async |_: Event, admin: Admin, room: String| {
///         Ack(format!("{} closes {room}", admin.0))
///     })
/// });
/// # io.build().unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a handler",
    label = "the handler takes a `{Self}`",
    note = "derive `serde::Deserialize` for it if a client sends it; it must own its data: use `String`, not `&str`",
    note = "for a value of the application, use `State<T>`, `Data<T>` or `Extension<T>`"
)]
pub trait Parameter: Sized {
    /// Reads the parameter from an event, starting at argument `position`. Advances `position` past
    /// the arguments that it reads.
    ///
    /// # Errors
    ///
    /// Returns the refusal that acknowledges the event, if the client requested an acknowledgement.
    /// The handler does not run.
    fn take(event: &Event, position: &mut usize) -> Result<Self, Refusal>;

    /// Returns the requirement of this parameter. `build` checks it, and so do `Socket::on` and its
    /// variants. The default is none.
    #[must_use]
    fn needs() -> Requirement {
        Requirement::nothing()
    }
}

/// The requirement of a [`Parameter`].
#[derive(Clone, Copy, Debug)]
pub struct Requirement(Need);

#[derive(Clone, Copy, Debug)]
enum Need {
    Nothing,
    State(StateKind),
    Argument,
    AllArguments,
}

impl Requirement {
    /// Returns a requirement that is always met.
    #[must_use]
    pub const fn nothing() -> Self {
        Self(Need::Nothing)
    }

    /// Requires a value of this type in [`Builder::state`](crate::Builder::state).
    #[must_use]
    pub fn state<T: 'static>() -> Self {
        Self(Need::State(StateKind::of::<T>()))
    }

    /// Requires an argument of the event. A parameter with this requirement cannot follow one that
    /// takes all arguments.
    #[must_use]
    pub const fn argument() -> Self {
        Self(Need::Argument)
    }

    /// Requires all remaining arguments.
    #[must_use]
    pub const fn all_arguments() -> Self {
        Self(Need::AllArguments)
    }
}

#[diagnostic::do_not_recommend]
impl<A: Argument> Parameter for A {
    fn take(event: &Event, position: &mut usize) -> Result<Self, Refusal> {
        Ok(A::take(event.args(), position)?)
    }

    fn needs() -> Requirement {
        if A::TAKES_ALL {
            Requirement::all_arguments()
        } else {
            Requirement::argument()
        }
    }
}

/// A copy of the socket's principal. [`Event::principal`] returns it without a copy.
impl Parameter for Principal {
    fn take(event: &Event, _: &mut usize) -> Result<Self, Refusal> {
        Ok(Self::clone(&event.principal()))
    }
}

/// A value that was passed to [`Builder::state`](crate::Builder::state), as a parameter of handlers
/// and middleware.
///
/// If the value is missing, [`build`](crate::Builder::build) fails, and for a listener of one
/// socket [`Socket::on`](crate::Socket::on).
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use roomcast::{Ack, Event, Io, State};
///
/// #[derive(Default)]
/// struct Visits(AtomicU64);
///
/// let io = Io::builder().state(Visits::default()).namespace("/", |namespace| {
///     namespace.on("visit", async |_: Event, visits: State<Visits>| {
///         Ack(visits.0.fetch_add(1, Ordering::Relaxed))
///     })
/// });
/// # io.build().unwrap();
/// ```
pub struct State<T>(pub(crate) Arc<T>);

impl<T: Send + Sync + 'static> State<T> {
    pub(super) fn of(states: &States) -> Self {
        Self(
            states
                .shared()
                .expect("the state exists: `Parameter::needs` requires it"),
        )
    }
}

impl<T: Send + Sync + 'static> Parameter for State<T> {
    fn take(event: &Event, _: &mut usize) -> Result<Self, Refusal> {
        Ok(Self::of(event.io().states()))
    }

    fn needs() -> Requirement {
        Requirement::state::<T>()
    }
}

/// A value that [`Connect::set_data`](crate::Connect::set_data) or
/// [`Socket::set_data`](crate::Socket::set_data) stored with the socket, as a parameter of
/// handlers.
///
/// If the value may be missing, call [`Socket::data`](crate::Socket::data) instead. With this
/// parameter, an event of a socket without the value fails with an internal error, whose cause the
/// client does not receive.
///
/// ```
/// use roomcast::{Ack, Connect, Data, Event, Io, Refusal};
///
/// struct Language(String);
///
/// let io = Io::builder().namespace("/", |namespace| {
///     namespace
///         .middleware(async |connect: Connect| {
///             let language = connect.handshake().query_value("language");
///             connect.set_data(Language(language.unwrap_or("en".into())));
///             Ok::<_, Refusal>(())
///         })
///         .on("language", async |_: Event, language: Data<Language>| Ack(language.0.clone()))
/// });
/// # io.build().unwrap();
/// ```
pub struct Data<T>(Arc<T>);

impl<T: Send + Sync + 'static> Parameter for Data<T> {
    fn take(event: &Event, _: &mut usize) -> Result<Self, Refusal> {
        let data = event.socket.data().map(Self);
        data.ok_or_else(|| missing::<T>("the socket has no data"))
    }
}

/// An extension of the request that opened the connection, as a parameter of handlers; see
/// [`Handshake::extension`](crate::connection::Handshake::extension).
///
/// If it is missing, the event fails with an internal error, whose cause the client does not
/// receive.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "handlers destructure it")]
pub struct Extension<T>(pub T);

impl<T: Clone + Send + Sync + 'static> Parameter for Extension<T> {
    fn take(event: &Event, _: &mut usize) -> Result<Self, Refusal> {
        let extension = event.socket.handshake().extension().cloned();
        let extension = extension.ok_or_else(|| missing::<T>("the request has no extension"));
        extension.map(Self)
    }
}

fn missing<T>(missing_part: &str) -> Refusal {
    let name = std::any::type_name::<T>();
    Refusal::internal().because(format!("{missing_part} `{name}`"))
}

macro_rules! shared {
    ($($name:ident)+) => {
        $(impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                Self(Arc::clone(&self.0))
            }
        }

        impl<T> Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        })+
    };
}

shared!(State Data);

impl<T> Deref for Extension<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

macro_rules! debug {
    ($($name:ident)+) => {
        $(impl<T: fmt::Debug> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0).finish()
            }
        })+
    };
}

debug!(State Data Extension);

/// All parameters of one handler.
pub trait Parameters: Sized + 'static {
    #[doc(hidden)]
    fn take(event: &Event) -> Result<Self, Refusal>;

    #[doc(hidden)]
    fn needs() -> Vec<Requirement>;
}

/// The parameters of a [`Contract`] handler: the contract first, then any other parameters.
#[diagnostic::on_unimplemented(
    message = "the first parameter behind `Event` is no contract that can be received",
    note = "a contract that can be received must implement `roomcast::Contract` and `serde::Deserialize`"
)]
pub trait ContractParameters: Parameters {
    /// The contract.
    type Contract: Contract;
}

/// Why a handler can never be called.
pub(crate) enum Unmet {
    State(&'static str),
    /// A parameter requires an argument after all arguments are taken.
    Argument,
}

/// Returns the first requirement that is not met.
pub(crate) fn unmet(needs: &[Requirement], has_state: impl Fn(StateKind) -> bool) -> Option<Unmet> {
    let mut all_taken = false;
    needs.iter().find_map(|needs| match needs.0 {
        Need::State(kind) if !has_state(kind) => Some(Unmet::State(kind.name)),
        Need::Argument | Need::AllArguments if all_taken => Some(Unmet::Argument),
        Need::AllArguments => {
            all_taken = true;
            None
        }
        Need::Nothing | Need::State(_) | Need::Argument => None,
    })
}

macro_rules! parameters {
    ($($parameter:ident)*) => {
        impl<$($parameter: Parameter + 'static),*> Parameters for ($($parameter,)*) {
            #[allow(unused_mut, unused_variables, reason = "one macro for all")]
            fn take(event: &Event) -> Result<Self, Refusal> {
                let mut position = 0;
                Ok(($($parameter::take(event, &mut position)?,)*))
            }

            fn needs() -> Vec<Requirement> {
                vec![$($parameter::needs()),*]
            }
        }
    };
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

parameters!();
parameters!(A);
parameters!(A B);
parameters!(A B C);
parameters!(A B C D);
parameters!(A B C D E);
parameters!(A B C D E G);
