//! Socket.IO beside a REST API: an order that is posted is told to everybody who watches.
//!
//! ```sh
//! cargo run --example beside_axum
//! curl -X POST -H 'content-type: application/json' -d '{"item":"tea"}' localhost:3000/orders
//! ```

use axum::{Json, Router, extract::State, routing::post};
use roomcast::{Ack, Event, Io, Server};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Order {
    item: String,
}

/// Handlers of the REST API emit through a handle.
async fn create_order(State(io): State<Io>, Json(order): Json<Order>) -> &'static str {
    io.to("orders").emit("order", &order);
    "ordered\n"
}

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let mut io = Io::builder();
    io.namespace("/").on("watch", async |event: Event| {
        event.socket.join("orders").map(|()| Ack("watching"))
    });
    let io = io.build()?;
    let router = Router::new()
        .route("/orders", post(create_order))
        .with_state(io.clone());
    let server = Server::new(io)
        .router(router)
        .bind("127.0.0.1:3000")
        .await?;
    server.run().await;
    Ok(())
}
