//! Withdrawal of signals and trades. Their ids stay reserved, and lists omit them.

use super::signals::JOURNAL;
use super::{Market, checks, trades};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{
    AmendTarget, Amended, Outcome, is_withdrawal, journal_of, read, withdrawal, write_withdrawal,
};
use crate::service::rules::commands::withdrawals::{WithdrawSignal, WithdrawTrade};
use crate::service::rules::content::check_user_id;
use crate::service::rules::emission::{Emission, Reliable};
use crate::service::rules::emissions::published::Update;
use crate::service::rules::emissions::signals::{SIGNAL_WITHDRAWN, Signal, SignalWithdrawn};
use crate::service::rules::emissions::trades::{
    TRADE_WITHDRAWN, Trade, TradeStatus, TradeWithdrawn,
};
use crate::store::{Entry, Time};
use roomcast::Namespace;
use serde::{Serialize, de::DeserializeOwned};

impl Market {
    /// Withdraws a signal. A repeated request returns the first response.
    pub(crate) async fn withdraw_signal(
        &self,
        allowed: Allowed<WithdrawSignal>,
        namespace: &Namespace,
    ) -> Result<Update<SignalWithdrawn>, ServiceError> {
        let (_, WithdrawSignal { signal_id }) = allowed.into_parts();
        checks::name("signalId", &signal_id)?;
        let target = AmendTarget {
            journal: JOURNAL,
            key: &signal_id,
            missing: NO_SIGNAL,
        };
        let end = |signal: Signal| {
            Ok(SignalWithdrawn {
                signal_id: signal.signal_id,
                channel_id: signal.channel_id,
                timestamp: Time::now(),
            })
        };
        let journals = &self.0.journals;
        let amending = journals.amend(namespace, target, |known| ended(known, end));
        let outcome = amending.await?;
        let body = withdrawal(&outcome.entry).ok_or(ServiceError::NotFound(NO_SIGNAL))?;
        Ok(self.amended(&SIGNAL_WITHDRAWN, &outcome, body))
    }

    /// Withdraws a trade that is not executed. A repeated request returns the first response.
    pub(crate) async fn withdraw_trade(
        &self,
        allowed: Allowed<WithdrawTrade>,
        namespace: &Namespace,
    ) -> Result<Update<TradeWithdrawn>, ServiceError> {
        let (_, WithdrawTrade { user, trade_id }) = allowed.into_parts();
        check_user_id("userId", &user)?;
        checks::name("tradeId", &trade_id)?;
        self.refuse_if_ordered(&user, &trade_id).await?;
        let journal = journal_of(trades::KIND, &user);
        let target = AmendTarget {
            journal: &journal,
            key: &trade_id,
            missing: NO_TRADE,
        };
        let end = |trade: Trade| {
            if trade.status == TradeStatus::Executed {
                return Err(ServiceError::Conflict(EXECUTED));
            }
            Ok(TradeWithdrawn {
                trade_id: trade.trade_id,
                user_id: trade.user_id,
                timestamp: Time::now(),
            })
        };
        let journals = &self.0.journals;
        let amending = journals.amend(namespace, target, |known| ended(known, end));
        let outcome = amending.await?;
        let body = withdrawal(&outcome.entry).ok_or(ServiceError::NotFound(NO_TRADE))?;
        Ok(self.amended(&TRADE_WITHDRAWN, &outcome, body))
    }

    /// Returns the amended entry with this content, and notifies webhooks if it is new.
    pub(super) fn amended<T: Clone + Serialize>(
        &self,
        event: &Emission<Update<T>, Reliable>,
        outcome: &Outcome,
        body: T,
    ) -> Update<T> {
        let revision = outcome.entry.revision;
        let update = Update { body, revision };
        if outcome.is_new {
            let journals = &self.0.journals;
            journals.hook(event, || update.clone());
        }
        update
    }
}

/// Returns the entry that replaces a withdrawn one, or `None` if it is already withdrawn.
fn ended<T: DeserializeOwned, E: Serialize>(
    known: &Entry,
    end: impl Fn(T) -> Result<E, ServiceError>,
) -> Result<Option<Amended>, ServiceError> {
    if is_withdrawal(known) {
        return Ok(None);
    }
    let published = read(known).ok_or(ServiceError::OTHER_FORM)?;
    let body = write_withdrawal(&end(published)?);
    Ok(Some(Amended {
        body,
        is_open: false,
    }))
}

pub(super) const NO_SIGNAL: &str = "no such signal";
pub(super) const NO_TRADE: &str = "the user has no such trade";
pub(super) const EXECUTED: &str = "the trade is executed";
