//! Records connections, events and refusals of clients for the diagnosis of admins.

use std::{net::IpAddr, sync::Arc};

use super::traced::conversation;
use crate::metrics::diagnosis::{Culprit, Diagnosis};
use crate::service::policy;
use roomcast::{
    Builder, Connect, Event, Lifecycle, Refusal, Socket, connection::Handshake, handler::Failure,
    limit::Guard,
};

/// Observes the clients of the chat, and refusals in all namespaces.
pub(super) fn register(io: Builder, diagnosis: &Diagnosis) -> Builder {
    let diagnosis = diagnosis.clone();
    io.on_event(move |event| watch(&diagnosis, event))
}

/// Observes connections that are refused because of their address.
pub(crate) fn observe_refusals(guard: &Guard, diagnosis: Diagnosis) {
    guard.on_refused(move |address, reason| {
        let of = Culprit {
            user: None,
            address: Some(address.to_canonical()),
        };
        diagnosis.refused_connection(of, "connection", reason.name());
    });
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other events are ignored"
)]
fn watch(diagnosis: &Diagnosis, event: &Lifecycle<'_>) {
    match event {
        Lifecycle::Connected { socket } if is_of_chat(socket) => {
            let address = address_of(socket.handshake());
            diagnosis.connected(&socket.principal().subject, address);
        }
        Lifecycle::Disconnected {
            socket,
            reason,
            description,
        } if is_of_chat(socket) => {
            let by = socket.principal();
            let address = address_of(socket.handshake());
            diagnosis.disconnected(&by.subject, &by.name, address, *reason, *description);
        }
        Lifecycle::Refused {
            handshake, refusal, ..
        } if !is_recorded(refusal) => {
            let of = Culprit {
                user: None,
                address: Some(address_of(handshake)),
            };
            let category = category_of(refusal).unwrap_or("connection");
            // The reason of invalid credentials is only in the log, because clients must not learn
            // it.
            diagnosis.refused_connection(of, category, refusal.reason());
        }
        _ => {}
    }
}

fn address_of(handshake: &Handshake) -> IpAddr {
    handshake.address().ip().to_canonical()
}

fn is_of_chat(socket: &Socket) -> bool {
    socket.namespace().name() == "/"
}

/// Records that a socket is refused by a limit of its user, and returns the refusal.
pub(super) fn limited(connect: &Connect, user: &str, refusal: Refusal) -> Refusal {
    let of = Culprit {
        user: Some(user),
        address: Some(address_of(connect.handshake())),
    };
    let diagnosis = connect.state::<Diagnosis>();
    diagnosis.refused_connection(of, RATE_LIMIT, refusal.message());
    refusal
}

/// Returns whether [`limited`] has recorded a refusal: one of a limit, with its user in the reason
/// for the log.
fn is_recorded(refusal: &Refusal) -> bool {
    category_of(refusal) == Some(RATE_LIMIT) && refusal.reason() != refusal.message()
}

/// Counts an event of a client.
pub(super) fn count(diagnosis: &Diagnosis, event: &Event) {
    let Some(sample) = diagnosis.sample() else {
        return;
    };
    let by = event.principal();
    let of = Culprit {
        user: Some(&by.subject),
        address: Some(address_of(event.socket.handshake())),
    };
    let room = conversation(event).map(|id| format!("conversation:{id}").into());
    diagnosis.event(sample, of, room);
}

/// Records a refused event.
pub(super) fn refused(diagnosis: &Diagnosis, failure: &Failure<'_>) {
    let Some(category) = category_of(failure.refusal) else {
        return;
    };
    let by: Arc<_> = failure.socket.principal();
    let of = Culprit {
        user: Some(&by.subject),
        address: Some(address_of(failure.socket.handshake())),
    };
    // The client chooses the name of an unknown event.
    let event = policy::find(failure.event).map_or("unknown event", |row| row.event);
    let reason = format!("{event}: {}", failure.refusal.message());
    diagnosis.refused(of, category, &reason);
}

/// Returns the type of a refusal, or `None` if it is not the fault of the client.
fn category_of(refusal: &Refusal) -> Option<&'static str> {
    match refusal.code() {
        "UNAUTHENTICATED" | "TOKEN_EXPIRED" | "TOKEN_REVOKED" => Some("authentication"),
        "FORBIDDEN" => Some("permission"),
        "RATE_LIMITED" => Some(RATE_LIMIT),
        "INVALID_PAYLOAD" => Some("payload"),
        "NOT_FOUND" => Some("request"),
        _ => None,
    }
}

const RATE_LIMIT: &str = "rateLimit";
