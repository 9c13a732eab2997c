//! Tests with two clients what the run will do, so that problems are reported before it starts.

use std::time::Duration;

use roomcast::client::Connection;
use roomcast_protocol::socket::Kind;

use crate::{
    clients::{join, open, request, send, until},
    load::{PayloadCheck, Placeholders, Plan, Scenario, Stamp, Stamps, error_event, refusal},
};

/// Tests the scenario once.
///
/// # Errors
/// Returns why the run would fail, in one line.
pub(super) async fn check(plan: &Plan, stamps: &Stamps) -> Result<(), String> {
    let room = plan.vocabulary.room(0).unwrap_or_default();
    let payload = stamps.write(Stamp {
        sender: 0,
        number: 0,
    });
    let blanks = Placeholders {
        room: &room,
        payload: &payload,
        ..Placeholders::default()
    };
    // This client is in the room of the first client.
    let neighbour = plan.rooms;
    let mut first = open(plan, 0).await?;
    let result = match plan.scenario {
        Scenario::Connect | Scenario::Idle => Ok(()),
        Scenario::Echo => check_echo(plan, blanks, &mut first).await,
        Scenario::Fanout | Scenario::Rooms | Scenario::Slow | Scenario::Chat => {
            let mut second = open(plan, neighbour).await?;
            let result = check_cast(plan, stamps, blanks, &mut first, &mut second).await;
            let _ = second.close().await;
            result
        }
    };
    let _ = first.close().await;
    result
}

async fn check_echo(
    plan: &Plan,
    blanks: Placeholders<'_>,
    connection: &mut Connection,
) -> Result<(), String> {
    let call = &plan.vocabulary.echo;
    let answer = request(connection, call, blanks, time_limit(plan)).await?;
    match answer.map(|answer| refusal(&answer)) {
        Some(None) => Ok(()),
        Some(Some(reason)) => Err(format!("the server refuses {:?}: {reason}", call.event)),
        None => Err(format!(
            "the server does not acknowledge {:?} (see --event and --preset)",
            call.event
        )),
    }
}

async fn check_cast(
    plan: &Plan,
    stamps: &Stamps,
    blanks: Placeholders<'_>,
    sender: &mut Connection,
    receiver: &mut Connection,
) -> Result<(), String> {
    join(plan, sender, blanks.room, 0).await?;
    join(plan, receiver, blanks.room, plan.rooms).await?;
    let call = &plan.vocabulary.send;
    send(sender, call, blanks).map_err(|error| error.to_string())?;
    let received = until(receiver, time_limit(plan), |packet| {
        (stamps.find(&packet.args) != PayloadCheck::Nothing).then_some(())
    });
    let reply = until(sender, time_limit(plan), |packet| match packet.kind {
        Kind::Ack => refusal(&packet.args),
        Kind::Event => error_event(packet),
        Kind::Connect | Kind::Disconnect | Kind::ConnectError => None,
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

/// Returns the time within which the server must answer or forward one message.
fn time_limit(plan: &Plan) -> Duration {
    plan.client.connect_timeout.min(Duration::from_secs(5))
}
