//! The composition root of the binary: builds everything, top to bottom, and runs it.
//!
//! `options` reads the configuration for the library, `services` makes the services and registers the events,
//! `tasks` starts what lives as long as the server, `routes` has the HTTP routes. Only the command line comes in here.

mod admin_listener;
mod error;
mod options;
mod routes;
mod services;
mod signals;
mod tasks;
mod trials;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::{net::TcpSocket, sync::Notify, task::JoinHandle};

use self::admin_listener::AdminListener;
pub(crate) use self::error::RunError;
use self::options::{engine_config, proxies, tls};
use self::services::Services;
use self::signals::{Signals, SurvivedSignals};
use self::tasks::Started;
pub(crate) use self::trials::{Trial, try_all};
use crate::auth::{Roles, backend::BackendLogins, configured};
use crate::config::{Profile, Settings};
use crate::http::{self, Losses, Readiness};
use crate::metrics::Metrics;
use crate::service::{
    Hooks, Leases, Market,
    api::Publications,
    cluster::{self, Sealing},
};
use crate::store::{NewConversation, Store};
use crate::supervisor::Supervisor;
use roomcast::{Io, Server, adapter::Health, metrics::Counter};

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
///
/// If it cannot start, or a task has ended that cannot be started again.
pub(crate) async fn run(settings: &Settings) -> Result<(), RunError> {
    // The signals are listened to first: until then each of them ends the process.
    let signals = Signals::listen().map_err(RunError::Signals)?;
    let survived_signals = SurvivedSignals::listen().map_err(RunError::Signals)?;
    // Everything that can be wrong without touching anything is found first: a server that cannot
    // start leaves no traces.
    check(settings)?;
    let profile = settings.profile();

    check_folder(settings)?;
    try_address(settings.server.listen)?;
    let admin_listener = AdminListener::bind(settings).await?;
    // The database file is reserved before it is opened, since two servers of one file would not
    // hear of each other's messages.
    let reservation = Store::reserve(&settings.store).map_err(RunError::Open)?;
    let io = Io::builder()
        .config(engine_config(settings))
        .log_connections()
        .client_files(http::client_files::embedded())
        .guard(&settings.limits.addresses(), proxies(settings));
    let metrics = Arc::new(Metrics::beside(Arc::clone(io.handle().metrics())));
    let supervisor = Supervisor::new(&metrics);
    supervisor.start("signals", move || survived_signals.clone().log());
    let opened = Store::open_supervised(&settings.store, Arc::clone(&metrics), &supervisor);
    let (store, commits) = opened.await.map_err(RunError::Open)?;
    let warned = cluster::warn_of_public(settings).await;
    warned.map_err(RunError::Open)?;
    // The secrets may be in the store, so that the adapter comes after it.
    let sealing = Sealing::open(settings).await.map_err(RunError::Sealing)?;
    let io = cluster::join(io, settings, &sealing).map_err(RunError::Adapter)?;
    let services = Services::open(settings, &store, metrics).await?;
    let io = match store.values() {
        Some(values) => io.values(values),
        None => io,
    };
    let io = services.register(settings, io);
    let io = io.build().map_err(|error| RunError::Server(error.into()))?;
    #[cfg(debug_assertions)]
    supervisor.obey_tests(&io);
    // Tasks are started before the address is bound: with the first client all of them are there.
    let started = Started::start_all(settings, &services, &store, &io, commits, &supervisor);
    let Started {
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

    let readiness = readiness(&store, &supervisor, &io, publications, &services.metrics);
    let admin = services.admin.clone();
    admin.serve(io.clone(), blocks.clone(), readiness.clone());
    let watched = admin.clone();
    supervisor.start("admin news", move || watched.clone().watch());
    let router = routes::router(
        settings,
        &services,
        store.clone(),
        io.clone(),
        blocks,
        readiness.clone(),
    );
    if let Some(listener) = admin_listener {
        let reach = listener.reach();
        let (io, readiness) = (io.clone(), readiness.clone());
        let router = routes::admin_router(settings, &services, io, readiness, reach);
        listener.serve(router, &supervisor);
    }
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
        tracing::warn!(%error, "another server on this database will not be told where this one is");
    }
    announce(settings, profile, &server);
    let stopping = Notify::new();
    let serving = server.run_until(async {
        tokio::select! {
            () = signals.next() => {}
            () = supervisor.failed() => {}
        }
        tracing::info!("stopping");
        // The server is not ready from here on, so that a balancer sends nobody new while clients
        // are moved.
        readiness.drain();
        admin.draining();
        stopping.notify_one();
    });
    let hurried = async {
        stopping.notified().await;
        signals.next().await;
    };
    let ending = async {
        // The clients are gone before the store is closed: what they have sent is stored, emitted
        // and answered.
        serving.await;
        services.hooks.close().await;
        services.market.finish_prices().await;
        finish(&supervisor, leases, store, emission).await;
    };
    tokio::select! {
        () = ending => {}
        // Whoever sends a second signal does not want to wait for any of this.
        () = hurried => return Err(RunError::Hurried),
    }
    // The file is given back when nothing is written any more, so that the next server finds it
    // whole.
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

/// Whether the server can take clients, asked anew each time.
fn readiness(
    store: &Store,
    supervisor: &Supervisor,
    io: &Io,
    publications: Option<Publications>,
    metrics: &Arc<Metrics>,
) -> Readiness {
    let (store, metrics) = (store.clone(), Arc::clone(metrics));
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
            lost: metrics.library().counter(Counter::ClusterLost),
            gaps: gaps.count,
            cut_off: gaps.time,
        }
    })
}

