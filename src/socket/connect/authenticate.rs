//! Finding out who a client is: when it comes, and again when it comes back.

use std::sync::Arc;

use roomcast_protocol::socket::Args;

use crate::{
    Principal,
    socket::{
        core::{Authenticator, Connect, Renewal, Socket},
        dispatch::{Middleware, Needs},
        types::Refusal,
    },
};

/// Finds out who a client is.
///
/// Every async function of a [`Connect`] does, so that
/// [`authenticate`](crate::NamespaceBuilder::authenticate) takes a closure as well. What has keys,
/// logins or a list of the revoked implements it:
///
/// ```
/// use std::{collections::HashSet, sync::Arc};
/// use roomcast::{Authenticate, Connect, Io, Refusal, Principal};
///
/// struct Names {
///     banned: HashSet<String>,
/// }
///
/// impl Authenticate for Names {
///     async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
///         let name: String = connect.auth().map_err(|_| Refusal::new("E_AUTH", "who are you?"))?;
///         self.recover(connect, Arc::new(Principal::new(name))).await
///     }
///
///     async fn recover(&self, _: Connect, previous: Arc<Principal>) -> Result<Principal, Refusal> {
///         if self.banned.contains(&previous.subject) {
///             return Err(Refusal::new("E_AUTH", "banned"));
///         }
///         Ok(Principal::clone(&previous))
///     }
/// }
///
/// let mut io = Io::builder();
/// io.namespace("/").authenticate(Names { banned: HashSet::new() });
/// # io.build().unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot find out who a client is",
    note = "implement `Authenticate`, or pass an `async fn(Connect) -> Result<Principal, E>`",
    note = "its error converts into `Refusal`, and its future is `Send`"
)]
pub trait Authenticate: Send + Sync + 'static {
    /// Finds out who asks to be let in. An error is the client's `connect_error`.
    fn authenticate(
        &self,
        connect: Connect,
    ) -> impl Future<Output = Result<Principal, Refusal>> + Send;

    /// Decides whether a client may go on as the socket of `previous`, whom it was before its
    /// connection broke.
    ///
    /// An error refuses the client as [`authenticate`](Self::authenticate) does. The returned
    /// principal replaces the previous one; if it is another user, or the same without one of its
    /// roles, the client starts afresh and gets nothing of the old socket. The default asks for
    /// the credentials again.
    fn recover(
        &self,
        connect: Connect,
        previous: Arc<Principal>,
    ) -> impl Future<Output = Result<Principal, Refusal>> + Send {
        drop(previous);
        self.authenticate(connect)
    }

    /// Whether a principal that was let in is still good: not expired, not revoked. It is asked
    /// when a socket has just been let in, and by [`Io::revalidate`](crate::Io::revalidate) for
    /// all that are connected; so it must not wait, and decides by what is in memory.
    ///
    /// # Errors
    ///
    /// What the client is told by the event `error` before it is disconnected. The default has
    /// none.
    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        let _ = principal;
        Ok(())
    }

    /// How the end of a principal is dealt with. With `Some`, a client is warned by the event
    /// `auth:expiring {expiresAt}`, may send `auth:refresh` with what [`refresh`](Self::refresh)
    /// takes, and is told `TOKEN_EXPIRED` before it is disconnected. With `None`, the default, a client is
    /// disconnected when its principal ends.
    fn renewal(&self) -> Option<Renewal> {
        None
    }

    /// Finds out who a connected client is by what it sent with `auth:refresh`. The returned
    /// principal replaces the current one; one with another subject is refused.
    ///
    /// This method is called only if there is a [`renewal`](Self::renewal).
    fn refresh(
        &self,
        current: Arc<Principal>,
        offer: Args,
    ) -> impl Future<Output = Result<Principal, Refusal>> + Send {
        let _ = (current, offer);
        async { Err(Refusal::unauthenticated("cannot be refreshed")) }
    }

    /// A client has brought new credentials, and they are in force: takes it out of the rooms that it
    /// may not be in any more. It is called before the client is answered. The default does nothing.
    fn refreshed(&self, socket: &Socket) {
        let _ = socket;
    }
}

impl<F, R, E> Authenticate for F
where
    F: Fn(Connect) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Principal, E>> + Send,
    E: Into<Refusal>,
{
    async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
        self(connect).await.map_err(Into::into)
    }
}

/// What [`authenticate`](crate::NamespaceBuilder::authenticate) takes: something that implements
/// [`Authenticate`], or an async function of a [`Connect`] and up to three
/// [`State`](crate::State)s.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot find out who a client is",
    label = "neither `Authenticate` nor a function of `Connect`",
    note = "implement `Authenticate`, or pass an `async fn(Connect, State<A>, …) -> Result<Principal, E>`",
    note = "its error converts into `Refusal`, and its future is `Send`"
)]
pub trait Authenticates<M> {
    #[doc(hidden)]
    fn into_authenticate(self) -> impl Authenticate;

    #[doc(hidden)]
    #[must_use]
    fn needs() -> Vec<Needs> {
        Vec::new()
    }
}

impl<A: Authenticate> Authenticates<()> for A {
    fn into_authenticate(self) -> impl Authenticate {
        self
    }
}

macro_rules! with_states {
    ($($state:ident)*) => {
        impl<F, R, E, $($state: Send + Sync + 'static),*> Authenticates<($($state,)*)> for F
        where
            F: Middleware<Connect, ($($state,)*), Future = R>,
            R: Future<Output = Result<Principal, E>> + Send + 'static,
            E: Into<Refusal>,
        {
            fn into_authenticate(self) -> impl Authenticate {
                move |connect: Connect| self.ask(connect)
            }

            fn needs() -> Vec<Needs> {
                <F as Middleware<Connect, ($($state,)*)>>::needs()
            }
        }
    };
}

with_states!(A);
with_states!(A B);
with_states!(A B D);

impl Authenticator {
    pub(crate) fn new(first: Arc<impl Authenticate>) -> Self {
        let again = Arc::clone(&first);
        let check = Arc::clone(&first);
        Self {
            renewal: first.renewal(),
            check: Box::new(move |principal| check.revalidate(principal)),
            first: Box::new(move |connect| {
                let authenticate = Arc::clone(&first);
                Box::pin(async move { authenticate.authenticate(connect).await })
            }),
            again: Box::new(move |connect, previous| {
                let authenticate = Arc::clone(&again);
                Box::pin(async move { authenticate.recover(connect, previous).await })
            }),
        }
    }
}
