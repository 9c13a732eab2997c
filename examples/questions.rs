//! Sends requests to clients: to one client, and to all clients in a room.
//!
//! ```js
//! const socket = io("http://localhost:3000");
//! socket.on("ready?", (answer) => answer(true));
//! socket.emit("start", (outcome) => console.log(outcome));   // { ready: 1, asked: 1 }
//! ```

use std::time::Duration;

use roomcast::{Ack, Event, Io};
use serde::Serialize;

#[derive(Serialize)]
struct Outcome {
    ready: usize,
    asked: usize,
}

/// Asks all players. The return value of a handler is the acknowledgement.
async fn start(event: Event) -> Ack<Outcome> {
    let players = event.io().to("players").timeout(Duration::from_secs(5));
    let mut answers = players.emit_with_acks::<bool>("ready?", ());
    let asked = answers.expected();
    let mut ready = 0;
    while let Some((_, answer)) = answers.next().await {
        ready += usize::from(answer.unwrap_or(false));
    }
    Ack(Outcome { ready, asked })
}

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on_connect(async |event: Event| event.socket.join("players"))
            .on("start", start)
    });
    io.build()?.serve("127.0.0.1:3000").await
}
