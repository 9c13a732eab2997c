//! A service that publishes events, to be compared with the pieces of a message.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::time::sleep_until;

use crate::{
    connections::Service,
    text::{PIECE, piece},
};

/// The name of the event, as long as that of a piece.
pub const EVENT: &str = "message_announce";
/// The room of all readers.
pub const ROOM: &str = "bench";
/// As long as the id of a message and of its conversation.
const ID: &str = "0190d5a0-7c3e-7000-8000-000000000000";

/// Publishes an event with the size of a piece to the room, at a rate.
pub async fn publish(address: SocketAddr, start: Instant, rate: u32, seconds: u32) {
    let mut service = Service::connect(address).await;
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
        let body = json!({"event": EVENT, "args": [payload], "rooms": [ROOM]});
        service.post("emit", body.to_string()).await;
    }
}
