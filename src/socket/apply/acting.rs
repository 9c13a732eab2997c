//! Applies operations other than events to the sockets of this server: join, leave, disconnect,
//! count.

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

/// Adds sockets to rooms. Sockets that have reached their room limit are skipped.
pub(super) fn join(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    rooms: &[Room],
) -> Outcome {
    for socket in sockets(namespace, target) {
        if let Err(error) = socket.join(rooms) {
            crate::throttled_log!(warn, socket = %socket.id(), %error, "socket could not join a room");
        }
    }
    Outcome::Nothing
}

/// Removes sockets from rooms, including disconnected but recoverable sockets.
pub(super) fn leave(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    rooms: &[Room],
) -> Outcome {
    for socket in sockets(namespace, target) {
        socket.leave(rooms);
    }
    // Recoverable sockets are searched last, so that a socket that disconnects in the meantime is
    // found.
    for socket in recoverable_sockets(namespace, target) {
        socket.leave(rooms);
        socket.save_state(false);
    }
    Outcome::Nothing
}

/// Disconnects sockets. Disconnected but recoverable sockets cannot be recovered afterwards.
pub(super) fn disconnect(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    close: bool,
) -> Outcome {
    for socket in sockets(namespace, target) {
        if close {
            socket.close_connection();
        } else {
            socket.disconnect();
        }
    }
    for socket in recoverable_sockets(namespace, target) {
        socket.end_recoverable();
    }
    Outcome::Nothing
}

pub(super) fn sockets(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> Vec<Socket> {
    namespace.sockets_of(&ids(namespace, target))
}

/// Returns the number of sockets of this server in the target.
pub(crate) fn count(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> usize {
    let is_whole = target.except.is_empty() && target.sender.is_none();
    match &target.rooms {
        Audience::All if is_whole => namespace.len(),
        // The room of a socket's id has that socket, although it is no member.
        Audience::One(name) if is_whole && name.id().is_none() => namespace.size(name),
        Audience::All | Audience::One(_) | Audience::Many(_) => ids(namespace, target).len(),
    }
}

/// Returns the disconnected but recoverable sockets of the target.
fn recoverable_sockets(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> Vec<Socket> {
    namespace.recoverable(target.rooms, &excepted(namespace, target))
}

fn ids(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> IdSet {
    let mut ids = namespace.ids(target.rooms);
    if target.sender.is_some() || !target.except.is_empty() {
        let except = excepted(namespace, target);
        ids.retain(|id| !except.has(id));
    }
    ids
}

#[inline]
pub(super) fn excepted(namespace: &namespace::NamespaceInner, target: &Target<'_>) -> Except {
    let excepted_ids = (!target.except.is_empty()).then(|| {
        let mut ids = IdSet::default();
        for room in target.except {
            namespace.collect_with_recoverable(room, &mut ids);
        }
        ids
    });
    Except {
        sender: target.sender.clone(),
        ids: excepted_ids,
    }
}
