//! What is said of one event that clients may send: who may, what with, how often, where.
//!
//! The rows are written with [`events!`] beside the types of their payloads, in
//! [`commands`](super::commands); [`policy`](super::policy) has all of them.

use std::marker::PhantomData;

#[cfg(test)]
use roomcast::Args;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::auth::{Permission, Principal};
use crate::limit::Class;
use crate::service::rules::emission::{namespace, version};
use crate::service::rules::versions::Replaces;

/// What a service is asked to do by somebody. Each type is one command with one permission, so that
/// who may give it is said in one place.
pub(crate) trait Command {
    /// What whoever gives the command must be allowed to do; none lets everybody give it.
    const PERMISSION: Option<Permission>;

    /// Returns whether the command reads only what belongs to its sender, who then needs no permission.
    fn is_about(&self, _by: &Principal) -> bool {
        false
    }
}

/// A command that is the argument of an event. [`events!`] implements it, once for each row.
pub(crate) trait Payload: Command + JsonSchema + Sized + Send + 'static {
    /// What the acknowledgement has beside `success`; `()` is nothing.
    type Answer: Serialize + JsonSchema + Send + 'static;

    /// Reads it in the form that clients send it in.
    ///
    /// # Errors
    ///
    /// If it has another form.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// A [`Payload`] as it comes out of JSON or MessagePack.
#[derive(Debug)]
pub(crate) struct Argument<T>(pub(crate) T);

impl<'de, T: Payload> Deserialize<'de> for Argument<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

/// An event that clients may send, and the type that its argument is parsed into.
#[derive(Debug)]
pub(crate) struct Event<T> {
    policy: EventPolicy,
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> Event<T> {
    /// A row, as [`events!`] writes it.
    pub(in crate::service::rules) const fn new(policy: EventPolicy) -> Self {
        Self {
            policy,
            payload: PhantomData,
        }
    }
}

impl<T> Event<T> {
    /// What is said of it.
    pub(crate) const fn policy(&self) -> &EventPolicy {
        &self.policy
    }
}

/// What is said of one event.
#[derive(Debug)]
pub(crate) struct EventPolicy {
    /// The name of the event.
    pub(crate) event: &'static str,
    /// What the sender must be allowed to do; none lets everybody send it who is connected.
    pub(crate) permission: Option<Permission>,
    /// Which events it shares its limit with.
    pub(crate) class: Class,
    /// What else must hold of the room it is about.
    pub(crate) room: RoomRule,
    /// In which forms its argument may come.
    pub(crate) argument: ArgumentForm,
    /// What its argument must look like.
    pub(crate) payload: fn() -> Schema,
    /// What the acknowledgement looks like, but for `success`.
    pub(crate) answer: fn() -> Schema,
    /// What it does.
    pub(crate) does: &'static str,
    /// An argument.
    pub(crate) example: fn() -> Value,
    /// What is answered to it, but for `success`.
    pub(crate) answered: fn() -> Value,
    /// The source file of the row, from the root of the repository.
    pub(crate) file: &'static str,
    /// The event before it, which is served for a time as well.
    pub(crate) replaces: Option<Replaces>,
    /// Where arguments are wrong that are no payload of it.
    #[cfg(test)]
    pub(in crate::service::rules) refuses: fn(&Args) -> Option<String>,
}

impl EventPolicy {
    /// The version of the event, which is part of its name from the second one on.
    pub(crate) fn version(&self) -> u32 {
        version(self.event)
    }

    /// The namespace in which clients send it.
    pub(crate) fn namespace(&self) -> &'static str {
        namespace(self.event)
    }

    /// Who may send it, beside that it takes its permission.
    pub(in crate::service::rules) fn who(&self) -> &'static str {
        let needed = self.permission.or_else(|| self.entry());
        match (self.room, needed) {
            (RoomRule::Anyone, Some(_)) => "whoever has the permission",
            (rule, _) => rule.as_str(),
        }
    }

    /// What the sender must be allowed to do as well, to come into its namespace.
    pub(crate) fn entry(&self) -> Option<Permission> {
        (self.namespace() != "/").then_some(Permission::Admin)
    }

    /// An acknowledgement of it.
    pub(crate) fn acknowledgement(&self) -> Value {
        let mut acknowledgement = Map::from_iter([("success".to_owned(), true.into())]);
        if let Value::Object(answer) = (self.answered)() {
            acknowledgement.extend(answer);
        }
        acknowledgement.into()
    }
}

