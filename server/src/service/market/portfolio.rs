//! The portfolio of a user: a journal with one key, of which only the newest entry matters.

use std::sync::Arc;

use super::trades::ATTEMPTS;
use super::{Market, checks, own, update};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{
    JournalEmitter, JournalKind, Journals, Part, Snapshot, Topics, journal_of, read, user_of, write,
};
use crate::service::rules::bounds::POSITIONS;
use crate::service::rules::commands::portfolio::{
    PublishPortfolio, ReadPortfolio, SubscribePortfolio, UnsubscribePortfolio,
};
use crate::service::rules::content::check_user_id;
use crate::service::rules::emissions::portfolio::{
    NewestPortfolio, PORTFOLIO_SUBSCRIBED, PORTFOLIO_UNSUBSCRIBED, PORTFOLIO_UPDATE, Portfolio,
};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{Append, Appended, Entry, IfOpen, Time};
use roomcast::{Namespace, Socket};

impl From<Snapshot> for NewestPortfolio {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            revision: snapshot.revision,
            portfolio: snapshot.entries.last().and_then(read),
        }
    }
}

/// Sends only the newest portfolio. It replaces an older one that is queued for a slow client.
struct PortfolioEmitter;

impl JournalEmitter for PortfolioEmitter {
    fn emit(&self, to: &Namespace, journal: &str, entries: &[Entry]) {
        let Some(entry) = entries.last() else { return };
        if let Some(update) = update::<Portfolio>(entry) {
            let to = to.local().to(room_named(KIND, user_of(KIND, journal)));
            PORTFOLIO_UPDATE.emit(to, &update);
        }
    }
}

/// Returns the kind of portfolios.
pub(super) fn kind(journals: &Journals) -> JournalKind<NewestPortfolio> {
    JournalKind {
        journals: journals.clone(),
        prefix: KIND,
        topics: Topics::Users,
        open: 1,
        newest: 0,
        is_replayed: false,
        emitter: Arc::new(PortfolioEmitter),
        subscribed: &PORTFOLIO_SUBSCRIBED,
        unsubscribed: &PORTFOLIO_UNSUBSCRIBED,
    }
}

impl Market {
    /// Subscribes a socket to its user's portfolio.
    pub(crate) async fn subscribe_portfolio(
        &self,
        allowed: Allowed<SubscribePortfolio>,
        socket: &Socket,
    ) -> Result<Subscribed<NewestPortfolio>, ServiceError> {
        let (by, command) = allowed.into_parts();
        // Clients send the id for their own purposes. It never gives access to another user's
        // portfolio.
        own(&by, &command.user_id)?;
        let portfolio = &self.0.portfolio;
        portfolio.subscribe(Some(&by.subject), None, socket).await
    }

    /// Ends the subscription of a socket to its user's portfolio.
    pub(crate) fn unsubscribe_portfolio(
        &self,
        allowed: Allowed<UnsubscribePortfolio>,
        socket: &Socket,
    ) -> Result<Unsubscribed, ServiceError> {
        let (by, command) = allowed.into_parts();
        own(&by, &command.user_id)?;
        Ok(self.0.portfolio.unsubscribe(Some(&by.subject), socket))
    }

    /// Returns the portfolio of any user, for services.
    pub(crate) async fn portfolio(
        &self,
        allowed: Allowed<ReadPortfolio>,
    ) -> Result<NewestPortfolio, ServiceError> {
        let (_, ReadPortfolio { user }) = allowed.into_parts();
        check_user_id("userId", &user)?;
        let (portfolio, newest) = (&self.0.portfolio, (None, Some(1)));
        let page = portfolio
            .page(Some(&user), Part::Open, newest, None)
            .await?;
        Ok(NewestPortfolio {
            revision: page.revision,
            portfolio: page.entries.first().and_then(read),
        })
    }

    /// Publishes the current portfolio of a user. Returns the stored portfolio with the latest
    /// time.
    pub(crate) async fn update_portfolio(
        &self,
        allowed: Allowed<PublishPortfolio>,
        namespace: &Namespace,
    ) -> Result<Portfolio, ServiceError> {
        let (_, new) = allowed.into_parts();
        check_user_id("userId", &new.user_id)?;
        checks::amount("totalValue", new.total_value)?;
        checks::amount("cash", new.cash)?;
        if new.positions.len() > POSITIONS {
            let problem = "must be 1000 or fewer";
            return Err(ServiceError::invalid("positions", problem));
        }
        for (i, position) in new.positions.iter().enumerate() {
            checks::symbol(format_args!("positions[{i}].symbol"), &position.symbol)?;
            checks::amount(format_args!("positions[{i}].quantity"), position.quantity)?;
            checks::amount(format_args!("positions[{i}].avgPrice"), position.avg_price)?;
        }
        checks::recent(new.timestamp, Time::now())?;
        let has_time = new.timestamp.is_some();
        let mut portfolio = Portfolio {
            user_id: new.user_id,
            total_value: new.total_value,
            cash: new.cash,
            positions: new.positions,
            timestamp: new.timestamp.unwrap_or_else(Time::now),
        };
        for attempt in 1..=ATTEMPTS {
            // Replaces the only entry of the journal, unless that is newer.
            let append = Append {
                is_open: true,
                if_open: IfOpen::RemoveOlder,
                most_open: 1,
                ..Append::new(
                    journal_of(KIND, &portfolio.user_id),
                    String::new(),
                    write(&portfolio),
                )
            };
            match self.0.journals.append(namespace, append).await? {
                Appended::Stored(Entry { revision, .. }) => {
                    let journals = &self.0.journals;
                    journals.hook(&PORTFOLIO_UPDATE, || Update {
                        body: portfolio.clone(),
                        revision,
                    });
                    return Ok(portfolio);
                }
                Appended::There(entry) => match read::<Portfolio>(&entry) {
                    // A newer portfolio is stored and remains current.
                    Some(newer) if has_time || attempt == ATTEMPTS => return Ok(newer),
                    // A portfolio without a time is current, so it gets at least the time of the
                    // stored one.
                    Some(newer) => portfolio.timestamp = newer.timestamp,
                    None => break,
                },
                Appended::Absent | Appended::Full => break,
            }
        }
        Err(ServiceError::Conflict(
            "the stored portfolio cannot be read or replaced",
        ))
    }
}

pub(super) const KIND: &str = RoomKind::Portfolio.prefix();
