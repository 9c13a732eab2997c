//! Prices: what services publish is sent to those who follow its symbol, at a pace, and stored at the same time. The publishing
//! service gets its answer when the store has it.
//!
//! Whoever takes prices, or tells somebody what they are, has the *turn* meanwhile, so that a subscription has no gap: what comes after its
//! snapshot is told to the rooms that it has joined by then.

mod ends;
mod keeping;
mod news;
mod table;

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;

use super::{Market, checks};
use crate::config;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{is_withdrawal, read};
use crate::service::rules::bounds::{PRICES, SYMBOLS};
use crate::service::rules::commands::prices::{
    NewPrice, PublishPrices, SubscribePrices, UnsubscribePrices,
};
use crate::service::rules::emissions::prices::{
    LastPrices, PRICE_UPDATE, PRICES_SUBSCRIBED, PRICES_UNSUBSCRIBED, Price, PricesSubscribed,
    PricesUnsubscribed,
};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{StoreError, Time};
pub(crate) use news::PriceNews;
use roomcast::{JoinError, Namespace, Room, Socket};
use schemars::JsonSchema;
use table::{Awaited, Given, Table, Taken};

/// What is known of prices, and who may change it.
pub(super) struct Prices {
    table: Mutex<Table>,
    /// The one permit is the turn.
    turn: Semaphore,
    /// There is something to be stored.
    given: Notify,
    /// The one permit is of who stores.
    storing: Semaphore,
    /// Changes after each batch that was stored, or could not be stored.
    rounds: watch::Sender<()>,
    /// The revision up to which the journal was read.
    heard: Mutex<u64>,
    interval: Duration,
    /// How long after its last publication a price is known.
    expiry: Duration,
}

/// What was published.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PublishedPrices {
    /// The price, which is stored.
    One(Price),
    /// How many there were.
    Many {
        /// How many prices were taken. The store has the newest of each symbol.
        accepted: usize,
    },
}

impl Prices {
    pub(super) fn new(config: &config::Market) -> Self {
        Self {
            table: Mutex::default(),
            turn: Semaphore::new(1),
            given: Notify::new(),
            storing: Semaphore::new(1),
            rounds: watch::Sender::default(),
            heard: Mutex::default(),
            interval: config.price_interval,
            expiry: config.symbol_expiry,
        }
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let turn = timeout(PATIENCE, self.turn.acquire()).await;
        // Nobody closes the semaphore.
        turn.map_err(|_| StoreError::TimedOut)?
            .map_err(|_| StoreError::Closed)
    }

    /// The last prices of symbols, as far as there are any.
    fn last(&self, symbols: &[String]) -> LastPrices {
        let (table, since) = (self.table.lock(), self.known_since());
        let current = |symbol: &String| table.current(symbol, since);
        let prices = symbols.iter().filter_map(current);
        LastPrices {
            prices: prices.cloned().collect(),
        }
    }

    /// Tells a price to those who follow its symbol at this server.
    fn tell(&self, namespace: &Namespace, price: &Price) {
        let to = namespace.local().to(room_named(KIND, &price.symbol));
        PRICE_UPDATE.emit_every(self.interval, to, price);
    }
}

impl Market {
    /// Publishes prices, all of them or none. The paper executor fills at them from now on. When this returns, the store has them, or
    /// newer prices of their symbols.
    pub(crate) async fn publish_prices(
        &self,
        allowed: Allowed<PublishPrices>,
        namespace: &Namespace,
    ) -> Result<PublishedPrices, ServiceError> {
        let (_, new) = allowed.into_parts();
        match new {
            PublishPrices::One(new) => {
                let given = checked(new, Time::now())?;
                let symbol = given.symbol.clone();
                let awaited = self.take_prices(vec![given], namespace).await?;
                self.0.prices.settled(awaited).await?;
                let known = self.0.prices.table.lock().get(&symbol).cloned();
                let gone = ServiceError::NotFound("no price of the symbol is known");
                known.map(PublishedPrices::One).ok_or(gone)
            }
            PublishPrices::Many { prices } => {
                let accepted = prices.len();
                if !(1..=PRICES).contains(&accepted) {
                    return Err(ServiceError::invalid("prices", "must be 1 to 1000"));
                }
                let now = Time::now();
                let within = |(n, new): (usize, NewPrice)| {
                    checked(new, now).map_err(|error| error.within(&format!("prices[{n}]")))
                };
                let given: Result<_, _> = prices.into_iter().enumerate().map(within).collect();
                let awaited = self.take_prices(given?, namespace).await?;
                self.0.prices.settled(awaited).await?;
                Ok(PublishedPrices::Many { accepted })
            }
        }
    }

    /// Takes prices, and sends them to those who follow them. Returns what the store does not have yet.
    async fn take_prices(
        &self,
        given: Vec<Given>,
        namespace: &Namespace,
    ) -> Result<Vec<Awaited>, ServiceError> {
        let prices = &self.0.prices;
        let turn = prices.turn().await?;
        // Symbols that have expired make room before a new one is refused.
        if prices.table.lock().is_nearly_full(given.len()) {
            prices.expire(namespace);
        }
        // The turn is what orders; the lock of the table is held for the change alone and never
        // across an await.
        let taken = prices.table.lock().put(given, Time::now());
        let Ok(Taken { news, awaited }) = taken else {
            return Err(ServiceError::Conflict(FULL));
        };
        // Prices are told within the turn, and in the order in which the table has taken them.
        news.iter().for_each(|price| prices.tell(namespace, price));
        drop(turn);
        prices.given.notify_one();
        Ok(awaited)
    }

