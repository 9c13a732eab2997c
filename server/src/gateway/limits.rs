//! Rate limits of events: how events are counted and clients notified, and how servers share the
//! counts.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    limit::{Allowance, Class, Spent, Users},
    service::{ServiceError, cluster::Announcer, policy},
};
use roomcast::{
    Event, Io, NamespaceBuilder, NoAck, Refusal, Socket,
    handler::{Failure, ServerSide},
    network::Network,
};

/// The allowances of a socket's user, looked up when it connects.
struct Allowances {
    own: Arc<Allowance>,
    /// The allowance that all guests of an address share, and its name.
    address: Option<(Arc<Allowance>, String)>,
}

/// Counts a socket as a connection of its user. Returns `false` if the user has too many
/// connections. The socket is counted in any case, until [`leave`].
pub(super) fn enter(users: &Users, socket: &Socket) -> bool {
    let (own, may) = users.enter(&socket.principal().subject);
    let address = address_of(socket);
    let address = address.map(|address| (users.enter(&address).0, address));
    socket.set_data(Allowances { own, address });
    may
}

/// Charges a namespace join to a user.
pub(super) fn join(users: &Users, user: &str) -> Result<(), Refusal> {
    users.check(Class::Joins, user).map_err(|retry_after| {
        Refusal::new("RATE_LIMITED", "too many joins, try again later")
            .data(retry_after.data())
            .because(format!("{user} joins too often"))
    })
}

/// Returns the name of the server-side event with reports about users. It contains the store id,
/// because servers with another store on the same broker have other users.
fn spent_name(announcer: &Announcer) -> String {
    format!("roomcast:spent:{}", announcer.store_id())
}

/// Charges events that users sent to other servers of the store.
pub(super) fn listen(namespace: NamespaceBuilder, announcer: &Announcer) -> NamespaceBuilder {
    let name = spent_name(announcer);
    let announcer = announcer.clone();
    namespace.on_server_side(&name, move |event: ServerSide| {
        let text: String = event.arg(0).unwrap_or_default();
        match announcer.read::<Vec<Spent>>(&text) {
            Ok(spent) => event.io().state::<Users>().charge(&spent),
            Err(why) => tracing::debug!(?why, "could not decode a usage report of another server"),
        }
        std::future::ready(NoAck)
    })
}

/// Reports the events of users on this server to the other servers of the store, about every
/// second.
pub(crate) async fn report_spending(users: Arc<Users>, io: Io, announcer: Announcer) {
    let name = spent_name(&announcer);
    let mut ticks = interval(REPORT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = ticks.tick().await;
    loop {
        let now = ticks.tick().await;
        let spent = users.spent(io.nodes().len(), now - last);
        last = now;
        if !spent.is_empty()
            && let Some(text) = announcer.write(&spent)
            && let Err(error) = io.of("/").server_side_emit(&name, text)
        {
            tracing::debug!(%error, "could not send a usage report to other servers");
        }
    }
}

const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Removes a disconnected socket from its user's connections.
pub(super) fn leave(users: &Users, socket: &Socket) {
    users.leave(&socket.principal().subject);
    if let Some(allowances) = socket.data::<Allowances>()
        && let Some((_, address)) = &allowances.address
    {
        users.leave(address);
    }
}

/// Returns the name under which a guest's address is counted. A guest can have a new id for each
/// connection, but not a new address.
fn address_of(socket: &Socket) -> Option<String> {
    let address = socket.handshake().address().ip();
    // No user id begins with this character.
    let name = || format!("\0{}", Network::of_client(address));
    socket.principal().guest.then(name)
}

/// Charges an event of a class to its sender.
pub(super) fn take(users: &Users, class: Class, event: &Event) -> Result<(), ServiceError> {
    match event.socket.data::<Allowances>() {
        Some(allowances) => users.take(class, &allowances.own).and_then(|()| {
            let address = allowances.address.as_ref();
            address.map_or(Ok(()), |(shared, _)| users.take(class, shared))
        }),
        None => users.check(class, &event.principal().subject),
    }
    .map_err(|retry_after| ServiceError::Limited { retry_after })
}

/// Returns whether to notify a client of a rate-limited event: at most once a second.
pub(super) fn may_notify(failure: &Failure<'_>) -> bool {
    let class = policy::find(failure.event).map_or(UNKNOWN, |policy| policy.class);
    let allowances = failure.socket.data::<Allowances>();
    allowances.is_none_or(|allowances| allowances.own.may_notify(class))
}

/// The class of events without a row.
pub(super) const UNKNOWN: Class = Class::Requests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::cluster::corpus::read_back;

    #[test]
    fn corpus_spending_reports_decode_and_encode_unchanged() {
        assert_eq!(read_back::<Vec<Spent>>("questions.txt", "spent"), 1);
    }
}
