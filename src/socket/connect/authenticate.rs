//! Authentication of clients when they connect and when they recover.

use std::sync::Arc;

use roomcast_protocol::socket::Args;

use crate::{
    Principal,
    socket::{
        core::{Authenticator, Connect, Renewal, Socket},
        dispatch::{Middleware, Requirement},
        types::Refusal,
    },
};

/// Determines the principal of each client.
///
/// Every async function of a [`Connect`] implements it, so
/// [`authenticate`](crate::NamespaceBuilder::authenticate) accepts closures. Types with keys,
/// logins or revocation lists implement it directly:
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
/// let io = Io::builder()
///     .namespace("/", |namespace| namespace.authenticate(Names { banned: HashSet::new() }));
/// # io.build().unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot find out who a client is",
    note = "implement `Authenticate`, or pass an `async fn(Connect) -> Result<Principal, E>`",
    note = "its error converts into `Refusal`, and its future is `Send`"
)]
pub trait Authenticate: Send + Sync + 'static {
    /// Returns the principal of a client that connects. An error becomes its `connect_error`.
    fn authenticate(
        &self,
        connect: Connect,
    ) -> impl Future<Output = Result<Principal, Refusal>> + Send;

    /// Decides whether a client may recover a socket that belonged to the principal `previous`.
    ///
    /// An error refuses the client, as with [`authenticate`](Self::authenticate). The returned
    /// principal replaces the previous one. If it is another user, lacks one of the previous roles,
    /// or has [other rights](Self::rights), the client gets a new session and nothing of the old
    /// socket. The default implementation checks the credentials again.
    fn recover(
        &self,
        connect: Connect,
        previous: Arc<Principal>,
    ) -> impl Future<Output = Result<Principal, Refusal>> + Send {
        drop(previous);
        self.authenticate(connect)
    }

    /// Returns what gives a principal rights besides its roles, such as claims of a token in
    /// [`Principal::data`].
    ///
    /// A client that recovers a socket with other rights than those of the previous principal gets a
    /// new session, because what the socket has missed may be for others. The text is part of the
    /// state that is stored for recovery at another server, so it must contain no secret. The default
    /// is `None`.
    fn rights(&self, principal: &Principal) -> Option<String> {
        let _ = principal;
        None
    }

    /// Checks that an admitted principal is still valid: not expired and not revoked.
    ///
    /// Called right after a socket is admitted, and by [`Io::revalidate`](crate::Io::revalidate)
    /// for all connected sockets. It must not block and must use data in memory.
    ///
    /// # Errors
    ///
    /// Returns the refusal that the client receives in the event `error` before it is disconnected.
    /// The default implementation never fails.
    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        let _ = principal;
        Ok(())
    }

    /// Returns how expiring principals are renewed.
    ///
    /// With `Some`, the client receives the warning `auth:expiring {expiresAt}`. It may send
    /// `auth:refresh` with the input of [`refresh`](Self::refresh). Otherwise it receives
    /// `TOKEN_EXPIRED` before it is disconnected. With `None`, the default, the client is
    /// disconnected when its principal expires.
    fn renewal(&self) -> Option<Renewal> {
        None
    }

    /// Returns the new principal of a connected client, from the arguments of its `auth:refresh`
    /// event.
    ///
    /// The returned principal replaces the current one. A principal with another subject is
    /// refused. Called only if [`renewal`](Self::renewal) returns a value.
    fn refresh(
        &self,
        current: Arc<Principal>,
        offer: Args,
    ) -> impl Future<Output = Result<Principal, Refusal>> + Send {
        let _ = (current, offer);
        async { Err(Refusal::unauthenticated("cannot be refreshed")) }
    }

    /// Called when new credentials of a client are in force, before the client is answered.
    ///
    /// Use it to remove the client from rooms that it may no longer be in. The default does
    /// nothing.
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

/// A value accepted by [`authenticate`](crate::NamespaceBuilder::authenticate): an
/// [`Authenticate`], or an async function of a [`Connect`] and up to three
/// [`State`](crate::State)s.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot find out who a client is",
    label = "neither `Authenticate` nor a function of `Connect`",
    note = "implement `Authenticate`, or pass an `async fn(Connect, State<A>, …) -> Result<Principal, E>`",
    note = "its error converts into `Refusal`, and its future is `Send`"
)]
pub trait IntoAuthenticator<M> {
    #[doc(hidden)]
    fn into_authenticate(self) -> impl Authenticate;

    #[doc(hidden)]
    #[must_use]
    fn needs() -> Vec<Requirement> {
        Vec::new()
    }
}

impl<A: Authenticate> IntoAuthenticator<()> for A {
    fn into_authenticate(self) -> impl Authenticate {
        self
    }
}

macro_rules! with_states {
    ($($state:ident)*) => {
        impl<F, R, E, $($state: Send + Sync + 'static),*> IntoAuthenticator<($($state,)*)> for F
        where
            F: Middleware<Connect, ($($state,)*), Future = R>,
            R: Future<Output = Result<Principal, E>> + Send + 'static,
            E: Into<Refusal>,
        {
            fn into_authenticate(self) -> impl Authenticate {
                move |connect: Connect| self.call(connect)
            }

            fn needs() -> Vec<Requirement> {
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
        let rights = Arc::clone(&first);
        Self {
            renewal: first.renewal(),
            revalidate: Box::new(move |principal| check.revalidate(principal)),
            rights: Box::new(move |principal| rights.rights(principal)),
            authenticate: Box::new(move |connect| {
                let authenticate = Arc::clone(&first);
                Box::pin(async move { authenticate.authenticate(connect).await })
            }),
            recover: Box::new(move |connect, previous| {
                let authenticate = Arc::clone(&again);
                Box::pin(async move { authenticate.recover(connect, previous).await })
            }),
        }
    }
}