/// Ends what works for clients, once there are none.
async fn finish(
    supervisor: &Supervisor,
    leases: Option<Leases>,
    store: Store,
    emission: Vec<JoinHandle<()>>,
) {
    // The tasks end with what they work on, which is no failure from here on.
    supervisor.stop();
    if let Some(leases) = leases {
        // The lease is ended while the store is still open, so that others see at once that nobody
        // is here.
        leases.stop().await;
    }
    store.close().await;
    for lane in emission {
        // The lanes end by themselves when the closed store has handed out its last commit.
        let _ = lane.await;
    }
}

/// Whether the server could start with these settings, as far as that can be said without
/// touching anything.
///
/// # Errors
///
/// What [`run`] would answer.
pub(crate) fn check(settings: &Settings) -> Result<(), RunError> {
    settings.check().map_err(RunError::Settings)?;
    Store::check(&settings.store).map_err(RunError::Open)?;
    cluster::check(settings).map_err(RunError::Adapter)?;
    tls(settings)?;
    let roles = Roles::new(&settings.auth.roles, 1, Arc::default());
    roles.map_err(RunError::Roles)?;
    configured::check(settings).map_err(RunError::Keys)?;
    BackendLogins::new(&settings.auth.backend).map_err(RunError::Outbound)?;
    Market::check(&settings.market).map_err(RunError::Outbound)?;
    Hooks::check(&settings.webhooks).map_err(RunError::Outbound)?;
    let mut io = Io::builder().config(engine_config(settings));
    io.namespace("/");
    let io = io.build();
    io.map(|_| ())
        .map_err(|error| RunError::Server(error.into()))
}

/// Refuses a database file that every user of the machine could replace. In development that is a warning.
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

/// Looks whether the address can be had: a server that cannot have it makes no database.
fn try_address(address: SocketAddr) -> Result<(), RunError> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let bound = socket.and_then(|socket| {
        // Connections of the server before, which the kernel still remembers, do not keep the
        // address taken.
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    });
    bound.map_err(|error| RunError::Server(roomcast::Error::Listen(address.to_string(), error)))
}

/// Says how the server runs, and in the last line where it is.
fn announce(settings: &Settings, profile: Profile, server: &Server) {
    match (settings.guests(), profile) {
        (true, Profile::Production) => {
            tracing::warn!("guests may enter without credentials (auth.guests)");
        }
        (true, Profile::Development) => tracing::info!("guests may enter without credentials"),
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
    for address in server.local_addrs() {
        tracing::info!("listening on {scheme}://{address}");
    }
}
