//! Events that only call a method of a service. Their handlers are derived from the rows.

use std::future::{Ready, ready};

use super::catalogue::{Call, Catalogue};
use crate::service::api::Admin;
use crate::service::{Channels, Chat, Market, Notifications, Payload, ServiceError};
use roomcast::State;

/// The result of a service method: its answer, or a future of it if it `WAITS`.
trait Returned<const WAITS: bool> {
    type Future: Future;

    fn future(self) -> Self::Future;
}

impl<A> Returned<false> for Result<A, ServiceError> {
    type Future = Ready<Self>;

    fn future(self) -> Ready<Self> {
        ready(self)
    }
}

impl<F: Future> Returned<true> for F {
    type Future = F;

    fn future(self) -> F {
        self
    }
}

/// Registers the rows of a feature that have a `call`. The rows pass themselves to this macro.
macro_rules! forward {
    ($($row:ident: $payload:ty => $service:ident::$method:ident($($with:ident),*);)*) => {
        pub(super) fn register(catalogue: &mut Catalogue) {
            $(catalogue.on(&$row, async |call: Call<$payload>, service: State<$service>| {
                let answer = service
                    .$method(call.allowed $(, argument!($with, call.socket))*)
                    .future()
                    .await;
                answer.map(<$payload as Payload>::Answer::from)
            });)*
        }
    };
}

/// Expands to the argument that a `call` names.
macro_rules! argument {
    (socket, $socket:expr) => {
        &$socket
    };
    (namespace, $socket:expr) => {
        &$socket.namespace()
    };
    (from, $socket:expr) => {
        $socket.id().into()
    };
}

/// Defines functions that register the events of features.
macro_rules! features {
    ($($(#[$doc:meta])* $register:ident: $($feature:ident)+;)+) => {
        $(
            $(mod $feature {
                use super::*;
                use crate::service::$feature::*;

                crate::service::$feature::calls!();
            })+

            $(#[$doc])*
            pub(super) fn $register(catalogue: &mut Catalogue) {
                $($feature::register(catalogue);)+
            }
        )+
    };
}

features! {
    /// Registers the events of the chat, of the market and of channels.
    register: attendance channel_events conversations history invites members messages streams
        notification_events portfolio prices signals trades;
    /// Registers the events of admins.
    register_admin: admin;
}
