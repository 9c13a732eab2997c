//! Connects a client and joins its room.

use roomcast::client::{ClientError, Connection, Options};
use roomcast_protocol::socket::Kind;
use tokio::time::timeout;

use crate::load::{CallArguments, Placeholders, Plan, refusal};

/// Returns the connection options of a client.
pub(crate) fn options(plan: &Plan, client: usize) -> Options {
    let blanks = Placeholders {
        client,
        token: plan.tokens.get(client).map_or("", |token| token),
        ..Placeholders::default()
    };
    let auth = plan.vocabulary.auth.as_ref();
    let auth = auth.and_then(|auth| serde_json::to_value(blanks.fill(auth)).ok());
    Options {
        auth,
        ..plan.client.clone()
    }
}

/// Joins a client's room and waits for the server's confirmation.
///
/// # Errors
/// Returns what went wrong, in one line.
pub(crate) async fn join(
    plan: &Plan,
    connection: &mut Connection,
    room: &str,
    client: usize,
) -> Result<(), String> {
    let Some(call) = &plan.vocabulary.join else {
        return Ok(());
    };
    let spoken = CallArguments {
        call,
        blanks: Placeholders {
            room,
            client,
            ..Placeholders::default()
        },
    };
    let failed = |error: ClientError| format!("joining a room: {error}");
    if !call.ack {
        return connection.emit(&call.event, &spoken).map_err(failed);
    }
    let id = connection.request(&call.event, &spoken).map_err(failed)?;
    let answer = async {
        loop {
            let packet = connection.next().await.map_err(failed)?;
            if packet.kind == Kind::Ack && packet.id == Some(id) {
                return match refusal(&packet.args) {
                    Some(reason) => Err(format!("joining a room: the server says {reason}")),
                    None => Ok(()),
                };
            }
        }
    };
    let answered = timeout(plan.client.connect_timeout, answer).await;
    answered.unwrap_or_else(|_| {
        Err(format!(
            "the server does not acknowledge {:?} (see --join and --preset)",
            call.event
        ))
    })
}
