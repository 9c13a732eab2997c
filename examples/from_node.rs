//! The server of `docs/tutorials/from-node.md`, whose client is that of the Node server. A test
//! compares both texts.

use roomcast::{Ack, Event, Io};

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("join", async |event: Event, room: String| {
                let joined = event.socket.join(room.as_str());
                joined.map(|()| Ack(format!("joined {room}")))
            })
            .on("say", async |event: Event, room: String, text: String| {
                event.io().to(room.as_str()).emit("said", text);
            })
    });
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    io.build()?.serve(address).await
}
