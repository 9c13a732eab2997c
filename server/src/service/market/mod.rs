//! Trades, signals, portfolios and prices: following and publishing them, and having trades executed.
//!
//! Each is a journal, in which the last entry of a trade, signal, portfolio or price is what it is now. Prices are told before they are stored. Nothing in this module may know
//! how trades are carried to a broker but `execution/executor`.

mod channels;
mod checks;
mod execution;
mod portfolio;
mod prices;
mod signal_access;
mod signals;
mod trades;
mod withdrawing;

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::auth::{Principal, outbound::OutboundFault};
use crate::config;
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
pub(crate) use execution::{Refused, Told};
use prices::Prices;
pub(crate) use prices::{PriceNews, PublishedPrices};
use roomcast::{JoinError, Room, Socket};
use signal_access::SignalAccess;

/// Trades, signals, portfolios and prices. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Market(Arc<MarketInner>);

struct MarketInner {
    journals: Journals,
    config: config::Market,
    execution: Execution,
    prices: Prices,
    /// What a subscription to trades includes, if subscriptions are bundled.
    bundled: Option<Notifications>,
    access: SignalAccess,
}

impl Market {
    /// Creates the market. With `bundled`, a subscription to trades includes the portfolio and these notifications.
    ///
    /// # Errors
    ///
    /// If the executor of trades cannot be one.
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

    /// Whether there can be an executor with these settings.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn check(config: &config::Market) -> Result<(), OutboundFault> {
        Execution::new(config).map(drop)
    }

    /// Gives a recovered socket, which is in its rooms again, snapshots where it has not been sent what it has missed: of
    /// portfolios, of which the newest is enough, and of journals that this server has not followed. Where there is none, the
    /// socket is told that it follows no longer.
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
                tracing::debug!(%error, room = room.as_str(), "no snapshot after a recovery");
                // Without a snapshot the socket would take the next update for the whole. Its client does not subscribe again
                // by itself, since it was recovered, and so is told that it has to.
                self.0.journals.unsubscribe(&room, socket, ended);
            }
        }
        self.renew_prices(socket).await;
    }

    /// What a socket follows here that is in a room; `None` if that is nothing of the market, or nobody knows what.
    pub(crate) fn followed(room: &Room, socket: &Socket, by: &Principal) -> Option<Followed> {
        if channels::is_room(room) {
            return channels::followed(socket, room);
        }
        Self::is_followable(room, by).then(|| Followed::Room(room.as_str().to_owned()))
    }

    /// Whether a socket of this user that has followed this at another server can follow it here.
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
        }
    }

    fn is_followable(room: &Room, by: &Principal) -> bool {
        *room == room_named(trades::KIND, &by.subject)
            || *room == room_named(portfolio::KIND, &by.subject)
            || channels::is_named(room)
            || prices::is_room(room)
    }

    /// Ends the subscriptions of a socket to channels of signals that its user, whose credentials were replaced, may no longer
    /// follow.
    pub(crate) fn reconsider(&self, socket: &Socket) {
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

    /// Lets a socket whose client was at another server follow again what it followed there, from a snapshot on.
    ///
    /// # Errors
    ///
    /// If something cannot be read, or the socket is in too many rooms.
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

/// What an entry is for those who follow or list it.
fn update<T: DeserializeOwned>(entry: &Entry) -> Option<Update<T>> {
    let revision = entry.revision;
    read(entry).map(|body| Update { body, revision })
}

/// Whether somebody asks for what is their own.
fn own(by: &Principal, user_id: &str) -> Result<(), ServiceError> {
    check_user_id("userId", user_id)?;
    if by.subject == user_id {
        return Ok(());
    }
    Err(ServiceError::Denied("only one's own"))
}
