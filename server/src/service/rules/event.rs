//! The policy of one event that clients send: permission, argument, rate limit class and room rule.
//!
//! The rows are written with [`events!`] beside the types of their payloads, in
//! [`commands`](super::commands). [`policy`](super::policy) collects them.

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

/// A request to a service. Each type is one command with one permission, so that each permission is
/// defined in one place.
pub(crate) trait Command {
    /// The permission that the sender needs. `None` allows every sender.
    const PERMISSION: Option<Permission>;

    /// Returns whether the command reads only data of its sender, which needs no permission.
    fn is_about(&self, _by: &Principal) -> bool {
        false
    }
}

/// A command that is the argument of an event. [`events!`] implements this trait for each row.
pub(crate) trait Payload: Command + JsonSchema + Sized + Send + 'static {
    /// The fields of the acknowledgement apart from `success`; `()` if there are none.
    type Answer: Serialize + JsonSchema + Send + 'static;

    /// Deserializes the argument in the form that clients send.
    ///
    /// # Errors
    ///
    /// If the argument has another form.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Deserializes a [`Payload`] from JSON or MessagePack.
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
    /// Creates a row. Only [`events!`] calls this.
    pub(in crate::service::rules) const fn new(policy: EventPolicy) -> Self {
        Self {
            policy,
            payload: PhantomData,
        }
    }
}

impl<T> Event<T> {
    /// Returns the policy of the event.
    pub(crate) const fn policy(&self) -> &EventPolicy {
        &self.policy
    }
}

/// The policy of one event that clients send.
#[derive(Debug)]
pub(crate) struct EventPolicy {
    /// The name of the event.
    pub(crate) event: &'static str,
    /// The permission that the sender needs. `None` allows every connected client.
    pub(crate) permission: Option<Permission>,
    /// The rate limit class of the event.
    pub(crate) class: Class,
    /// The additional rule for the room that the event is about.
    pub(crate) room: RoomRule,
    /// The accepted forms of the argument.
    pub(crate) argument: ArgumentForm,
    /// What a moderator's event names, or `None` if no permission lets a user send the event about
    /// what belongs to other users.
    pub(crate) moderates: Option<TargetKind>,
    /// Whether the event waits for earlier serial events of its socket.
    pub(crate) is_serial: bool,
    /// Returns the schema of the argument.
    pub(crate) payload: fn() -> Schema,
    /// Returns the schema of the acknowledgement, without `success`.
    pub(crate) answer: fn() -> Schema,
    /// What the event does, in words for the documents.
    pub(crate) does: &'static str,
    /// Returns an example argument.
    pub(crate) example: fn() -> Value,
    /// Returns an example acknowledgement, without `success`.
    pub(crate) answered: fn() -> Value,
    /// The source file of the row, from the root of the repository.
    pub(crate) file: &'static str,
    /// The event that this one replaces. It is also accepted during the overlap.
    pub(crate) replaces: Option<Replaces>,
    /// Returns the path of the error in invalid arguments, or `None` if they are valid.
    #[cfg(test)]
    pub(in crate::service::rules) refuses: fn(&Args) -> Option<String>,
}

impl EventPolicy {
    /// Returns the version of the event. From version 2 on, it is part of the name.
    pub(crate) fn version(&self) -> u32 {
        version(self.event)
    }

    /// Returns the namespace in which clients send the event.
    pub(crate) fn namespace(&self) -> &'static str {
        namespace(self.event)
    }

    /// Describes who may send the event, apart from the permission.
    pub(in crate::service::rules) fn who(&self) -> &'static str {
        let needed = self.permission.or_else(|| self.entry());
        match (self.room, needed) {
            (RoomRule::Anyone, Some(_)) => "all users with the permission",
            (rule, _) => rule.as_str(),
        }
    }

    /// Returns the permission that the sender needs to enter the namespace of the event.
    pub(crate) fn entry(&self) -> Option<Permission> {
        (self.namespace() != "/").then_some(Permission::Admin)
    }

    /// Returns an example acknowledgement.
    pub(crate) fn acknowledgement(&self) -> Value {
        let mut acknowledgement = Map::from_iter([("success".to_owned(), true.into())]);
        if let Value::Object(answer) = (self.answered)() {
            acknowledgement.extend(answer);
        }
        acknowledgement.into()
    }
}

