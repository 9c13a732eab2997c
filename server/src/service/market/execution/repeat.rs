//! An order that comes again under the same id of its client: it is answered with what became of the first, and carried out only
//! if nobody else is at it.

use std::time::{Duration, Instant};

use super::order::{JOURNAL, Stored, Told};
use super::running::Claim;
use super::{MARGIN, Market, STEP};
use crate::service::fault::ServiceError;
use crate::service::journals::{journal_of, read};
use crate::service::market::trades;
use crate::service::rules::emissions::trades::{Trade, TradeStatus};
use crate::store::{Entry, Time};
use roomcast::Socket;

/// What is to be done about an order that was given before.
enum Next {
    /// The trade is settled.
    Tell(Trade),
    /// Nobody is at it, and it may have been carried out.
    GoOn,
    /// Nobody is at it, and its trade was never stored, so that it was not carried out.
    Begin,
    /// Somebody is at it, at another server.
    Wait,
    /// Nobody knew the outcome, and somebody asks again later; or the trade was left to people.
    Unknown,
}

impl Market {
    /// Waits until no other task of this server is at an order, for as long as one may take.
    pub(super) async fn claim(&self, trade_id: &str) -> Option<Claim> {
        let execution = &self.0.execution;
        let claimed = async {
            loop {
                match execution.running.begin(trade_id) {
                    Ok(claim) => return claim,
                    // The receiver ends with an error when the claim is dropped, which is all that
                    // is waited for.
                    Err(mut end) => drop(end.changed().await),
                }
            }
        };
        let longest = execution.patience + MARGIN;
        tokio::time::timeout(longest, claimed).await.ok()
    }

    /// Answers an order that was given before. Whoever calls this has the claim on it.
    pub(super) async fn repeat(
        &self,
        known: Entry,
        again: Stored,
        socket: &Socket,
    ) -> Result<Told, ServiceError> {
        let store = self.0.journals.store();
        let namespace = socket.namespace();
        let deadline = Instant::now() + self.0.execution.patience;
        let mut known = Some(known);
        while let Some(entry) = known {
            let stored = read::<Stored>(&entry).ok_or(OTHER)?;
            // A client that uses one id for two orders must not be told the outcome of the first
            // for the second.
            if !stored.order.is_like(&again.order) {
                return Err(OTHER);
            }
            match self.next(&entry, &stored).await? {
                Next::Tell(trade) => {
                    return Ok(self.tell(stored, trade, Some(socket), &namespace).await);
                }
                Next::GoOn => return self.carry_out_for(stored, false, socket).await,
                Next::Begin => return self.begin_again(again, socket).await,
                Next::Unknown => return Ok(stored.unknown(Some(socket))),
                Next::Wait if Instant::now() >= deadline => {
                    return Ok(stored.unknown(Some(socket)));
                }
                Next::Wait => tokio::time::sleep(LOOK).await,
            }
            known = store.journal_entry(JOURNAL, &entry.key).await?;
        }
        // The first order was forgotten while this waited for it.
        self.begin_again(again, socket).await
    }

    async fn next(&self, entry: &Entry, stored: &Stored) -> Result<Next, ServiceError> {
        if let Some(trade) = &stored.settled {
            return Ok(Next::Tell(trade.clone()));
        }
        let store = self.0.journals.store();
        let order = &stored.order;
        let journal = journal_of(trades::KIND, &order.user_id);
        let trade = store.journal_entry(&journal, &order.trade_id).await?;
        let now = Time::now();
        // At a server that has its store for itself nobody else can be at the order.
        let is_left = !store.is_shared() || self.is_left(entry, stored);
        Ok(match trade.as_ref().and_then(read::<Trade>) {
            Some(trade) if trade.status != TradeStatus::Pending => Next::Tell(trade),
            Some(_) if !entry.is_open || stored.rounds > 0 => Next::Unknown,
            Some(_) if is_left => Next::GoOn,
            None if !entry.is_open => Next::Unknown,
            None if is_left || entry.expires_at.is_some_and(|end| end <= now) => Next::Begin,
            // Whoever has stored the order stores its trade next, if it still runs.
            None if entry.created_at <= now.before(STEP) => Next::Begin,
            Some(_) | None => Next::Wait,
        })
    }

    /// Takes an order that came to nothing before.
    async fn begin_again(&self, again: Stored, socket: &Socket) -> Result<Told, ServiceError> {
        let namespace = socket.namespace();
        self.reopen(&again, &namespace).await?;
        self.begin(again, socket).await
    }

    /// Answers with a trade that was settled so long ago that its order is forgotten.
    pub(super) async fn answer_from(
        &self,
        settled: Trade,
        stored: Stored,
        socket: &Socket,
    ) -> Result<Told, ServiceError> {
        let namespace = socket.namespace();
        let order = &stored.order;
        if (&order.symbol, order.quantity) == (&settled.symbol, settled.quantity) {
            return Ok(self.tell(stored, settled, Some(socket), &namespace).await);
        }
        self.drop_order(&stored, &namespace).await;
        Err(OTHER)
    }
}

const OTHER: ServiceError =
    ServiceError::Conflict("another trade was ordered under this clientTradeId");
/// How often it is looked whether another server has carried an order out.
const LOOK: Duration = Duration::from_millis(250);
