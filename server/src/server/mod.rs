//! The composition root of the server: builds all parts and runs them.
//!
//! `options` converts the configuration for the library, `services` creates the services and
//! registers the events, `tasks` starts long-lived tasks, and `routes` has the HTTP routes. Only
//! the command line may import this module.

mod edge;
mod error;
mod figures;
mod inventory;
mod options;
mod otlp;
mod reload;
mod routes;
mod service_manager;
mod services;
mod signals;
mod tasks;
mod trials;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::{net::TcpSocket, sync::Notify, task::JoinHandle};

use self::edge::{Acme, AdminListener, Challenges, RedirectListener};
pub(crate) use self::error::RunError;
use self::options::{engine_config, proxies, tls};
use self::reload::Owners;
pub(crate) use self::reload::{
    ApplyReload, Prepare, Reload, ReloadPlan, ReloadRefusal, Replacement,
};
use self::service_manager::ServiceManager;
use self::services::Services;
use self::signals::{Signals, SurvivedSignals};
use self::tasks::StartedTasks;
pub(crate) use self::trials::{Trial, try_all};
use crate::auth::{Roles, backend::BackendLogins, configured};
use crate::config::{Profile, Settings};
use crate::gateway;
use crate::http::{self, Losses, Readiness, scrape::TokenFile};
use crate::metrics::Metrics;
use crate::service::api::LogLevel;
use crate::service::{
    Asker, Chat, Hooks, Kinds, Leases, Market, SignalAccess,
    api::Publications,
    audit::AuditFile,
    cluster::{self, Sealing},
};
use crate::store::{NewConversation, Store};
use crate::supervisor::Supervisor;
use roomcast::{Io, Server, adapter::Health, metrics::Counter};

