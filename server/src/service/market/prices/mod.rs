//! Prices: published prices are sent to the followers of their symbol at a limited rate, and stored
//! concurrently. The publisher gets its response after they are stored.
//!
//! A task that changes prices or sends a snapshot holds the *permit*. This avoids gaps in
//! subscriptions: prices after the snapshot go to rooms that the socket has already joined.

mod applier;
mod storing;
mod table;
mod withdrawals;

use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;

use super::{Market, checks};
use crate::auth::Principal;
use crate::config;
use crate::metrics::{Inventoried, Inventory};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{Arriving, SubscriptionKind, is_withdrawal, join, read};
use crate::service::rules::bounds::{PRICES, SYMBOLS};
use crate::service::rules::commands::prices::{
    NewPrice, PublishPrices, SubscribePrices, UnsubscribePrices,
};
use crate::service::rules::emissions::prices::{
    LastPrices, PRICE_UPDATE, PRICES_SUBSCRIBED, PRICES_UNSUBSCRIBED, Price, PricesSubscribed,
    PricesUnsubscribed,
};
use crate::service::rules::rooms::{Followed, RoomKind, room_named};
use crate::store::{StoreError, Time};
pub(crate) use applier::PriceApplier;
use roomcast::{Namespace, Room, Socket, errors::JoinError};
use schemars::JsonSchema;
use table::{Awaited, PriceTable, PublishOutcome};

/// The known prices, and the locks for changing them.
pub(super) struct Prices {
    table: Mutex<PriceTable>,
    /// Its only permit orders changes of prices.
    permit: Semaphore,
    /// Signals that there are prices to store.
    unstored: Notify,
    /// Its only permit belongs to the task that stores prices.
    storing: Semaphore,
    /// Changes after each batch, whether stored or failed.
    rounds: watch::Sender<()>,
    /// The revision up to which the journal was read.
    applied: Mutex<u64>,
    interval: Duration,
    /// How long a price is known after its last publication.
    expiry: Duration,
}

/// The response to published prices.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PublishedPrices {
    /// The price, which is stored.
    One(Price),
    /// Several prices.
    Many {
        /// The number of accepted prices. The store has the newest of each symbol.
        accepted: usize,
    },
}

impl Prices {
    pub(super) fn new(config: &config::Market) -> Self {
        Self {
            table: Mutex::default(),
            permit: Semaphore::new(1),
            unstored: Notify::new(),
            storing: Semaphore::new(1),
            rounds: watch::Sender::default(),
            applied: Mutex::default(),
            interval: config.price_interval,
            expiry: config.symbol_expiry,
        }
    }

    async fn acquire(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let permit = timeout(STORE_TIMEOUT, self.permit.acquire()).await;
        // The semaphore is never closed.
        permit
            .map_err(|_| StoreError::TimedOut)?
            .map_err(|_| StoreError::Closed)
    }

    /// Sends the last prices of the symbols of rooms, without symbols that have none. The caller
    /// holds the permit.
    fn send_last(&self, rooms: &[Room], socket: &Socket) -> PricesSubscribed {
        let since = self.known_since();
        let prices: Vec<_> = {
            let table = self.table.lock();
            let symbols = rooms.iter().filter_map(|room| symbol_in(room.as_str()));
            let known = symbols.filter_map(|symbol| table.current(symbol, since));
            known.cloned().collect()
        };
        let subscribed = PricesSubscribed {
            rooms: names(rooms),
            snapshot: LastPrices { prices },
        };
        PRICES_SUBSCRIBED.emit_to(socket, &subscribed);
        subscribed
    }

    /// Sends a price to the followers of its symbol at this server.
    fn emit(&self, namespace: &Namespace, price: &Price) {
        let to = namespace.local().to(room_named(KIND, &price.symbol));
        PRICE_UPDATE.emit_every(self.interval, to, price);
    }
}

/// The topics are the symbols. There is no journal of each: prices are sent before they are stored,
/// and a snapshot has all symbols of a socket.
impl SubscriptionKind for Prices {
    fn followed(&self, room: &Room, _: &Socket, _: &Principal) -> Option<Followed> {
        is_room(room).then(|| Followed::Room(room.as_str().to_owned()))
    }

