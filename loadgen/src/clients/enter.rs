//! Connects a client and joins its room, and the requests of a single client.

use std::time::Duration;

use roomcast::client::{ClientError, Connection, Options};
use roomcast_protocol::socket::{Args, Kind, Packet};
use tokio::time::timeout;

use crate::load::{Call, CallArguments, Placeholders, Plan, refusal};

/// Connects a client.
///
/// # Errors
/// Returns what went wrong, in one line.
pub(crate) async fn open(plan: &Plan, client: usize) -> Result<Connection, String> {
    let opened = Connection::open(&options(plan, client)).await;
    opened.map_err(|error| error.to_string())
}

/// Returns the connection options of a client.
pub(super) fn options(plan: &Plan, client: usize) -> Options {
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
    let blanks = Placeholders {
        room,
        client,
        ..Placeholders::default()
    };
    let failed = |error: String| format!("joining a room: {error}");
    if !call.ack {
        let sent = send(connection, call, blanks);
        return sent.map(drop).map_err(|error| failed(error.to_string()));
    }
    let answer = request(connection, call, blanks, plan.client.connect_timeout);
    match answer.await.map_err(failed)? {
        Some(answer) => refusal(&answer).map_or(Ok(()), |reason| {
            Err(failed(format!("the server says {reason}")))
        }),
        None => Err(format!(
            "the server does not acknowledge {:?} (see --join and --preset)",
            call.event
        )),
    }
}

/// Sends an event. Returns the id of its acknowledgement, if it has one.
pub(crate) fn send(
    connection: &mut Connection,
    call: &Call,
    blanks: Placeholders<'_>,
) -> Result<Option<u64>, ClientError> {
    let arguments = CallArguments { call, blanks };
    if call.ack {
        connection.request(&call.event, &arguments).map(Some)
    } else {
        connection.emit(&call.event, &arguments).map(|()| None)
    }
}

/// Sends an event and returns its acknowledgement, or `None` if it does not arrive in time.
pub(crate) async fn request(
    connection: &mut Connection,
    call: &Call,
    blanks: Placeholders<'_>,
    time_limit: Duration,
) -> Result<Option<Args>, String> {
    let id = connection.request(&call.event, &CallArguments { call, blanks });
    let id = id.map_err(|error| error.to_string())?;
    let answer = until(connection, time_limit, |packet| {
        (packet.kind == Kind::Ack && packet.id == Some(id)).then(|| packet.args.clone())
    });
    answer.await
}

/// Returns what `find` returns for the first packet that it accepts, or `None` if such a packet
/// does not arrive in time.
pub(crate) async fn until<T>(
    connection: &mut Connection,
    time_limit: Duration,
    mut find: impl FnMut(&Packet) -> Option<T>,
) -> Result<Option<T>, String> {
    let found = async {
        loop {
            let packet = connection.next().await.map_err(|error| error.to_string())?;
            if let Some(found) = find(&packet) {
                return Ok(Some(found));
            }
        }
    };
    timeout(time_limit, found).await.unwrap_or(Ok(None))
}
