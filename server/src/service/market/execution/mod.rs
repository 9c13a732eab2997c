//! Trades that are executed for clients: the order is stored, then carried out, then what came of it is stored, and only then is
//! its client told.
//!
//! An order is an open entry of the journal `executions` until its client was told. Whatever ends in between, the sweep goes on
//! with what is open: an order without an outcome is carried out again under the same idempotency key, and a client who was not told
//! is told when there is a connection of its user. The trade itself is in the journal of its user's trades, in which the first
//! outcome stays.

mod executor;
mod order;
mod repeat;
mod running;
mod webhook;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Market, checks, trades};
use crate::auth::outbound::OutboundFault;
use crate::config;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{journal_of, read};
use crate::service::rules::commands::trades::ExecuteTrade;
use crate::service::rules::content::check_client_id;
use crate::service::rules::emissions::trades::{Trade, TradeStatus};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{Appended, Current, Entry, IfOpen, Time};
use executor::{Executor, Outcome};
pub(crate) use order::Told;
use order::{JOURNAL, MOST_ORDERS, Order, Stored, dropped, entry, first_entry};
use roomcast::{Namespace, Socket};
use running::Running;
use webhook::LONGEST_PAUSE;

/// What is needed to carry trades out.
pub(super) struct Execution {
    executor: Executor,
    /// One permit per order that is being carried out.
    places: Arc<Semaphore>,
    running: Running,
    /// How long an order may be without an outcome before somebody carries it out again.
    patience: Duration,
    resume: Duration,
    /// When this process was started: an order that is older is not its own.
    started: Time,
}

/// An order that was not taken.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) symbol: String,
    pub(crate) error: ServiceError,
}

impl Execution {
    pub(super) fn new(config: &config::Market) -> Result<Self, OutboundFault> {
        let webhook = &config.webhook;
        let longest = (webhook.timeout + LONGEST_PAUSE) * webhook.attempts;
        Ok(Self {
            executor: Executor::new(config)?,
            places: Arc::new(Semaphore::new(PLACES)),
            running: Running::default(),
            patience: longest,
            resume: webhook.resume,
            started: Time::now(),
        })
    }
}

impl Market {
    /// Has a trade executed for its sender. The outcome is told to the socket, or to another socket of the user if that one has gone.
    pub(crate) async fn execute(
        &self,
        allowed: Allowed<ExecuteTrade>,
        socket: &Socket,
    ) -> Result<Told, Refused> {
        let (by, command) = allowed.into_parts();
        let symbol = command.symbol.clone();
        let executed = self.order(&by.subject, command, socket).await;
        executed.map_err(|error| Refused { symbol, error })
    }

    async fn order(
        &self,
        user_id: &str,
        command: ExecuteTrade,
        socket: &Socket,
    ) -> Result<Told, ServiceError> {
        checks::symbol("symbol", &command.symbol)?;
        checks::above_zero("quantity", command.quantity)?;
        let under = command.client_trade_id.as_deref();
        under.map_or(Ok(()), |id| check_client_id("clientTradeId", id))?;
        let execution = &self.0.execution;
        if !execution.executor.is_there() {
            return Err(ServiceError::Conflict("this server executes no trades"));
        }
        // The id follows from the client's own one, so that an order that is sent twice is one
        // order.
        let trade_id = under.map(|id| Order::id_under(user_id, id));
        let order = Order {
            trade_id: trade_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            user_id: user_id.to_owned(),
            symbol: command.symbol,
            side: command.side,
            quantity: command.quantity,
            timestamp: Time::now(),
        };
        // The order is carried out in a task of its own, so that it goes on when whoever asked goes
        // away.
        let (market, socket) = (self.clone(), socket.clone());
        let carried = tokio::spawn(async move { market.take(order, &socket).await });
        let down = ServiceError::Unavailable { retry_after: BUSY };
        carried.await.unwrap_or(Err(down))
    }