/// Runs the server until SIGTERM or SIGINT. SIGHUP reloads the configuration. `audit_file` gets
/// each entry of the audit log.
///
/// # Errors
///
/// If the server cannot start, or a task ended that cannot be restarted.
pub(crate) async fn run(
    settings: &Settings,
    reload: Reload,
    log_level: LogLevel,
    audit_file: Option<AuditFile>,
) -> Result<(), RunError> {
    // Signal handlers are installed first. Before that, any of these signals ends the process.
    let signals = Signals::listen().map_err(RunError::Signals)?;
    let survived_signals = SurvivedSignals::listen().map_err(RunError::Signals)?;
    // Everything that can be checked without side effects is checked first: a server that cannot
    // start leaves no traces.
    check(settings).map_err(|error| RunError::Refused(Box::new(error)))?;
    let manager = ServiceManager::from_environment().map_err(RunError::ServiceManager)?;
    let profile = settings.profile();

    check_folder(settings)?;
    try_address(settings.server.listen)?;
    let admin_listener = AdminListener::bind(settings).await?;
    let challenges = Challenges::default();
    let redirect_listener = RedirectListener::bind(settings, &challenges).await?;
    // The database file is reserved before it is opened. Two servers with the same file would not
    // receive each other's messages.
    let reservation = Store::reserve(&settings.store).map_err(RunError::Open)?;
    let io = Io::builder()
        .config(engine_config(settings))
        .log_connections()
        .client_files(http::client_files::embedded())
        .guard(&settings.limits.addresses(), proxies(settings));
    let metrics = Arc::new(Metrics::new());
    let rows = Arc::clone(&metrics);
    io.handle().metrics().extend(move |out| rows.expose(out));
    let supervisor = Supervisor::new(io.handle().metrics());
    let watched_signals = survived_signals.clone();
    supervisor.start("signals", move || watched_signals.clone().run());
    if let Some(interval) = manager.watchdog() {
        let manager = manager.clone();
        supervisor.start("watchdog", move || manager.clone().report_alive(interval));
    }
    let opened = Store::open_supervised(&settings.store, Arc::clone(&metrics), &supervisor);
    let (store, commits) = opened.await.map_err(RunError::Open)?;
    let warned = cluster::warn_of_public(settings).await;
    warned.map_err(RunError::Open)?;
    // The secrets can be in the store, so the adapter is created after it.
    let sealing = Sealing::open(settings).await.map_err(RunError::Sealing)?;
    let joined = cluster::join(io, settings, &sealing);
    let (io, adapter) = joined.map_err(RunError::Adapter)?;
    let services = Services::open(settings, &store, metrics, log_level, audit_file).await?;
    let io = services.register(settings, io);
    let io = match store.is_shared() {
        true => {
            let fed = Arc::clone(&services.fed);
            // Other servers may have revoked credentials while this process stood still.
            io.on_stall(move |_| {
                let fed = Arc::clone(&fed);
                async move { fed.applied().await }
            })
        }
        false => io,
    };
    let io = io.build().map_err(|error| RunError::Server(error.into()))?;
    if let Some(this) = io.nodes().into_iter().find(|node| node.is_this) {
        roomcast::internal::set_log_node(&this.id);
    }
    if let Some(guard) = io.guard() {
        gateway::observe_refusals(guard, services.diagnosis.clone());
    }
    #[cfg(debug_assertions)]
    supervisor.enable_test_shutdown(&io);
    // Tasks are started before the address is bound, so that all of them run when the first client
    // connects.
    let started = StartedTasks::start_all(settings, &services, &store, &io, commits, &supervisor);
    let StartedTasks {
        blocks,
        publications,
        leases,
        emission,
    } = started.await?;
    if profile == Profile::Development {
        store
            .insert_conversation(NewConversation::lobby())
            .await
            .map_err(RunError::Store)?;
    }

    let traces = services.traces.clone();
    figures::register(
        io.metrics(),
        settings,
        store.clone(),
        Arc::clone(&services.keys),
        publications.clone(),
        traces,
    );
    let readiness = readiness(&store, &supervisor, &io, publications);
    services.audit.serve(&io, blocks.clone());
    let reloads = services.audit.clone();
    let admin = services.admin.clone();
    admin.serve(io.clone(), blocks.clone(), readiness.clone());
    // Before the first client connects.
    admin.begin().await;
    let watched = admin.clone();
    supervisor.start("admin news", move || watched.clone().watch());
    let recorded = admin.clone();
    supervisor.start("alert log", move || recorded.clone().record_alerts());
    let token_file = metrics_token(settings)?;
    if let Some(file) = token_file.clone() {
        supervisor.start("metrics token", move || file.clone().watch());
    }
    let readers = routes::readers(settings, &services, token_file);
    let owners = Arc::new(Owners {
        adapter,
        admin_ui: services.admin_ui.clone(),
        backend: services.backend.clone(),
        channels: services.channels.clone(),
        hooks: services.hooks.clone(),
        io: io.clone(),
        keys: Arc::clone(&services.keys),
        market: services.market.clone(),
        readers: readers.clone(),
        sealing,
        store: store.clone(),
        users: Arc::clone(&services.users),
    });
    let router = routes::router(
        settings,
        &services,
        &readers,
        store.clone(),
        io.clone(),
        blocks.clone(),
        readiness.clone(),
    );
    if let Some(listener) = admin_listener {
        let reach = listener.reach();
        let (io, readiness) = (io.clone(), readiness.clone());
        let held = (store.clone(), blocks);
        let router = routes::admin_router(&services, readers, held, io, readiness, reach);
        listener.serve(router, &supervisor);
    }
    let certificates = Acme::prepare(settings, &challenges, &services.metrics);
    let certificates = certificates.map_err(RunError::Certificate)?;
    let mut server = Server::new(io.clone()).router(router);
    if let Some(tls) = tls(settings)? {
        server = server.tls(tls);
    }
    let server = server
        .drain(settings.server.drain)
        .grace(settings.server.grace)
        .bind(&settings.server.listen.to_string())
        .await
        .map_err(RunError::Server)?;

    if let (Some(reservation), Some(address)) = (&reservation, server.local_addrs().first())
        && let Err(error) = reservation.listening(*address)
    {
        tracing::warn!(%error, "could not record this server's address, a second server on this database cannot report it");
    }
    let reloading = manager.clone();
    survived_signals.on_hangup(Box::new(move || {
        let (manager, audit) = (reloading.clone(), reloads.clone());
        let reloaded = reload::reload(Arc::clone(&reload), Arc::clone(&owners), audit);
        Box::pin(async move {
            manager.reloading();
            reloaded.await;
            manager.ready();
        })
    }));
    if let Some(listener) = redirect_listener {
        listener.serve(&supervisor);
    }
    if let Some(certificates) = certificates {
        certificates.start(&supervisor);
    }
    let addresses = server.local_addrs();
    let stopping = Notify::new();
    let serving = server.run_until(async {
        // From here on the server has all its metrics.
        announce(settings, profile, &addresses);
        manager.ready();
        tokio::select! {
            () = signals.next() => {}
            () = supervisor.failed() => {}
            () = roomcast::internal::until_node_taken(&io) => {}
        }
        tracing::info!("stopping");
        // From here on the server is not ready, so that a load balancer sends it no new clients
        // while it drains.
        readiness.drain();
        manager.stopping();
        admin.draining();
        services.traces.close();
        services.chat.close_requests();
        stopping.notify_one();
    });
    let hurried = async {
        stopping.notified().await;
        signals.next().await;
    };
    let ending = async {
        // Clients are disconnected before the store is closed, so that their last events are
        // stored, emitted and answered.
        serving.await;
        services.hooks.close().await;
        services.market.finish_prices().await;
        admin.finish().await;
        finish(&supervisor, leases, store, emission).await;
        // The last spans are those of what was stored until now.
        if let Some(exporter) = &services.exporter {
            exporter.close().await;
        }
    };
    tokio::select! {
        () = ending => {}
        // After a second signal, the server does not wait any longer.
        () = hurried => return Err(RunError::Hurried),
    }
    // The file is released after the last write, so that the next server finds it complete.
    drop(reservation);
    tracing::info!("stopped");
    if let Some(taken) = io.node_taken() {
        return Err(RunError::Server(roomcast::Error::Node(taken)));
    }
    match supervisor.fatal() {
        none if none.is_empty() => Ok(()),
        tasks => Err(RunError::Tasks(tasks)),
    }
}

