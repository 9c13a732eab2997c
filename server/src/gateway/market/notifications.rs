//! Events about notifications: following and acknowledging.

use std::future::ready;

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Notifications;
use crate::service::notification_events::{
    AckAllNotifications, AckNotification, NOTIFICATION_ACK, NOTIFICATION_ACK_ALL,
    NOTIFICATIONS_HISTORY, ReadOwnHistory, SUBSCRIBE_NOTIFICATIONS, SubscribeNotifications,
    UNSUBSCRIBE_NOTIFICATIONS, UnsubscribeNotifications,
};
use roomcast::{Event, State};

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue.namespace(|namespace| {
        namespace.on_connect(async |event: Event, notifications: State<Notifications>| {
            notifications.connected(&event.socket).await;
        })
    });
    catalogue
        .on_serial(
            &SUBSCRIBE_NOTIFICATIONS,
            async |call: Call<SubscribeNotifications>, notifications: State<Notifications>| {
                notifications.subscribe(call.allowed, &call.socket).await
            },
        )
        .on_serial(
            &UNSUBSCRIBE_NOTIFICATIONS,
            |call: Call<UnsubscribeNotifications>, notifications: State<Notifications>| {
                ready(Ok(notifications.unsubscribe(call.allowed, &call.socket)))
            },
        )
        .on(
            &NOTIFICATION_ACK,
            async |call: Call<AckNotification>, notifications: State<Notifications>| {
                notifications.acknowledge(call.allowed, &call.socket).await
            },
        )
        .on(
            &NOTIFICATION_ACK_ALL,
            async |call: Call<AckAllNotifications>, notifications: State<Notifications>| {
                let Call {
                    allowed, socket, ..
                } = call;
                notifications.acknowledge_all(allowed, &socket).await
            },
        )
        .on(
            &NOTIFICATIONS_HISTORY,
            async |call: Call<ReadOwnHistory>, notifications: State<Notifications>| {
                notifications.own_history(call.allowed).await
            },
        );
}