    /// Stores an order and carries it out, unless it was given before.
    async fn take(&self, order: Order, socket: &Socket) -> Result<Told, ServiceError> {
        let stored = Stored::new(order);
        let order = &stored.order;
        // The claim is held to the end: of two tasks of this server only one may ask the executor.
        let Some(_claim) = self.claim(&order.trade_id).await else {
            return Ok(stored.unknown(Some(socket)));
        };
        // Whoever waits for the first of the same order takes no place.
        let place = self.0.execution.places.try_acquire();
        let _place = place.map_err(|_| ServiceError::Limited { retry_after: BUSY })?;
        let journals = &self.0.journals;
        let namespace = socket.namespace();
        match journals.append(&namespace, first_entry(&stored)).await? {
            Appended::Stored(_) => {
                let (by, symbol) = (&order.user_id, &order.symbol);
                roomcast::throttled_log!(info, by, trade = order.trade_id, symbol, "trade ordered");
                self.begin(stored, socket).await
            }
            Appended::There(entry) => self.repeat(entry, stored, socket).await,
            Appended::Full | Appended::Absent => Err(ServiceError::Conflict(
                "too many trades wait for an outcome",
            )),
        }
    }

    /// Stores the pending trade of an order that is stored, and carries it out.
    async fn begin(&self, stored: Stored, socket: &Socket) -> Result<Told, ServiceError> {
        let namespace = socket.namespace();
        let pending = stored.order.pending();
        match self.store_trade(&pending, IfOpen::Keep, &namespace).await {
            Ok(None) => {}
            // The order was forgotten, and its trade was not.
            Ok(Some(settled)) => return self.answer_from(settled, stored, socket).await,
            // Nothing was executed yet, so the order can be taken back; from the next step on it
            // cannot.
            Err(refused @ ServiceError::Conflict(_)) => {
                self.drop_order(&stored, &namespace).await;
                return Err(refused);
            }
            // The trade may be stored all the same; then the sweep carries the order out.
            Err(_) => return Ok(stored.unknown(Some(socket))),
        }
        self.carry_out_for(stored, true, socket).await
    }

    /// Carries an order out for a client, who is told that nobody knows the outcome if that cannot be stored.
    async fn carry_out_for(
        &self,
        stored: Stored,
        is_first: bool,
        socket: &Socket,
    ) -> Result<Told, ServiceError> {
        let told = self
            .carry_out(stored.clone(), is_first, Some(socket), &socket.namespace())
            .await;
        Ok(told.unwrap_or_else(|error| {
            let trade = stored.order.trade_id.as_str();
            roomcast::throttled_log!(warn, %error, trade, "what came of a trade could not be stored");
            stored.unknown(Some(socket))
        }))
    }

    /// Carries an order out, stores the outcome, and tells it. Unless `is_first`, nobody knows how far the order has come before.
    async fn carry_out(
        &self,
        stored: Stored,
        is_first: bool,
        socket: Option<&Socket>,
        namespace: &Namespace,
    ) -> Result<Told, ServiceError> {
        let order = &stored.order;
        let executor = &self.0.execution.executor;
        let (status, price, fault) = match executor.execute(self, order, is_first).await {
            Outcome::Filled(price) => (TradeStatus::Executed, Some(price), None),
            Outcome::Failed(fault) => (TradeStatus::Failed, None, Some(fault)),
            Outcome::Unknown(why) => return self.postpone(stored, &why, socket, namespace).await,
        };
        let trade = Trade {
            status,
            executed_price: price,
            timestamp: Time::now(),
            ..order.pending()
        };
        // The reason is stored first, so that whoever finds the trade failed finds the reason as well.
        let stored = Stored { fault, ..stored };
        if stored.fault.is_some() {
            self.reopen(&stored, namespace).await?;
        }
        // If somebody else has settled the trade meanwhile, that outcome counts.
        // The outcome is stored before the client is told: what a client has been told must never
        // change.
        let settled = self.store_trade(&trade, IfOpen::Keep, namespace).await?;
        let trade = settled.unwrap_or(trade);
        roomcast::throttled_log!(info, trade = trade.trade_id, status = ?trade.status, "trade settled");
        Ok(self.tell(stored, trade, socket, namespace).await)
    }

