//! Letting a client in, while somebody is asked who it is.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{connect::Connect, handlers::Handlers, refusal::Refusal};
use crate::{auth::Principal, metrics::Counter};

/// Who a client is, or why it may not come in.
pub(crate) type Decision = Result<Arc<Principal>, Refusal>;

/// A client that waits to be let in.
pub(crate) struct Admission {
    connect: Connect,
    handlers: Arc<Handlers>,
    deciding: Pin<Box<dyn Future<Output = Decision> + Send>>,
}

impl Admission {
    pub(crate) fn new(handlers: Arc<Handlers>, connect: Connect) -> Self {
        let deciding = Box::pin(decide(Arc::clone(&handlers), connect.clone()));
        Self {
            connect,
            handlers,
            deciding,
        }
    }

    /// Decides without waiting, if that can be.
    pub(crate) fn poll_now(&mut self) -> Poll<(Connect, Arc<Handlers>, Decision)> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Connect, Arc<Handlers>, Decision)> {
        let decision = match catch_unwind(AssertUnwindSafe(|| self.deciding.as_mut().poll(cx))) {
            Ok(poll) => std::task::ready!(poll),
            Err(_) => {
                self.connect.io().metrics().count(Counter::HandlerPanics);
                let namespace = self.connect.namespace();
                tracing::error!(namespace, "a handler that admits clients has panicked");
                Err(Refusal::internal())
            }
        };
        Poll::Ready((self.connect.clone(), Arc::clone(&self.handlers), decision))
    }
}

async fn decide(handlers: Arc<Handlers>, connect: Connect) -> Decision {
    let limit = connect.io().config().connect_timeout;
    let asking = async {
        let mut connect = connect;
        if let Some(authenticate) = &handlers.authenticate {
            let principal = authenticate.authenticate(connect.clone()).await?;
            connect = connect.with_principal(Arc::new(principal));
        }
        for gate in &handlers.gates {
            gate(connect.clone()).await?;
        }
        Ok(connect.shared_principal())
    };
    let late = || Refusal::new("CONNECT_TIMEOUT", "connecting took too long");
    tokio::time::timeout(limit, asking)
        .await
        .unwrap_or_else(|_| Err(late()))
}