/// Returns the readiness of the server, which is evaluated for each request.
fn readiness(
    store: &Store,
    supervisor: &Supervisor,
    io: &Io,
    publications: Option<Publications>,
) -> Readiness {
    let store = store.clone();
    let (supervisor, tasks) = (supervisor.clone(), io.clone());
    let (adapter, losing) = (io.clone(), io.clone());
    Readiness::new(
        move || store.is_healthy(),
        move || [supervisor.ended(), tasks.ended_tasks()].concat(),
        move || {
            let health = adapter.adapter_health();
            health.map(|health| health == Health::Ready)
        },
        move || publications.as_ref().map(Publications::is_working),
    )
    .counting(move || {
        let gaps = losing.adapter_gaps().unwrap_or_default();
        Losses {
            lost: losing.metrics().counter(Counter::ClusterLost),
            gaps: gaps.count,
            cut_off: gaps.time,
        }
    })
}

/// Ends the tasks that serve clients, after all clients are disconnected.
async fn finish(
    supervisor: &Supervisor,
    leases: Option<Leases>,
    store: Store,
    emission: Vec<JoinHandle<()>>,
) {
    // From here on, tasks that end are not failures.
    supervisor.stop();
    if let Some(leases) = leases {
        // The lease is ended while the store is open, so that peers immediately see this server's
        // users as absent.
        leases.stop().await;
    }
    store.close().await;
    for lane in emission {
        // The emission tasks end after the closed store has delivered its last commit.
        let _ = lane.await;
    }
}

