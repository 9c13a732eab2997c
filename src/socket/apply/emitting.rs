//! Sends events to the sockets of this server.

use std::sync::Arc;

use roomcast_protocol::{Frame, socket::Arguments};

use super::{Outcome, acting::excepted};
use crate::{
    adapter::Target,
    socket::{
        core::namespace,
        rooms::Tally,
        sending::{Emitted, Question, encode, mode},
        types::{EmitError, SocketId, args},
    },
};

/// A question to many clients and how many received it, or why nobody did.
pub(crate) type Asked = Result<(Question, usize), EmitError>;

#[inline]
pub(super) fn emit(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    event: &str,
    args: &impl Arguments,
) -> (Outcome, Option<Frame>) {
    let frame = match encode(target.flags, namespace, None, event, args) {
        Ok(frame) => frame,
        Err(error) => return (Outcome::Emitted(Emitted::failed(event, error)), None),
    };
    let mut reached = Vec::new();
    let told = namespace.has_observers().then_some(&mut reached);
    let tally = push(namespace, target, &frame, told);
    tell_observers(namespace, &reached, event, args, &frame);
    (Outcome::Emitted(tally.into()), Some(frame))
}

pub(super) fn ask(
    namespace: &Arc<namespace::NamespaceInner>,
    target: &Target<'_>,
    event: &str,
    args: &impl Arguments,
) -> (Outcome, Option<Frame>) {
    let config = &namespace.config().sockets;
    let timeout = target.flags.timeout.unwrap_or(config.ack_timeout);
    let id = namespace.next_ack_id();
    let frame = match encode(target.flags, namespace, Some(id), event, args) {
        Ok(frame) => frame,
        Err(error) => {
            let failed = Emitted::failed(event, error).ok();
            let error = failed.err().unwrap_or(EmitError::Closed);
            return (Outcome::Asked(Err(error)), None);
        }
    };
    let question = match Question::open(namespace, id, timeout, config.max_pending_acks) {
        Ok(question) => question,
        Err(error) => return (Outcome::Asked(Err(error)), None),
    };
    // No answer is counted before all recipients are known, or the question could end too early. This lock comes before
    // those of rooms.
    let mut recipients = question.collect();
    let mut reached = Vec::new();
    let _ = push(namespace, target, &frame, Some(&mut reached));
    recipients.extend(&reached);
    let expected = recipients.len();
    drop(recipients);
    tell_observers(namespace, &reached, event, args, &frame);
    (Outcome::Asked(Ok((question, expected))), Some(frame))
}

fn push(
    namespace: &namespace::NamespaceInner,
    target: &Target<'_>,
    frame: &Frame,
    reached: Option<&mut Vec<SocketId>>,
) -> Tally {
    let except = excepted(namespace, target);
    let mode = mode(target.flags.delivery);
    namespace.broadcast(target.rooms, frame, mode, &except, reached)
}

/// Tells the observers of the sockets that received an event.
fn tell_observers(
    namespace: &namespace::NamespaceInner,
    reached: &[SocketId],
    event: &str,
    args: &impl Arguments,
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
            socket.tell_broadcast(event, &args, frame);
        }
    }
}