    fn follows(&self, followed: &Followed, _: &Principal) -> bool {
        matches!(followed, Followed::Room(room) if symbol_in(room).is_some())
    }

    /// Sends the last prices of its symbols to the socket, because missed prices are not replayed.
    fn recovered<'a>(&'a self, socket: &'a Socket) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut rooms = socket.rooms();
            rooms.retain(is_room);
            if rooms.is_empty() {
                return;
            }
            // If the permit does not become available in time, the snapshot is sent without it. The
            // content would be the same.
            let permit = self.acquire().await;
            self.send_last(&rooms, socket);
            drop(permit);
        })
    }

    fn arrive<'a>(&'a self, socket: &'a Socket, followed: &'a [Followed]) -> Arriving<'a> {
        Box::pin(async move {
            for one in followed {
                if let Followed::Room(room) = one
                    && symbol_in(room).is_some()
                {
                    join(socket, &Room::from(room.as_str()))?;
                }
            }
            self.recovered(socket).await;
            Ok(())
        })
    }
}

impl Market {
    /// Publishes prices, either all or none. The paper executor uses them from now on.
    ///
    /// When this returns, the store has these prices, or newer prices of their symbols.
    pub(crate) async fn publish_prices(
        &self,
        allowed: Allowed<PublishPrices>,
        namespace: &Namespace,
    ) -> Result<PublishedPrices, ServiceError> {
        let (_, new) = allowed.into_parts();
        match new {
            PublishPrices::One(new) => {
                check(&new, Time::now())?;
                let symbol = new.symbol.clone();
                let awaited = self.put_prices(vec![new], namespace).await?;
                self.0.prices.settled(awaited).await?;
                let known = self.0.prices.table.lock().get(&symbol).cloned();
                let not_found = ServiceError::NotFound("no price of the symbol is known");
                known.map(PublishedPrices::One).ok_or(not_found)
            }
            PublishPrices::Many { prices } => {
                let accepted = prices.len();
                if !(1..=PRICES).contains(&accepted) {
                    return Err(ServiceError::invalid("prices", "must be 1 to 1000"));
                }
                let now = Time::now();
                for (n, new) in prices.iter().enumerate() {
                    check(new, now).map_err(|error| error.within(&format!("prices[{n}]")))?;
                }
                let awaited = self.put_prices(prices, namespace).await?;
                self.0.prices.settled(awaited).await?;
                Ok(PublishedPrices::Many { accepted })
            }
        }
    }

    /// Applies prices and sends them to followers. Returns the prices that the store does not have
    /// yet.
    async fn put_prices(
        &self,
        input: Vec<NewPrice>,
        namespace: &Namespace,
    ) -> Result<Vec<Awaited>, ServiceError> {
        let prices = &self.0.prices;
        let permit = prices.acquire().await?;
        // Expired symbols free their slots before a new symbol is refused.
        if prices.table.lock().is_nearly_full(input.len()) {
            prices.expire(namespace);
        }
        // The permit provides the order. The table's lock is held only for the change, and never
        // across an await.
        let outcome = prices.table.lock().put(input, Time::now());
        let Ok(PublishOutcome { news, awaited }) = outcome else {
            return Err(ServiceError::Conflict(FULL));
        };
        // Prices are sent while holding the permit, in the order in which the table accepted them.
        news.iter().for_each(|price| prices.emit(namespace, price));
        drop(permit);
        prices.unstored.notify_one();
        Ok(awaited)
    }

    /// Subscribes a socket to the prices of symbols.
    pub(crate) async fn subscribe_prices(
        &self,
        allowed: Allowed<SubscribePrices>,
        socket: &Socket,
    ) -> Result<PricesSubscribed, ServiceError> {
        let (_, SubscribePrices { symbols }) = allowed.into_parts();
        let rooms = followed(symbols)?;
        let mut others = socket.rooms();
        others.retain(|room| is_room(room) && !rooms.contains(room));
        if others.len() + rooms.len() > MOST_FOLLOWED {
            return Err(ServiceError::Conflict("subscribed to too many symbols"));
        }
        let permit = self.0.prices.acquire().await?;
        // A price queued until the end of an interval is part of the snapshot, and must not arrive
        // before it.
        let subscribed = self.0.prices.send_last(&rooms, socket);
        let joined = socket.join(&rooms);
        drop(permit);
        match joined {
            Ok(()) | Err(JoinError::Disconnected) => Ok(subscribed),
            Err(_) => {
                // Some of the rooms may be joined, and the client was notified that all were.
                self.leave_prices(&rooms, socket);
                Err(ServiceError::Conflict("in too many rooms"))
            }
        }
    }

