//! Limits the events of a key to one per interval: the first immediately, then the newest at the
//! end.
//!
//! The limit is applied before an operation, so that other servers receive the same events as the
//! clients of this server.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState},
    sync::{Arc, LazyLock},
    time::Duration,
};

use roomcast_protocol::socket::{Args, Arguments, EncodeError};
use tokio::task::yield_now;

use super::{Applied, TargetNamespace, apply};
use crate::{
    adapter::{Audience, Delivery, Kind, Operation, Target},
    socket::{
        core::{After, HeldEvent, Io, Namespace, Next, Offered, Paced, SendPermit, WeakIo},
        sending::Emitted,
        types::{RoomName, args},
    },
};

/// Sends an event, or holds it until its key may be sent again. A held event has no result yet.
pub(crate) fn apply_paced(
    target_namespace: &TargetNamespace,
    operation: &Operation<'_>,
    interval: Duration,
) -> Applied {
    let (Kind::Broadcast { event, args }, Some(io)) = (&operation.kind, target_namespace.io())
    else {
        return apply(target_namespace, operation);
    };
    let key = key(&operation.target);
    let (applied, permit) = match io.paced().offer(key, interval) {
        Offered::Free => return apply(target_namespace, operation),
        Offered::SendPermit(permit) => (apply(target_namespace, operation), permit),
        Offered::Wait => {
            // The application's code encodes the arguments, so no lock is held here.
            let held = match held(target_namespace, &operation.target, event, *args, interval) {
                Ok(held) => held,
                Err(error) => return Applied::emitted(Emitted::failed(event, error)),
            };
            match io.paced().hold(key, interval, held) {
                Ok(()) => return Applied::emitted(Emitted::default()),
                Err((held, None)) => return send(target_namespace, &held),
                Err((held, Some(permit))) => (send(target_namespace, &held), permit),
            }
        }
    };
    io.finish(permit);
    applied
}

impl Io {
    /// Sends all held events. From then on, events are sent immediately.
    pub(crate) fn end_pacing(&self) {
        for held in self.paced().close() {
            self.send_held(&held);
        }
    }

    fn send_held(&self, held: &HeldEvent) {
        let namespace = Namespace::new(self.clone(), held.namespace.as_str());
        let target_namespace = match namespace.inner() {
            Some(inner) => TargetNamespace::Local(inner),
            None => TargetNamespace::Absent(self.clone(), held.namespace.clone()),
        };
        send(&target_namespace, held);
    }

    /// Ends a turn. Starts the task that sends held events if it is not running.
    fn finish(&self, mut permit: SendPermit<HeldEvent>) {
        loop {
            match permit.end() {
                After::Nothing => return,
                After::Send(held, again) => {
                    self.send_held(&held);
                    permit = again;
                }
                After::Watch => return self.watch(),
            }
        }
    }

    fn watch(&self) {
        let (io, paced) = (self.downgrade(), Arc::clone(self.paced()));
        if !self.keep("paced events", move || {
            watch(io.clone(), Arc::clone(&paced))
        }) {
            // Without a runtime, no task can send the events later.
            for held in self.paced().give_up() {
                self.send_held(&held);
            }
        }
    }
}

fn send(target_namespace: &TargetNamespace, held: &HeldEvent) -> Applied {
    let target = Target {
        namespace: &held.namespace,
        rooms: &held.rooms,
        except: &held.except,
        sender: held.sender.clone(),
        local: held.local,
        flags: held.flags,
        stream: held.stream.as_deref(),
    };
    let (event, args) = (&*held.event, &held.args as &dyn Arguments);
    let kind = Kind::Broadcast { event, args };
    apply(target_namespace, &Operation { target, kind })
}

fn held(
    target_namespace: &TargetNamespace,
    target: &Target<'_>,
    event: &str,
    payload: &dyn Arguments,
    interval: Duration,
) -> Result<HeldEvent, EncodeError> {
    let own = |name: &RoomName<'_>| RoomName::from(name.clone().into_room());
    let args: Args = args::arguments(target_namespace.config().sockets.parser, payload)?;
    Ok(HeldEvent {
        namespace: target.namespace.clone(),
        rooms: match target.rooms {
            Audience::All => Audience::All,
            Audience::One(name) => Audience::One(own(name)),
            Audience::Many(names) => Audience::Many(names.iter().map(own).collect()),
        },
        except: target.except.iter().map(own).collect(),
        sender: target.sender.clone(),
        local: target.local,
        flags: target.flags,
        stream: target.stream.map(Into::into),
        event: event.into(),
        args,
        interval,
    })
}

/// Returns the hash of a key and its target.
fn key(target: &Target<'_>) -> u64 {
    let mut hasher = KEYS.build_hasher();
    let stream = match target.flags.delivery {
        Delivery::Newest(stream) | Delivery::Last(stream, _) => stream,
        Delivery::Reliable | Delivery::Volatile => 0,
    };
    (stream, &target.sender, target.local).hash(&mut hasher);
    let mut add = |names: &[RoomName<'_>]| {
        // The number of names separates the lists, so that names of different lists cannot be
        // confused.
        names.len().hash(&mut hasher);
        names
            .iter()
            .for_each(|name| name.as_str().hash(&mut hasher));
    };
    add(target.except);
    match target.rooms {
        Audience::All => {}
        Audience::One(name) => add(std::slice::from_ref(name)),
        Audience::Many(names) => add(names),
    }
    hasher.finish()
}

/// Sends held events when they are due, while any key is in its interval.
async fn watch(io: WeakIo, paced: Arc<Paced>) {
    let mut sent = 0;
    loop {
        match paced.next(|held: &HeldEvent| held.interval) {
            Next::Nothing => return,
            Next::Wait(until) => {
                sent = 0;
                paced.wait(until).await;
            }
            Next::Send(held, permit) => {
                let Some(io) = io.upgrade() else { return };
                io.send_held(&held);
                io.finish(permit);
                sent += 1;
                if sent % EVENTS_PER_YIELD == 0 {
                    yield_now().await;
                }
            }
        }
    }
}

/// Hashes are randomly keyed, so that clients who choose names cannot construct a collision.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
/// Events to send before other tasks run. Consecutive events reach each client in one write.
const EVENTS_PER_YIELD: u32 = 64;
