//! Executes trades for clients in order: store the order, execute it, store the outcome, notify the
//! client.
//!
//! An order is an open entry of the journal `executions` until its client is notified. If a step is
//! interrupted, the sweep continues with open orders. It executes an order without an outcome again
//! under the same idempotency key. It notifies a client as soon as its user is connected. The trade
//! itself is in the journal of its user's trades, in which the first outcome is final.

mod executor;
mod order;
mod repeat;
mod running;
mod webhook;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderValue;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Market, checks, trades};
use crate::auth::outbound::OutboundFault;
use crate::config;
use crate::metrics::{Inventoried, Inventory};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{journal_of, read};
use crate::service::rules::commands::trades::ExecuteTrade;
use crate::service::rules::content::check_client_id;
use crate::service::rules::emissions::trades::{Trade, TradeStatus};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{Appended, Current, Entry, IfOpen, Time};
use executor::{Executor, Outcome};
pub(crate) use order::TradeReply;
use order::{JOURNAL, MOST_ORDERS, Order, Stored, dropped, entry, first_entry};
use roomcast::{Namespace, Socket};
use running::RunningOrders;
use webhook::MAX_DELAY;

/// The state for executing trades.
pub(super) struct Execution {
    executor: Executor,
    /// One permit for each order that is being executed.
    places: Arc<Semaphore>,
    running: RunningOrders,
    /// How long an order may lack an outcome before another task executes it again.
    max_duration: Duration,
    reconcile_after: Duration,
    /// When this process started. Older orders belong to another process.
    started: Time,
}

/// The token for the service that executes trades, if it needs one.
#[derive(Debug)]
pub(crate) struct ExecutorToken(Option<HeaderValue>);

/// An order that was not accepted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) symbol: String,
    pub(crate) error: ServiceError,
}

impl Inventoried for Execution {
    fn report(&self, inventory: &mut Inventory) {
        inventory.size("orders in progress", self.running.size());
    }
}

impl Execution {
    pub(super) fn new(config: &config::Market) -> Result<Self, OutboundFault> {
        let webhook = &config.webhook;
        let longest = (webhook.timeout + MAX_DELAY) * webhook.attempts;
        Ok(Self {
            executor: Executor::new(config)?,
            places: Arc::new(Semaphore::new(MAX_CONCURRENT_ORDERS)),
            running: RunningOrders::default(),
            max_duration: longest,
            reconcile_after: webhook.reconcile_after,
            started: Time::now(),
        })
    }
}

impl Market {
    /// Returns the token for the configured trade executor, for
    /// [`replace_executor_token`](Self::replace_executor_token).
    ///
    /// # Errors
    ///
    /// If the token has characters that no header has.
    pub(crate) fn executor_token(config: &config::Market) -> Result<ExecutorToken, OutboundFault> {
        webhook::authorization(&config.webhook).map(ExecutorToken)
    }

    /// Replaces the token that the trade executor receives, if it is a service.
    pub(crate) fn replace_executor_token(&self, token: ExecutorToken) {
        if let Executor::Webhook(webhook) = &self.0.execution.executor {
            webhook.replace_authorization(token.0);
        }
    }

    /// Executes a trade for its sender. The outcome is sent to the socket, or to other sockets of
    /// the user if that one disconnected.
    pub(crate) async fn execute(
        &self,
        allowed: Allowed<ExecuteTrade>,
        socket: &Socket,
    ) -> Result<TradeReply, Refused> {
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
    ) -> Result<TradeReply, ServiceError> {
        checks::symbol("symbol", &command.symbol)?;
        checks::above_zero("quantity", command.quantity)?;
        let under = command.client_trade_id.as_deref();
        under.map_or(Ok(()), |id| check_client_id("clientTradeId", id))?;
        let execution = &self.0.execution;
        if !execution.executor.is_available() {
            return Err(ServiceError::Conflict("this server executes no trades"));
        }
        // The id is derived from the client's id, so that an order sent twice is one order.
        let trade_id = under.map(|id| Order::id_under(user_id, id));
        let order = Order {
            trade_id: trade_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            user_id: user_id.to_owned(),
            symbol: command.symbol,
            side: command.side,
            quantity: command.quantity,
            timestamp: Time::now(),
        };
        // The order runs in its own task, so that it continues if the caller is canceled.
        let (market, socket) = (self.clone(), socket.clone());
        let carried = tokio::spawn(async move { market.take(order, &socket).await });
        let down = ServiceError::unavailable(BUSY);
        carried.await.unwrap_or(Err(down))
    }

