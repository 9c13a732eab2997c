//! `PUT /api/v1/signals/{id}` and so on: services correct what they have published.

use axum::{extract::Path, http::Method};

use crate::http::api::{Api, JsonBody, Operation, Routes};
use crate::http::forwarding::forward;
use crate::service::bounds::{NotificationId, ServiceName, UserId};
use crate::{
    auth::Permission,
    service::{
        corrections::{CorrectNotification, CorrectSignal, CorrectTrade},
        emissions::{
            notifications::Notification, published::Update, signals::Signal, trades::Trade,
        },
        notification_events::Notify,
        signals::PublishSignal,
        trades::PublishTrade,
    },
};

/// The routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    Routes::new()
        .on(
            Method::PUT,
            "/signals/{id}",
            forward!(Path(signal_id): Path<String>, JsonBody(signal): JsonBody<PublishSignal> =>
                market.correct_signal(CorrectSignal { signal_id, signal }, namespace)),
            Operation::new(
                "correctSignal",
                "Replaces the content of a signal, but not its channel.",
                Permission::SignalsPublish,
            )
            .segment::<ServiceName>("id", "The id of the signal.")
            .body::<PublishSignal>()
            .answer::<Update<Signal>>(200)
            .refuses(404)
            .refuses(409),
        )
        .on(
            Method::PUT,
            "/users/{id}/trades/{tradeId}",
            forward!(Path((user, trade_id)): Path<(String, String)>,
                JsonBody(trade): JsonBody<PublishTrade> =>
                market.correct_trade(CorrectTrade { user, trade_id, trade }, namespace)),
            Operation::new(
                "correctTrade",
                "Replaces a trade of a user that is not executed.",
                Permission::TradesPublish,
            )
            .segment::<UserId>("id", "The id of the user.")
            .segment::<ServiceName>("tradeId", "The id of the trade.")
            .body::<PublishTrade>()
            .answer::<Update<Trade>>(200)
            .refuses(404)
            .refuses(409),
        )
        .on(
            Method::PUT,
            "/users/{id}/notifications/{notificationId}",
            forward!(Path((user, notification_id)): Path<(String, String)>,
                JsonBody(notification): JsonBody<Notify> =>
                notifications.correct(
                    CorrectNotification { user, notification_id, notification }, namespace)),
            Operation::new(
                "correctNotification",
                "Replaces the content of a notification that its user has not acknowledged.",
                Permission::NotificationsPublish,
            )
            .segment::<UserId>("id", "The id of the user.")
            .segment::<NotificationId>("notificationId", "The id of the notification.")
            .body::<Notify>()
            .answer::<Update<Notification>>(200)
            .refuses(404)
            .refuses(409),
        )
}
