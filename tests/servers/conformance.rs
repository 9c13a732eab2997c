//! The server that the official protocol suites of Engine.IO and Socket.IO expect. It tells its metrics at `/metrics`, each twice: of Socket.IO, and of
//! plain Engine.IO.

mod support;

use std::time::Duration;

use roomcast::{Ack, Args, Config, Event, Io, NamespaceBuilder, RawEngine, Server};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let config = Config::default()
        .ping_interval(Duration::from_millis(300))
        .ping_timeout(Duration::from_millis(200))
        .max_payload(1_000_000)
        .connect_timeout(Duration::from_millis(1000));
    let engine = config.clone().path("/engine.io/");
    let echo = RawEngine::new(engine, |session, message| {
        session.send(&message);
    });

    let mut io = Io::builder().config(config);
    handle(io.namespace("/"));
    handle(io.namespace("/custom"));
    let io = io.build()?;
    let metrics = support::tell([io.metrics(), echo.metrics()]);
    support::run(Server::new(io).raw(echo).router(metrics)).await
}

fn handle(namespace: &mut NamespaceBuilder) {
    namespace
        .on_connect(async |event: Event| {
            let payload: Option<Value> = event.socket.auth().ok().flatten();
            event
                .socket
                .emit("auth", payload.unwrap_or_else(|| json!({})));
        })
        .on("message", async |event: Event, args: Args| {
            event.socket.emit("message-back", args);
        })
        .on("message-with-ack", async |_: Event, args: Args| Ack(args));
}