    /// Stores an order and executes it, unless it was already received.
    async fn take(&self, order: Order, socket: &Socket) -> Result<TradeReply, ServiceError> {
        let stored = Stored::new(order);
        let order = &stored.order;
        // The claim is held to the end: only one task of this server may call the executor.
        let Some(_claim) = self.claim(&order.trade_id).await else {
            return Ok(stored.unknown(Some(socket)));
        };
        // A task that waits for the first task of the same order needs no permit.
        let place = self.0.execution.places.try_acquire();
        let _place = place.map_err(|_| ServiceError::limited(BUSY))?;
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

    /// Stores the pending trade of a stored order, and executes it.
    async fn begin(&self, stored: Stored, socket: &Socket) -> Result<TradeReply, ServiceError> {
        let namespace = socket.namespace();
        let pending = stored.order.pending();
        match self.store_trade(&pending, IfOpen::Keep, &namespace).await {
            Ok(None) => {}
            // The order has expired, but its trade is still stored.
            Ok(Some(settled)) => return self.answer_from(settled, stored, socket).await,
            // Nothing has been executed, so the order can still be dropped. After the next step it
            // cannot.
            Err(refused @ ServiceError::Conflict(_)) => {
                self.drop_order(&stored, &namespace).await;
                return Err(refused);
            }
            // The trade can be stored despite the error. In that case the sweep executes the order.
            Err(_) => return Ok(stored.unknown(Some(socket))),
        }
        self.carry_out_for(stored, true, socket).await
    }

    /// Executes an order for a client. Reports an unknown outcome if the outcome cannot be stored.
    async fn carry_out_for(
        &self,
        stored: Stored,
        is_first: bool,
        socket: &Socket,
    ) -> Result<TradeReply, ServiceError> {
        let reply = self
            .carry_out(stored.clone(), is_first, Some(socket), &socket.namespace())
            .await;
        Ok(reply.unwrap_or_else(|error| {
            let trade = stored.order.trade_id.as_str();
            roomcast::throttled_log!(warn, %error, trade, "could not store the outcome of a trade");
            stored.unknown(Some(socket))
        }))
    }

    /// Executes an order, stores the outcome and notifies the client. Unless `is_first`, the
    /// progress of earlier attempts is unknown.
    async fn carry_out(
        &self,
        stored: Stored,
        is_first: bool,
        socket: Option<&Socket>,
        namespace: &Namespace,
    ) -> Result<TradeReply, ServiceError> {
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
        // The reason is stored before the failed trade, so that it is always available with it.
        let stored = Stored { fault, ..stored };
        if stored.fault.is_some() {
            self.reopen(&stored, namespace).await?;
        }
        // If another writer settled the trade in the meantime, that outcome counts. The outcome is
        // stored before the client is notified, because a reported outcome must not change.
        let settled = self.store_trade(&trade, IfOpen::Keep, namespace).await?;
        let trade = settled.unwrap_or(trade);
        roomcast::throttled_log!(info, trade = trade.trade_id, status = ?trade.status, "trade settled");
        Ok(self.report_outcome(stored, trade, socket, namespace).await)
    }

    /// Notifies the client of an order that the outcome is unknown, and schedules another
    /// execution.
    async fn postpone(
        &self,
        stored: Stored,
        why: &str,
        socket: Option<&Socket>,
        namespace: &Namespace,
    ) -> Result<TradeReply, ServiceError> {
        let rounds = stored.rounds + 1;
        let stored = Stored { rounds, ..stored };
        let trade = stored.order.trade_id.as_str();
        if rounds >= MAX_ROUNDS {
            roomcast::throttled_log!(error, trade, why, "the outcome of a trade stays unknown");
            // An order whose outcome stays unknown is left to operators instead of being retried
            // forever.
            self.close(&stored, namespace).await;
        } else {
            roomcast::throttled_log!(warn, trade, why, "the outcome of a trade is not known yet");
            self.reopen(&stored, namespace).await?;
        }
        Ok(stored.unknown(socket))
    }

    /// Sends the outcome of an order and closes the order. If the user has no connection, the
    /// outcome stays open until there is one.
    async fn report_outcome(
        &self,
        stored: Stored,
        trade: Trade,
        socket: Option<&Socket>,
        namespace: &Namespace,
    ) -> TradeReply {
        let reply = stored.reply(&trade);
        let user = namespace
            .local()
            .to(room_named(RoomKind::User.prefix(), &stored.order.user_id));
        match socket.filter(|socket| socket.is_connected()) {
            Some(socket) => reply.emit_to(socket),
            // Any other socket of the user is sufficient.
            None if user.count() > 0 => reply.emit(user),
            None if stored.settled.is_some() => return reply,
            None => {
                let settled = Some(trade);
                let waiting = Stored { settled, ..stored };
                if let Err(error) = self.reopen(&waiting, namespace).await {
                    tracing::debug!(%error, "could not store a settled order, it will be checked again");
                }
                return reply;
            }
        }
        let settled = Some(trade);
        // The order is closed after the notification: a duplicate notification is better than none.
        self.close(&Stored { settled, ..stored }, namespace).await;
        reply
    }

    /// Refuses a change of a trade whose order is open, because it can be executing right now.
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
                "the client does not know the outcome of the order yet",
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

    /// Closes an order whose client knows the outcome. If that cannot be stored, the client is
    /// notified again.
    async fn close(&self, stored: &Stored, namespace: &Namespace) {
        if let Err(error) = self
            .0
            .journals
            .append(namespace, entry(stored, false))
            .await
        {
            tracing::debug!(%error, "could not store that a client was notified of a trade");
        }
    }

    /// Removes an order that led to nothing, so that it can be placed again.
    async fn drop_order(&self, stored: &Stored, namespace: &Namespace) {
        let dropped = self.0.journals.append(namespace, dropped(stored)).await;
        if let Err(error) = dropped {
            tracing::debug!(%error, "could not remove an order, it will be checked again");
        }
    }

    /// Resumes orders that a restart of this server or another server left open. Runs until
    /// dropped.
    pub(crate) async fn resume(self, namespace: Namespace) {
        if !self.0.execution.executor.is_available() {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = None::<Instant>;
        loop {
            ticks.tick().await;
            if failing.is_some_and(|since| since.elapsed() < FAILURE_DELAY) {
                continue;
            }
            failing = match self.check_orders(&namespace).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::debug!(%error, "could not read open trades");
                    Some(Instant::now())
                }
            };
        }
    }

