//! Tests with two clients what the run will do, so that problems are reported before it starts.

use std::time::Duration;

use roomcast::client::Connection;
use roomcast_protocol::socket::{Kind, Packet};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    clients::{join, options},
    load::{
        CallArguments, PayloadCheck, Placeholders, Plan, Scenario, Stamp, Stamps, reason, refusal,
    },
};

/// Tests the scenario once.
///
/// # Errors
/// Returns why the run would fail, in one line.
pub(super) async fn check(plan: &Plan, stamps: &Stamps) -> Result<(), String> {
    let open = async |client| {
        let opened = Connection::open(&options(plan, client)).await;
        opened.map_err(|error| error.to_string())
    };
    let mut first = open(0).await?;
    let result = match plan.scenario {
        Scenario::Connect | Scenario::Idle => Ok(()),
        Scenario::Echo => check_echo(plan, stamps, &mut first).await,
        Scenario::Fanout | Scenario::Rooms | Scenario::Slow | Scenario::Chat => {
            let mut second = open(neighbour(plan)).await?;
            let result = check_cast(plan, stamps, &mut first, &mut second).await;
            let _ = second.close().await;
            result
        }
    };
    let _ = first.close().await;
    result
}

/// Returns a client that is in the room of the first client.
fn neighbour(plan: &Plan) -> usize {
    plan.rooms
}

async fn check_echo(
    plan: &Plan,
    stamps: &Stamps,
    connection: &mut Connection,
) -> Result<(), String> {
    let call = &plan.vocabulary.echo;
    let payload = stamps.write(FIRST);
    let room = plan.vocabulary.room(0).unwrap_or_default();
    let spoken = CallArguments {
        call,
        blanks: Placeholders {
            room: &room,
            payload: &payload,
            ..Placeholders::default()
        },
    };
    let id = connection
        .request(&call.event, &spoken)
        .map_err(|e| e.to_string())?;
    let answered = until(plan, connection, |packet| {
        (packet.kind == Kind::Ack && packet.id == Some(id))
            .then(|| refusal(&packet.args).map_or(Ok(()), Err))
    });
    match answered.await? {
        Some(Ok(())) => Ok(()),
        Some(Err(reason)) => Err(format!("the server refuses {:?}: {reason}", call.event)),
        None => Err(format!(
            "the server does not acknowledge {:?} (see --event and --preset)",
            call.event
        )),
    }
}

async fn check_cast(
    plan: &Plan,
    stamps: &Stamps,
    sender: &mut Connection,
    receiver: &mut Connection,
) -> Result<(), String> {
    let room = plan.vocabulary.room(0).unwrap_or_default();
    join(plan, sender, &room, 0).await?;
    join(plan, receiver, &room, neighbour(plan)).await?;
    let call = &plan.vocabulary.send;
    let payload = stamps.write(FIRST);
    let spoken = CallArguments {
        call,
        blanks: Placeholders {
            room: &room,
            payload: &payload,
            ..Placeholders::default()
        },
    };
    let sent = match call.ack {
        true => sender.request(&call.event, &spoken).map(|_| ()),
        false => sender.emit(&call.event, &spoken),
    };
    sent.map_err(|error| error.to_string())?;
    let received = until(plan, receiver, |packet| {
        (stamps.find(&packet.args) != PayloadCheck::Nothing).then_some(())
    });
    let reply = until(plan, sender, |packet| match packet.kind {
        Kind::Ack => refusal(&packet.args),
        Kind::Event if matches!(packet.event_name(), "error" | "exception") => {
            let error = packet.args.get::<Value>(0).ok();
            Some(reason(error.as_ref()))
        }
        Kind::Event | Kind::Connect | Kind::Disconnect | Kind::ConnectError => None,
    });
    tokio::select! {
        received = received => match received? {
            Some(()) => Ok(()),
            None => Err(format!(
                "{:?} of one client did not reach another one in its room (see --event, --join and \
                 --preset)",
                call.event
            )),
        },
        Some(reason) = async { reply.await.ok().flatten() } => {
            Err(format!("the server refuses {:?}: {reason}", call.event))
        }
    }
}

/// Returns the first packet that `find` accepts, or `None` if it does not arrive in time.
async fn until<T>(
    plan: &Plan,
    connection: &mut Connection,
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
    let time_limit = plan.client.connect_timeout.min(REPLY_TIMEOUT);
    timeout(time_limit, found).await.unwrap_or(Ok(None))
}

const FIRST: Stamp = Stamp {
    sender: 0,
    number: 0,
};
/// The time within which a server must answer or forward one message.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
