//! Moves the words of new messages into the search index, in the background.
//!
//! PostgreSQL collects new words in a pending list. The transaction that fills the list moves it
//! into the index, and its whole lane waits for that. This task empties the list before it is full,
//! on a connection of its own. If it fails, nothing is lost: a lane moves the words when the list
//! is full.

use std::future::pending;
use std::time::Duration;

use deadpool_postgres::Pool;
use roomcast::internal::while_awake;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;

use super::lane::discard_connection;

/// Updates the index after every [`INDEX_UPDATE_THRESHOLD`] stored messages until all lanes have
/// ended. Each update may take `patience`.
pub(super) async fn update_index_periodically(
    mut stored: watch::Receiver<u64>,
    pool: Pool,
    patience: Duration,
) {
    let mut sorted = *stored.borrow();
    loop {
        let many = sorted.saturating_add(INDEX_UPDATE_THRESHOLD);
        // Messages stored from here on count for the next update, because this one may miss them.
        match stored.wait_for(|stored| *stored >= many).await {
            Ok(stored) => sorted = *stored,
            Err(_) => return,
        }
        if let Err(NotAllowed) = sort(&pool, patience).await {
            tracing::debug!("the search index belongs to another role, write workers update it");
            return pending().await;
        }
        sleep(MIN_INDEX_UPDATE_INTERVAL).await;
    }
}

/// The role of the connection does not own the index.
struct NotAllowed;

async fn sort(pool: &Pool, patience: Duration) -> Result<(), NotAllowed> {
    let Ok(client) = pool.get().await else {
        // Lanes detect that the database is unreachable.
        return Ok(());
    };
    let sorting = client.batch_execute("SELECT gin_clean_pending_list('messages_by_word')");
    match while_awake(patience, sorting).await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(NotAllowed)
        }
        // The next update may succeed, on a working connection.
        Some(Err(_)) | None => {
            discard_connection(client);
            Ok(())
        }
    }
}

/// The number of messages after which an update is worthwhile; far fewer than fill the list.
const INDEX_UPDATE_THRESHOLD: u64 = 256;

/// The minimum interval between two updates, which leaves the database to the lanes.
const MIN_INDEX_UPDATE_INTERVAL: Duration = Duration::from_millis(20);
