//! What is said of one event that the server sends: with what, to whom, and how it is delivered.
//!
//! The rows are written with [`emissions!`] beside the types of their payloads, in
//! [`emissions`](super::emissions); [`policy`](super::policy) has all of them. Services and gateways send
//! through a row, so that its name and its payload cannot disagree.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use roomcast::{Acks, Argument, Broadcast, Emitted, Socket};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::Value;

use crate::service::rules::rooms::RoomKind;
use crate::service::rules::versions::{Overlap, Replaces};

/// An event that the server sends, the type of its argument, and how it is delivered.
///
/// A payload that borrows is named with `'static` in its row; shorter borrows are sent all the same.
#[derive(Debug)]
pub(crate) struct Emission<T, D = Reliable> {
    policy: EmissionPolicy,
    kind: PhantomData<fn() -> (T, D)>,
}

/// What is said of one event that the server sends.
#[derive(Debug)]
pub(crate) struct EmissionPolicy {
    /// The name of the event.
    pub(crate) event: &'static str,
    /// What becomes of it where a client is too slow.
    pub(crate) delivery: Delivery,
    /// Whether receivers may be asked to confirm it, by calling its acknowledgement with nothing.
    pub(crate) is_confirmed: bool,
    /// What its argument looks like.
    pub(crate) payload: fn() -> Schema,
    /// What it tells.
    pub(crate) tells: &'static str,
    /// Who gets it.
    pub(crate) to: &'static str,
    /// The rooms that it goes to; none if it goes to one socket alone.
    pub(crate) rooms: &'static [RoomKind],
    /// An argument.
    pub(crate) example: fn() -> Value,
    /// The source file of the row, from the root of the repository.
    pub(crate) file: &'static str,
    /// The event before it, which is sent for a time as well.
    pub(crate) replaces: Option<Replaces>,
}

/// What becomes of an event where a client is too slow for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It waits, and a client for which too much waits is disconnected.
    Reliable,
    /// It gives way to the next one of the same key, which is made of these, and is dropped where there is no room. That stands in
    /// the place of volatile delivery, which lets nothing wait: a client that polls would hear nothing of what happens between two
    /// of its polls, not even that somebody types.
    Conflated(&'static str),
}

impl EmissionPolicy {
    /// The version of the event, which is part of its name from the second one on.
    pub(crate) fn version(&self) -> u32 {
        version(self.event)
    }

    /// The namespace in which it is sent.
    pub(crate) fn namespace(&self) -> &'static str {
        namespace(self.event)
    }

    /// The names of the rooms that it goes to, with what is variable in angle brackets.
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
    /// What is said of it.
    const DELIVERY: Delivery;
    const IS_CONFIRMED: bool = false;
    /// Whether it is sent as the event that it replaces as well.
    const SUCCEEDS: bool = false;

    /// The key of which only the newest waits.
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

/// What says by itself which of its kind it replaces.
pub(crate) trait Keyed {
    /// What the key is made of, in words.
    const BY: &'static str;

    /// The key. Two events share one only if the newer one ends what the other says.
    fn key(&self) -> String;
}

/// Delivered in one of the ways above, and sent as the event that it replaces as well, for a time. That has the payload `Before`.
#[derive(Debug)]
pub(crate) struct Succeeding<Before, D = Reliable>(PhantomData<fn() -> (Before, D)>);

/// A way to deliver events that are sent under one name.
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
    /// A row, as [`emissions!`] writes it.
    ///
    /// # Panics
    ///
    /// If it is `Succeeding` and replaces nothing, or the other way round: while it is compiled.
    pub(in crate::service::rules) const fn new(policy: EmissionPolicy) -> Self {
        assert!(policy.replaces.is_some() == D::SUCCEEDS);
        Self {
            policy,
            kind: PhantomData,
        }
    }
}

impl<T, D> Emission<T, D> {
    /// What is said of it.
    pub(crate) const fn policy(&self) -> &EmissionPolicy {
        &self.policy
    }
}

/// Sends an event to all of them; with a key it gives way to the next of that key.
#[expect(
    clippy::disallowed_methods,
    reason = "rows are what all others send by"
)]
fn send(to: Broadcast<'_>, event: &str, key: Option<String>, payload: &impl Serialize) -> Emitted {
    match key {
        Some(key) => to.conflate(&key).emit(event, payload),
        None => to.emit(event, payload),
    }
}

/// Sends an event to one socket; with a key it gives way to the next of that key.
#[expect(
    clippy::disallowed_methods,
    reason = "rows are what all others send by"
)]
fn send_to(socket: &Socket, event: &str, key: Option<String>, payload: &impl Serialize) -> Emitted {
    match key {
        Some(key) => socket.conflate(&key).emit(event, payload),
        None => socket.emit(event, payload),
    }
}

impl<T: Serialize, D: Deliver<T> + Single> Emission<T, D> {
    /// Sends it to all of them.
    pub(crate) fn emit(&self, to: Broadcast<'_>, payload: &T) -> Emitted {
        send(to, self.policy.event, D::key(payload), payload)
    }