/// The accepted forms of an event's argument. Each variant is a function of
/// [`form`](super::commands::form).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentForm {
    /// An object.
    Object,
    /// An object, `null` or nothing.
    ObjectOrNone,
    /// An object, or only the id of a conversation.
    IdOrObject,
}

/// What an event of a moderator names, by the fields of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// `messageId`
    Message,
    /// `conversationId`
    Conversation,
    /// `conversationId` and `userId`
    Member,
}

/// The rule for the room that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomRule {
    /// The sender is a member of the conversation.
    Member,
    /// The sender wrote the message or has `chat:moderate`.
    Author,
    /// The sender writes the message.
    Writer,
    /// The sender owns the conversation or has `chat:moderate`.
    Owner,
    /// The sender owns the conversation, has `chat:moderate`, or is the affected user.
    OwnerOrOneself,
    /// The event concerns data of the sender.
    Oneself,
    /// The event concerns no conversation.
    Anyone,
}

impl RoomRule {
    /// Describes the rule for the documents.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "members of the conversation",
            Self::Author => "the message's author, or a user with `chat:moderate`",
            Self::Writer => "the message's author",
            Self::Owner => "the conversation's owner, or a user with `chat:moderate`",
            Self::OwnerOrOneself => {
                "the conversation's owner or a user with `chat:moderate`, who also need `chat:manage`, or the removed user"
            }
            Self::Oneself => "the user that the event is about",
            Self::Anyone => "all clients",
        }
    }
}

macro_rules! permission {
    (None) => {
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

macro_rules! moderates {
    () => {
        None
    };
    ($target:ident) => {
        Some($crate::service::rules::event::TargetKind::$target)
    };
}

macro_rules! is_serial {
    () => {
        false
    };
    ($serial:literal) => {
        $serial
    };
}

/// Defines the rows of one feature, collected in `EVENTS`.
///
/// ```text
/// MARK_READ {
///     event: "mark_read", payload: MarkAsRead, answer: ReadMark,
///     permission: ChatRead, limit: Requests, room: Member, argument: object,
///     does: "moves the sender's read position forward",
///     example: {"conversationId": CONVERSATION, "seq": 7},
///     answered: ReadMark { seq: 7, unread: 0, advanced: true },
///     call: Chat::mark_read(socket),
/// }
/// ```
///
/// `permission` may be `None`. `limit` is a [`Class`], `room` a [`RoomRule`], and `argument` a
/// function of [`form`](super::commands::form). `example` is an argument, `answered` its answer.
///
/// `call` is the service method that handles the event, async or not. It takes the [`Allowed`]
/// payload, then what the parentheses name: the `socket` of the sender, its `namespace`, or its id
/// as the socket that the change comes `from`. It returns the answer, or a value that converts into
/// the answer. These are only names, which the gateway resolves. A row without `call` has a handler
/// there.
///
/// Three more labels may follow. `moderates` is a [`TargetKind`], for rows whose room rule names
/// `chat:moderate`. `serial: true` makes the event wait for earlier serial events of its
/// socket. `replaces: "event" since "2026-11-21"` replaces another event.
///
/// [`Allowed`]: crate::service::Allowed
macro_rules! events {
    ($($name:ident {
        event: $event:literal, payload: $payload:ty, answer: $answer:ty,
        permission: $permission:ident, limit: $class:ident, room: $room:ident, argument: $form:ident,
        does: $does:literal,
        example: $example:tt,
        answered: $answered:expr,
        $(call: $service:ident::$method:ident($($with:ident),*),)?
        $(moderates: $target:ident,)?
        $(serial: $serial:literal,)?
        $(replaces: $before:literal since $day:literal,)?
    })+) => {
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
                        moderates: $crate::service::rules::event::moderates!($($target)?),
                        is_serial: $crate::service::rules::event::is_serial!($($serial)?),
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

        /// All events of this feature that clients send.
        pub(in crate::service::rules) static EVENTS: &[&$crate::service::rules::event::EventPolicy] =
            &[$($name.policy()),+];

        /// Passes the rows with a `call` to the macro `forward` of the place that uses this one.
        #[allow(unused_macros, reason = "a feature may have no such row")]
        macro_rules! calls {
            () => {
                forward! { $($(
                    $name: $payload => $service::$method($($with),*);
                )?)+ }
            };
        }
        #[allow(unused_imports, reason = "a feature may have no such row")]
        pub(crate) use calls;
    };
}

pub(in crate::service::rules) use {argument_form, events, is_serial, moderates, permission};
