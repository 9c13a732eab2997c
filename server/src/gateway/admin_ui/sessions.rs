//! Sessions of the admin UI, which stores their ids in the browser.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::metrics::{Inventoried, Inventory, hex};

/// The sessions of this server, by the hashes of their ids, with their ends.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Instant>>);

impl Sessions {
    /// Creates a session and returns its id. At the limit it replaces the oldest session. Returns
    /// `None` if the operating system has no randomness.
    pub(super) fn create(&self) -> Option<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let id = hex(random);
        let now = Instant::now();
        let mut all = self.0.lock();
        all.retain(|_, end| *end > now);
        if all.len() >= MAX_SESSIONS
            && let Some(oldest) = all.iter().min_by_key(|(_, end)| **end)
        {
            let oldest = *oldest.0;
            all.remove(&oldest);
        }
        all.insert(hash(&id), now + LIFETIME);
        Some(id)
    }

    /// Ends all sessions.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Returns whether a session with this id exists.
    pub(super) fn has(&self, id: &str) -> bool {
        let end = self.0.lock().get(&hash(id)).copied();
        end.is_some_and(|end| end > Instant::now())
    }
}

impl Inventoried for Sessions {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("admin UI sessions", &self.0.lock());
    }
}

fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

const MAX_SESSIONS: usize = 64;
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sessions_end_after_a_day_and_are_limited() {
        let sessions = Sessions::default();
        let first = sessions.create().unwrap();
        assert_eq!(first.len(), 32);
        assert!(sessions.has(&first) && !sessions.has("") && !sessions.has(&first[1..]));
        tokio::time::advance(Duration::from_secs(1)).await;
        let others: Vec<_> = (0..MAX_SESSIONS)
            .map(|_| sessions.create().unwrap())
            .collect();
        assert!(!sessions.has(&first), "it was the oldest");
        assert!(others.iter().all(|id| sessions.has(id)));
        tokio::time::advance(LIFETIME).await;
        assert!(!others.iter().any(|id| sessions.has(id)));
    }
}
