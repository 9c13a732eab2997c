//! Sends events to the sockets of this server.

use std::sync::Arc;

use roomcast_protocol::{Frame, socket::Arguments};

use super::{Applied, Outcome, RemoteOutcome, acting::excepted};
use crate::{
    adapter::Target,
    engine::Push,
    socket::{
        core::namespace,
        rooms::{Collected, Tally},
        sending::{BroadcastRequest, Emitted, encode, mode},
        types::{EmitError, SocketId, args},
    },
};

/// An acknowledgement request and its number of recipients, or why it was not sent.
pub(crate) type AckRequest = Result<(BroadcastRequest, usize), EmitError>;

/// Passes an event to the adapter with `publish`, then sends it to the sockets of this server.
///
/// The order ensures that no socket receives an event that the adapter rejects as too large.
#[inline]
pub(super) fn emit(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    event: &str,
    args: &dyn Arguments,
    publish: impl FnOnce(Option<&Frame>) -> RemoteOutcome,
) -> Applied {
    let frame = match encode(target.flags, namespace, None, event, args) {
        Ok(frame) => frame,
        Err(error) => return Applied::emitted(Emitted::failed(event, error)),
    };
    let remote = publish(Some(&frame));
    if let Some(error) = remote.refusal() {
        let local = Outcome::Emitted(Emitted::failed(event, error));
        return Applied { local, remote };
    }
    let mut observed = namespace.observed();
    let collected = observed
        .as_mut()
        .map_or(Collected::Nothing, Collected::Observed);
    let tally = push(namespace, target, &frame, collected);
    if let Some(observed) = observed {
        let (mut reached, mut missed) = (Vec::new(), Vec::new());
        for (id, push) in observed.pushes {
            match push {
                Push::Queued => reached.push(id),
                Push::Dropped | Push::Overflow | Push::Closed => missed.push((id, push)),
            }
        }
        notify_observers(namespace, &reached, event, args, &frame);
        for (id, push) in missed {
            for socket in namespace.observers_of(&[id]) {
                socket.notify_push(&frame, push);
            }
        }
    }
    let local = Outcome::Emitted(tally.into());
    Applied { local, remote }
}

/// Sends an event like [`emit`], and requests acknowledgements.
pub(super) fn emit_with_acks(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    event: &str,
    args: &dyn Arguments,
    publish: impl FnOnce(Option<&Frame>) -> RemoteOutcome,
) -> Applied {
    let config = &namespace.config().sockets;
    let timeout = target.flags.timeout.unwrap_or(config.ack_timeout);
    let id = namespace.next_ack_id();
    let frame = match encode(target.flags, namespace, Some(id), event, args) {
        Ok(frame) => frame,
        Err(error) => return ack_request_failed(event, error.into(), RemoteOutcome::None),
    };
    let request = match BroadcastRequest::open(namespace, id, timeout, config.max_pending_acks) {
        Ok(request) => request,
        Err(error) => return ack_request_failed(event, error, RemoteOutcome::None),
    };
    let remote = publish(Some(&frame));
    if let Some(error) = remote.refusal() {
        return ack_request_failed(event, error, remote);
    }
    // No answer is counted until all recipients are known, or the request could end too early. This
    // lock is acquired before those of rooms.
    let mut answers = request.answers();
    let mut reached = Vec::new();
    let _ = push(namespace, target, &frame, Collected::Reached(&mut reached));
    answers.outstanding.extend(reached.iter().cloned());
    let expected = answers.outstanding.len();
    drop(answers);
    notify_observers(namespace, &reached, event, args, &frame);
    let local = Outcome::AckRequest(Ok((request, expected)));
    Applied { local, remote }
}

fn ack_request_failed(event: &str, error: EmitError, remote: RemoteOutcome) -> Applied {
    crate::throttled_log!(warn, event, %error, "could not send an event");
    let local = Outcome::AckRequest(Err(error));
    Applied { local, remote }
}

fn push(
    namespace: &namespace::NamespaceInner,
    target: &Target<'_>,
    frame: &Frame,
    collected: Collected<'_>,
) -> Tally {
    let except = excepted(namespace, target);
    let mode = mode(target.flags.delivery);
    namespace.broadcast(target.rooms, frame, mode, &except, collected)
}

/// Notifies the observers of the sockets that received an event.
fn notify_observers(
    namespace: &namespace::NamespaceInner,
    reached: &[SocketId],
    event: &str,
    args: &dyn Arguments,
    frame: &Frame,
) {
    if reached.is_empty() || !namespace.has_observers() {
        return;
    }
    let observers = namespace.observers_of(reached);
    if observers.is_empty() {
        return;
    }
    if let Ok(args) = args::arguments(namespace.config().sockets.parser, args) {
        for socket in &observers {
            socket.notify_broadcast(event, &args, frame);
        }
    }
}
