//! Starts the long-lived tasks, each under a name.

use std::sync::Arc;

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::RunError;
use super::services::Services;
use crate::config::Settings;
use crate::gateway;
use crate::service::{
    Applier, Blocks, ChangeFeed, ChannelEnds, ConversationNews, Follower, JournalNews, Leases,
    PriceApplier, Retention, RevocationApplier, StatusNews, api::Publications, cluster,
};
use crate::store::{Commits, Store};
use crate::supervisor::Supervisor;
use roomcast::Io;

/// Results of starting the tasks.
pub(super) struct StartedTasks {
    /// The block list, if addresses are guarded.
    pub(super) blocks: Option<Blocks>,
    /// The publications through the store, if it is shared and they are enabled.
    pub(super) publications: Option<Publications>,
    /// Must be ended before the store is closed.
    pub(super) leases: Option<Leases>,
    /// One task for each write worker. Each ends when the store is closed.
    pub(super) emission: Vec<JoinHandle<()>>,
}

impl StartedTasks {
    /// Starts all tasks except those of the store, which starts its own.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub(super) async fn start_all(
        settings: &Settings,
        services: &Services,
        store: &Store,
        io: &Io,
        commits: Commits,
        supervisor: &Supervisor,
    ) -> Result<Self, RunError> {
        let mut appliers: Vec<Box<dyn Applier>> = vec![Box::new(RevocationApplier::new(
            services.access.clone(),
            io.clone(),
        ))];
        let blocks = blocks(store, io, supervisor).await?;
        if let Some(blocks) = blocks.clone() {
            appliers.push(Box::new(blocks));
        }
        appliers.push(Box::new(ChannelEnds(io.clone())));
        appliers.push(Box::new(JournalNews {
            journals: services.journals.clone(),
            namespace: io.of("/"),
        }));
        let (market, namespace) = (services.market.clone(), io.of("/"));
        // The prices are loaded before the first client subscribes.
        let applied = market.apply_stored_prices(&namespace).await;
        applied.map_err(RunError::Store)?;
        appliers.push(Box::new(PriceApplier { market, namespace }));
        limits(settings, services, io, supervisor);
        published(services, io, supervisor);
        let (leases, emission) = chat(settings, services, store, io, commits, supervisor);
        credentials(services, io, supervisor);
        feed(services, store, io, appliers, supervisor).await;
        let publications = publications(settings, services, store, io, supervisor).await;
        if let Some(ui) = services.admin_ui.clone() {
            let io = io.clone();
            supervisor.start("admin ui", move || ui.clone().run(io.clone()));
        }
        let metrics = Arc::clone(&services.metrics);
        let audit = settings.audit.retention;
        let retention = Retention::new(store.clone(), &settings.store, audit, metrics);
        supervisor.start("retention", move || Arc::clone(&retention).run());
        Ok(Self {
            blocks,
            publications,
            leases,
            emission,
        })
    }
}

/// Starts the tasks for rate limits on this server and across servers.
fn limits(settings: &Settings, services: &Services, io: &Io, supervisor: &Supervisor) {
    let users = Arc::clone(&services.users);
    supervisor.start("user sweep", move || Arc::clone(&users).sweep());
    let announcer = services.announcer.as_ref();
    if let Some(announcer) = announcer.filter(|_| settings.limits.shared).cloned() {
        let (users, io) = (Arc::clone(&services.users), io.clone());
        supervisor.start("user spending", move || {
            gateway::report_spending(Arc::clone(&users), io.clone(), announcer.clone())
        });
    }
}

/// Restores the block list if addresses are guarded, and starts its task.
async fn blocks(
    store: &Store,
    io: &Io,
    supervisor: &Supervisor,
) -> Result<Option<Blocks>, RunError> {
    let Some(guard) = io.guard() else {
        return Ok(None);
    };
    let blocks = Blocks::new(Arc::clone(guard), store.clone(), io.clone());
    // The stored blocks are active before the server listens.
    blocks.restore().await.map_err(RunError::Store)?;
    let list = blocks.clone();
    supervisor.start("block list", move || list.clone().run());
    Ok(Some(blocks))
}

/// Starts the tasks that emit journal entries, execute trades, store and expire prices, and deliver
/// webhooks.
fn published(services: &Services, io: &Io, supervisor: &Supervisor) {
    let (journals, namespace) = (services.journals.clone(), io.of("/"));
    supervisor.start("journals", move || journals.clone().run(namespace.clone()));
    let channels = services.channels.clone();
    supervisor.start("channels", move || channels.clone().count_stored());
    let (market, namespace) = (services.market.clone(), io.of("/"));
    supervisor.start("trades", move || market.clone().resume(namespace.clone()));
    let market = services.market.clone();
    supervisor.start("prices", move || market.clone().store_prices_continuously());
    let (market, namespace) = (services.market.clone(), io.of("/"));
    supervisor.start("symbols", move || {
        market.clone().expire_prices(namespace.clone())
    });
    if services.hooks.is_configured() {
        let node = io.node().map_or_else(String::new, |node| node.to_string());
        let hooks = services.hooks.clone();
        supervisor.start("webhooks", move || hooks.clone().run(node.clone()));
    }
    if let Some(exporter) = services.exporter.clone() {
        let own = io.nodes().into_iter().find(|node| node.is_this);
        // Servers without a cluster need different names as well.
        let node = own.map_or_else(|| Uuid::new_v4().to_string(), |node| node.id.to_string());
        supervisor.start("spans", move || exporter.clone().run(node.clone()));
    }
}

