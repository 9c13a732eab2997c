//! What operations other than emitting do to the sockets of this server: joining, leaving,
//! disconnecting, counting.

use std::sync::Arc;

use super::Outcome;
use crate::{
    adapter::{Audience, Target},
    socket::{
        core::{Socket, namespace},
        rooms::Except,
        types::{IdSet, Room},
    },
};

/// A socket that is in too many rooms already does not join.
pub(super) fn join(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    rooms: &[Room],
) -> Outcome {
    for socket in sockets(namespace, target) {
        if let Err(error) = socket.join(rooms) {
            crate::throttled_log!(warn, socket = %socket.id(), %error, "a socket cannot join");
        }
    }
    Outcome::Nothing
}

/// Sockets whose clients are away and may come back leave the rooms as well.
pub(super) fn leave(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    rooms: &[Room],
) -> Outcome {
    for socket in sockets(namespace, target) {
        socket.leave(rooms);
    }
    // Sockets whose clients are away are looked for last, so that one whose client leaves in between is found as well.
    for socket in sockets_away(namespace, target) {
        socket.leave(rooms);
        socket.save_state(false);
    }
    Outcome::Nothing
}

/// Clients that are away cannot come back as the same socket.
pub(super) fn disconnect(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    close: bool,
) -> Outcome {
    for socket in sockets(namespace, target) {
        socket.disconnect(close);
    }
    for socket in sockets_away(namespace, target) {
        socket.expel_away();
    }
    Outcome::Nothing
}

pub(super) fn sockets(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> Vec<Socket> {
    namespace.sockets_of(&ids(namespace, target))
}

/// How many sockets of this server are in the target.
pub(crate) fn count(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> usize {
    match target.rooms {
        Audience::All if target.except.is_empty() && target.sender.is_none() => namespace.len(),
        Audience::All | Audience::One(_) | Audience::Many(_) => ids(namespace, target).len(),
    }
}

/// The sockets of the target whose clients are away and may come back.
fn sockets_away(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> Vec<Socket> {
    namespace.away(target.rooms, &excepted(namespace, target))
}

fn ids(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> IdSet {
    let mut ids = namespace.ids(target.rooms);
    if target.sender.is_some() || !target.except.is_empty() {
        let except = excepted(namespace, target);
        ids.retain(|id| !except.has(*id));
    }
    ids
}

#[inline]
pub(super) fn excepted(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> Except {
    let others = (!target.except.is_empty()).then(|| {
        let mut ids = IdSet::default();
        for room in target.except {
            namespace.collect_with_away(room, &mut ids);
        }
        ids
    });
    Except {
        sender: target.sender,
        others,
    }
}
