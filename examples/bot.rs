//! A bot in the Lobby of the chat server that answers "!ping".
//!
//! Start the chat with `cargo run --release`, then the bot with `cargo run --example bot`, and send
//! "!ping" on <http://localhost:3000>.

use std::env;

use roomcast::client::{Client, ClientError, ConnectError, DisconnectReason, Socket};
use serde::Deserialize;
use serde_json::{Value, json};

/// The conversation that is open to everyone.
const LOBBY: &str = "00000000-0000-4000-8000-000000000001";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    conversation_id: String,
    content: String,
}

/// Joins after every connect, including reconnects.
async fn join(socket: Socket) -> Result<(), ClientError> {
    let joined: Value = socket.emit_with_ack("join_conversation", LOBBY).await?;
    match joined.get("success") {
        Some(Value::Bool(true)) => println!("in the Lobby"),
        _ => println!("not let in: {joined}"),
    }
    Ok(())
}

async fn answer(socket: Socket, message: Message) -> Result<(), ClientError> {
    if message.content.trim() == "!ping" {
        let pong = json!({"conversationId": message.conversation_id, "content": "pong"});
        let _stored: Value = socket.emit_with_ack("message", pong).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let url = env::args().nth(1);
    let bot = Client::builder(url.as_deref().unwrap_or("http://localhost:3000"))
        .auth(json!({"name": "Bot", "guestKey": "bot-0000000000000001"}))
        .socket()?;
    bot.on("connect", join);
    bot.on("message", answer);
    bot.on("connect_error", async |error: ConnectError| {
        println!("not connected: {}", error.message);
    });
    bot.on("disconnect", async |reason: DisconnectReason| {
        println!("{reason}")
    });
    // The client keeps trying if the server is not running yet.
    bot.open();
    let _ = tokio::signal::ctrl_c().await;
    bot.disconnect().await;
    Ok(())
}
