//! How often users may send events and connect: what counts in which class, and how they are told.

use std::sync::Arc;

use serde_json::json;

use crate::{
    limit::{Allowance, Class, Users},
    service::{
        ServiceError,
        policy::{self, EventPolicy, LimitClass},
    },
};
use roomcast::{
    Connect, Event, Failure, NamespaceBuilder, Refusal, Socket, State, network::Network,
};

/// Counts every socket as a connection of its user, and refuses those that are too many.
pub(super) fn count_connections(namespace: &mut NamespaceBuilder) -> &mut NamespaceBuilder {
    namespace
        .gate(async |connect: Connect| {
            let user = &connect.principal().subject;
            if connect.state::<Users>().may_connect(user) {
                return Ok(());
            }
            Err(too_many().because(format!("{user} has too many connections")))
        })
        .on_connect(async |event: Event, users: State<Users>| {
            let (own, may) = users.enter(&event.principal().subject);
            let address = address_of(&event.socket);
            let address = address.map(|address| (users.enter(&address).0, address));
            event.socket.set_data(Allowed { own, address });
            if !may {
                // Several came at once.
                event.socket.emit("error", told());
                event.socket.disconnect(false);
            }
        })
        .on("disconnect", async |event: Event, users: State<Users>| {
            users.leave(&event.principal().subject);
            if let Some(allowed) = event.socket.data::<Allowed>()
                && let Some((_, address)) = &allowed.address
            {
                users.leave(address);
            }
        })
}

/// What the user of a socket may do: found once, when it connects.
struct Allowed {
    own: Arc<Allowance>,
    /// What all guests of an address may do together, and what the address is called.
    address: Option<(Arc<Allowance>, String)>,
}

/// What the address of a guest is called among the users. Whoever comes as a guest can be somebody else
/// each time, and comes from the same address.
fn address_of(socket: &Socket) -> Option<String> {
    let address = socket.handshake().address().ip();
    // No user's id begins like that.
    let name = || format!("\0{}", Network::of_client(address));
    socket.principal().guest.then(name)
}

/// Takes one of the events of its class from whoever sent it.
pub(super) fn take(users: &Users, policy: &EventPolicy, event: &Event) -> Result<(), ServiceError> {
    let class = policy.class.into();
    match event.socket.data::<Allowed>() {
        Some(allowed) => users.take(class, &allowed.own).and_then(|()| {
            let address = allowed.address.as_ref();
            address.map_or(Ok(()), |(shared, _)| users.take(class, shared))
        }),
        None => users.check(class, &event.principal().subject),
    }
    .map_err(|retry_after| ServiceError::Limited { retry_after })
}

/// Whether a client is told of an event that was one too many: once a second is enough to slow down.
pub(super) fn may_tell(failure: &Failure<'_>) -> bool {
    let policy = policy::find(failure.event);
    match (policy, failure.socket.data::<Allowed>()) {
        (Some(policy), Some(allowed)) => allowed.own.may_tell(policy.class.into()),
        _ => true,
    }
}

impl From<LimitClass> for Class {
    fn from(class: LimitClass) -> Self {
        match class {
            LimitClass::Messages => Self::Messages,
            LimitClass::Typing => Self::Typing,
            LimitClass::Changes => Self::Changes,
            LimitClass::Requests => Self::Requests,
        }
    }
}

fn too_many() -> Refusal {
    Refusal::new("RATE_LIMITED", "too many connections").data(json!({"retryAfter": RETRY_AFTER}))
}

/// The event `error` of a socket that is one too many.
fn told() -> serde_json::Value {
    json!({
        "type": "rateLimit",
        "code": "RATE_LIMITED",
        "message": "too many connections",
        "retryAfter": RETRY_AFTER,
        "status": 429,
    })
}

/// Milliseconds after which trying again may make sense.
const RETRY_AFTER: u64 = 10_000;
