//! Admits a client to a namespace: claims its previous socket, authenticates it, and runs
//! middleware.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::lookup::Lookup;
use crate::{
    Principal,
    metrics::Counter,
    socket::{
        core::{Connect, Handlers},
        life::{Claim, Claimant},
        types::Refusal,
    },
};

/// The outcome of a client's `CONNECT`.
pub(crate) type ConnectOutcome = Result<ConnectGrant, Refusal>;

/// The result of a successful admission.
pub(crate) struct ConnectGrant {
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) principal: Arc<Principal>,
    /// The socket that the client recovers.
    pub(crate) claim: Option<Claim>,
}

/// A pending decision about a client.
pub(crate) struct Admission {
    connect: Connect,
    deciding: Pin<Box<dyn Future<Output = ConnectOutcome> + Send>>,
}

impl Admission {
    /// Starts to decide about a client. `may_look_up` allows requests to other servers for the
    /// client's previous socket.
    pub(crate) fn new(lookup: Lookup, connect: Connect, may_look_up: bool) -> Self {
        let deciding = Box::pin(decide(lookup, connect.clone(), may_look_up));
        Self { connect, deciding }
    }

    /// Polls once, to decide immediately if no step has to wait.
    pub(crate) fn poll_now(&mut self) -> Poll<(Connect, ConnectOutcome)> {
        // A pending admission is polled again by its connection, with a real waker.
        self.poll(&mut Context::from_waker(Waker::noop()))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Connect, ConnectOutcome)> {
        // A panic of the application refuses this client only, not its other namespaces.
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.deciding.as_mut().poll(cx))) {
            Ok(poll) => std::task::ready!(poll),
            Err(_) => {
                self.connect.io().metrics().count(Counter::HandlerPanics);
                let namespace = self.connect.namespace();
                crate::throttled_log!(
                    error,
                    namespace,
                    "the function that admits clients panicked, client refused"
                );
                Err(Refusal::internal())
            }
        };
        Poll::Ready((self.connect.clone(), outcome))
    }
}

async fn decide(lookup: Lookup, connect: Connect, may_look_up: bool) -> ConnectOutcome {
    let limit = connect.io().config().sockets.connect_timeout;
    let deciding = async {
        let mut connect = connect;
        let handlers = match lookup {
            Lookup::Found(handlers) => Some(handlers),
            Lookup::Undecided(position) => connect.io().decide_from(position, &connect).await,
            Lookup::Missing => None,
        };
        let Some(handlers) = handlers else {
            return Err(Refusal::invalid_namespace());
        };
        connect.set_handlers(&handlers);
        // The claim comes first, because authenticators receive the previous principal.
        let mut claim = claim(&connect, may_look_up).await;
        if let Some(authenticate) = &handlers.authenticate {
            let previous = claim.as_ref().and_then(Claim::principal);
            let principal = match &previous {
                Some(previous) => {
                    let previous = Arc::clone(previous);
                    (authenticate.recover)(connect.clone(), previous).await?
                }
                None => (authenticate.authenticate)(connect.clone()).await?,
            };
            match previous {
                // The previous owner of the socket is unknown.
                None => {
                    if let Some(claim) = claim.take() {
                        claim.give_up();
                    }
                }
                // Another user's socket remains available for that user.
                Some(previous) if previous.subject != principal.subject => claim = None,
                // The missed packets were meant for a user with more rights.
                Some(previous)
                    if has_lost_role(&previous, &principal)
                        || claim.as_ref().is_some_and(|claim| {
                            let rights = &authenticate.rights;
                            claim.rights(rights) != rights(&principal)
                        }) =>
                {
                    if let Some(claim) = claim.take() {
                        claim.give_up();
                    }
                }
                Some(_) => {}
            }
            connect = connect.known(Arc::new(principal), claim.is_some());
        } else if claim.is_some() {
            connect = connect.known(connect.shared_principal(), true);
        }
        let config = connect.io().config();
        let skips = config
            .recovery
            .as_ref()
            .is_some_and(|on| on.skip_middlewares);
        if claim.is_none() || !skips {
            for middleware in &handlers.connect_middleware {
                middleware(connect.clone()).await?;
            }
        }
        Ok(ConnectGrant {
            principal: connect.shared_principal(),
            handlers,
            claim,
        })
    };
    // The future above is cancelled at any await when the timeout expires or the connection ends. A
    // dropped claim is released.
    let late = || Refusal::new("CONNECT_TIMEOUT", "connecting took too long");
    tokio::time::timeout(limit, deciding)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// Returns whether the user has lost a role or has become a guest.
fn has_lost_role(before: &Principal, now: &Principal) -> bool {
    (now.guest && !before.guest) || before.roles.iter().any(|role| !now.has(role))
}

/// Claims the socket that the client requests to recover, if it is recoverable.
async fn claim(connect: &Connect, may_look_up: bool) -> Option<Claim> {
    let table = connect.io().recovery_table()?;
    let offer = connect.offer()?;
    let nsp = connect.nsp();
    let claimant = Claimant {
        address: connect.handshake().address().ip(),
        may_look_up,
    };
    let claim = table
        .claim_anywhere(offer, nsp, connect.io(), claimant)
        .await;
    if claim.is_none() {
        table.metrics.count(Counter::SessionsNotRecovered);
    }
    claim
}
