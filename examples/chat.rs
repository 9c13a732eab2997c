//! A chat in twenty lines: `cargo run --example chat`, then connect any `socket.io-client`:
//!
//! ```js
//! const socket = io("http://localhost:3000");
//! socket.on("said", (id, text) => console.log(id, text));   // prints "hello"
//! socket.emit("say", "hello");
//! ```

use roomcast::{Event, Io};

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on_connect(async |event: Event| event.socket.join("lobby"))
            .on("say", async |event: Event, text: String| {
                event
                    .io()
                    .to("lobby")
                    .emit("said", (event.socket.id(), text));
            })
            .on("disconnecting", async |event: Event| {
                event.socket.to("lobby").emit("left", event.socket.id());
            })
    });
    io.build()?.serve("127.0.0.1:3000").await
}
