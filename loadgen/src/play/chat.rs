//! Conversations of the Roomcast chat: creates a private conversation for each room before a run,
//! and deletes it afterwards. With the scenario `chat`, verifies that acknowledged messages are
//! stored once, in order and without a gap.
//!
//! These events belong to the Roomcast chat; no other file of this folder knows them.

use std::time::Duration;

use roomcast::client::Connection;
use roomcast_protocol::socket::Kind;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::interrupts::Interrupts;
use crate::{
    account::{Book, SenderTotal, Stored},
    clients::{self, open, until},
    load::{Call, Placeholders, Plan, Stamps, refusal},
};

/// Creates a conversation for each room, with all clients that belong to it, and adds their ids to
/// `made`.
///
/// # Errors
/// Returns why the server did not create a conversation, or that the user stopped the run.
pub(super) async fn prepare(
    plan: &Plan,
    made: &mut Vec<String>,
    interrupts: &Interrupts,
) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Made {
        conversation: Conversation,
    }
    #[derive(Deserialize)]
    struct Conversation {
        id: String,
    }
    let users = users(plan).await?;
    for room in 0..plan.rooms {
        check_interrupt(interrupts)?;
        let mut owner = open(plan, room).await?;
        let mut members: Vec<_> = (room..plan.clients)
            .step_by(plan.rooms)
            .filter_map(|client| users.get(client).cloned())
            .collect();
        let later = members.split_off(members.len().min(MAX_INITIAL_MEMBERS));
        let new = json!({"title": "roomcast bench", "memberIds": members});
        let Made {
            conversation: Conversation { id },
        } = request(plan, &mut owner, "create_conversation", new).await?;
        // The conversation is recorded before anything else can fail, so that it is deleted in any
        // case.
        made.push(id.clone());
        for user in later {
            check_interrupt(interrupts)?;
            let member = json!({"conversationId": id, "userId": user});
            let _: Value = request(plan, &mut owner, "add_member", member).await?;
        }
        let _ = owner.close().await;
    }
    Ok(())
}

fn check_interrupt(interrupts: &Interrupts) -> Result<(), String> {
    if interrupts.count() == 0 {
        Ok(())
    } else {
        Err("stopped before the load began".into())
    }
}

/// Deletes the created conversations, until the user interrupts.
///
/// # Errors
/// Returns why some of them remain.
pub(super) async fn remove(
    plan: &Plan,
    made: &[String],
    interrupts: &Interrupts,
) -> Result<(), String> {
    let before = interrupts.count();
    for (room, id) in made.iter().enumerate() {
        if interrupts.count() > before {
            return Err("stopped while they were deleted".into());
        }
        let mut owner = open(plan, room).await?;
        let about = json!({"conversationId": id});
        let _: Value = request(plan, &mut owner, "delete_conversation", about).await?;
        let _ = owner.close().await;
    }
    Ok(())
}

/// Returns the users of the clients, from their tokens or as the server reports them.
async fn users(plan: &Plan) -> Result<Vec<String>, String> {
    if plan.tokens.len() >= plan.clients {
        return Ok((0..plan.clients).map(Plan::subject).collect());
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity {
        user_id: String,
    }
    let mut users = Vec::new();
    for client in 0..plan.clients {
        let mut connection = open(plan, client).await?;
        // The server reports the user in this event.
        let session = until(&mut connection, plan.client.connect_timeout, |packet| {
            (packet.kind == Kind::Event && packet.event_name() == "session")
                .then(|| packet.args.get::<Identity>(0))
        });
        let session = session.await?;
        let identity = session.ok_or("the server does not say who its clients are")?;
        users.push(identity.map_err(|error| error.to_string())?.user_id);
        let _ = connection.close().await;
    }
    Ok(users)
}

/// Reads every conversation of the run and compares it with the sent messages.
///
/// # Errors
/// Returns why it could not be read.
pub(super) async fn verify(
    plan: &Plan,
    stamps: &Stamps,
    totals: &[SenderTotal],
) -> Result<Stored, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        messages: Vec<Row>,
        has_more: bool,
    }
    #[derive(Deserialize)]
    struct Row {
        seq: u64,
        content: String,
    }
    let mut stored = Stored::default();
    for room in 0..plan.rooms {
        let mut reader = open(plan, room).await?;
        let mut book = Book::new(room, plan.rooms, totals);
        loop {
            let from = json!({
                "conversationId": plan.vocabulary.room(room),
                "afterSeq": book.last_seq,
                "limit": PAGE,
            });
            let page: Page = request(plan, &mut reader, "message_history", from).await?;
            let is_last = !page.has_more || page.messages.is_empty();
            for row in page.messages {
                book.enter(row.seq, &row.content, stamps, &mut stored);
            }
            if is_last {
                break;
            }
        }
        book.close(&mut stored);
        let _ = reader.close().await;
    }
    Ok(stored)
}

/// Sends a request, and sends it again later if the server asks for that.
async fn request<T: DeserializeOwned>(
    plan: &Plan,
    connection: &mut Connection,
    event: &str,
    question: Value,
) -> Result<T, String> {
    let call = Call {
        event: event.into(),
        args: vec![question],
        ack: true,
    };
    let failed = |why: String| format!("{event}: {why}");
    for _ in 0..MAX_ATTEMPTS {
        let time_limit = plan.client.connect_timeout;
        let answer = clients::request(connection, &call, Placeholders::default(), time_limit);
        let args = answer
            .await
            .map_err(failed)?
            .ok_or_else(|| failed("the server does not answer".into()))?;
        match refusal(&args) {
            None => return args.get(0).map_err(|error| failed(error.to_string())),
            Some(reason) if reason == "RATE_LIMITED" => sleep(RETRY_DELAY).await,
            Some(reason) => return Err(failed(format!("the server says {reason}"))),
        }
    }
    Err(failed("the server limits how often it may be asked".into()))
}

/// The maximum number of members that a conversation is created with.
const MAX_INITIAL_MEMBERS: usize = 1000;
/// The maximum number of messages of a page of history.
const PAGE: u64 = 200;
/// The maximum number of attempts of a request; [`RETRY_DELAY`] is the delay between them.
const MAX_ATTEMPTS: usize = 120;
const RETRY_DELAY: Duration = Duration::from_millis(500);
