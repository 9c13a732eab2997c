//! `/api/v1/trades`, `/signals`, `/portfolios`, `/prices` and `/notifications`: what services publish.

use std::sync::Arc;

use axum::{Extension, Json, Router, extract::State, routing::post};
use serde::Serialize;

use super::api::{ApiError, JsonBody};
use crate::{
    auth::Principal,
    service::{
        Access, Market, Notifications, notification_events::Notify, portfolio::PublishPortfolio,
        signals::PublishSignal, trades::PublishTrade, trades::UpdatePrice,
    },
};
use roomcast::Io;

/// The routes, below `/api/v1`.
pub(crate) fn routes(
    market: Market,
    notifications: Notifications,
    access: Access,
    io: Io,
) -> Router {
    Router::new()
        .route("/trades", post(trade))
        .route("/signals", post(signal))
        .route("/portfolios", post(portfolio))
        .route("/prices", post(price))
        .route("/notifications", post(notification))
        .with_state(MarketApi {
            market,
            notifications,
            access,
            io,
        })
}

#[derive(Clone)]
struct MarketApi {
    market: Market,
    notifications: Notifications,
    access: Access,
    io: Io,
}

type By = Extension<Arc<Principal>>;

async fn trade(
    State(at): State<MarketApi>,
    Extension(by): By,
    JsonBody(new): JsonBody<PublishTrade>,
) -> Result<Json<impl Serialize>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.market.publish_trade(allowed, &at.io.of("/")).await?,
    ))
}

async fn signal(
    State(at): State<MarketApi>,
    Extension(by): By,
    JsonBody(new): JsonBody<PublishSignal>,
) -> Result<Json<impl Serialize>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.market.publish_signal(allowed, &at.io.of("/")).await?,
    ))
}

async fn portfolio(
    State(at): State<MarketApi>,
    Extension(by): By,
    JsonBody(new): JsonBody<PublishPortfolio>,
) -> Result<Json<impl Serialize>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.market.update_portfolio(allowed, &at.io.of("/")).await?,
    ))
}

async fn price(
    State(at): State<MarketApi>,
    Extension(by): By,
    JsonBody(new): JsonBody<UpdatePrice>,
) -> Result<Json<impl Serialize>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(at.market.update_price(allowed, &at.io.of("/")).await?))
}

async fn notification(
    State(at): State<MarketApi>,
    Extension(by): By,
    JsonBody(new): JsonBody<Notify>,
) -> Result<Json<impl Serialize>, ApiError> {
    let allowed = at.access.allow(by, new)?;
    Ok(Json(
        at.notifications.notify(allowed, &at.io.of("/")).await?,
    ))
}
