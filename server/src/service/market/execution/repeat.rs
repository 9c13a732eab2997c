//! Repeated orders under the same client id. They are answered with the outcome of the first, and
//! executed only if no other task is at work.

use std::time::{Duration, Instant};

use super::order::{JOURNAL, Stored, TradeReply};
use super::running::Claim;
use super::{MAX_STEP_TIME, Market, TIMEOUT_MARGIN};
use crate::service::fault::ServiceError;
use crate::service::journals::{journal_of, read};
use crate::service::market::trades;
use crate::service::rules::emissions::trades::{Trade, TradeStatus};
use crate::store::{Entry, Time};
use roomcast::Socket;

/// The next step for a repeated order.
enum RepeatStep {
    /// Report the settled trade.
    Report(Trade),
    /// Execute again: no task is at work, but the order may have been executed.
    GoOn,
    /// Start over: no task is at work, and the trade was never stored, so the order was not
    /// executed.
    Begin,
    /// Wait: another server is executing the order.
    Wait,
    /// Report an unknown outcome: a later check is scheduled, or the trade is left to operators.
    Unknown,
}

impl Market {
    /// Waits until no other task of this server executes an order, at most as long as an execution
    /// may take.
    pub(super) async fn claim(&self, trade_id: &str) -> Option<Claim> {
        let execution = &self.0.execution;
        let claimed = async {
            loop {
                match execution.running.begin(trade_id) {
                    Ok(claim) => return claim,
                    // The receiver returns an error when the claim is dropped, which ends the wait.
                    Err(mut end) => drop(end.changed().await),
                }
            }
        };
        let longest = execution.max_duration + TIMEOUT_MARGIN;
        tokio::time::timeout(longest, claimed).await.ok()
    }

    /// Answers a repeated order. The caller must hold its claim.
    pub(super) async fn repeat(
        &self,
        known: Entry,
        again: Stored,
        socket: &Socket,
    ) -> Result<TradeReply, ServiceError> {
        let store = self.0.journals.store();
        let namespace = socket.namespace();
        let deadline = Instant::now() + self.0.execution.max_duration;
        let mut known = Some(known);
        while let Some(entry) = known {
            let stored = read::<Stored>(&entry).ok_or(OTHER)?;
            // A client that uses one id for two orders must not get the outcome of the first for
            // the second.
            if !stored.order.is_like(&again.order) {
                return Err(OTHER);
            }
            match self.next(&entry, &stored).await? {
                RepeatStep::Report(trade) => {
                    return Ok(self
                        .report_outcome(stored, trade, Some(socket), &namespace)
                        .await);
                }
                RepeatStep::GoOn => return self.carry_out_for(stored, false, socket).await,
                RepeatStep::Begin => return self.begin_again(again, socket).await,
                RepeatStep::Unknown => return Ok(stored.unknown(Some(socket))),
                RepeatStep::Wait if Instant::now() >= deadline => {
                    return Ok(stored.unknown(Some(socket)));
                }
                RepeatStep::Wait => tokio::time::sleep(REPEAT_CHECK_INTERVAL).await,
            }
            known = store.journal_entry(JOURNAL, &entry.key).await?;
        }
        // The first order was removed while this task waited.
        self.begin_again(again, socket).await
    }

    async fn next(&self, entry: &Entry, stored: &Stored) -> Result<RepeatStep, ServiceError> {
        if let Some(trade) = &stored.settled {
            return Ok(RepeatStep::Report(trade.clone()));
        }
        let store = self.0.journals.store();
        let order = &stored.order;
        let journal = journal_of(trades::KIND, &order.user_id);
        let trade = store.journal_entry(&journal, &order.trade_id).await?;
        let now = Time::now();
        // With an unshared store, no other server can be executing the order.
        let is_left = !store.is_shared() || self.is_left(entry, stored);
        Ok(match trade.as_ref().and_then(read::<Trade>) {
            Some(trade) if trade.status != TradeStatus::Pending => RepeatStep::Report(trade),
            Some(_) if !entry.is_open || stored.rounds > 0 => RepeatStep::Unknown,
            Some(_) if is_left => RepeatStep::GoOn,
            None if !entry.is_open => RepeatStep::Unknown,
            None if is_left || entry.expires_at.is_some_and(|end| end <= now) => RepeatStep::Begin,
            // The server that stored the order stores its trade next, if it still runs.
            None if entry.created_at <= now.before(MAX_STEP_TIME) => RepeatStep::Begin,
            Some(_) | None => RepeatStep::Wait,
        })
    }

    /// Starts an order that led to nothing before.
    async fn begin_again(
        &self,
        again: Stored,
        socket: &Socket,
    ) -> Result<TradeReply, ServiceError> {
        let namespace = socket.namespace();
        self.reopen(&again, &namespace).await?;
        self.begin(again, socket).await
    }

    /// Answers with a settled trade whose order has already expired.
    pub(super) async fn answer_from(
        &self,
        settled: Trade,
        stored: Stored,
        socket: &Socket,
    ) -> Result<TradeReply, ServiceError> {
        let namespace = socket.namespace();
        let order = &stored.order;
        let is_same = (&order.symbol, order.quantity) == (&settled.symbol, settled.quantity)
            && settled.side.is_none_or(|side| side == order.side);
        if is_same {
            return Ok(self
                .report_outcome(stored, settled, Some(socket), &namespace)
                .await);
        }
        self.drop_order(&stored, &namespace).await;
        Err(OTHER)
    }
}

const OTHER: ServiceError =
    ServiceError::Conflict("another trade was ordered under this clientTradeId");
/// The interval between checks whether another server has executed an order.
const REPEAT_CHECK_INTERVAL: Duration = Duration::from_millis(250);
