//! Sorts the words of new messages into the search index beside the lanes.
//!
//! The database collects new words in a list, and whoever fills that list sorts it into the index within its own
//! transaction, for which a whole lane waits. Here the list is emptied before it is full, on a connection for which nobody
//! waits. Nothing is lost if this does not happen: a lane sorts in what fills the list.

use std::future::pending;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;

use super::lane::throw_away;

/// Sorts words in whenever many more messages are stored, until nobody stores any. Each time may take `patience`.
pub(super) async fn keep_sorted(mut stored: watch::Receiver<u64>, pool: Pool, patience: Duration) {
    let mut sorted = *stored.borrow();
    loop {
        let many = sorted.saturating_add(MANY);
        // What is stored from here on counts for the next time, since this one may miss it.
        match stored.wait_for(|stored| *stored >= many).await {
            Ok(stored) => sorted = *stored,
            Err(_) => return,
        }
        if let Err(NotAllowed) = sort(&pool, patience).await {
            tracing::debug!("the search index belongs to another role, so that lanes sort it");
            return pending().await;
        }
        sleep(PACE).await;
    }
}

/// The role of the connection does not own the index.
struct NotAllowed;

async fn sort(pool: &Pool, patience: Duration) -> Result<(), NotAllowed> {
    let Ok(client) = pool.get().await else {
        // Whoever stores finds out that the database is away.
        return Ok(());
    };
    let sorting = client.batch_execute("SELECT gin_clean_pending_list('messages_by_word')");
    match timeout(patience, sorting).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(NotAllowed)
        }
        // The next time may do better, on a connection that works.
        Ok(Err(_)) | Err(_) => {
            throw_away(client);
            Ok(())
        }
    }
}

/// Messages whose words are worth sorting in, far fewer than fill the list.
const MANY: u64 = 256;

/// The shortest time between two sortings, which leaves the database to the lanes meanwhile.
const PACE: Duration = Duration::from_millis(20);
