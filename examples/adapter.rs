//! Two servers as one cluster: a client of port 3000 and a client of port 3001 receive the same
//! events.
//!
//! ```sh
//! cargo run --example adapter
//! ```
//!
//! ```js
//! for (const port of [3000, 3001]) {
//!     const socket = io(`http://localhost:${port}`);
//!     socket.on("said", (text) => console.log(port, text));
//!     socket.emit("say", "hello");
//! }
//! ```
//!
//! The adapter transports envelopes as bytes through a channel of this process. An adapter for
//! several machines looks the same, with a network instead of the channel. `docs/adapters.md`
//! describes its obligations.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use roomcast::{
    Event, Io,
    adapter::{Adapter, AdapterError, BoxFuture, Envelope, Health, Inbox, NodeId, Servers},
    types::Bytes,
};
use tokio::sync::broadcast::{self, error::RecvError};

/// State that the servers share: a broadcast channel, and the list of connected servers.
#[derive(Clone)]
struct Bus {
    line: broadcast::Sender<Bytes>,
    members: Arc<Mutex<Vec<Inbox>>>,
}

impl Bus {
    fn new() -> Self {
        Self {
            // The channel holds this many envelopes. A slower receiver loses some, and is notified.
            line: broadcast::Sender::new(4096),
            members: Arc::default(),
        }
    }

    fn adapter(&self) -> Member {
        Member {
            bus: self.clone(),
            node: OnceLock::new(),
        }
    }
}

/// The adapter of one server.
struct Member {
    bus: Bus,
    node: OnceLock<NodeId>,
}

impl Adapter for Member {
    fn receive(&self, inbox: Inbox) {
        let _ = self.node.set(inbox.node().clone());
        let mut line = self.bus.line.subscribe();
        self.bus.members.lock().push(inbox.clone());
        // A single task delivers, so envelopes are applied in order.
        tokio::spawn(async move {
            loop {
                match line.recv().await {
                    Ok(bytes) => inbox.deliver_bytes(bytes),
                    Err(RecvError::Lagged(missed)) => inbox.lost(missed),
                    Err(RecvError::Closed) => return,
                }
            }
        });
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        let bytes = envelope.to_bytes().map_err(|_| AdapterError::TooLarge)?;
        self.bus
            .line
            .send(bytes)
            .map_err(|_| AdapterError::Closed)?;
        Ok(())
    }

    fn reply(&self, _to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        // All servers receive it; only the addressed server handles it.
        self.publish(envelope)
    }

    fn servers(&self, _namespace: &str) -> BoxFuture<Result<Servers, AdapterError>> {
        let members = self.bus.members.lock();
        let nodes = members.iter().map(|member| member.node().clone()).collect();
        Box::pin(async { Ok(Servers::Known(nodes)) })
    }

    fn health(&self) -> Health {
        Health::Ready
    }

    fn close(&self) -> BoxFuture<()> {
        if let Some(node) = self.node.get() {
            let mut members = self.bus.members.lock();
            members.retain(|member| member.node() != node);
            let peers: Vec<Inbox> = members.clone();
            drop(members);
            peers.iter().for_each(|member| member.left(node));
        }
        Box::pin(async {})
    }
}

fn server(bus: &Bus) -> Result<Io, roomcast::Error> {
    let io = Io::builder()
        .adapter(bus.adapter())
        .namespace("/", |namespace| {
            namespace.on("say", async |event: Event, text: String| {
                event.io().emit("said", text);
            })
        });
    Ok(io.build()?)
}

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let bus = Bus::new();
    let (first, second) = (server(&bus)?, server(&bus)?);
    tokio::try_join!(
        first.serve("127.0.0.1:3000"),
        second.serve("127.0.0.1:3001")
    )?;
    Ok(())
}
