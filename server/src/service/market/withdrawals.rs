//! Withdrawal of signals and trades. Their ids stay reserved, and lists omit them.

use super::signals::JOURNAL;
use super::{Market, checks, trades};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{
    Amended, is_withdrawal, journal_of, read, withdrawal, write_withdrawal,
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
        let end = |signal: Signal| {
            Ok(SignalWithdrawn {
                signal_id: signal.signal_id,
                channel_id: signal.channel_id,
                timestamp: Time::now(),
            })
        };
        let (target, event) = ((JOURNAL, &*signal_id), (&SIGNAL_WITHDRAWN, NO_SIGNAL));
        self.withdraw(namespace, target, event, end).await
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
        let (target, event) = ((&*journal, &*trade_id), (&TRADE_WITHDRAWN, NO_TRADE));
        self.withdraw(namespace, target, event, end).await
    }

    /// Replaces an entry by its withdrawal, unless it is already withdrawn. `end` returns what is
    /// withdrawn.
    async fn withdraw<T, E>(
        &self,
        namespace: &Namespace,
        target: (&str, &str),
        (event, missing): (&Emission<Update<E>, Reliable>, &'static str),
        end: impl Fn(T) -> Result<E, ServiceError>,
    ) -> Result<Update<E>, ServiceError>
    where
        T: DeserializeOwned,
        E: Clone + Serialize + DeserializeOwned,
    {
        let withdrawn = |known: &Entry| {
            if is_withdrawal(known) {
                return Ok(None);
            }
            let published = read(known).ok_or(ServiceError::OTHER_FORM)?;
            let (body, is_open) = (write_withdrawal(&end(published)?), false);
            Ok(Some(Amended { body, is_open }))
        };
        let body = |entry: &Entry| withdrawal(entry).ok_or(ServiceError::NotFound(missing));
        self.amend(namespace, target, (event, missing), withdrawn, body)
            .await
    }

    /// Replaces the current entry of a key with the result of `amended`, and notifies webhooks if it
    /// is new. Returns the current entry, whose content `body` reads.
    pub(super) async fn amend<T: Clone + Serialize>(
        &self,
        namespace: &Namespace,
        target: (&str, &str),
        (event, missing): (&Emission<Update<T>, Reliable>, &'static str),
        amended: impl Fn(&Entry) -> Result<Option<Amended>, ServiceError>,
        body: impl Fn(&Entry) -> Result<T, ServiceError>,
    ) -> Result<Update<T>, ServiceError> {
        let journals = &self.0.journals;
        let (entry, is_new) = journals.amend(namespace, target, missing, amended).await?;
        let (body, revision) = (body(&entry)?, entry.revision);
        let update = Update { body, revision };
        if is_new {
            journals.hook(event, || update.clone());
        }
        Ok(update)
    }
}

pub(super) const NO_SIGNAL: &str = "no such signal";
pub(super) const NO_TRADE: &str = "the user has no such trade";
pub(super) const EXECUTED: &str = "the trade is executed";
