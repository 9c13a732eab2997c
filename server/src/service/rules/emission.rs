//! The policy of one event that the server sends: its payload, its receivers and its delivery.
//!
//! The rows are written with [`emissions!`] beside the types of their payloads, in
//! [`emissions`](super::emissions). [`policy`](super::policy) collects them. Services and gateways
//! send through a row, so that name and payload always match.
//!
//! No row is volatile: a client that misses an event keeps a state that is no longer true. An event
//! that a newer one may replace has a key and is conflated. Every other event is reliable.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use roomcast::{
    Broadcast, Socket,
    broadcast::{Acks, Emitted},
    handler::Argument,
};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::Value;

use crate::service::rules::rooms::RoomKind;
use crate::service::rules::versions::{Overlap, Replaces};

/// An event that the server sends, with the type of its argument and of its delivery.
///
/// A row names a borrowing payload type with `'static`. Payloads with shorter borrows can be sent
/// as well.
#[derive(Debug)]
pub(crate) struct Emission<T, D = Reliable> {
    policy: EmissionPolicy,
    kind: PhantomData<fn() -> (T, D)>,
}

/// The policy of one event that the server sends.
#[derive(Debug)]
pub(crate) struct EmissionPolicy {
    /// The name of the event.
    pub(crate) event: &'static str,
    /// How the event is delivered to a slow client.
    pub(crate) delivery: Delivery,
    /// Whether receivers may be asked to confirm it, by calling its acknowledgement with nothing.
    pub(crate) is_confirmed: bool,
    /// Returns the schema of the argument.
    pub(crate) payload: fn() -> Schema,
    /// What the event reports, in words for the documents.
    pub(crate) summary: &'static str,
    /// Who receives the event, in words for the documents.
    pub(crate) to: &'static str,
    /// The rooms that receive the event. Empty if it goes only to a single socket.
    pub(crate) rooms: &'static [RoomKind],
    /// Returns an example argument.
    pub(crate) example: fn() -> Value,
    /// The source file of the row, from the root of the repository.
    pub(crate) file: &'static str,
    /// The event that this one replaces. It is also sent during the overlap.
    pub(crate) replaces: Option<Replaces>,
}

/// How an event is delivered to a client that is too slow for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The event is queued. A client whose queue is full is disconnected.
    Reliable,
    /// The newest event of each key replaces a queued one, and is dropped if the queue is full. The
    /// field describes the key.
    ///
    /// It replaces volatile delivery, which queues nothing: a polling client would miss everything
    /// between two polls, even `typing`.
    Conflated(&'static str),
}

impl EmissionPolicy {
    /// Returns the version of the event. From version 2 on, it is part of the name.
    pub(crate) fn version(&self) -> u32 {
        version(self.event)
    }

    /// Returns the namespace in which the event is sent.
    pub(crate) fn namespace(&self) -> &'static str {
        namespace(self.event)
    }

    /// Returns the name patterns of the event's rooms, with variable parts in angle brackets.
    pub(in crate::service::rules) fn room_names(&self) -> Vec<&'static str> {
        self.rooms.iter().map(|kind| kind.pattern()).collect()
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reliable => f.write_str("reliable"),
            Self::Conflated(key) => write!(f, "conflated by {key}"),
        }
    }
}

/// How the events of a row are delivered.
pub(crate) trait Deliver<T> {
    /// The delivery in the policy of the event.
    const DELIVERY: Delivery;
    const IS_CONFIRMED: bool = false;
    /// Whether the event is also sent as the event that it replaces.
    const SUCCEEDS: bool = false;

    /// Returns the conflation key, or `None` if the event is not conflated.
    fn key(_payload: &T) -> Option<String> {
        None
    }
}

/// [`Delivery::Reliable`].
#[derive(Debug)]
pub(crate) struct Reliable;

/// Reliable, and receivers may be asked to confirm it.
#[derive(Debug)]
pub(crate) struct Confirmed;

/// [`Delivery::Conflated`].
#[derive(Debug)]
pub(crate) struct Conflated;

/// A payload that has a conflation key.
pub(crate) trait Keyed {
    /// What the key consists of, in words for the documents.
    const BY: &'static str;

    /// Returns the key. Two events may share a key only if the newer one supersedes the older one.
    fn key(&self) -> String;
}

/// Delivery in one of the ways above, and for a time also as the replaced event, whose payload is
/// `Before`.
#[derive(Debug)]
pub(crate) struct Succeeding<Before, D = Reliable>(PhantomData<fn() -> (Before, D)>);

/// A delivery that sends the event under a single name.
pub(crate) trait Single {}

impl Single for Reliable {}
impl Single for Confirmed {}
impl Single for Conflated {}

impl<T, Before, D: Deliver<T> + Single> Deliver<T> for Succeeding<Before, D> {
    const DELIVERY: Delivery = D::DELIVERY;
    const IS_CONFIRMED: bool = D::IS_CONFIRMED;
    const SUCCEEDS: bool = true;

