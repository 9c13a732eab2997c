//! How often users may send events and connect: what counts in which class, and how they are told.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    limit::{Allowance, Class, Users},
    service::{
        ServiceError,
        policy::{self, EventPolicy, LimitClass},
    },
};
use roomcast::{
    Args, Connect, Event, Failure, NamespaceBuilder, Refusal, Socket, State, network::Network,
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

/// Counts an event, and then reads its one argument: what cannot be read has been counted as well.
pub(super) fn command<T: DeserializeOwned>(
    users: &Users,
    policy: &EventPolicy,
    event: &Event,
) -> Result<T, Refusal> {
    take(users, policy.class, event)?;
    only_argument(event.args())
}

/// An event has one argument, and no other that would be lost.
pub(super) fn only_argument<T: DeserializeOwned>(args: &Args) -> Result<T, Refusal> {
    if args.len() > 1 {
        let error = ServiceError::Invalid {
            field: "[1]",
            problem: "is one argument too many".into(),
        };
        return Err(error.into());
    }
    Ok(args.get(0)?)
}

/// Counts an event that the chat does not know, and refuses it.
pub(super) async fn refuse_unknown(event: Event, users: State<Users>) -> Result<(), ServiceError> {
    take(&users, UNKNOWN, &event)?;
    Err(ServiceError::NotFound("no such event"))
}

/// Takes one of the events of a class from whoever sent it.
fn take(users: &Users, class: LimitClass, event: &Event) -> Result<(), ServiceError> {
    let class = class.into();
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
    let class = policy::find(failure.event).map_or(UNKNOWN, |policy| policy.class);
    let allowed = failure.socket.data::<Allowed>();
    allowed.is_none_or(|allowed| allowed.own.may_tell(class.into()))
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

/// What events count as that the chat does not know.
const UNKNOWN: LimitClass = LimitClass::Requests;

/// Milliseconds after which trying again may make sense.
const RETRY_AFTER: u64 = 10_000;