    /// Ends the subscription of a socket to symbols.
    pub(crate) fn unsubscribe_prices(
        &self,
        allowed: Allowed<UnsubscribePrices>,
        socket: &Socket,
    ) -> Result<PricesUnsubscribed, ServiceError> {
        let (_, UnsubscribePrices { symbols }) = allowed.into_parts();
        let rooms = followed(symbols)?;
        Ok(self.leave_prices(&rooms, socket))
    }

    fn leave_prices(&self, rooms: &[Room], socket: &Socket) -> PricesUnsubscribed {
        socket.leave(rooms);
        let unsubscribed = PricesUnsubscribed {
            rooms: names(rooms),
        };
        PRICES_UNSUBSCRIBED.emit_to(socket, &unsubscribed);
        unsubscribed
    }

    /// Returns the last published price of a symbol, or else the configured one.
    pub(super) async fn price(&self, symbol: &str) -> Result<Option<f64>, StoreError> {
        let (prices, since) = (&self.0.prices, self.0.prices.known_since());
        let known = prices.table.lock().current(symbol, since).cloned();
        let store = self.0.journals.store();
        // Another server can have stored a price that this server has not read yet.
        let stored = if store.is_shared() {
            store.journal_entry(JOURNAL, symbol).await?
        } else {
            None
        };
        let stored = stored.filter(|entry| entry.created_at >= since);
        let is_withdrawn = stored.as_ref().is_some_and(is_withdrawal);
        let known = known.filter(|_| !is_withdrawn);
        let newer = stored.as_ref().and_then(read::<Price>).filter(|stored| {
            let is_newer = |known: &Price| stored.timestamp >= known.timestamp;
            known.as_ref().is_none_or(is_newer)
        });
        let published = newer.or(known).map(|price| price.price);
        Ok(published.or_else(|| self.0.config.price(symbol)))
    }
}

fn check(new: &NewPrice, now: Time) -> Result<(), ServiceError> {
    checks::symbol("symbol", &new.symbol)?;
    checks::above_zero("price", new.price)?;
    checks::recent(new.timestamp, now)
}

/// Returns the rooms of the requested symbols, without duplicates.
fn followed(mut symbols: Vec<String>) -> Result<Vec<Room>, ServiceError> {
    if !(1..=SYMBOLS).contains(&symbols.len()) {
        return Err(ServiceError::invalid("symbols", "must be 1 to 100"));
    }
    for (n, symbol) in symbols.iter().enumerate() {
        checks::symbol(format!("symbols[{n}]"), symbol)?;
    }
    symbols.sort_unstable();
    symbols.dedup();
    let rooms = symbols.iter().map(|symbol| room_named(KIND, symbol));
    Ok(rooms.collect())
}

fn names(rooms: &[Room]) -> Vec<String> {
    rooms.iter().map(|room| room.as_str().to_owned()).collect()
}

/// Returns the symbol in the name of a room. Symbols are short enough that their rooms never have
/// hashed names.
fn symbol_in(room: &str) -> Option<&str> {
    room.strip_prefix(KIND)?.strip_prefix(':')
}

fn is_room(room: &Room) -> bool {
    symbol_in(room.as_str()).is_some()
}

const KIND: &str = RoomKind::Prices.prefix();
/// The journal of prices, in which symbols are keys.
const JOURNAL: &str = "prices";
const FULL: &str = "prices of too many symbols";
/// Maximum symbols that one socket follows. It is below the limit of conflated events queued for a
/// slow client, so that none is dropped.
const MOST_FOLLOWED: usize = 200;
/// The maximum wait for the permit.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

impl Inventoried for Prices {
    fn report(&self, inventory: &mut Inventory) {
        self.table.lock().report(inventory);
    }
}