/// Starts the tasks that emit messages and maintain presence, on this server and across servers.
fn chat(
    settings: &Settings,
    services: &Services,
    store: &Store,
    io: &Io,
    commits: Commits,
    supervisor: &Supervisor,
) -> (Option<Leases>, Vec<JoinHandle<()>>) {
    if let Some(announcer) = services.announcer.clone() {
        let namespace = io.of(cluster::NAMESPACE);
        supervisor.start("announcements", move || {
            announcer.clone().run(namespace.clone())
        });
    }
    let leases = store.leases().map(|leases| {
        let (chat, namespace) = (services.chat.clone(), io.of("/"));
        let (lease, metrics) = (settings.presence.lease, Arc::clone(&services.metrics));
        Leases::start(chat, namespace, leases, lease, metrics, supervisor)
    });
    let emit = |commits| {
        let chat = services.chat.clone();
        // An emission task cannot be restarted: commits that it took are stored but would not be
        // emitted.
        supervisor.start_once("emission", chat.run(io.clone(), commits))
    };
    let emission = commits.split().into_iter().map(emit).collect();
    let (timed, namespaces) = (services.chat.clone(), io.clone());
    supervisor.start("timeouts", move || {
        timed.clone().advance(namespaces.clone())
    });
    let chat = services.chat.clone();
    supervisor.start("growing texts", move || chat.clone().store_texts());
    let chat = services.chat.clone();
    supervisor.start("idle texts", move || chat.clone().end_texts());
    if store.is_shared() {
        let (chat, io) = (services.chat.clone(), io.clone());
        let follower = Follower::new("commits of others").measured(&services.metrics);
        follower.start(supervisor, move || chat.remote_commits(&io));
    }
    (leases, emission)
}

/// Starts the tasks that keep token keys and login sessions up to date.
fn credentials(services: &Services, io: &Io, supervisor: &Supervisor) {
    if services.keys.may_change() {
        let keys = Arc::clone(&services.keys);
        supervisor.start("keys", move || Arc::clone(&keys).run());
    }
    if let Some(backend) = services.backend.clone() {
        let io = io.clone();
        supervisor.start("backend sessions", move || {
            Arc::clone(&backend).run_rechecks(io.clone())
        });
    }
    let access = services.access.clone();
    supervisor.start("login sweep", move || access.clone().sweep());
}

/// Starts the readers of the change feed of a shared store.
async fn feed(
    services: &Services,
    store: &Store,
    io: &Io,
    appliers: Vec<Box<dyn Applier>>,
    supervisor: &Supervisor,
) {
    let Some(feed) = store.feed() else {
        return;
    };
    let news = Box::new(ConversationNews::new(services.chat.clone(), io.of("/")));
    // Revocations and blocks have a separate reader, so that they do not wait for conversation
    // changes.
    let news = ChangeFeed::additional_reader(feed.clone(), news, &services.fed).await;
    let follower = Follower::new("conversation news").measured(&services.metrics);
    follower.start(supervisor, move || news.reader());
    // Statuses have a reader as well: each needs the recipients, and many may change at once.
    let statuses = Box::new(StatusNews::new(services.chat.clone(), io.of("/")));
    let statuses = ChangeFeed::additional_reader(feed.clone(), statuses, &services.fed).await;
    let follower = Follower::new("statuses").measured(&services.metrics);
    follower.start(supervisor, move || statuses.reader());
    let (changes, follower) = ChangeFeed::new(feed, appliers, &services.fed);
    let follower = follower.measured(&services.metrics);
    follower.start(supervisor, move || changes.reader());
}

/// Starts the publications through the store, if it is shared and they are enabled.
async fn publications(
    settings: &Settings,
    services: &Services,
    store: &Store,
    io: &Io,
    supervisor: &Supervisor,
) -> Option<Publications> {
    let shared = store.publications();
    let shared = shared.filter(|_| settings.publications.enabled)?;
    let (node, chosen) = (settings.node.id.clone(), settings.publications.clone());
    let metrics = Arc::clone(&services.metrics);
    let publications =
        Publications::open(shared, node, chosen, services.channels.clone(), metrics).await;
    let (source, namespace) = (publications.clone(), io.of("/"));
    let follower = Follower::new("publications").measured(&services.metrics);
    follower.start(supervisor, move || source.reader(namespace.clone()));
    Some(publications)
}
