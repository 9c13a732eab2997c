//! Limits concurrent work for clients that are not yet identified, such as TLS handshakes.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::network::Network;

/// A semaphore with permits for all clients, of which one client may hold only some.
///
/// So a slow client delays only its own connections. There is one entry for each client that holds
/// or awaits a permit.
#[derive(Debug)]
pub(crate) struct FairSemaphore {
    all: Semaphore,
    each: usize,
    clients: Mutex<HashMap<Network, Arc<Semaphore>>>,
}

/// A permit. Dropping it returns it.
#[derive(Debug)]
pub(crate) struct FairPermit<'a> {
    // Fields drop in this order. The entry must be last, after its permit has been returned.
    _all: Option<SemaphorePermit<'a>>,
    _own: Option<OwnedSemaphorePermit>,
    _entry: Option<ClientEntry<'a>>,
}

impl FairSemaphore {
    /// Creates a semaphore with `all` permits, of which one client may hold `each`.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self {
            all: Semaphore::new(all),
            each,
            clients: Mutex::default(),
        }
    }

    /// Waits for a permit without a timeout. `None` stands for many clients, such as the clients of
    /// a proxy that does not identify them. Dropping the future leaves the queue.
    pub(crate) async fn take(&self, client: Option<IpAddr>) -> FairPermit<'_> {
        let entry = client.map(|address| ClientEntry::of(self, Network::of_client(address)));
        // The client's own permit is acquired first, so that a client at its limit does not occupy
        // a permit of all clients while it waits.
        let own = match &entry {
            // Neither semaphore is ever closed.
            Some(entry) => Arc::clone(&entry.semaphore).acquire_owned().await.ok(),
            None => None,
        };
        FairPermit {
            _all: self.all.acquire().await.ok(),
            _own: own,
            _entry: entry,
        }
    }
}

/// A use of a client's entry. Dropping the last use removes the entry.
#[derive(Debug)]
struct ClientEntry<'a> {
    table: &'a FairSemaphore,
    client: Network,
    semaphore: Arc<Semaphore>,
}

impl<'a> ClientEntry<'a> {
    fn of(table: &'a FairSemaphore, client: Network) -> Self {
        let mut clients = table.clients.lock();
        let semaphore = clients
            .entry(client)
            .or_insert_with(|| Arc::new(Semaphore::new(table.each)));
        Self {
            table,
            client,
            semaphore: Arc::clone(semaphore),
        }
    }
}

impl Drop for ClientEntry<'_> {
    fn drop(&mut self) {
        let mut clients = self.table.clients.lock();
        // The two references are those of the table and of `self`. References are cloned only under
        // the lock, so no new one can appear.
        if Arc::strong_count(&self.semaphore) <= 2 {
            clients.remove(&self.client);
        }
        if clients.is_empty() {
            clients.shrink_to(RETAINED_CAPACITY);
        }
    }
}

/// The capacity, in entries, up to which an empty table keeps its allocation.
const RETAINED_CAPACITY: usize = 256;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    const SLOW: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn slow_client_delays_only_its_own_connections() {
        let semaphore = FairSemaphore::new(10, 2);
        let first = semaphore.take(SLOW).now_or_never().unwrap();
        let _second = semaphore.take(SLOW).now_or_never().unwrap();
        let mut third = pin!(semaphore.take(SLOW));
        assert!((&mut third).now_or_never().is_none());
        drop(semaphore.take(OTHER).now_or_never().unwrap());
        drop(first);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn total_permits_are_limited() {
        let semaphore = FairSemaphore::new(2, 2);
        let _one = semaphore.take(SLOW).now_or_never().unwrap();
        let two = semaphore.take(None).now_or_never().unwrap();
        assert!(semaphore.take(OTHER).now_or_never().is_none());
        assert!(semaphore.take(None).now_or_never().is_none());
        drop(two);
        assert!(semaphore.take(OTHER).now_or_never().is_some());
    }

    #[test]
    fn finished_and_cancelled_clients_leave_no_entries() {
        let semaphore = FairSemaphore::new(10, 1);
        let has = semaphore.take(SLOW).now_or_never().unwrap();
        // It waits and is cancelled.
        assert!(semaphore.take(SLOW).now_or_never().is_none());
        assert_eq!(semaphore.clients.lock().len(), 1);
        assert!(semaphore.take(SLOW).now_or_never().is_none());
        drop(has);
        assert_eq!(semaphore.clients.lock().len(), 0);
        for n in 0..1000_u32 {
            let address = std::net::Ipv4Addr::from_bits(n).into();
            drop(semaphore.take(Some(address)).now_or_never().unwrap());
        }
        assert_eq!(semaphore.clients.lock().len(), 0);
        assert_eq!(semaphore.all.available_permits(), 10);
    }
}
