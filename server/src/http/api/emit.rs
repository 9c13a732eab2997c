//! `/api/v1/emit`: publishes events of services.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::Method};

use serde::{Deserialize, de::DeserializeOwned};

use super::error::parse_within;
use super::{Api, ApiError, By, IdempotentName, JsonBody, MAX_BODY_BYTES, Operation, Routes};
use crate::{
    auth::{Permission, Principal},
    http::market::USERS_BYTES,
    service::{
        Allowed, Command, ServiceError,
        api::{Emission, Emit, followed, publish},
        notification_events::Notify,
        portfolio::PublishPortfolio,
        prices::PublishPrices,
        signals::PublishSignal,
        trades::PublishTrade,
    },
};
/// Returns the route, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    Routes::new().on(
        Method::POST,
        "/emit",
        emit,
        Operation::new(
            "emit",
            "Publishes an event to rooms, users or all sockets, and collects acknowledgements.",
            Permission::ApiEmit,
        )
        .needs_by_body(of_event)
        .body::<Emit>()
        .body_bytes(MOST_BYTES)
        .answer::<Emission>(200)
        .refuses(409),
    )
}

/// Returns the additional permission of an event that has its own route: the permission of that
/// route.
fn of_event(body: &[u8]) -> Option<Permission> {
    #[derive(Deserialize)]
    struct Event {
        event: String,
    }
    let Event { event } = serde_json::from_slice(body).ok()?;
    match event.as_str() {
        "trade:update" => PublishTrade::PERMISSION,
        "signal:new" => PublishSignal::PERMISSION,
        "portfolio:update" => PublishPortfolio::PERMISSION,
        "price:update" => PublishPrices::PERMISSION,
        "notification:new" => Notify::PERMISSION,
        _ => None,
    }
}

async fn emit(
    State(at): State<Api>,
    Extension(by): By,
    under: Option<Extension<IdempotentName>>,
    JsonBody(event): JsonBody<Emit>,
) -> Result<Json<Emission>, ApiError> {
    let Api {
        market,
        notifications,
        ..
    } = &at;
    let namespace = at.namespace();
    let name = event.event.clone();
    let bytes: usize = event.args.iter().map(|argument| argument.get().len()).sum();
    let allowed = at.access.allow(Arc::clone(&by), event)?;
    let inner = |error: ServiceError| error.within(ARGUMENT);
    let published = match name.as_str() {
        "trade:update" => {
            let trade = market.publish_trade(at.also(&allowed, by, |_| ())?, &namespace);
            Emission::published(&trade.await.map_err(inner)?)
        }
        "signal:new" => {
            let named =
                |new: &mut PublishSignal| IdempotentName::fill_in(under, &mut new.signal_id);
            let signal = market.publish_signal(at.also(&allowed, by, named)?, &namespace);
            Emission::published(&signal.await.map_err(inner)?)
        }
        "portfolio:update" => {
            let portfolio = market.update_portfolio(at.also(&allowed, by, |_| ())?, &namespace);
            Emission::published(&portfolio.await.map_err(inner)?)
        }
        "price:update" => {
            let prices = market.publish_prices(at.also(&allowed, by, |_| ())?, &namespace);
            Emission::published(&prices.await.map_err(inner)?)
        }
        "notification:new" => {
            let named = |new: &mut Notify| IdempotentName::fill_in(under, &mut new.notification_id);
            let notification = notifications.notify(at.also(&allowed, by, named)?, &namespace);
            Emission::published(&notification.await.map_err(inner)?)
        }
        // Only events with their own route may exceed the general limit.
        _ if bytes > MAX_BODY_BYTES => return Err(ApiError::too_large()),
        _ => publish(at.io(), allowed).await?,
    };
    Ok(Json(published))
}

impl Api {
    /// Returns the argument of an event that has its own route, as the command of that route.
    /// `name` sets an id as that route does. The caller needs the permission of that route as well.
    fn also<T: Command + DeserializeOwned>(
        &self,
        event: &Allowed<Emit>,
        by: Arc<Principal>,
        name: impl FnOnce(&mut T),
    ) -> Result<Allowed<T>, ApiError> {
        let argument = followed(event)?;
        let mut command = parse_within(ARGUMENT, argument.get())?;
        name(&mut command);
        Ok(self.access.allow(by, command)?)
    }
}

/// Maximum bytes of a body: the largest body of another route, plus the surrounding event.
const MOST_BYTES: usize = USERS_BYTES + (1 << 10);
/// The path of the argument that is the body of another route.
const ARGUMENT: &str = "args[0]";