    fn key(payload: &T) -> Option<String> {
        D::key(payload)
    }
}

impl<T> Deliver<T> for Reliable {
    const DELIVERY: Delivery = Delivery::Reliable;
}

impl<T> Deliver<T> for Confirmed {
    const DELIVERY: Delivery = Delivery::Reliable;
    const IS_CONFIRMED: bool = true;
}

impl<T: Keyed> Deliver<T> for Conflated {
    const DELIVERY: Delivery = Delivery::Conflated(T::BY);

    fn key(payload: &T) -> Option<String> {
        Some(payload.key())
    }
}

impl<T, D: Deliver<T>> Emission<T, D> {
    /// Creates a row. Only [`emissions!`] calls this.
    ///
    /// # Panics
    ///
    /// At compile time, if the delivery is `Succeeding` and the policy replaces no event, or the
    /// reverse.
    pub(in crate::service::rules) const fn new(policy: EmissionPolicy) -> Self {
        assert!(policy.replaces.is_some() == D::SUCCEEDS);
        Self {
            policy,
            kind: PhantomData,
        }
    }
}

impl<T, D> Emission<T, D> {
    /// Returns the policy of the event.
    pub(crate) const fn policy(&self) -> &EmissionPolicy {
        &self.policy
    }
}

/// Sends an event to the receivers of the broadcast, conflated if a key is given.
#[expect(
    clippy::disallowed_methods,
    reason = "all other events are sent through rows"
)]
fn send(to: Broadcast<'_>, event: &str, key: Option<String>, payload: &impl Serialize) -> Emitted {
    match key {
        Some(key) => to.conflate(&key).emit(event, payload),
        None => to.emit(event, payload),
    }
}

/// Sends an event to one socket, conflated if a key is given.
#[expect(
    clippy::disallowed_methods,
    reason = "all other events are sent through rows"
)]
fn send_to(socket: &Socket, event: &str, key: Option<String>, payload: &impl Serialize) -> Emitted {
    match key {
        Some(key) => socket.conflate(&key).emit(event, payload),
        None => socket.emit(event, payload),
    }
}

impl<T: Serialize, D: Deliver<T> + Single> Emission<T, D> {
    /// Sends the event to the receivers of the broadcast.
    pub(crate) fn emit(&self, to: Broadcast<'_>, payload: &T) -> Emitted {
        send(to, self.policy.event, D::key(payload), payload)
    }

    /// Sends the event to one socket.
    pub(crate) fn emit_to(&self, socket: &Socket, payload: &T) -> Emitted {
        send_to(socket, self.policy.event, D::key(payload), payload)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "all other events are sent through rows"
)]
impl<T: Serialize + Keyed> Emission<T, Conflated> {
    /// Sends the event at most once per `interval` and key.
    ///
    /// It is sent immediately, or at the end of the interval unless a newer event of the key
    /// replaces it.
    pub(crate) fn emit_every(&self, interval: Duration, to: Broadcast<'_>, payload: &T) -> Emitted {
        let to = to.conflate_every(&payload.key(), interval);
        to.emit(self.policy.event, payload)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "all other events are sent through rows"
)]
impl<T: Serialize> Emission<T, Confirmed> {
    /// Sends the event to the receivers on this server, and asks each to confirm it.
    pub(crate) fn emit_with_acks<R: Argument>(&self, to: &Broadcast<'_>, payload: &T) -> Acks<R> {
        to.emit_with_local_acks(self.policy.event, payload)
    }
}

#[cfg_attr(not(test), expect(dead_code, reason = "no event is replaced yet"))]
impl<T, Before, D> Emission<T, Succeeding<Before, D>>
where
    T: Serialize,
    Before: Serialize + for<'a> From<&'a T>,
    D: Deliver<T> + Single,
{
    /// Sends the event, and until the overlap ends also the event that it replaces.
    pub(crate) fn emit(&self, overlap: Overlap, to: Broadcast<'_>, payload: &T) -> Emitted {
        let key = D::key(payload);
        if let Some(before) = self.before(overlap) {
            let key = key_before(before, key.as_deref());
            send(to.clone(), before, key, &Before::from(payload));
        }
        send(to, self.policy.event, key, payload)
    }

    /// Sends the event to one socket, and until the overlap ends also the event that it replaces.
    pub(crate) fn emit_to(&self, overlap: Overlap, socket: &Socket, payload: &T) -> Emitted {
        let key = D::key(payload);
        if let Some(before) = self.before(overlap) {
            let key = key_before(before, key.as_deref());
            send_to(socket, before, key, &Before::from(payload));
        }
        send_to(socket, self.policy.event, key, payload)
    }

    /// Returns the replaced event if its overlap has not ended.
    fn before(&self, overlap: Overlap) -> Option<&'static str> {
        let replaces = self.policy.replaces.as_ref();
        let replaces = replaces.filter(|replaces| SystemTime::now() < overlap.end(replaces));
        replaces.map(|replaces| replaces.event)
    }
}

