//! `/api/v1/trades`, `/signals`, `/portfolios`, `/prices` and `/notifications`: what services publish.

use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, State},
    handler::Handler as _,
    http::Method,
};

use super::api::{Api, ApiError, By, JsonBody, MadeUnder, Operation, Routes};
use crate::{
    auth::Permission,
    service::{
        PublishedPrices,
        emissions::{
            notifications::Notification, portfolio::Portfolio, signals::Signal, trades::Trade,
        },
        notification_events::Notify,
        portfolio::PublishPortfolio,
        prices::PublishPrices,
        signals::PublishSignal,
        trades::PublishTrade,
    },
};
/// The routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
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
            .answer::<Portfolio>(200),
        )
        .on(
            Method::POST,
            "/prices",
            prices.layer(DefaultBodyLimit::max(PRICES_BYTES)),
            Operation::new(
                "publishPrices",
                "Publishes the last price of a symbol, or those of many.",
                Permission::PricesPublish,
            )
            .body::<PublishPrices>()
            .answer::<PublishedPrices>(200)
            .refuses(409),
        )
        .on(
            Method::POST,
            "/notifications",
            notification,
            Operation::new(
                "notify",
                "Sends a user a notification.",
                Permission::NotificationsPublish,
            )
            .body::<Notify>()
            .answer::<Notification>(200)
            .refuses(409),
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
    under: Option<Extension<MadeUnder>>,
    JsonBody(mut new): JsonBody<PublishSignal>,
) -> Result<Json<Signal>, ApiError> {
    MadeUnder::fill_in(under, &mut new.signal_id);
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
    under: Option<Extension<MadeUnder>>,
    JsonBody(mut new): JsonBody<Notify>,
) -> Result<Json<Notification>, ApiError> {
    MadeUnder::fill_in(under, &mut new.notification_id);
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.notifications.notify(allowed, &at.namespace()).await?,
    ))
}

/// The body of a thousand prices, at their longest.
const PRICES_BYTES: usize = 256 << 10;
