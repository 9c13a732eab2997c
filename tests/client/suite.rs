//! A contract server, and helpers for its clients.

use std::time::Duration;

use roomcast::client::{Change, Client, ClientBuilder, Events, Incoming, Socket};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    proxy::Proxy,
    support::{DEADLINE, ServerProcess},
};

/// The server that the official client's tests expect, and a proxy that can break connections.
pub(crate) struct Suite {
    _server: ServerProcess,
    pub(crate) proxy: Proxy,
}

impl Suite {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(variables: &[(&str, &str)]) -> Self {
        let server = ServerProcess::example_with("client_suite", variables);
        let proxy = Proxy::start(server.address()).await;
        Self {
            _server: server,
            proxy,
        }
    }

    /// Returns a client for this namespace and query, with a short reconnection delay.
    pub(crate) fn client(&self, path: &str) -> ClientBuilder {
        let url = format!("http://{}{path}", self.proxy.address());
        Client::builder(url).reconnection_delay(Duration::from_millis(10))
    }

    pub(crate) async fn connect(&self, path: &str) -> Socket {
        within(self.client(path).connect()).await.unwrap()
    }
}

/// Records the changes of a client's connection from now on.
pub(crate) fn changes(client: &Client) -> mpsc::Receiver<Change> {
    let (sender, changes) = mpsc::channel(1000);
    client.on_change(move |_, change| {
        let _ = sender.try_send(change);
        async {}
    });
    changes
}

/// Returns the next change that matches.
pub(crate) async fn change(
    changes: &mut mpsc::Receiver<Change>,
    is_it: impl Fn(&Change) -> bool,
) -> Change {
    within(async {
        loop {
            let change = changes.recv().await.unwrap();
            if is_it(&change) {
                return change;
            }
        }
    })
    .await
}

pub(crate) async fn next(events: &mut Events) -> Incoming {
    within(events.next()).await.unwrap()
}

/// Returns the first argument of the next event.
pub(crate) async fn value<T: DeserializeOwned>(events: &mut Events) -> T {
    next(events).await.args.get(0).unwrap()
}

/// Awaits a future that must complete before the deadline.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it does not happen")
}
