//! Trades, signals, portfolios and prices: following, publishing and executing.
//!
//! Each is a journal in which the last entry of a key is its current state. Prices are sent before
//! they are stored. Only `execution/executor` may depend on how trades are transported to a broker.

mod channels;
mod checks;
mod correcting;
mod execution;
mod portfolio;
mod prices;
mod signal_access;
mod signals;
mod trades;
mod withdrawals;

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::auth::{Principal, outbound::OutboundFault};
use crate::config;
use crate::metrics::{Inventoried, Inventory};
use crate::service::fault::ServiceError;
use crate::service::journals::{Journals, read};
use crate::service::notifications::Notifications;
use crate::service::rules::content::check_user_id;
use crate::service::rules::emissions::portfolio::PORTFOLIO_UNSUBSCRIBED;
use crate::service::rules::emissions::published::Update;
use crate::service::rules::emissions::signals::SIGNALS_UNSUBSCRIBED;
use crate::service::rules::emissions::trades::TRADES_UNSUBSCRIBED;
use crate::service::rules::rooms::{Followed, room_named};
use crate::store::Entry;
use execution::Execution;
pub(crate) use execution::{Refused, TradeReply};
use prices::Prices;
pub(crate) use prices::{PriceApplier, PublishedPrices};
use roomcast::{Room, Socket, errors::JoinError};
use signal_access::SignalAccess;

/// Trades, signals, portfolios and prices. Clones share the same state.
#[derive(Clone)]
pub(crate) struct Market(Arc<MarketInner>);

struct MarketInner {
    journals: Journals,
    config: config::Market,
    execution: Execution,
    prices: Prices,
    /// The notifications that subscriptions to trades include, if subscriptions are bundled.
    bundled: Option<Notifications>,
    access: SignalAccess,
}

impl Market {
    /// Creates the market. With `bundled`, a subscription to trades includes the portfolio and
    /// these notifications.
    ///
    /// # Errors
    ///
    /// If the settings of the trade executor are invalid.
    pub(crate) fn new(
        journals: Journals,
        bundled: Option<Notifications>,
        config: &config::Market,
    ) -> Result<Self, OutboundFault> {
        Ok(Self(Arc::new(MarketInner {
            journals,
            config: config.clone(),
            execution: Execution::new(config)?,
            prices: Prices::new(config),
            bundled,
            access: SignalAccess::new(config),
        })))
    }

    /// Checks the settings of the trade executor.
    ///
    /// # Errors
    ///
    /// If they are invalid.
    pub(crate) fn check(config: &config::Market) -> Result<(), OutboundFault> {
        Execution::new(config).map(drop)
    }

    /// Sends snapshots to a recovered socket for subscriptions whose missed updates were not
    /// replayed.
    ///
    /// These are portfolios, of which the newest state is enough, and journals that this server did
    /// not follow. If a snapshot fails, the subscription ends and the client is notified.
    pub(crate) async fn recovered(&self, socket: &Socket) {
        let by = socket.principal();
        for room in socket.rooms() {
            let (again, ended) = if room == room_named(trades::KIND, &by.subject) {
                let again = self.renew_trades(&room, socket, &by).await;
                (again, &TRADES_UNSUBSCRIBED)
            } else if room == room_named(portfolio::KIND, &by.subject) {
                let again = self.renew_portfolio(socket, &by).await;
                (again, &PORTFOLIO_UNSUBSCRIBED)
            } else if channels::is_room(&room) {
                let again = self.renew_signals(&room, socket).await;
                (again, &SIGNALS_UNSUBSCRIBED)
            } else {
                continue;
            };
            if let Err(error) = again {
                tracing::debug!(%error, room = room.as_str(), "could not send a snapshot to a recovered socket, it is unsubscribed");
                // Without a snapshot, the socket would take the next update for the whole state. A
                // recovered client does not subscribe again by itself, so it is notified.
                self.0.journals.unsubscribe(&room, socket, ended);
            }
        }
        self.renew_prices(socket).await;
    }

