//! Events between servers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use roomcast::{
    Ack, Builder, NoAck,
    adapter::{Adapter, AdapterError, BoxFuture, Envelope, Health, Inbox, NodeId},
    errors::ServerSideError,
    handler::ServerSide,
    metrics::Counter,
};

use super::{
    Servers,
    hub::{Hub, HubAdapter},
};
use crate::local::until;

fn counting(mut io: Builder) -> Builder {
    io = io.namespace("/", |namespace| {
        namespace
            .on_server_side("double", async |event: ServerSide| {
                tokio::task::yield_now().await;
                Ack(event.arg::<u32>(0).unwrap() * 2)
            })
            .on_server_side("quiet", async |_: ServerSide| NoAck)
            .on_server_side("panic", async |event: ServerSide| {
                assert!(event.args().is_empty(), "a fault");
            })
    });
    io
}

fn ask(servers: &Servers, event: &str) -> Result<Vec<u32>, ServerSideError> {
    let main = servers[0].io.of("/");
    servers[0]
        .runtime
        .block_on(main.server_side_emit_with_acks(event, 21))
}

#[test]
fn every_other_server_answers_and_this_one_does_not() {
    assert!(ask(&Servers::alone(counting), "double").unwrap().is_empty());
    let servers = Servers::joined(3, counting);
    assert_eq!(ask(&servers, "double").unwrap(), [42, 42]);
}

#[test]
fn a_server_without_an_answer_is_not_waited_for() {
    let servers = Servers::joined(3, counting);
    for event in ["quiet", "unknown", "panic"] {
        assert!(ask(&servers, event).unwrap().is_empty(), "{event}");
    }
    let panics = servers[1].io.metrics().counter(Counter::HandlerPanics);
    assert_eq!(panics, 1);
    let main = servers[0].io.of("/none");
    let request = main.server_side_emit_with_acks::<u32>("double", 1);
    assert!(servers[0].runtime.block_on(request).unwrap().is_empty());
    let wrong = servers[0].io.of("/");
    let wrong = wrong.server_side_emit_with_acks::<String>("double", 1);
    let wrong = servers[0].runtime.block_on(wrong);
    assert!(matches!(wrong, Err(ServerSideError::Decode(_))));
}

#[test]
fn events_between_servers_start_in_their_order() {
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let told = Arc::clone(&seen);
    let servers = Servers::joined(2, move |mut io: Builder| {
        let told = Arc::clone(&told);
        io = io.namespace("/", |namespace| {
            namespace.on_server_side("n", move |event: ServerSide| {
                let told = Arc::clone(&told);
                async move {
                    told.lock().unwrap().push(event.arg(0).unwrap());
                    tokio::task::yield_now().await;
                }
            })
        });
        io
    });
    for n in 0..100 {
        servers[0].io.of("/").server_side_emit("n", n).unwrap();
    }
    // Received events may not have been started yet.
    until(|| seen.lock().unwrap().len() == 100);
    assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

/// A hub whose servers have little time to answer.
struct ShortTimeout(HubAdapter);

impl Adapter for ShortTimeout {
    fn receive(&self, inbox: Inbox) {
        self.0.receive(inbox);
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        self.0.publish(envelope)
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        self.0.reply(to, envelope)
    }

    fn servers(
        &self,
        _namespace: &str,
    ) -> BoxFuture<Result<roomcast::adapter::Servers, AdapterError>> {
        // It knows only the number of servers.
        Box::pin(async { Ok(roomcast::adapter::Servers::Count(2)) })
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn close(&self) -> BoxFuture<()> {
        self.0.close()
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }
}

#[test]
fn timeout_returns_the_received_answers() {
    let hub = Hub::new();
    let serve = |_| {
        let io = roomcast::Io::builder().adapter(ShortTimeout(hub.adapter()));
        crate::local::Local::serve(counting(io))
    };
    let servers = Servers {
        servers: (0..3).map(serve).collect(),
        hub: Some(hub.clone()),
        key: String::new(),
    };
    assert_eq!(ask(&servers, "double").unwrap(), [42, 42]);
    hub.isolate(&servers.node(2));
    let Err(ServerSideError::Timeout(partial)) = ask(&servers, "double") else {
        panic!("one server cannot answer");
    };
    assert_eq!(partial.answers::<u32>(), [42]);
    assert_eq!(partial.missing().unnamed, 1);
}

#[test]
fn requests_on_a_closed_adapter_return_an_error() {
    let servers = Servers::joined(2, counting);
    servers.hub().send_leave(&servers.node(0));
    let error = servers[0].io.of("/").server_side_emit("double", 1);
    assert!(matches!(
        error,
        Err(ServerSideError::Adapter(AdapterError::Closed))
    ));
    let request = ask(&servers, "double");
    assert!(matches!(
        request,
        Err(ServerSideError::Adapter(AdapterError::Closed))
    ));
}