/// The forms in which the argument of an event may come: one for each function of
/// [`form`](super::commands::form).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentForm {
    /// An object.
    Object,
    /// An object, `null` or nothing.
    ObjectOrNone,
    /// An object, or the id of a conversation alone.
    IdOrObject,
}

/// What must hold of the room that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomRule {
    /// The sender is a member of the conversation.
    Member,
    /// The sender wrote the message, or moderates.
    Author,
    /// The sender owns the conversation, or moderates.
    Owner,
    /// The sender owns the conversation, or moderates, or is whom it is about.
    OwnerOrOneself,
    /// The event is about what belongs to the sender.
    Oneself,
    /// The event is about no conversation.
    Anyone,
}

impl RoomRule {
    /// In words.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "members of the conversation",
            Self::Author => "the message's author, and `chat:moderate`",
            Self::Owner => "the conversation's owner, and `chat:moderate`",
            Self::OwnerOrOneself => {
                "the conversation's owner and `chat:moderate`, who need `chat:manage`, and whom it is about"
            }
            Self::Oneself => "whom it is about",
            Self::Anyone => "everybody",
        }
    }
}

macro_rules! permission {
    (Nothing) => {
        None
    };
    ($permission:ident) => {
        Some($crate::auth::Permission::$permission)
    };
}

macro_rules! argument_form {
    (object) => {
        $crate::service::rules::event::ArgumentForm::Object
    };
    (object_or_none) => {
        $crate::service::rules::event::ArgumentForm::ObjectOrNone
    };
    (id_or_object) => {
        $crate::service::rules::event::ArgumentForm::IdOrObject
    };
}

/// The rows of one feature: each is `NAME: Payload => Answer = "event", Permission, Class, RoomRule, form, "what
/// it does", {an example of the argument} => an example of the answer;`, where the form is a function of
/// [`form`](super::commands::form). One that replaces another ends in `, replaces "event" since "2026-11-21";`. All of
/// them are its `EVENTS`.
macro_rules! events {
    ($($name:ident: $payload:ty => $answer:ty =
        $event:literal, $permission:ident, $class:ident, $room:ident, $form:ident, $does:literal,
        $example:tt => $answered:expr $(, replaces $before:literal since $day:literal)?;)+) => {
        $(
            #[doc = concat!("`", $event, "`")]
            pub(crate) static $name: $crate::service::rules::event::Event<$payload> =
                $crate::service::rules::event::Event::new(
                    $crate::service::rules::event::EventPolicy {
                        event: $event,
                        permission: $crate::service::rules::event::permission!($permission),
                        class: $crate::limit::Class::$class,
                        room: $crate::service::rules::event::RoomRule::$room,
                        argument: $crate::service::rules::event::argument_form!($form),
                        payload: || schemars::schema_for!($payload),
                        answer: $crate::service::rules::emission::schema_of::<$answer>,
                        does: $does,
                        example: || serde_json::json!($example),
                        answered: || {
                            let answered: $answer = $answered;
                            serde_json::json!(answered)
                        },
                        file: file!(),
                        replaces: $crate::service::rules::emission::replaces!($($before since $day)?),
                        #[cfg(test)]
                        refuses: |args| {
                            type Read = $crate::service::rules::event::Argument<$payload>;
                            args.get::<Read>(0).err().map(|error| error.path().to_owned())
                        },
                    },
                );

            impl $crate::service::rules::event::Command for $payload {
                const PERMISSION: Option<$crate::auth::Permission> =
                    $crate::service::rules::event::permission!($permission);
            }

            impl $crate::service::rules::event::Payload for $payload {
                type Answer = $answer;

                fn read<'de, D: serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<Self, D::Error> {
                    $crate::service::rules::commands::form::$form(deserializer)
                }
            }
        )+

        /// All events of this feature.
        pub(in crate::service::rules) static EVENTS: &[&$crate::service::rules::event::EventPolicy] =
            &[$($name.policy()),+];
    };
}

pub(in crate::service::rules) use {argument_form, events, permission};