/// Returns the conflation key of the replaced event. It differs from the new key, so that the two
/// events do not replace each other.
fn key_before(event: &str, key: Option<&str>) -> Option<String> {
    key.map(|key| format!("{event} {key}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "all other events are sent through rows"
)]
#[cfg_attr(not(test), expect(dead_code, reason = "no event is replaced yet"))]
impl<T, Before> Emission<T, Succeeding<Before, Confirmed>>
where
    T: Serialize,
    Before: Serialize + for<'a> From<&'a T>,
{
    /// Sends the event to the receivers on this server, and asks each to confirm it.
    ///
    /// Until the overlap ends, the replaced event is also sent, and its acknowledgements are the
    /// second value. A client knows only one of the two events, so either confirmation counts.
    pub(crate) fn emit_with_acks<R: Argument>(
        &self,
        overlap: Overlap,
        to: &Broadcast<'_>,
        payload: &T,
    ) -> (Acks<R>, Option<Acks<R>>) {
        let before = self.before(overlap);
        let before = before.map(|before| to.emit_with_local_acks(before, Before::from(payload)));
        (to.emit_with_local_acks(self.policy.event, payload), before)
    }
}

/// Returns the version in the name of an event: 2 for `domain:action:v2`.
pub(super) fn version(event: &str) -> u32 {
    let suffix = event.rsplit_once(":v").map(|(_, number)| number.parse());
    suffix.and_then(Result::ok).unwrap_or(1)
}

/// Returns the namespace of an event: `/admin` for names that begin with `admin:`, otherwise `/`.
pub(super) fn namespace(event: &str) -> &'static str {
    if event.starts_with("admin:") {
        "/admin"
    } else {
        "/"
    }
}

/// Returns the schema of a type as it is serialized.
pub(in crate::service::rules) fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>()
}

/// Expands to the event that a row replaces, or to `None`.
macro_rules! replaces {
    () => {
        None
    };
    ($before:literal since $day:literal) => {
        Some($crate::service::rules::versions::Replaces {
            event: $before,
            since: $day,
        })
    };
}

/// Defines the rows of one feature, collected in `EMISSIONS`.
///
/// ```text
/// MESSAGE_EDITED {
///     event: "message_edited", payload: Message, delivery: Reliable,
///     summary: "the text of a message was replaced",
///     to: "sockets in the conversation, except the sending socket", rooms: [Conversation],
///     example: examples::edited(),
/// }
/// ```
///
/// The delivery is one of the types above. The rooms are variants of `RoomKind`. `example` is a
/// payload.
///
/// A row that replaces another event has the delivery `Succeeding<Before, Conflated>`: the payload
/// of the replaced event, and its delivery, by default `Reliable`. It ends in
/// `replaces: "event" since "2026-11-21",`.
macro_rules! emissions {
    ($($name:ident {
        event: $event:literal, payload: $payload:ty,
        delivery: $delivery:ident $(<$old:ty $(, $way:ident)?>)?,
        summary: $summary:literal,
        to: $to:literal, rooms: [$($room:ident),*],
        example: $example:expr,
        $(replaces: $before:literal since $day:literal,)?
    })+) => {
        $(
            #[doc = concat!("`", $event, "`")]
            pub(crate) static $name: $crate::service::rules::emission::Emission<
                $payload,
                $crate::service::rules::emission::$delivery $(<$old $(, $crate::service::rules::emission::$way)?>)?,
            > = {
                use $crate::service::rules::emission::{Deliver, Emission, EmissionPolicy};
                type Way = $crate::service::rules::emission::$delivery
                    $(<$old $(, $crate::service::rules::emission::$way)?>)?;
                Emission::new(EmissionPolicy {
                    event: $event,
                    delivery: <Way as Deliver<$payload>>::DELIVERY,
                    is_confirmed: <Way as Deliver<$payload>>::IS_CONFIRMED,
                    payload: $crate::service::rules::emission::schema_of::<$payload>,
                    summary: $summary,
                    to: $to,
                    rooms: &[$($crate::service::rules::rooms::RoomKind::$room),*],
                    example: || {
                        let example: $payload = $example;
                        serde_json::json!(example)
                    },
                    file: file!(),
                    replaces: $crate::service::rules::emission::replaces!($($before since $day)?),
                })
            };
        )+

        /// All events of this feature that the server sends.
        pub(in crate::service::rules) static EMISSIONS: &[&$crate::service::rules::emission::EmissionPolicy] =
            &[$($name.policy()),+];
    };
}

pub(in crate::service::rules) use {emissions, replaces};