    /// Tells the client of an order once that nobody knows the outcome, and has the order carried out again later.
    async fn postpone(
        &self,
        stored: Stored,
        why: &str,
        socket: Option<&Socket>,
        namespace: &Namespace,
    ) -> Result<Told, ServiceError> {
        let rounds = stored.rounds + 1;
        let stored = Stored { rounds, ..stored };
        let trade = stored.order.trade_id.as_str();
        if rounds >= MOST_ROUNDS {
            roomcast::throttled_log!(error, trade, why, "the outcome of a trade stays unknown");
            // An order that nobody can tell the outcome of is left to people, rather than being
            // sent to the executor for ever.
            self.close(&stored, namespace).await;
        } else {
            roomcast::throttled_log!(warn, trade, why, "the outcome of a trade is not known yet");
            self.reopen(&stored, namespace).await?;
        }
        Ok(stored.unknown(socket))
    }

    /// Tells the outcome of an order, and notes that it was told. Without anybody to tell it to, the outcome waits for a connection of the user.
    async fn tell(
        &self,
        stored: Stored,
        trade: Trade,
        socket: Option<&Socket>,
        namespace: &Namespace,
    ) -> Told {
        let told = stored.told(&trade);
        let user = namespace
            .local()
            .to(room_named(RoomKind::User.prefix(), &stored.order.user_id));
        match socket.filter(|socket| socket.is_connected()) {
            Some(socket) => told.emit_to(socket),
            // Another tab of the user is as good as the one that has asked.
            None if user.count() > 0 => told.emit(user),
            None if stored.settled.is_some() => return told,
            None => {
                let settled = Some(trade);
                let waiting = Stored { settled, ..stored };
                if let Err(error) = self.reopen(&waiting, namespace).await {
                    tracing::debug!(%error, "an order could not be noted, and is looked at again");
                }
                return told;
            }
        }
        let settled = Some(trade);
        // The order is closed behind the telling: a client that is told twice is better than one
        // that is never told.
        self.close(&Stored { settled, ..stored }, namespace).await;
        told
    }

    /// Refuses what would change a trade of which the outcome is not known yet: the order may be executed at this moment.
    pub(super) async fn refuse_if_ordered(
        &self,
        user_id: &str,
        trade_id: &str,
    ) -> Result<(), ServiceError> {
        let store = self.0.journals.store();
        let entry = store.journal_entry(JOURNAL, trade_id).await?;
        let now = Time::now();
        let open = entry
            .filter(|entry| entry.is_open && entry.expires_at.is_none_or(|end| end > now))
            .and_then(|entry| read::<Stored>(&entry));
        match open {
            Some(stored) if stored.order.user_id == user_id => Err(ServiceError::Conflict(
                "the order of the trade has no outcome yet that its client knows",
            )),
            Some(_) | None => Ok(()),
        }
    }

    async fn reopen(&self, stored: &Stored, namespace: &Namespace) -> Result<(), ServiceError> {
        self.0
            .journals
            .append(namespace, entry(stored, true))
            .await?;
        Ok(())
    }

    /// Closes an order whose client knows the outcome. If that cannot be stored, the client is told once more.
    async fn close(&self, stored: &Stored, namespace: &Namespace) {
        if let Err(error) = self
            .0
            .journals
            .append(namespace, entry(stored, false))
            .await
        {
            tracing::debug!(%error, "that a client was told of a trade could not be noted");
        }
    }

    /// Has an order forgotten that came to nothing, so that the same may be ordered again.
    async fn drop_order(&self, stored: &Stored, namespace: &Namespace) {
        let dropped = self.0.journals.append(namespace, dropped(stored)).await;
        if let Err(error) = dropped {
            tracing::debug!(%error, "an order could not be forgotten, and is looked at again");
        }
    }

