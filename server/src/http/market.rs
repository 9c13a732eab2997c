//! `/api/v1/trades`, `/signals`, `/portfolios`, `/prices` and `/notifications`: what services publish.

use axum::{Extension, Json, extract::State, http::Method};

use super::api::{Api, ApiError, By, JsonBody, MadeUnder, Operation, Routes};
use crate::{
    auth::Permission,
    service::{
        Price,
        emissions::{
            notifications::Notification, portfolio::Portfolio, signals::Signal, trades::Trade,
        },
        notification_events::Notify,
        portfolio::PublishPortfolio,
        signals::PublishSignal,
        trades::{PublishTrade, UpdatePrice},
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
            price,
            Operation::new(
                "publishPrice",
                "Publishes the last price of a symbol.",
                Permission::PricesPublish,
            )
            .body::<UpdatePrice>()
            .answer::<Price>(200),
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

async fn price(
    State(at): State<Api>,
    Extension(by): By,
    JsonBody(new): JsonBody<UpdatePrice>,
) -> Result<Json<Price>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.market.update_price(allowed, &at.namespace()).await?,
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