/// Checks whether the server could start with these settings, without side effects.
///
/// # Errors
///
/// Returns the error that [`run`] would return.
pub(crate) fn check(settings: &Settings) -> Result<(), RunError> {
    settings.check().map_err(RunError::Settings)?;
    Store::check(&settings.store).map_err(RunError::Open)?;
    cluster::check(settings).map_err(RunError::Adapter)?;
    Chat::check(&settings.chat).map_err(RunError::Absent)?;
    check_certificate(settings)?;
    let roles = Roles::new(&settings.auth.roles, 1, Arc::default());
    roles.map_err(RunError::Roles)?;
    let kinds = Kinds::new(&settings.channels).map_err(RunError::Channels)?;
    SignalAccess::new(&settings.market.signals).map_err(RunError::Channels)?;
    let asker = Asker::new(&settings.ask, Arc::default()).map_err(RunError::Outbound)?;
    let checked = kinds.check_served(asker.is_some(), settings.webhooks.url.is_some());
    checked.map_err(RunError::Channels)?;
    configured::check(settings).map_err(RunError::Keys)?;
    metrics_token(settings)?;
    if let Some(hash) = &settings.admin_ui.password_hash {
        gateway::check_hash(hash).map_err(RunError::AdminUi)?;
    }
    BackendLogins::new(&settings.auth.backend).map_err(RunError::Outbound)?;
    Market::check(&settings.market).map_err(RunError::Outbound)?;
    Hooks::check(&settings.webhooks).map_err(RunError::Outbound)?;
    otlp::check(&settings.otlp).map_err(RunError::Outbound)?;
    let io = Io::builder()
        .config(engine_config(settings))
        .namespace("/", |namespace| namespace);
    let io = io.build();
    io.map(|_| ())
        .map_err(|error| RunError::Server(error.into()))
}

/// Checks that the certificate can be used, unless the server obtains it.
fn check_certificate(settings: &Settings) -> Result<(), RunError> {
    if settings.server.acme.url.is_none() {
        return tls(settings).map(drop);
    }
    Acme::UNAVAILABLE.map_or(Ok(()), |fault| Err(RunError::Absent(fault)))
}

/// Reads the token of scrapers from its file, if configured.
fn metrics_token(settings: &Settings) -> Result<Option<TokenFile>, RunError> {
    let Some(path) = &settings.server.metrics_token_file else {
        return Ok(None);
    };
    let secrets = configured::weak_secrets(settings);
    let file = TokenFile::open(path, secrets).map_err(RunError::MetricsToken)?;
    Ok(Some(file))
}

/// Refuses a database file that every user of the machine could replace. In development, only logs
/// a warning.
fn check_folder(settings: &Settings) -> Result<(), RunError> {
    let Some(folder) = Store::unsafe_folder(&settings.store).map_err(RunError::Open)? else {
        return Ok(());
    };
    if settings.profile() == Profile::Production {
        return Err(RunError::Folder("store.url", folder));
    }
    let folder = folder.display();
    tracing::warn!(%folder, "every user of this machine can replace the database: chmod o-w the folder");
    Ok(())
}

/// Checks that the address is free. Otherwise the server stops before it creates a database.
fn try_address(address: SocketAddr) -> Result<(), RunError> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let bound = socket.and_then(|socket| {
        // Connections of a previous server in the TIME_WAIT state do not block the address.
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    });
    bound.map_err(|error| RunError::Server(roomcast::Error::Listen(address.to_string(), error)))
}

/// Logs the settings in force, and in the last lines the addresses.
fn announce(settings: &Settings, profile: Profile, addresses: &[SocketAddr]) {
    match (settings.guests(), profile) {
        (true, Profile::Production) => {
            tracing::warn!("guests can connect without credentials (auth.guests)");
        }
        (true, Profile::Development) => tracing::info!("guests can connect without credentials"),
        (false, _) => {}
    }
    tracing::info!(
        profile = profile.name(),
        store = settings.store.shown_url(),
        adapter = settings.adapter.shown_url(&settings.store),
        "ready"
    );
    let scheme = if settings.server.tls.cert_file.is_some() {
        "https"
    } else {
        "http"
    };
    for address in addresses {
        tracing::info!("listening on {scheme}://{address}");
    }
}
