//! The trades of a user: a journal with a key for each trade, in which a final state does not
//! change.

use std::sync::Arc;

use super::{Market, checks, own, update};
use crate::config;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{
    JournalEmitter, JournalKind, Journals, Part, Snapshot, Topics, is_withdrawal, journal_of,
    published, read, user_of, withdrawal, write,
};
use crate::service::rules::commands::pages::UpdatesRequest;
use crate::service::rules::commands::trades::{
    PublishTrade, ReadOwnTrades, ReadTrades, SubscribeTrades, TradeList, UnsubscribeTrades,
};
use crate::service::rules::content::check_user_id;
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emissions::trades::{
    TRADE_UPDATE, TRADE_WITHDRAWN, TRADES_SUBSCRIBED, TRADES_UNSUBSCRIBED, Trade, TradeStatus,
    TradeWithdrawn, Trades,
};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{Append, Appended, Entry, IfOpen, Time};
use roomcast::{Namespace, Socket};

impl From<Snapshot> for Trades {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            revision: snapshot.revision,
            withdrawn: snapshot.withdrawn(),
            trades: published(&snapshot.entries).filter_map(read).collect(),
            has_more: snapshot.has_more(),
            since_revision: snapshot.since,
            cursor: snapshot.cursor,
        }
    }
}

/// Emits every change of a trade.
struct TradesEmitter;

impl JournalEmitter for TradesEmitter {
    fn emit(&self, to: &Namespace, journal: &str, entries: &[Entry]) {
        let to = to.local().to(room_named(KIND, user_of(KIND, journal)));
        for entry in entries {
            if let Some(body) = withdrawal::<TradeWithdrawn>(entry) {
                let revision = entry.revision;
                TRADE_WITHDRAWN.emit(to.clone(), &Update { body, revision });
            } else if let Some(update) = update::<Trade>(entry) {
                TRADE_UPDATE.emit(to.clone(), &update);
            }
        }
    }
}

/// Returns the kind of trades.
pub(super) fn kind(journals: &Journals, config: &config::Market) -> JournalKind<Trades> {
    JournalKind {
        journals: journals.clone(),
        prefix: KIND,
        topics: Topics::Users,
        open: config.open_trades as usize,
        newest: NEWEST,
        is_replayed: true,
        emitter: Arc::new(TradesEmitter),
        subscribed: &TRADES_SUBSCRIBED,
        unsubscribed: &TRADES_UNSUBSCRIBED,
    }
}

impl Market {
    /// Subscribes a socket to its user's trades and all bundled subscriptions.
    pub(crate) async fn subscribe_trades(
        &self,
        allowed: Allowed<SubscribeTrades>,
        socket: &Socket,
    ) -> Result<Subscribed<Trades>, ServiceError> {
        let (by, command) = allowed.into_parts();
        own(&by, &command.user_id)?;
        let (user, market, since) = (Some(&*by.subject), &self.0, command.since_revision);
        let subscribed = market.trades.subscribe(user, since, socket).await?;
        if market.config.bundle_subscriptions {
            market.portfolio.subscribe(user, None, socket).await?;
            let notifications = market.notifications.kind();
            notifications.subscribe(user, None, socket).await?;
        }
        Ok(subscribed)
    }

    /// Ends the subscription of a socket to its user's trades and all bundled subscriptions.
    pub(crate) fn unsubscribe_trades(
        &self,
        allowed: Allowed<UnsubscribeTrades>,
        socket: &Socket,
    ) -> Result<Unsubscribed, ServiceError> {
        let (by, command) = allowed.into_parts();
        own(&by, &command.user_id)?;
        let (user, market) = (Some(&*by.subject), &self.0);
        if market.config.bundle_subscriptions {
            market.portfolio.unsubscribe(user, socket);
            market.notifications.kind().unsubscribe(user, socket);
        }
        Ok(market.trades.unsubscribe(user, socket))
    }

    /// Returns a page of a user's trades, for the user and for services.
    pub(crate) async fn trades(
        &self,
        allowed: Allowed<ReadTrades>,
    ) -> Result<TradeList, ServiceError> {
        let (_, ReadTrades { user, page }) = allowed.into_parts();
        check_user_id("userId", &user)?;
        self.trades_of(&user, page).await
    }

    /// Returns a page of the sender's trades.
    pub(crate) async fn own_trades(
        &self,
        allowed: Allowed<ReadOwnTrades>,
    ) -> Result<TradeList, ServiceError> {
        let (by, request) = allowed.into_parts();
        let page = UpdatesRequest {
            cursor: request.cursor,
            limit: request.limit,
            since_revision: request.since_revision,
        };
        self.trades_of(&by.subject, page).await
    }

    async fn trades_of(&self, user: &str, page: UpdatesRequest) -> Result<TradeList, ServiceError> {
        let bounds = (page.cursor.as_deref(), page.limit);
        let (trades, since) = (&self.0.trades, page.since_revision);
        let page = trades.page(Some(user), Part::All, bounds, since).await?;
        Ok(TradeList {
            revision: page.revision,
            withdrawn: page.withdrawn(),
            trades: published(&page.entries).filter_map(update).collect(),
            has_more: page.has_more(),
            cursor: page.cursor,
            since_revision: page.since,
        })
    }

