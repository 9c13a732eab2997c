//! The parts of the inventory that belong to the library and the store.

use super::services::Services;
use crate::metrics::{Inventoried, Inventory};
use crate::service::Blocks;
use crate::store::Store;
use roomcast::{Io, metrics::Gauge};

/// Returns a function that reports everything that the server holds.
pub(super) fn of(
    services: &Services,
    store: Store,
    blocks: Option<Blocks>,
    io: Io,
) -> impl Fn() -> Inventory + Send + Sync + 'static {
    let mut owners: Vec<Box<dyn Inventoried + Send + Sync>> = vec![
        Box::new(Library(io)),
        Box::new(store),
        Box::new(services.access.clone()),
        Box::new(services.users.clone()),
        Box::new(services.chat.clone()),
        Box::new(services.journals.clone()),
        Box::new(services.channels.clone()),
        Box::new(services.market.clone()),
        Box::new(services.hooks.clone()),
        Box::new(services.traces.clone()),
        Box::new(services.alerts.clone()),
    ];
    if let Some(blocks) = blocks {
        owners.push(Box::new(blocks));
    }
    if let Some(admin_ui) = services.admin_ui.clone() {
        owners.push(Box::new(admin_ui));
    }
    if let Some(backend) = services.backend.clone() {
        owners.push(Box::new(backend));
    }
    move || {
        let mut inventory = Inventory::default();
        for owner in &owners {
            owner.report(&mut inventory);
        }
        inventory
    }
}

/// What the library holds.
struct Library(Io);

impl Inventoried for Library {
    fn report(&self, inventory: &mut Inventory) {
        let gauge = |gauge| u64::try_from(self.0.metrics().gauge(gauge)).unwrap_or(0);
        let sessions = gauge(Gauge::SessionsPolling) + gauge(Gauge::SessionsWebSocket);
        for (name, count, bytes) in [
            ("connections", gauge(Gauge::Connections), None),
            // Each session has a queue.
            ("outboxes", sessions, Some(gauge(Gauge::OutboxBytes))),
            (
                "compression contexts",
                gauge(Gauge::DeflateConnections),
                Some(gauge(Gauge::DeflateContextBytes)),
            ),
            ("sockets", gauge(Gauge::Sockets), None),
            ("rooms", gauge(Gauge::Rooms), None),
            ("pending acknowledgements", gauge(Gauge::AcksPending), None),
            (
                "recovery",
                gauge(Gauge::RecoverySessions),
                Some(gauge(Gauge::RecoveryBytes)),
            ),
            ("idempotent answers", gauge(Gauge::IdempotentAnswers), None),
            ("waiting polls", gauge(Gauge::PollsWaiting), None),
            ("forwarded requests", gauge(Gauge::RequestsForwarded), None),
            ("tunnels", gauge(Gauge::Tunnels), None),
            ("blocks", gauge(Gauge::Blocks), None),
            ("limited addresses", gauge(Gauge::LimitedAddresses), None),
            ("requests to servers", gauge(Gauge::ClusterRequests), None),
        ] {
            inventory.add(name, count, bytes);
        }
        let sizes = self.0.table_sizes();
        inventory.add("paced events", sizes.paced_keys as u64, None);
        inventory.add("unknown clients", sizes.unknown_clients as u64, None);
        inventory.add("namespaces on demand", sizes.namespaces as u64, None);
        if let Some(backlog) = self.0.adapter_backlog() {
            let bytes = Some(backlog.bytes as u64);
            inventory.add("adapter queue", backlog.messages as u64, bytes);
            inventory.add("servers", self.0.nodes().len() as u64, None);
            let (count, bytes) = sizes.deduplication;
            inventory.add("deduplication windows", count as u64, Some(bytes as u64));
            inventory.add("rooms at the adapter", sizes.adapter_rooms as u64, None);
        }
    }
}

impl Inventoried for Store {
    fn report(&self, inventory: &mut Inventory) {
        let usage = self.usage();
        inventory.add("store queue", usage.changes as u64, None);
        inventory.add("store reads", usage.waiting_reads as u64, None);
        inventory.add("store connections", usage.connections as u64, None);
    }
}
