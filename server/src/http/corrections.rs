//! `PUT /api/v1/signals/{id}` and so on: services correct what they have published.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
};

use super::api::{Api, ApiError, By, JsonBody, Operation, Routes};
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
            signal,
            Operation::new(
                "correctSignal",
                "Replaces the content of a signal. Its channel stays.",
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
            trade,
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
            notification,
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

async fn signal(
    State(at): State<Api>,
    Extension(by): By,
    Path(signal_id): Path<String>,
    JsonBody(signal): JsonBody<PublishSignal>,
) -> Result<Json<Update<Signal>>, ApiError> {
    let allowed = at.access.allow(by, CorrectSignal { signal_id, signal })?;
    let corrected = at.market.correct_signal(allowed, &at.namespace()).await?;
    Ok(Json(corrected))
}

async fn trade(
    State(at): State<Api>,
    Extension(by): By,
    Path((user, trade_id)): Path<(String, String)>,
    JsonBody(trade): JsonBody<PublishTrade>,
) -> Result<Json<Update<Trade>>, ApiError> {
    let command = CorrectTrade {
        user,
        trade_id,
        trade,
    };
    let allowed = at.access.allow(by, command)?;
    let corrected = at.market.correct_trade(allowed, &at.namespace()).await?;
    Ok(Json(corrected))
}

async fn notification(
    State(at): State<Api>,
    Extension(by): By,
    Path((user, notification_id)): Path<(String, String)>,
    JsonBody(notification): JsonBody<Notify>,
) -> Result<Json<Update<Notification>>, ApiError> {
    let command = CorrectNotification {
        user,
        notification_id,
        notification,
    };
    let allowed = at.access.allow(by, command)?;
    let corrected = at.notifications.correct(allowed, &at.namespace()).await?;
    Ok(Json(corrected))
}