    /// Publishes a trade of a user or its new state. An executed, failed or canceled trade does not
    /// change.
    pub(crate) async fn publish_trade(
        &self,
        allowed: Allowed<PublishTrade>,
        namespace: &Namespace,
    ) -> Result<Trade, ServiceError> {
        let (_, new) = allowed.into_parts();
        let (is_pending, has_time) = (new.status == TradeStatus::Pending, new.timestamp.is_some());
        let mut trade = checked(new)?;
        self.match_known(&mut trade).await?;
        // An outcome is stored regardless of its time, because no state can follow it.
        let if_open = if is_pending {
            IfOpen::KeepOlder
        } else {
            IfOpen::Keep
        };
        let mut known = None;
        for _ in 0..ATTEMPTS {
            known = self.store_trade(&trade, if_open, namespace).await?;
            let newer = known
                .as_ref()
                .filter(|known| known.status == TradeStatus::Pending);
            match newer.map(|newer| newer.timestamp) {
                // A state without a time is current, so it gets at least the time of the stored
                // one.
                Some(newer) if !has_time => trade.timestamp = newer,
                Some(_) | None => break,
            }
        }
        let is_same = |known: &Trade| {
            let mut published = trade.clone();
            if !has_time {
                published.timestamp = known.timestamp;
            }
            // For trades settled before sides were recorded, the side is not compared.
            published.side = known.side.and(trade.side);
            *known == published
        };
        match known {
            None => Ok(trade),
            // A newer pending state is stored and remains current.
            Some(known) if is_pending && known.status == TradeStatus::Pending => Ok(known),
            // A request repeated because its response was lost must not look like a contradiction.
            Some(known) if is_same(&known) => Ok(known),
            Some(_) => Err(ServiceError::Conflict("the trade is settled already")),
        }
    }

    /// Refuses a different symbol or side under a known trade id, because clients already know the
    /// order. Adds the side if it is known.
    async fn match_known(&self, trade: &mut Trade) -> Result<(), ServiceError> {
        let store = self.0.journals.store();
        let journal = journal_of(KIND, &trade.user_id);
        let entry = store.journal_entry(&journal, &trade.trade_id).await?;
        if entry.as_ref().is_some_and(is_withdrawal) {
            return Err(ServiceError::WITHDRAWN);
        }
        let Some(known) = entry.as_ref().and_then(read::<Trade>) else {
            return Ok(());
        };
        if known.symbol != trade.symbol {
            return Err(ServiceError::Conflict("the trade has another symbol"));
        }
        if known.side.is_some() && trade.side.is_some() && known.side != trade.side {
            return Err(ServiceError::Conflict("the trade has another side"));
        }
        trade.side = trade.side.or(known.side);
        Ok(())
    }

    /// Stores a trade in its current state and emits it.
    ///
    /// Returns the stored trade if that remains current, because it is settled or because it is
    /// newer and `if_open` retains it.
    pub(super) async fn store_trade(
        &self,
        trade: &Trade,
        if_open: IfOpen,
        namespace: &Namespace,
    ) -> Result<Option<Trade>, ServiceError> {
        let append = Append {
            is_open: trade.status == TradeStatus::Pending,
            if_open,
            most_open: self.0.config.open_trades,
            ..Append::new(
                journal_of(KIND, &trade.user_id),
                trade.trade_id.clone(),
                write(trade),
            )
        };
        match self.0.journals.append(namespace, append).await? {
            Appended::Stored(Entry { revision, .. }) => {
                let journals = &self.0.journals;
                journals.hook(&TRADE_UPDATE, || Update {
                    body: trade.clone(),
                    revision,
                });
                Ok(None)
            }
            Appended::There(entry) if is_withdrawal(&entry) => Err(ServiceError::WITHDRAWN),
            Appended::There(entry) => match read(&entry) {
                Some(known) => Ok(Some(known)),
                None => Err(ServiceError::Conflict("the trade is settled already")),
            },
            Appended::Full | Appended::Absent => {
                Err(ServiceError::Conflict("the user has too many open trades"))
            }
        }
    }
}

/// Checks a trade, and adds a time if it is missing.
pub(super) fn checked(new: PublishTrade) -> Result<Trade, ServiceError> {
    checks::name("tradeId", &new.trade_id)?;
    check_user_id("userId", &new.user_id)?;
    checks::symbol("symbol", &new.symbol)?;
    checks::above_zero("quantity", new.quantity)?;
    match (new.status, new.executed_price) {
        (TradeStatus::Executed, Some(price)) => checks::above_zero("executedPrice", price)?,
        (TradeStatus::Executed, None) => {
            let problem = "is missing, and the trade is executed";
            return Err(ServiceError::invalid("executedPrice", problem));
        }
        (TradeStatus::Pending | TradeStatus::Failed | TradeStatus::Canceled, Some(_)) => {
            let problem = "must be null or left out, unless the trade is executed";
            return Err(ServiceError::invalid("executedPrice", problem));
        }
        (TradeStatus::Pending | TradeStatus::Failed | TradeStatus::Canceled, None) => {}
    }
    if new.status == TradeStatus::Pending {
        checks::recent(new.timestamp, Time::now())?;
    }
    Ok(Trade {
        trade_id: new.trade_id,
        user_id: new.user_id,
        symbol: new.symbol,
        side: new.side,
        status: new.status,
        executed_price: new.executed_price,
        quantity: new.quantity,
        timestamp: new.timestamp.unwrap_or_else(Time::now),
    })
}

pub(super) const KIND: &str = RoomKind::Trades.prefix();
/// Maximum number of recently settled trades in a snapshot, in addition to open trades.
const NEWEST: usize = 50;
/// Maximum attempts to store a value without a time while other writers store newer ones.
pub(super) const ATTEMPTS: usize = 5;
