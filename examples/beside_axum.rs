//! Socket.IO within an existing axum application, next to a REST API: each posted order is sent to
//! all watching clients.
//!
//! ```sh
//! cargo run --example beside_axum    # an argument is another address
//! curl -X POST -H 'content-type: application/json' -d '{"item":"tea"}' localhost:3000/orders
//! ```
//!
//! ```js
//! const socket = io("http://localhost:3000");
//! socket.on("order", (order) => console.log(order.item));
//! socket.emit("watch", (answer) => console.log(answer));   // "watching"
//! ```

use std::{net::SocketAddr, time::Duration};

use axum::{Json, Router, extract::State, routing::post};
use roomcast::{Ack, Event, Io};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

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
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("watch", async |event: Event| {
            event.socket.join("orders").map(|()| Ack("watching"))
        })
    });
    let io = io.build()?;
    let app = Router::new()
        .route("/orders", post(create_order))
        .with_state(io.clone())
        .layer(io.layer()) // or .nest_service("/socket.io", io.service())
        .into_make_service_with_connect_info::<SocketAddr>();
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let listener = TcpListener::bind(address).await?;
    let stop = async move {
        tokio::signal::ctrl_c().await.ok();
        io.close(Duration::from_secs(10)).await;
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await?;
    Ok(())
}
