//! Corrections of signals and trades. Followers receive the same event as for a publication, with a
//! larger revision.

use roomcast::Namespace;

use super::signals::JOURNAL;
use super::withdrawals::{EXECUTED, NO_SIGNAL, NO_TRADE};
use super::{Market, checks, signals, trades};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{Amended, is_withdrawal, journal_of, read, write};
use crate::service::rules::commands::corrections::{CorrectSignal, CorrectTrade};
use crate::service::rules::content::{check_same_id, check_user_id};
use crate::service::rules::emissions::published::Update;
use crate::service::rules::emissions::signals::{SIGNAL_NEW, Signal};
use crate::service::rules::emissions::trades::{TRADE_UPDATE, Trade, TradeStatus};
use crate::store::Entry;
use serde::de::DeserializeOwned;

impl Market {
    /// Replaces the content of a signal. Its channel stays. Without a time, the published one
    /// stays.
    pub(crate) async fn correct_signal(
        &self,
        allowed: Allowed<CorrectSignal>,
        namespace: &Namespace,
    ) -> Result<Update<Signal>, ServiceError> {
        let (_, CorrectSignal { signal_id, signal }) = allowed.into_parts();
        checks::name("signalId", &signal_id)?;
        check_same_id("signalId", signal.signal_id.as_deref(), &signal_id)?;
        let has_time = signal.timestamp.is_some();
        let corrected = Signal {
            signal_id: signal_id.clone(),
            ..signals::checked(signal)?
        };
        let amended = |entry: &Entry| {
            let known: Signal = published(entry)?;
            if known.channel_id != corrected.channel_id {
                return Err(ServiceError::Unfit {
                    field: "channelId".into(),
                    problem: "is not the channel of the published signal",
                });
            }
            let mut corrected = corrected.clone();
            if !has_time {
                corrected.timestamp = known.timestamp;
            }
            Ok((corrected != known).then(|| Amended {
                body: write(&corrected),
                is_open: false,
            }))
        };
        let (target, event) = ((JOURNAL, &*signal_id), (&SIGNAL_NEW, NO_SIGNAL));
        self.amend(namespace, target, event, amended, published)
            .await
    }

    /// Replaces a trade that is not executed. A settled trade stays settled. Without a time or a
    /// side, the published one stays.
    pub(crate) async fn correct_trade(
        &self,
        allowed: Allowed<CorrectTrade>,
        namespace: &Namespace,
    ) -> Result<Update<Trade>, ServiceError> {
        let (_, command) = allowed.into_parts();
        let (user, trade_id, trade) = (command.user, command.trade_id, command.trade);
        check_user_id("userId", &user)?;
        checks::name("tradeId", &trade_id)?;
        check_same_id("userId", Some(&trade.user_id), &user)?;
        check_same_id("tradeId", Some(&trade.trade_id), &trade_id)?;
        let has_time = trade.timestamp.is_some();
        let corrected = trades::checked(trade)?;
        self.refuse_if_ordered(&user, &trade_id).await?;
        let journal = journal_of(trades::KIND, &user);
        let amended = |entry: &Entry| {
            let known: Trade = published(entry)?;
            let mut corrected = corrected.clone();
            corrected.side = corrected.side.or(known.side);
            if !has_time {
                corrected.timestamp = known.timestamp;
            }
            if corrected == known {
                return Ok(None);
            }
            let is_open = corrected.status == TradeStatus::Pending;
            match known.status {
                TradeStatus::Executed => return Err(ServiceError::Conflict(EXECUTED)),
                // An open trade takes one of a limited number of places.
                TradeStatus::Failed | TradeStatus::Canceled if is_open => {
                    return Err(ServiceError::Conflict(SETTLED));
                }
                TradeStatus::Pending | TradeStatus::Failed | TradeStatus::Canceled => {}
            }
            Ok(Some(Amended {
                body: write(&corrected),
                is_open,
            }))
        };
        let (target, event) = ((&*journal, &*trade_id), (&TRADE_UPDATE, NO_TRADE));
        self.amend(namespace, target, event, amended, published)
            .await
    }
}

/// Returns the published content of an entry.
fn published<T: DeserializeOwned>(entry: &Entry) -> Result<T, ServiceError> {
    if is_withdrawal(entry) {
        return Err(ServiceError::WITHDRAWN);
    }
    read(entry).ok_or(ServiceError::OTHER_FORM)
}

const SETTLED: &str = "the trade is settled and cannot become pending again";