    /// Goes on with orders that were left, by this server before it was started anew and by others that have ended, for as long as it is polled.
    pub(crate) async fn resume(self, namespace: Namespace) {
        if !self.0.execution.executor.is_there() {
            return std::future::pending().await;
        }
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = None::<Instant>;
        loop {
            turns.tick().await;
            if failing.is_some_and(|since| since.elapsed() < PAUSE) {
                continue;
            }
            failing = match self.look(&namespace).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::debug!(%error, "open trades could not be read");
                    Some(Instant::now())
                }
            };
        }
    }

    async fn look(&self, namespace: &Namespace) -> Result<(), ServiceError> {
        let store = self.0.journals.store();
        let open = Current {
            journal: JOURNAL,
            category: None,
            open: MOST_ORDERS as usize,
            newest: 0,
            is_closed: false,
            with_withdrawn: false,
            before: None,
            now: Time::now(),
        };
        for entry in store.journal(open).await?.entries {
            let Some(stored) = read::<Stored>(&entry) else {
                continue;
            };
            // Whoever is at the order tells its outcome.
            if self.0.execution.running.has(&entry.key) {
                continue;
            }
            let order = &stored.order;
            if let Some(trade) = stored.settled.clone() {
                self.tell(stored, trade, None, namespace).await;
                continue;
            }
            let is_left = self.is_left(&entry, &stored);
            let soon = Time::now().before(STEP);
            if !is_left && (stored.rounds > 0 || entry.created_at > soon) {
                continue;
            }
            let journal = journal_of(trades::KIND, &order.user_id);
            let settled = store.journal_entry(&journal, &order.trade_id).await?;
            let since = settled.as_ref().map(|entry| entry.created_at);
            match settled.as_ref().and_then(read::<Trade>) {
                Some(trade) if trade.status != TradeStatus::Pending => {
                    // Whoever has stored an outcome tells it at once, if it still runs.
                    if is_left || since.is_some_and(|since| since <= soon) {
                        self.tell(stored, trade, None, namespace).await;
                    }
                }
                Some(_) if is_left => self.carry_out_again(stored, namespace),
                // The order has no trade: its sender was never told that it was taken.
                None if is_left => self.drop_order(&stored, namespace).await,
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Whether nobody is carrying an order out any more.
    fn is_left(&self, entry: &Entry, stored: &Stored) -> bool {
        let execution = &self.0.execution;
        let now = Time::now();
        if stored.rounds > 0 {
            let wait = execution.resume * stored.rounds.min(10);
            return entry.created_at <= now.before(wait);
        }
        // With a store of one server, nobody else can be at an order from before the start.
        let alone = !self.0.journals.store().is_shared() && entry.created_at < execution.started;
        // The server that has stored the order may still be at it, and cannot be asked; after this
        // long it is not.
        alone || entry.created_at <= now.before(execution.patience + MARGIN)
    }

    fn carry_out_again(&self, stored: Stored, namespace: &Namespace) {
        // Clients that wait have the places first; what was left is looked at again in the next
        // turn.
        let Ok(place) = Arc::clone(&self.0.execution.places).try_acquire_owned() else {
            return;
        };
        let Ok(running) = self.0.execution.running.begin(&stored.order.trade_id) else {
            return;
        };
        let (market, namespace) = (self.clone(), namespace.clone());
        tracing::info!(trade = stored.order.trade_id, "goes on with a trade");
        tokio::spawn(async move {
            if let Err(error) = market.carry_out(stored, false, None, &namespace).await {
                tracing::warn!(%error, "a trade could not be gone on with");
            }
            drop((running, place));
        });
    }
}

/// Orders that one server carries out at the same time.
const PLACES: usize = 64;
/// How often nobody may know what came of an order before it is left to people.
const MOST_ROUNDS: u32 = 20;
/// How often open orders are looked at.
const TURN: Duration = Duration::from_secs(1);
/// How long after a failure open orders are not looked at.
const PAUSE: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_secs(1);
/// How long a server that runs takes from one step of an order to the next, but for carrying it out.
const STEP: Duration = Duration::from_secs(5);
/// How much longer than the executor an order may take.
const MARGIN: Duration = Duration::from_secs(30);