    /// Returns the market subscription of a socket for a room, or `None` if the room is another one
    /// or its channel is unknown.
    pub(crate) fn followed(room: &Room, socket: &Socket, by: &Principal) -> Option<Followed> {
        if channels::is_room(room) {
            return channels::followed(socket, room);
        }
        Self::is_followable(room, by).then(|| Followed::Room(room.as_str().to_owned()))
    }

    /// Returns whether a user's socket may continue a subscription from another server.
    pub(crate) fn follows(&self, followed: &Followed, by: &Principal) -> bool {
        let access = &self.0.access;
        match followed {
            Followed::Channel { signals } => access.allows(by, Some(signals)),
            Followed::Room(room) => {
                let room = Room::from(room.as_str());
                let is_open = !channels::is_room(&room)
                    || access.allows(by, channels::channel_in(&room).as_deref());
                is_open && Self::is_followable(&room, by)
            }
            Followed::Declared { .. } => false,
        }
    }

    fn is_followable(room: &Room, by: &Principal) -> bool {
        *room == room_named(trades::KIND, &by.subject)
            || *room == room_named(portfolio::KIND, &by.subject)
            || channels::is_named(room)
            || prices::is_room(room)
    }

    /// Ends subscriptions to channels that the user may no longer follow, after the credentials of
    /// the socket were replaced.
    pub(crate) fn recheck_permissions(&self, socket: &Socket) {
        if self.0.access.is_open() {
            return;
        }
        let by = socket.principal();
        for room in socket.rooms().iter().filter(|room| channels::is_room(room)) {
            let channel = channels::channel_of(socket, room);
            let is_allowed =
                channel.is_ok_and(|channel| self.0.access.allows(&by, channel.as_deref()));
            if !is_allowed {
                channels::forget(socket, room);
                let journals = &self.0.journals;
                journals.unsubscribe(room, socket, &SIGNALS_UNSUBSCRIBED);
            }
        }
    }

    /// Restores the subscriptions of a client that moved here from another server, starting with a
    /// snapshot.
    ///
    /// # Errors
    ///
    /// If the journals cannot be read, or the socket is in too many rooms.
    pub(crate) async fn arrive(
        &self,
        socket: &Socket,
        followed: &[Followed],
    ) -> Result<(), ServiceError> {
        let by = socket.principal();
        for one in followed.iter().filter(|one| self.follows(one, &by)) {
            let room = match one {
                Followed::Channel { signals } => {
                    self.follow_channel(signals, socket).await?;
                    continue;
                }
                Followed::Room(room) => Room::from(room.as_str()),
                Followed::Declared { .. } => continue,
            };
            if room == room_named(trades::KIND, &by.subject) {
                self.follow_trades(socket, &by, None).await?;
            } else if room == room_named(portfolio::KIND, &by.subject) {
                self.renew_portfolio(socket, &by).await?;
            } else if channels::is_named(&room) {
                self.follow_room_of_signals(&room, socket).await?;
            } else if let Err(JoinError::NameTooLong | JoinError::TooManyRooms) = socket.join(&room)
            {
                return Err(ServiceError::Conflict("in too many rooms"));
            }
        }
        self.renew_prices(socket).await;
        Ok(())
    }
}

/// Converts an entry into the update that clients receive.
fn update<T: DeserializeOwned>(entry: &Entry) -> Option<Update<T>> {
    let revision = entry.revision;
    read(entry).map(|body| Update { body, revision })
}

/// Checks that a user requests only their own data.
fn own(by: &Principal, user_id: &str) -> Result<(), ServiceError> {
    check_user_id("userId", user_id)?;
    if by.subject == user_id {
        return Ok(());
    }
    Err(ServiceError::Denied("only one's own"))
}

impl Inventoried for Market {
    fn report(&self, inventory: &mut Inventory) {
        self.0.prices.report(inventory);
        self.0.execution.report(inventory);
    }
}
