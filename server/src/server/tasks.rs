//! The tasks that live as long as the server, each started by its name.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::RunError;
use super::services::Services;
use crate::config::Settings;
use crate::gateway;
use crate::service::{
    Applier, Blocks, ChangeFeed, ConversationNews, JournalNews, Leases, PriceNews, Retention,
    RevocationApplier, api::Publications, cluster,
};
use crate::store::{Commits, Store};
use crate::supervisor::Supervisor;
use roomcast::Io;

/// What others need of the tasks that were started.
pub(super) struct Started {
    /// The networks that are shut out, if addresses are guarded.
    pub(super) blocks: Option<Blocks>,
    /// What services publish by the store, if it is shared and that is enabled.
    pub(super) publications: Option<Publications>,
    /// Ended before the store is closed.
    pub(super) leases: Option<Leases>,
    /// One for each lane; each ends when the store is closed.
    pub(super) emission: Vec<JoinHandle<()>>,
}

impl Started {
    /// Starts all tasks but those of the store, which has started its own.
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
        let news = JournalNews::new(services.journals.clone(), io.of("/"));
        appliers.push(Box::new(news));
        let (market, namespace) = (services.market.clone(), io.of("/"));
        // The prices are known before the first client asks for them.
        let heard = market.hear_prices(&namespace).await;
        heard.map_err(RunError::Store)?;
        appliers.push(Box::new(PriceNews::new(market, namespace)));
        limits(settings, services, io, supervisor);
        published(services, io, supervisor);
        let (leases, emission) = chat(settings, services, store, io, commits, supervisor).await;
        credentials(services, io, supervisor);
        feed(services, store, io, appliers, supervisor).await;
        let publications = publications(settings, services, store, io, supervisor).await;
        let metrics = Arc::clone(&services.metrics);
        let retention = Retention::new(store.clone(), &settings.store, metrics);
        supervisor.start("retention", move || Arc::clone(&retention).run());
        Ok(Self {
            blocks,
            publications,
            leases,
            emission,
        })
    }
}

/// What keeps the limits of users, here and with other servers.
fn limits(settings: &Settings, services: &Services, io: &Io, supervisor: &Supervisor) {
    let users = Arc::clone(&services.users);
    supervisor.start("user sweep", move || Arc::clone(&users).sweep());
    let announcer = services.announcer.as_ref();
    if let Some(announcer) = announcer.filter(|_| settings.limits.shared).cloned() {
        let (users, io) = (Arc::clone(&services.users), io.clone());
        supervisor.start("user spending", move || {
            gateway::tell_spending(Arc::clone(&users), io.clone(), announcer.clone())
        });
    }
}

/// The networks that are shut out, if addresses are guarded.
async fn blocks(
    store: &Store,
    io: &Io,
    supervisor: &Supervisor,
) -> Result<Option<Blocks>, RunError> {
    let Some(guard) = io.guard() else {
        return Ok(None);
    };
    let blocks = Blocks::new(Arc::clone(guard), store.clone(), io.clone());
    // The stored blocks are in force before the server listens.
    blocks.restore().await.map_err(RunError::Store)?;
    let kept = blocks.clone();
    supervisor.start("block list", move || kept.clone().keep());
    Ok(Some(blocks))
}

/// What tells of entries of journals, executes trades, stores prices, and makes deliveries of webhooks.
fn published(services: &Services, io: &Io, supervisor: &Supervisor) {
    let (journals, namespace) = (services.journals.clone(), io.of("/"));
    supervisor.start("journals", move || journals.clone().keep(namespace.clone()));
    let (market, namespace) = (services.market.clone(), io.of("/"));
    supervisor.start("trades", move || market.clone().resume(namespace.clone()));
    let market = services.market.clone();
    supervisor.start("prices", move || market.clone().keep_prices());
    let (market, namespace) = (services.market.clone(), io.of("/"));
    supervisor.start("symbols", move || {
        market.clone().expire_prices(namespace.clone())
    });
    if services.hooks.is_there() {
        let node = io.node().map_or_else(String::new, |node| node.to_string());
        let hooks = services.hooks.clone();
        supervisor.start("webhooks", move || hooks.clone().run(node.clone()));
    }
}

/// What emits in conversations, and tells who is in them, here and to other servers.
async fn chat(
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
    // The statuses are read once before clients come; afterwards the task keeps them as they are.
    services.chat.open_statuses(io).await;
    let (chat, namespace) = (services.chat.clone(), io.of("/"));
    supervisor.start("statuses", move || {
        chat.clone().keep_statuses(namespace.clone())
    });
    let leases = store.leases().map(|leases| {
        let (chat, namespace) = (services.chat.clone(), io.of("/"));
        let (lease, metrics) = (settings.presence.lease, Arc::clone(&services.metrics));
        Leases::start(chat, namespace, leases, lease, metrics, supervisor)
    });
    let emit = |commits| {
        let chat = services.chat.clone();
        // A lane whose emission has ended cannot be taken up again: what it had taken was stored
        // and not emitted.
        supervisor.start_once("emission", chat.run(io.clone(), commits))
    };
    let emission = commits.split().into_iter().map(emit).collect();
    let (timed, namespaces) = (services.chat.clone(), io.clone());
    supervisor.start("timeouts", move || {
        timed.clone().advance(namespaces.clone())
    });
    if store.is_shared() {
        let (chat, io) = (services.chat.clone(), io.clone());
        supervisor.start("commits of others", move || chat.clone().follow(io.clone()));
    }
    (leases, emission)
}

/// What keeps the keys of tokens and login sessions as they are now.
fn credentials(services: &Services, io: &Io, supervisor: &Supervisor) {
    if services.keys.may_change() {
        let keys = Arc::clone(&services.keys);
        supervisor.start("keys", move || Arc::clone(&keys).run());
    }
    if let Some(backend) = services.backend.clone() {
        let io = io.clone();
        supervisor.start("backend sessions", move || {
            Arc::clone(&backend).keep(io.clone())
        });
    }
    let access = services.access.clone();
    supervisor.start("login sweep", move || access.clone().sweep());
}

/// What follows the feed of a store that servers share.
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
    // Revocations and blocks have a reader of their own, which does not wait behind the news of
    // conversations.
    let news = ChangeFeed::beside(feed.clone(), news, &services.fed).await;
    supervisor.start("conversation news", move || news.clone().run());
    let changes = ChangeFeed::new(feed, appliers, &services.fed);
    supervisor.start("change feed", move || changes.clone().run());
}

/// What services publish by the store, if it is shared and that is enabled.
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
    let publications = Publications::open(shared, node, chosen, metrics).await;
    let (told, namespace) = (publications.clone(), io.of("/"));
    supervisor.start("publications", move || told.clone().run(namespace.clone()));
    Some(publications)
}
