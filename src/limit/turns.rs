//! Turns for work that a client can ask for before anything is known of it, as TLS handshakes.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::network::Network;

/// Some turns at a time, and fewer of them for one client: one that takes its time keeps its own
/// others waiting, not everybody. There is one entry for each client that has or awaits a turn.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Semaphore,
    each: usize,
    clients: Mutex<HashMap<Network, Arc<Semaphore>>>,
}

/// A turn, which ends with this value.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    // Given back in this order; the place goes last, when nobody holds its semaphore any more.
    _all: Option<SemaphorePermit<'a>>,
    _own: Option<OwnedSemaphorePermit>,
    _place: Option<Place<'a>>,
}

impl Turns {
    /// This many at a time, and this many of them for one client.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self {
            all: Semaphore::new(all),
            each,
            clients: Mutex::default(),
        }
    }

    /// Waits for a turn; how long is up to the caller. `None` stands for many clients.
    pub(crate) async fn take(&self, client: Option<IpAddr>) -> Turn<'_> {
        let place = client.map(|address| Place::of(self, Network::of_client(address)));
        let own = match &place {
            // Neither is ever closed.
            Some(place) => Arc::clone(&place.semaphore).acquire_owned().await.ok(),
            None => None,
        };
        Turn {
            _all: self.all.acquire().await.ok(),
            _own: own,
            _place: place,
        }
    }
}

/// The entry of a client, for as long as somebody uses it.
#[derive(Debug)]
struct Place<'a> {
    turns: &'a Turns,
    client: Network,
    semaphore: Arc<Semaphore>,
}

impl<'a> Place<'a> {
    fn of(turns: &'a Turns, client: Network) -> Self {
        let mut clients = turns.clients.lock();
        let semaphore = clients
            .entry(client)
            .or_insert_with(|| Arc::new(Semaphore::new(turns.each)));
        Self {
            turns,
            client,
            semaphore: Arc::clone(semaphore),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut clients = self.turns.clients.lock();
        // The table's own and this one's: entries are only shared under the lock.
        if Arc::strong_count(&self.semaphore) <= 2 {
            clients.remove(&self.client);
        }
        if clients.is_empty() {
            clients.shrink_to(KEPT);
        }
    }
}

/// Entries of room that an empty table keeps.
const KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    const SLOW: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn a_client_that_takes_its_time_keeps_its_own_others_waiting_only() {
        let turns = Turns::new(10, 2);
        let first = turns.take(SLOW).now_or_never().unwrap();
        let _second = turns.take(SLOW).now_or_never().unwrap();
        let mut third = pin!(turns.take(SLOW));
        assert!((&mut third).now_or_never().is_none());
        drop(turns.take(OTHER).now_or_never().unwrap());
        drop(first);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn there_are_so_many_turns_for_all_together() {
        let turns = Turns::new(2, 2);
        let _one = turns.take(SLOW).now_or_never().unwrap();
        let two = turns.take(None).now_or_never().unwrap();
        assert!(turns.take(OTHER).now_or_never().is_none());
        assert!(turns.take(None).now_or_never().is_none());
        drop(two);
        assert!(turns.take(OTHER).now_or_never().is_some());
    }

    #[test]
    fn nothing_is_left_of_clients_that_have_had_their_turn_or_given_up() {
        let turns = Turns::new(10, 1);
        let has = turns.take(SLOW).now_or_never().unwrap();
        // It waits, and gives up.
        assert!(turns.take(SLOW).now_or_never().is_none());
        assert_eq!(turns.clients.lock().len(), 1);
        assert!(turns.take(SLOW).now_or_never().is_none());
        drop(has);
        assert_eq!(turns.clients.lock().len(), 0);
        for n in 0..1000_u32 {
            let address = std::net::Ipv4Addr::from_bits(n).into();
            drop(turns.take(Some(address)).now_or_never().unwrap());
        }
        assert_eq!(turns.clients.lock().len(), 0);
        assert_eq!(turns.all.available_permits(), 10);
    }
}
