//! Routes for market data: publishing with `/api/v1/trades`, `/signals`, `/portfolios`, `/prices`
//! and `/notifications`, and reading with `/api/v1/users/{id}/trades` and similar routes.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
};

use super::api::{Api, ApiError, By, IdempotentName, JsonBody, Operation, Parameters, Routes};
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
        pages::{AskedPage, AskedUpdates},
        portfolio::{PublishPortfolio, ReadPortfolio},
        prices::PublishPrices,
        signals::{PublishSignal, ReadSignals, SignalList},
        trades::{PublishTrade, ReadTrades, TradeList},
    },
};
/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    publishing().merge(reading())
}

fn publishing() -> Routes<Api> {
    Routes::new()
        .on(
            Method::POST,
            "/trades",
            trade,
            Operation::new(
                "publishTrade",
                "Publishes a trade of a user, or what has become of it.",
                Permission::TradesPublish,
            )
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
                "Publishes a signal, for everybody and a channel.",
                Permission::SignalsPublish,
            )
            .body::<PublishSignal>()
            .answer::<Signal>(200)
            .refuses(409),
        )
        .on(
            Method::POST,
            "/portfolios",
            portfolio,
            Operation::new(
                "publishPortfolio",
                "Publishes the portfolio of a user as it is now.",
                Permission::PortfolioPublish,
            )
            .body::<PublishPortfolio>()
            .body_bytes(PORTFOLIO_BYTES)
            .answer::<Portfolio>(200),
        )
        .on(
            Method::POST,
            "/prices",
            prices,
            Operation::new(
                "publishPrices",
                "Publishes the last price of a symbol, or those of many.",
                Permission::PricesPublish,
            )
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
                "Sends a user a notification, or many users the same.",
                Permission::NotificationsPublish,
            )
            .body::<Notify>()
            .body_bytes(USERS_BYTES)
            .answer::<Notified>(200)
            .refuses(409),
        )
        .on(
            Method::POST,
            "/notifications/withdraw",
            withdraw,
            Operation::new(
                "withdrawNotification",
                "Ends a notification that users have not acknowledged yet.",
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
            trades,
            Operation::new(
                "listTrades",
                "Lists the trades of a user, the newest change first.",
                Permission::TradesRead,
            )
            .own_by_id("The id of the user.")
            .query::<AskedUpdates>()
            .refuses(404)
            .answer::<TradeList>(200),
        )
        .on(
            Method::GET,
            "/signals",
            signals,
            Operation::new(
                "listSignals",
                "Lists all signals or those of a channel, the newest first.",
                Permission::SignalsRead,
            )
            .query::<ReadSignals>()
            .refuses(404)
            .answer::<SignalList>(200),
        )
        .on(
            Method::GET,
            "/users/{id}/portfolio",
            newest_portfolio,
            Operation::new(
                "readPortfolio",
                "Reads the portfolio of a user as it is now.",
                Permission::PortfolioRead,
            )
            .own_by_id("The id of the user.")
            .answer::<NewestPortfolio>(200),
        )
        .on(
            Method::GET,
            "/users/{id}/notifications",
            notifications,
            Operation::new(
                "listNotifications",
                "Lists the notifications that a user has not acknowledged, the newest first.",
                Permission::NotificationsRead,
            )
            .own_by_id("The id of the user.")
            .query::<AskedPage>()
            .refuses(404)
            .answer::<NotificationList>(200),
        )
        .on(
            Method::GET,
            "/users/{id}/notifications/history",
            notification_history,
            Operation::new(
                "listNotificationHistory",
                "Lists the notifications that a user has acknowledged, the newest acknowledgement first.",
                Permission::NotificationsRead,
            )
            .own_by_id("The id of the user.")
            .query::<AskedPage>()
            .refuses(404)
            .answer::<NotificationHistory>(200),
        )
}

async fn trade(
    State(at): State<Api>,
    Extension(by): By,
    JsonBody(new): JsonBody<PublishTrade>,
) -> Result<Json<Trade>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.market.publish_trade(allowed, &at.namespace()).await?,
    ))
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

async fn portfolio(
    State(at): State<Api>,
    Extension(by): By,
    JsonBody(new): JsonBody<PublishPortfolio>,
) -> Result<Json<Portfolio>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.market.update_portfolio(allowed, &at.namespace()).await?,
    ))
}

async fn prices(
    State(at): State<Api>,
    Extension(by): By,
    JsonBody(new): JsonBody<PublishPrices>,
) -> Result<Json<PublishedPrices>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.market.publish_prices(allowed, &at.namespace()).await?,
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

async fn withdraw(
    State(at): State<Api>,
    Extension(by): By,
    JsonBody(asked): JsonBody<WithdrawNotification>,
) -> Result<Json<Withdrawals>, ApiError> {
    let allowed = at.access.allow(by, asked)?;
    Ok(Json(
        at.notifications.withdraw(allowed, &at.namespace()).await?,
    ))
}

async fn trades(
    State(at): State<Api>,
    Extension(by): By,
    Path(user): Path<String>,
    Parameters(page): Parameters<AskedUpdates>,
) -> Result<Json<TradeList>, ApiError> {
    let allowed = at.access.allow(by, ReadTrades { user, page })?;
    Ok(Json(at.market.trades(allowed).await?))
}

async fn signals(
    State(at): State<Api>,
    Extension(by): By,
    Parameters(wanted): Parameters<ReadSignals>,
) -> Result<Json<SignalList>, ApiError> {
    let allowed = at.access.allow(by, wanted)?;
    Ok(Json(at.market.signals(allowed).await?))
}

async fn newest_portfolio(
    State(at): State<Api>,
    Extension(by): By,
    Path(user): Path<String>,
) -> Result<Json<NewestPortfolio>, ApiError> {
    let allowed = at.access.allow(by, ReadPortfolio { user })?;
    Ok(Json(at.market.portfolio(allowed).await?))
}

async fn notifications(
    State(at): State<Api>,
    Extension(by): By,
    Path(user): Path<String>,
    Parameters(page): Parameters<AskedPage>,
) -> Result<Json<NotificationList>, ApiError> {
    let allowed = at.access.allow(by, ReadNotifications { user, page })?;
    Ok(Json(at.notifications.unacknowledged(allowed).await?))
}

async fn notification_history(
    State(at): State<Api>,
    Extension(by): By,
    Path(user): Path<String>,
    Parameters(page): Parameters<AskedPage>,
) -> Result<Json<NotificationHistory>, ApiError> {
    let asked = ReadNotificationHistory { user, page };
    let allowed = at.access.allow(by, asked)?;
    Ok(Json(at.notifications.history(allowed).await?))
}

/// Maximum bytes of a portfolio: a thousand positions with the longest symbols and numbers, and
/// spaces between them.
const PORTFOLIO_BYTES: usize = 384 << 10;
/// Maximum bytes of a thousand prices in their longest form.
const PRICES_BYTES: usize = 256 << 10;
/// Maximum bytes of a notification to a thousand users in its longest form.
pub(super) const USERS_BYTES: usize = 640 << 10;
