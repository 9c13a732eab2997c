//! The only place that acts on many sockets: an operation is applied to those of this server, and
//! published for those of the others.
//!
//! `api` comes in here with what applications ask for, and adapters, through [`Applier`], with what
//! other servers have published; both are applied by the same function. It stands on `life`, since
//! operations let sockets join, leave and end, and on `sending`. Nothing in here may know how an
//! operation came to be.
//!
//! Local sockets come first: they never wait for the network, and what cannot be published is counted
//! there and told to whoever can be told.

mod acting;
mod emitting;
mod place;
mod publishing;
mod received;
mod record;

pub(crate) use acting::count;
pub(crate) use place::Place;
pub(crate) use publishing::{Elsewhere, Unpublished};
pub(crate) use received::Applier;
pub(crate) use record::{Record, Shared};

use std::sync::Arc;

use roomcast_protocol::{Frame, socket::Arguments};

use self::emitting::Asked;
use crate::{
    adapter::{Kind, Operation},
    socket::{
        core::{Socket, namespace},
        sending::Emitted,
    },
};

/// What has become of an operation.
pub(crate) struct Applied {
    pub(crate) here: Outcome,
    pub(crate) elsewhere: Elsewhere,
}

/// What has become of an operation on this server.
pub(crate) enum Outcome {
    /// It is about nobody here, or has nothing to say.
    Nothing,
    Emitted(Emitted),
    Asked(Asked),
    Sockets(Vec<Socket>),
}

/// Applies an operation to the sockets of this server, and publishes it unless it stays here.
#[inline]
pub(crate) fn apply<A: Arguments>(place: &Place, operation: &Operation<'_, A>) -> Applied {
    let (here, frame) = match place.here() {
        Some(namespace) => act(namespace, operation),
        None => (Outcome::Nothing, None),
    };
    let elsewhere = match place.cluster().joined() {
        Some(joined) if !operation.target.local => {
            publishing::publish(joined, place, operation, &here, frame)
        }
        Some(_) | None => Elsewhere::Nobody,
    };
    Applied { here, elsewhere }
}

/// Applies an operation to the sockets of this server. Returned is also the frame that they got.
#[inline]
fn act<A: Arguments>(
    namespace: &Arc<namespace::NamespaceInner>,
    operation: &Operation<'_, A>,
) -> (Outcome, Option<Frame>) {
    let target = &operation.target;
    match operation.kind {
        Kind::Broadcast { event, args } => emitting::emit(namespace, target, event, args),
        Kind::BroadcastWithAck { event, args } => emitting::ask(namespace, target, event, args),
        Kind::Join(rooms) => (acting::join(namespace, target, rooms), None),
        Kind::Leave(rooms) => (acting::leave(namespace, target, rooms), None),
        Kind::Disconnect { close } => (acting::disconnect(namespace, target, close), None),
        Kind::FetchSockets => {
            let sockets = acting::sockets(namespace, target);
            (Outcome::Sockets(sockets), None)
        }
        // For the other servers, which have handlers instead of sockets.
        Kind::ServerSide { .. } | Kind::ServerSideWithAck { .. } => (Outcome::Nothing, None),
    }
}