    async fn check_orders(&self, namespace: &Namespace) -> Result<(), ServiceError> {
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
            // The task that executes the order will report its outcome.
            if self.0.execution.running.has(&entry.key) {
                continue;
            }
            let order = &stored.order;
            if let Some(trade) = stored.settled.clone() {
                self.report_outcome(stored, trade, None, namespace).await;
                continue;
            }
            let is_left = self.is_left(&entry, &stored);
            let soon = Time::now().before(MAX_STEP_TIME);
            if !is_left && (stored.rounds > 0 || entry.created_at > soon) {
                continue;
            }
            let journal = journal_of(trades::KIND, &order.user_id);
            let settled = store.journal_entry(&journal, &order.trade_id).await?;
            let since = settled.as_ref().map(|entry| entry.created_at);
            match settled.as_ref().and_then(read::<Trade>) {
                Some(trade) if trade.status != TradeStatus::Pending => {
                    // A running task reports its outcome immediately after storing it.
                    if is_left || since.is_some_and(|since| since <= soon) {
                        self.report_outcome(stored, trade, None, namespace).await;
                    }
                }
                Some(_) if is_left => self.carry_out_again(stored, namespace),
                // The order has no trade, so its sender was never notified that it was accepted.
                None if is_left => self.drop_order(&stored, namespace).await,
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Returns whether no task executes an order any longer.
    fn is_left(&self, entry: &Entry, stored: &Stored) -> bool {
        let execution = &self.0.execution;
        let now = Time::now();
        if stored.rounds > 0 {
            let wait = execution.reconcile_after * stored.rounds.min(10);
            return entry.created_at <= now.before(wait);
        }
        // With an unshared store, no other server can execute an order from before the start.
        let is_orphaned =
            !self.0.journals.store().is_shared() && entry.created_at < execution.started;
        // The server that stored the order can still be executing it and cannot be asked. After
        // this time it is not.
        is_orphaned || entry.created_at <= now.before(execution.max_duration + TIMEOUT_MARGIN)
    }

    fn carry_out_again(&self, stored: Stored, namespace: &Namespace) {
        // Waiting clients have priority for the permits. Orders that get none are checked again in
        // the next iteration.
        let Ok(place) = Arc::clone(&self.0.execution.places).try_acquire_owned() else {
            return;
        };
        let Ok(running) = self.0.execution.running.begin(&stored.order.trade_id) else {
            return;
        };
        let (market, namespace) = (self.clone(), namespace.clone());
        tracing::info!(trade = stored.order.trade_id, "resuming a trade");
        tokio::spawn(async move {
            if let Err(error) = market.carry_out(stored, false, None, &namespace).await {
                tracing::warn!(%error, "could not resume a trade");
            }
            drop((running, place));
        });
    }
}

/// Maximum number of orders that one server executes concurrently.
const MAX_CONCURRENT_ORDERS: usize = 64;
/// Maximum number of executions with an unknown outcome. Then the order is left to operators.
const MAX_ROUNDS: u32 = 20;
/// The interval between checks of open orders.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The pause in these checks after a failure.
const FAILURE_DELAY: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_secs(1);
/// The maximum time between two steps of an order on a running server, apart from the execution.
const MAX_STEP_TIME: Duration = Duration::from_secs(5);
/// How much longer than the executor's timeout an order may take.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(30);