    /// Lets a socket follow the prices of symbols.
    pub(crate) async fn subscribe_prices(
        &self,
        allowed: Allowed<SubscribePrices>,
        socket: &Socket,
    ) -> Result<PricesSubscribed, ServiceError> {
        let (_, SubscribePrices { symbols }) = allowed.into_parts();
        let (symbols, rooms) = followed(symbols)?;
        let mut others = socket.rooms();
        others.retain(|room| is_room(room) && !rooms.contains(room));
        if others.len() + rooms.len() > MOST_FOLLOWED {
            return Err(ServiceError::Conflict("subscribed to too many symbols"));
        }
        let turn = self.0.prices.turn().await?;
        let subscribed = PricesSubscribed {
            rooms: names(&rooms),
            snapshot: self.0.prices.last(&symbols),
        };
        // A price that waits for the end of an interval is in the snapshot, and must not come
        // before that.
        PRICES_SUBSCRIBED.emit_to(socket, &subscribed);
        let joined = socket.join(&rooms);
        drop(turn);
        match joined {
            Ok(()) | Err(JoinError::Disconnected) => Ok(subscribed),
            Err(_) => {
                // A part of the rooms may have been joined, and the client has been told that all
                // were.
                self.leave_prices(&rooms, socket);
                Err(ServiceError::Conflict("in too many rooms"))
            }
        }
    }

    /// Lets a socket follow the prices of symbols no longer.
    pub(crate) fn unsubscribe_prices(
        &self,
        allowed: Allowed<UnsubscribePrices>,
        socket: &Socket,
    ) -> Result<PricesUnsubscribed, ServiceError> {
        let (_, UnsubscribePrices { symbols }) = allowed.into_parts();
        let (_, rooms) = followed(symbols)?;
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

    /// Gives a recovered socket the last prices of what it follows, since it was not sent what it has missed.
    pub(super) async fn renew_prices(&self, socket: &Socket) {
        let mut rooms = socket.rooms();
        rooms.retain(is_room);
        if rooms.is_empty() {
            return;
        }
        // The turn makes no difference to what is sent, so a turn that does not come in time is
        // done without.
        let turn = self.0.prices.turn().await;
        let symbols: Vec<_> = rooms.iter().filter_map(symbol_of).collect();
        let subscribed = PricesSubscribed {
            rooms: names(&rooms),
            snapshot: self.0.prices.last(&symbols),
        };
        PRICES_SUBSCRIBED.emit_to(socket, &subscribed);
        drop(turn);
    }

    /// The last price of a symbol that was published, else the configured one.
    pub(super) async fn price(&self, symbol: &str) -> Result<Option<f64>, StoreError> {
        let (prices, since) = (&self.0.prices, self.0.prices.known_since());
        let known = prices.table.lock().current(symbol, since).cloned();
        let store = self.0.journals.store();
        // Another server may have stored one of which this one has not heard yet.
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

fn checked(new: NewPrice, now: Time) -> Result<Given, ServiceError> {
    checks::symbol("symbol", &new.symbol)?;
    checks::above_zero("price", new.price)?;
    checks::recent(new.timestamp, now)?;
    Ok(Given {
        symbol: new.symbol,
        price: new.price,
        timestamp: new.timestamp,
    })
}

/// The symbols that somebody names, each once, and their rooms.
fn followed(mut symbols: Vec<String>) -> Result<(Vec<String>, Vec<Room>), ServiceError> {
    if !(1..=SYMBOLS).contains(&symbols.len()) {
        return Err(ServiceError::invalid("symbols", "must be 1 to 100"));
    }
    for (n, symbol) in symbols.iter().enumerate() {
        checks::symbol(format!("symbols[{n}]"), symbol)?;
    }
    symbols.sort_unstable();
    symbols.dedup();
    let rooms = symbols.iter().map(|symbol| room_named(KIND, symbol));
    let rooms = rooms.collect();
    Ok((symbols, rooms))
}

fn names(rooms: &[Room]) -> Vec<String> {
    rooms.iter().map(|room| room.as_str().to_owned()).collect()
}

/// The symbol of a room. A symbol is never so long that its room is named by a hash.
fn symbol_of(room: &Room) -> Option<String> {
    let rest = room.as_str().strip_prefix(KIND)?;
    rest.strip_prefix(':').map(str::to_owned)
}

pub(super) fn is_room(room: &Room) -> bool {
    symbol_of(room).is_some()
}

const KIND: &str = RoomKind::Prices.prefix();
/// The journal of prices, in which symbols are keys.
const JOURNAL: &str = "prices";
const FULL: &str = "prices of too many symbols";
/// Symbols that one socket follows: fewer than the events of which the newest waits for a client that is too slow, so that
/// none of them is dropped.
const MOST_FOLLOWED: usize = 200;
/// How long somebody waits for the turn.
const PATIENCE: Duration = Duration::from_secs(10);
