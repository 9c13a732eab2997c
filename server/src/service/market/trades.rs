//! The trades of a user: a journal with a key for each trade, in which a final state stays.

use std::sync::Arc;

use super::{Market, checks, own, portfolio, update};
use crate::auth::Principal;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{
    Part, Snapshot, Subscription, Teller, WantedPage, journal_of, read, user_of, write,
};
use crate::service::rules::commands::trades::{
    PublishTrade, ReadTrades, SubscribeTrades, TradeList, UnsubscribeTrades,
};
use crate::service::rules::content::check_user_id;
use crate::service::rules::emissions::portfolio::PORTFOLIO_UNSUBSCRIBED;
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emissions::trades::{
    TRADE_UPDATE, TRADES_SUBSCRIBED, TRADES_UNSUBSCRIBED, Trade, TradeStatus, Trades,
};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{Append, Appended, Entry, IfOpen, Quota, Time};
use roomcast::{Namespace, Room, Socket};

impl From<Snapshot> for Trades {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            revision: snapshot.revision,
            trades: snapshot.entries.iter().filter_map(read).collect(),
            has_more: snapshot.has_more,
        }
    }
}

/// Tells each change of a trade: none is left out.
struct TradesTeller;

impl Teller for TradesTeller {
    fn tell(&self, to: &Namespace, journal: &str, entries: &[Entry]) {
        let to = to.local().to(room_named(KIND, user_of(KIND, journal)));
        for entry in entries {
            if let Some(update) = update::<Trade>(entry) {
                TRADE_UPDATE.emit(to.clone(), &update);
            }
        }
    }
}

impl Market {
    /// Lets a socket follow its user's trades, and all that is bundled with them.
    pub(crate) async fn subscribe_trades(
        &self,
        allowed: Allowed<SubscribeTrades>,
        socket: &Socket,
    ) -> Result<Subscribed<Trades>, ServiceError> {
        let (by, command) = allowed.into_parts();
        own(&by, &command.user_id)?;
        let subscribed = self.follow_trades(socket, &by).await?;
        if let Some(notifications) = &self.0.bundled {
            self.renew_portfolio(socket, &by).await?;
            notifications.follow(socket, &by).await?;
        }
        Ok(subscribed)
    }

    pub(super) async fn follow_trades(
        &self,
        socket: &Socket,
        by: &Principal,
    ) -> Result<Subscribed<Trades>, ServiceError> {
        let subscription = Subscription {
            journal: journal_of(KIND, &by.subject),
            category: None,
            open: self.0.config.open_trades as usize,
            newest: NEWEST,
            is_shared: false,
            room: room_named(KIND, &by.subject),
            teller: Arc::new(TradesTeller),
            event: &TRADES_SUBSCRIBED,
        };
        let journals = &self.0.journals;
        journals.subscribe(subscription, socket, Trades::from).await
    }

    /// Ends the subscription of a socket to its user's trades, and to all that is bundled with them.
    pub(crate) fn unsubscribe_trades(
        &self,
        allowed: Allowed<UnsubscribeTrades>,
        socket: &Socket,
    ) -> Result<Unsubscribed, ServiceError> {
        let (by, command) = allowed.into_parts();
        own(&by, &command.user_id)?;
        let journals = &self.0.journals;
        if let Some(notifications) = &self.0.bundled {
            let room = room_named(portfolio::KIND, &by.subject);
            journals.unsubscribe(&room, socket, &PORTFOLIO_UNSUBSCRIBED);
            notifications.unfollow(socket, &by);
        }
        let room = room_named(KIND, &by.subject);
        Ok(journals.unsubscribe(&room, socket, &TRADES_UNSUBSCRIBED))
    }

    pub(super) async fn renew_trades(
        &self,
        room: &Room,
        socket: &Socket,
        by: &Principal,
    ) -> Result<(), ServiceError> {
        let journals = &self.0.journals;
        if !journals.is_followed(&journal_of(KIND, &by.subject), room) {
            self.follow_trades(socket, by).await?;
        }
        Ok(())
    }

    /// A page of the trades of any user, for services.
    pub(crate) async fn trades(
        &self,
        allowed: Allowed<ReadTrades>,
    ) -> Result<TradeList, ServiceError> {
        let (_, ReadTrades { user, page }) = allowed.into_parts();
        check_user_id("userId", &user)?;
        let wanted = WantedPage {
            journal: journal_of(KIND, &user),
            category: None,
            part: Part::All,
            cursor: page.cursor.as_deref(),
            limit: page.limit,
        };
        let page = self.0.journals.page(wanted).await?;
        Ok(TradeList {
            revision: page.revision,
            trades: page.entries.iter().filter_map(update).collect(),
            has_more: page.cursor.is_some(),
            cursor: page.cursor,
        })
    }

    /// Publishes a trade of a user, or what has become of it. A trade that is executed, failed or canceled stays what it is.
    pub(crate) async fn publish_trade(
        &self,
        allowed: Allowed<PublishTrade>,
        namespace: &Namespace,
    ) -> Result<Trade, ServiceError> {
        let (_, new) = allowed.into_parts();
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
        let has_time = new.timestamp.is_some();
        let mut trade = Trade {
            trade_id: new.trade_id,
            user_id: new.user_id,
            symbol: new.symbol,
            side: new.side,
            status: new.status,
            executed_price: new.executed_price,
            quantity: new.quantity,
            timestamp: new.timestamp.unwrap_or_else(Time::now),
        };
        self.match_known(&mut trade).await?;
        let settled = self.store_trade(&trade, namespace).await?;
        let is_same = |known: &Trade| {
            let timestamp = if has_time {
                trade.timestamp
            } else {
                known.timestamp
            };
            // A trade that was settled before sides were known is the same whatever its side is.
            let side = known.side.and(trade.side);
            let trade = trade.clone();
            let given = Trade {
                timestamp,
                side,
                ..trade
            };
            *known == given
        };
        match settled {
            None => Ok(trade),
            // A request that is repeated because its answer was lost must not look like a
            // contradiction.
            Some(known) if is_same(&known) => Ok(known),
            Some(_) => Err(ServiceError::Conflict("the trade is settled already")),
        }
    }

    /// Refuses another symbol or side under the id of a trade, since its user was told what was ordered, and fills in the side if
    /// it is known.
    async fn match_known(&self, trade: &mut Trade) -> Result<(), ServiceError> {
        let store = self.0.journals.store();
        let journal = journal_of(KIND, &trade.user_id);
        let entry = store.journal_entry(&journal, &trade.trade_id).await?;
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

    /// Stores a trade as it is now and tells it. Returns the trade that was settled before, if one was.
    pub(super) async fn store_trade(
        &self,
        trade: &Trade,
        namespace: &Namespace,
    ) -> Result<Option<Trade>, ServiceError> {
        let append = Append {
            journal: journal_of(KIND, &trade.user_id),
            key: trade.trade_id.clone(),
            body: write(trade),
            category: None,
            is_open: trade.status == TradeStatus::Pending,
            if_open: IfOpen::Keep,
            needs_open: false,
            created_at: Time::now(),
            expires_at: None,
            most_open: self.0.config.open_trades,
            quota: Quota::All,
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

pub(super) const KIND: &str = RoomKind::Trades.prefix();
/// How many of the last trades a snapshot has beside those that are open.
const NEWEST: usize = 50;
