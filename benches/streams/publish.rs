//! A service that publishes events, to be compared with the pieces of a message.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep_until,
};

use crate::{
    binary::token,
    text::{PIECE, piece},
};

/// The name of the event, as long as that of a piece.
pub const EVENT: &str = "message_announce";
/// As long as the id of a message and of its conversation.
const ID: &str = "0190d5a0-7c3e-7000-8000-000000000000";

/// Publishes an event with the size of a piece to everyone, at a rate.
pub async fn publish(address: SocketAddr, start: Instant, rate: u32, seconds: u32) {
    let bearer = token(&["--sub", "backend", "--role", "service"]);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = [0; 4096];
    for k in 0..rate * seconds {
        sleep_until((start + Duration::from_secs(1) / rate * k).into()).await;
        let number = k as usize;
        let payload = json!({
            "conversationId": ID,
            "messageId": ID,
            "seq": 1,
            "offset": number * PIECE,
            "text": piece(number),
        });
        let body = json!({"event": EVENT, "args": [payload], "everyone": true}).to_string();
        let request = format!(
            "POST /api/v1/emit HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        // The answers are small and come whole.
        let read = stream.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..read]);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}