    /// Sends it to one socket.
    pub(crate) fn emit_to(&self, socket: &Socket, payload: &T) -> Emitted {
        send_to(socket, self.policy.event, D::key(payload), payload)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "rows are what all others send by"
)]
impl<T: Serialize + Keyed> Emission<T, Conflated> {
    /// Sends it to all of them, at most once in `interval` for each key: at once, or when the interval is over, if nothing newer
    /// has come by then.
    pub(crate) fn emit_every(&self, interval: Duration, to: Broadcast<'_>, payload: &T) -> Emitted {
        let to = to.conflate_every(&payload.key(), interval);
        to.emit(self.policy.event, payload)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "rows are what all others send by"
)]
impl<T: Serialize> Emission<T, Confirmed> {
    /// Sends it to all of them who are on this server, and asks each to confirm it.
    pub(crate) fn ask<R: Argument>(&self, to: &Broadcast<'_>, payload: &T) -> Acks<R> {
        to.ask(self.policy.event, payload)
    }
}

#[cfg_attr(not(test), expect(dead_code, reason = "no event is replaced yet"))]
impl<T, Before, D> Emission<T, Succeeding<Before, D>>
where
    T: Serialize,
    Before: Serialize + for<'a> From<&'a T>,
    D: Deliver<T> + Single,
{
    /// Sends it to all of them, and until the overlap is over also as the event that it replaces.
    pub(crate) fn emit(&self, overlap: Overlap, to: Broadcast<'_>, payload: &T) -> Emitted {
        let key = D::key(payload);
        if let Some(before) = self.before(overlap) {
            let key = key_before(before, key.as_deref());
            send(to.clone(), before, key, &Before::from(payload));
        }
        send(to, self.policy.event, key, payload)
    }

    /// Sends it to one socket, and until the overlap is over also as the event that it replaces.
    pub(crate) fn emit_to(&self, overlap: Overlap, socket: &Socket, payload: &T) -> Emitted {
        let key = D::key(payload);
        if let Some(before) = self.before(overlap) {
            let key = key_before(before, key.as_deref());
            send_to(socket, before, key, &Before::from(payload));
        }
        send_to(socket, self.policy.event, key, payload)
    }

    /// The event that is sent as well, until the overlap is over.
    fn before(&self, overlap: Overlap) -> Option<&'static str> {
        let replaces = self.policy.replaces.as_ref();
        let replaces = replaces.filter(|replaces| SystemTime::now() < overlap.end(replaces));
        replaces.map(|replaces| replaces.event)
    }
}

/// The key of the event before: another one, or the two would give way to one another.
fn key_before(event: &str, key: Option<&str>) -> Option<String> {
    key.map(|key| format!("{event} {key}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "rows are what all others send by"
)]
#[cfg_attr(not(test), expect(dead_code, reason = "no event is replaced yet"))]
impl<T, Before> Emission<T, Succeeding<Before, Confirmed>>
where
    T: Serialize,
    Before: Serialize + for<'a> From<&'a T>,
{
    /// Sends it to all of them who are on this server, and asks each to confirm it; until the overlap is over also as the event
    /// that it replaces, whose answers come second. A client knows one of the two: it has what it was sent if it confirms either.
    pub(crate) fn ask<R: Argument>(
        &self,
        overlap: Overlap,
        to: &Broadcast<'_>,
        payload: &T,
    ) -> (Acks<R>, Option<Acks<R>>) {
        let before = self.before(overlap);
        let before = before.map(|before| to.ask(before, Before::from(payload)));
        (to.ask(self.policy.event, payload), before)
    }
}

/// The version of an event by its name: 2 for `domain:action:v2`.
pub(super) fn version(event: &str) -> u32 {
    let suffix = event.rsplit_once(":v").map(|(_, number)| number.parse());
    suffix.and_then(Result::ok).unwrap_or(1)
}

/// The namespace of an event by its name: those of admins are in one of their own.
pub(super) fn namespace(event: &str) -> &'static str {
    if event.starts_with("admin:") {
        "/admin"
    } else {
        "/"
    }
}

/// What something looks like that is sent.
pub(in crate::service::rules) fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>()
}

/// The event that a row replaces, if it does.
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

/// The rows of one feature: each is `NAME: Payload, Delivery = "event", "what it tells", "who gets it", [the rooms that it goes
/// to], an example;`, where the delivery is one of the types above, and the rooms are of `RoomKind`. One that replaces another is
/// `Succeeding<Before, Conflated>`, with the payload of that and a way of delivery (`Reliable` if none is named), and ends in
/// `, replaces "event" since "2026-11-21";`. All of them are its `EMISSIONS`.
macro_rules! emissions {
    ($($name:ident: $payload:ty, $delivery:ident $(<$old:ty $(, $way:ident)?>)? = $event:literal, $tells:literal, $to:literal,
        [$($room:ident),*], $example:expr $(, replaces $before:literal since $day:literal)?;)+) => {
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
                    tells: $tells,
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
