//! Routes for market data: publishing with `/api/v1/trades`, `/signals`, `/portfolios`, `/prices`
//! and `/notifications`, and reading with `/api/v1/users/{id}/trades` and similar routes.

mod corrections;
mod withdrawals;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
};

use super::api::{Api, ApiError, By, IdempotentName, JsonBody, Operation, Parameters, Routes};
use super::forwarding::forward;
use crate::{
    auth::Permission,
    service::{
        PublishedPrices,
        emissions::{
            portfolio::{NewestPortfolio, Portfolio},
            signals::Signal,
            trades::Trade,
        },
        notification_events::{
            NotificationHistory, NotificationList, Notified, Notify, ReadNotificationHistory,
            ReadNotifications, WithdrawNotification, Withdrawals,
        },
        pages::{PageRequest, UpdatesRequest},
        portfolio::{PublishPortfolio, ReadPortfolio},
        prices::PublishPrices,
        signals::{PublishSignal, ReadSignals, SignalList},
        trades::{PublishTrade, ReadTrades, TradeList},
    },
};
/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    publishing()
        .merge(reading())
        .merge(corrections::routes())
        .merge(withdrawals::routes())
}

fn publishing() -> Routes<Api> {
    Routes::new()
        .on(
            Method::POST,
            "/trades",
            forward!(JsonBody(new): JsonBody<PublishTrade> => market.publish_trade(new, namespace)),
            Operation::new(
                "publishTrade",
                "Publishes a trade of a user, or its new state.",
                Permission::TradesPublish,
            )
            .publishes()
            .body::<PublishTrade>()
            .answer::<Trade>(200)
            .refuses(409),
        )
        .on(
            Method::POST,
            "/signals",
            signal,
            Operation::new(
                "publishSignal",
                "Publishes a signal, optionally in a channel.",
                Permission::SignalsPublish,
            )
            .publishes()
            .body::<PublishSignal>()
            .answer::<Signal>(200)
            .refuses(409),
        )
        .on(
            Method::POST,
            "/portfolios",
            forward!(JsonBody(new): JsonBody<PublishPortfolio> =>
                market.update_portfolio(new, namespace)),
            Operation::new(
                "publishPortfolio",
                "Publishes the current portfolio of a user.",
                Permission::PortfolioPublish,
            )
            .publishes()
            .body::<PublishPortfolio>()
            .body_bytes(PORTFOLIO_BYTES)
            .answer::<Portfolio>(200),
        )
        .on(
            Method::POST,
            "/prices",
            forward!(JsonBody(new): JsonBody<PublishPrices> =>
                market.publish_prices(new, namespace)),
            Operation::new(
                "publishPrices",
                "Publishes the last price of one symbol or of several.",
                Permission::PricesPublish,
            )
            .publishes()
            .body::<PublishPrices>()
            .body_bytes(PRICES_BYTES)
            .answer::<PublishedPrices>(200)
            .refuses(409),
        )
        .on(
            Method::POST,
            "/notifications",
            notification,
            Operation::new(
                "notify",
                "Sends a notification to one user or to several.",
                Permission::NotificationsPublish,
            )
            .publishes()
            .body::<Notify>()
            .body_bytes(USERS_BYTES)
            .answer::<Notified>(200)
            .refuses(409),
        )
        .on(
            Method::POST,
            "/notifications/withdraw",
            forward!(JsonBody(withdraw): JsonBody<WithdrawNotification> =>
                notifications.withdraw(withdraw, namespace)),
            Operation::new(
                "withdrawNotification",
                "Withdraws a notification from users who have not acknowledged it.",
                Permission::NotificationsPublish,
            )
            .body::<WithdrawNotification>()
            .body_bytes(USERS_BYTES)
            .answer::<Withdrawals>(200),
        )
}

fn reading() -> Routes<Api> {
    Routes::new()
        .on(
            Method::GET,
            "/users/{id}/trades",
            forward!(Path(user): Path<String>, Parameters(page): Parameters<UpdatesRequest> =>
                market.trades(ReadTrades { user, page })),
            Operation::new(
                "listTrades",
                "Lists the trades of a user, newest change first.",
                Permission::TradesRead,
            )
            .own_by_id("The id of the user.")
            .query::<UpdatesRequest>()
            .refuses(404)
            .answer::<TradeList>(200),
        )
        .on(
            Method::GET,
            "/signals",
            forward!(Parameters(query): Parameters<ReadSignals> => market.signals(query)),
            Operation::new(
                "listSignals",
                "Lists all signals or the signals of a channel, newest first.",
                Permission::SignalsRead,
            )
            .query::<ReadSignals>()
            .refuses(404)
            .answer::<SignalList>(200),
        )
        .on(
            Method::GET,
            "/users/{id}/portfolio",
            forward!(Path(user): Path<String> => market.portfolio(ReadPortfolio { user })),
            Operation::new(
                "readPortfolio",
                "Reads the current portfolio of a user.",
                Permission::PortfolioRead,
            )
            .own_by_id("The id of the user.")
            .answer::<NewestPortfolio>(200),
        )
        .on(
            Method::GET,
            "/users/{id}/notifications",
            forward!(Path(user): Path<String>, Parameters(page): Parameters<PageRequest> =>
                notifications.unacknowledged(ReadNotifications { user, page })),
            Operation::new(
                "listNotifications",
                "Lists the notifications that a user has not acknowledged, newest first.",
                Permission::NotificationsRead,
            )
            .own_by_id("The id of the user.")
            .query::<PageRequest>()
            .refuses(404)
            .answer::<NotificationList>(200),
        )
        .on(
            Method::GET,
            "/users/{id}/notifications/history",
            forward!(Path(user): Path<String>, Parameters(page): Parameters<PageRequest> =>
                notifications.history(ReadNotificationHistory { user, page })),
            Operation::new(
                "listNotificationHistory",
                "Lists the notifications that a user has acknowledged, newest acknowledgement first.",
                Permission::NotificationsRead,
            )
            .own_by_id("The id of the user.")
            .query::<PageRequest>()
            .refuses(404)
            .answer::<NotificationHistory>(200),
        )
}

async fn signal(
    State(at): State<Api>,
    Extension(by): By,
    under: Option<Extension<IdempotentName>>,
    JsonBody(mut new): JsonBody<PublishSignal>,
) -> Result<Json<Signal>, ApiError> {
    IdempotentName::fill_in(under, &mut new.signal_id);
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.market.publish_signal(allowed, &at.namespace()).await?,
    ))
}

async fn notification(
    State(at): State<Api>,
    Extension(by): By,
    under: Option<Extension<IdempotentName>>,
    JsonBody(mut new): JsonBody<Notify>,
) -> Result<Json<Notified>, ApiError> {
    IdempotentName::fill_in(under, &mut new.notification_id);
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.notifications.notify(allowed, &at.namespace()).await?,
    ))
}

/// Maximum bytes of a portfolio: a thousand positions with the longest symbols and numbers, and
/// spaces between them.
const PORTFOLIO_BYTES: usize = 384 << 10;
/// Maximum bytes of a thousand prices in their longest form.
const PRICES_BYTES: usize = 256 << 10;
/// Maximum bytes of a notification to a thousand users in its longest form.
pub(super) const USERS_BYTES: usize = 640 << 10;
