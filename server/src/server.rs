//! The composition root of the binary: builds everything, top to bottom, and runs it.

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Args;
use tokio::{
    net::TcpSocket,
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::JoinHandle,
};

use crate::{
    auth::{
        Credentials, Principal, Revocations, Roles, RolesError,
        authenticator::Authenticator,
        configured::{self, ConfiguredError},
    },
    config::{self, Profile, Settings},
    gateway,
    http::{self, Readiness, api::Turned},
    limit::Users,
    metrics::Metrics,
    service::{
        Access, Applier, Blocks, ChangeFeed, Chat, ConversationNews, ExecutorFault, Fed,
        JournalNews, Journals, Leases, Market, Notifications, Overlap, Retention,
        RevocationApplier,
        api::{RequestKeys, answer_others},
        cluster::{self, Announcer},
    },
    store::{NewConversation, OpenError, Store, StoreError},
    supervisor::Supervisor,
};
use roomcast::{
    Config, EngineRequest, Forbidden, Io, Server, Tls, TlsError, adapter::Health,
    internal::LogThrottle, limit::Proxies, options::Cors,
};

/// Why the server did not start, or stopped.
#[derive(Debug)]
pub(crate) enum RunError {
    /// A value of the configuration makes no sense.
    Settings(&'static str),
    /// The keys that tokens are signed with cannot be used.
    Keys(ConfiguredError),
    /// The roles make no sense.
    Roles(RolesError),
    /// Trades cannot be executed as the configuration says.
    Executor(ExecutorFault),
    /// There is no such adapter, or not with these settings.
    Adapter(cluster::AdapterFault),
    /// The store cannot be opened.
    Open(OpenError),
    /// The store cannot be prepared.
    Store(StoreError),
    /// The certificate cannot be used.
    Tls(TlsError),
    /// Options contradict each other, or the address is taken.
    Server(roomcast::Error),
    /// Signals cannot be received.
    Signals(std::io::Error),
    /// A second signal came while the server was stopping.
    Hurried,
    /// Tasks of these names have ended that cannot be started again.
    Tasks(Vec<&'static str>),
}

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
///
/// If it cannot start, or a task has ended that cannot be started again.
pub(crate) async fn run(settings: &Settings) -> Result<(), RunError> {
    check(settings)?;
    let signals = Signals::listen().map_err(RunError::Signals)?;
    let profile = settings.profile();

    try_address(settings.server.listen)?;
    let reservation = Store::reserve(&settings.store).map_err(RunError::Open)?;
    let io = Io::builder()
        .config(engine_config(settings))
        .client_files(http::client_files::embedded())
        .guard(&settings.limits.addresses(), proxies(settings));
    let io = cluster::join(io, settings).map_err(RunError::Adapter)?;
    let metrics = Arc::new(Metrics::beside(Arc::clone(io.handle().metrics())));
    let supervisor = Supervisor::new(&metrics);
    let opened = Store::open_supervised(&settings.store, Arc::clone(&metrics), &supervisor);
    let (store, commits) = opened.await.map_err(RunError::Open)?;
    let auth = &settings.auth;
    let revocations = Arc::new(Revocations::new());
    let roles = Roles::new(&auth.roles, auth.permission_cache, Arc::clone(&metrics));
    let access = Access::open(
        store.clone(),
        roles.map_err(RunError::Roles)?,
        Arc::clone(&revocations),
        Arc::clone(&metrics),
        auth,
    );
    let access = access.await.map_err(RunError::Store)?;
    let keys = Arc::new(configured::ring(settings).map_err(RunError::Keys)?);
    let authenticator = Authenticator::new(
        configured::tokens(auth, &keys, &revocations),
        access.sessions(),
        settings.guests(),
        revocations,
        Arc::clone(&metrics),
    );
    let announcer = announcer(settings, &store, &metrics).await;
    let announcer = announcer.map_err(RunError::Store)?;
    let shared = announcer.as_ref().map(Announcer::store_id);
    let chat = Chat::new(
        store.clone(),
        access.clone(),
        &chat_settings(settings),
        &settings.presence,
        recovery_window(settings),
        announcer.clone(),
        Arc::clone(&metrics),
    );
    let journals = Journals::new(
        store.clone(),
        recovery_window(settings),
        settings.market.keep,
    );
    let notifications = Notifications::new(journals.clone(), &settings.notifications);
    let market = Market::new(journals.clone(), &settings.market).map_err(RunError::Executor)?;
    let users = Arc::new(Users::new(&settings.limits, Arc::clone(&metrics)));
    let io = match store.values() {
        Some(values) => io.values(values),
        None => io,
    };
    let mut io = io
        .state(chat.clone())
        .state(market.clone())
        .state(notifications.clone());
    io.shared_state(Arc::clone(&users));
    gateway::register(
        &mut io,
        authenticator.clone(),
        Arc::clone(&users),
        access.clone(),
        chat.clone(),
        Overlap(settings.server.event_overlap),
        shared,
    );
    let fed = Arc::new(Fed::default());
    chat.hear(&mut io, &fed);
    if announcer.is_some() {
        answer_others(&mut io);
    }
    if auth.at_handshake {
        let (authenticator, log_throttle) =
            (authenticator.clone(), Arc::new(LogThrottle::new(REFUSALS)));
        io = io.allow_request(move |request: EngineRequest| {
            let (authenticator, log_throttle) = (authenticator.clone(), Arc::clone(&log_throttle));
            async move { at_handshake(&authenticator, &log_throttle, &request).await }
        });
    }
    let io = io.build().map_err(|error| RunError::Server(error.into()))?;
    #[cfg(debug_assertions)]
    supervisor.obey_tests(&io);
    let (swept, told) = (Arc::clone(&users), io.clone());
    supervisor.start("user sweep", move || Arc::clone(&swept).sweep());
    if let Some(store) = shared.filter(|_| settings.limits.shared) {
        supervisor.start("user spending", move || {
            gateway::tell_spending(Arc::clone(&users), told.clone(), store)
        });
    }
    let mut block_list = None;
    let mut appliers: Vec<Box<dyn Applier>> =
        vec![Box::new(RevocationApplier::new(access.clone(), io.clone()))];
    if let Some(guard) = io.guard() {
        let blocks = Blocks::new(Arc::clone(guard), store.clone(), io.clone());
        blocks.restore().await.map_err(RunError::Store)?;
        let kept = blocks.clone();
        supervisor.start("block list", move || kept.clone().keep());
        appliers.push(Box::new(blocks.clone()));
        block_list = Some(blocks);
    }
    appliers.push(Box::new(JournalNews::new(journals.clone(), io.of("/"))));
    let followers = io.of("/");
    supervisor.start("journals", move || journals.clone().keep(followers.clone()));
    let (resumed, traders) = (market.clone(), io.of("/"));
    supervisor.start("trades", move || resumed.clone().resume(traders.clone()));
    if let Some(announcer) = announcer {
        let namespace = io.of(cluster::NAMESPACE);
        supervisor.start("announcements", move || {
            announcer.clone().run(namespace.clone())
        });
    }
    let leases = store.leases().map(|leases| {
        let (lease, metrics) = (settings.presence.lease, Arc::clone(&metrics));
        let (chat, namespace) = (chat.clone(), io.of("/"));
        Leases::start(chat, namespace, leases, lease, metrics, &supervisor)
    });
    let emit = |commits| supervisor.start_once("emission", chat.clone().run(io.clone(), commits));
    let emission: Vec<_> = commits.split().into_iter().map(emit).collect();
    let (timed, namespaces) = (chat.clone(), io.clone());
    supervisor.start("timeouts", move || {
        timed.clone().advance(namespaces.clone())
    });
    if keys.may_change() {
        supervisor.start("keys", move || Arc::clone(&keys).run());
    }
    let swept = access.clone();
    supervisor.start("login sweep", move || swept.clone().sweep());
    if let Some(feed) = store.feed() {
        let news = Box::new(ConversationNews::new(chat.clone(), io.of("/")));
        let news = ChangeFeed::beside(feed.clone(), news, &fed);
        supervisor.start("conversation news", move || news.clone().run());
        let changes = ChangeFeed::new(feed, appliers, &fed);
        supervisor.start("change feed", move || changes.clone().run());
    }
    if store.is_shared() {
        let (chat, io) = (chat.clone(), io.clone());
        supervisor.start("commits of others", move || chat.clone().follow(io.clone()));
    }
    let retention = Retention::new(store.clone(), &settings.store, Arc::clone(&metrics));
    supervisor.start("retention", move || Arc::clone(&retention).run());
    if profile == Profile::Development {
        store
            .insert_conversation(NewConversation::lobby())
            .await
            .map_err(RunError::Store)?;
    }

    let readiness = Readiness::new(
        {
            let store = store.clone();
            move || store.is_healthy()
        },
        {
            let (supervisor, io) = (supervisor.clone(), io.clone());
            move || [supervisor.ended(), io.ended_tasks()].concat()
        },
        {
            let io = io.clone();
            move || io.adapter_health().map(|health| health == Health::Ready)
        },
    );
    let scrapers = callers(&authenticator, &access, Access::may_scrape);
    let admission = http::api::Admission {
        callers: callers(&authenticator, &access, Access::may_call),
        pace: pace(settings),
        keys: RequestKeys::new(store.clone()),
        metrics: Arc::clone(&metrics),
    };
    let connections = http::Connections {
        metrics: Arc::clone(&metrics),
        io: io.clone(),
        readiness: readiness.clone(),
    };
    let routes = http::api::routes(
        chat.clone(),
        access.clone(),
        connections.clone(),
        block_list,
    );
    let routes = routes.merge(http::market::routes(
        market,
        notifications,
        access.clone(),
        io.clone(),
    ));
    let api = http::api::nest(routes, admission);
    let taken = io.clone();
    let entrance = http::Entrance {
        socket_path: settings.engine.http.path.clone(),
        guests: settings.guests(),
        login_url: settings.auth.login_url.clone(),
        logout_url: settings.auth.logout_url.clone(),
    };
    let mut router = http::router(connections, &entrance);
    if !settings.server.open_metrics {
        router = http::scrape::limit(router, scrapers);
    }
    let router = router.merge(api);
    let mut server = Server::new(io).router(http::security::harden(router));
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
        readiness.drain();
        stopping.notify_one();
    });
    let hurried = async {
        stopping.notified().await;
        signals.next().await;
    };
    let ending = async {
        serving.await;
        finish(&supervisor, leases, store, emission).await;
    };
    tokio::select! {
        () = ending => {}
        () = hurried => return Err(RunError::Hurried),
    }
    drop(reservation);
    tracing::info!("stopped");
    if let Some(taken) = taken.node_taken() {
        return Err(RunError::Server(roomcast::Error::Node(taken)));
    }
    match supervisor.fatal() {
        none if none.is_empty() => Ok(()),
        tasks => Err(RunError::Tasks(tasks)),
    }
}

/// How long sessions can be recovered; none if they cannot.
fn recovery_window(settings: &Settings) -> Option<Duration> {
    Some(settings.recovery.window).filter(|_| settings.recovery.enabled)
}

/// Ends what works for clients, once there are none.
async fn finish(
    supervisor: &Supervisor,
    leases: Option<Leases>,
    store: Store,
    emission: Vec<JoinHandle<()>>,
) {
    supervisor.stop();
    if let Some(leases) = leases {
        leases.stop().await;
    }
    store.close().await;
    for lane in emission {
        let _ = lane.await;
    }
}

/// The signals that stop the server.
struct Signals(Mutex<[Signal; 2]>);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
        let [terminate, interrupt] = kinds.map(signal);
        Ok(Self(Mutex::new([terminate?, interrupt?])))
    }

    /// Waits for the next one.
    async fn next(&self) {
        let is_there = |cx: &mut Context<'_>, signal: &mut Signal| signal.poll_recv(cx).is_ready();
        poll_fn(|cx| {
            let mut signals = self.0.lock();
            match signals.iter_mut().any(|signal| is_there(cx, signal)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
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
    configured::check(&settings.auth.jwt).map_err(RunError::Keys)?;
    Market::check(&settings.market).map_err(RunError::Executor)?;
    let io = Io::builder().config(engine_config(settings)).build();
    io.map(|_| ())
        .map_err(|error| RunError::Server(error.into()))
}

/// Who tells other servers what is done here, if there is an adapter.
async fn announcer(
    settings: &Settings,
    store: &Store,
    metrics: &Arc<Metrics>,
) -> Result<Option<Announcer>, StoreError> {
    if cluster::url(settings).is_none() {
        return Ok(None);
    }
    let id = store.shared_id().await?;
    Ok(id.map(|id| Announcer::new(store.clone(), id, Arc::clone(metrics))))
}

fn tls(settings: &Settings) -> Result<Option<Tls>, RunError> {
    let files = &settings.server.tls;
    let (Some(cert), Some(key)) = (&files.cert_file, &files.key_file) else {
        return Ok(None);
    };
    let tls = Tls::from_files(cert, key).map_err(RunError::Tls)?;
    Ok(Some(tls))
}

fn chat_settings(settings: &Settings) -> config::Chat {
    config::Chat {
        content_chars: settings.limits.content_chars(settings.chat.content_chars),
        ..settings.chat.clone()
    }
}

fn proxies(settings: &Settings) -> Proxies {
    Proxies::new(settings.server.trusted_proxies.clone())
        .with_proxy_protocol(settings.server.proxy_protocol)
}

fn engine_config(settings: &Settings) -> Config {
    let mut cookie = settings.engine.http.cookie.clone();
    if let Some(cookie) = &mut cookie {
        cookie.secure |= settings.server.tls.cert_file.is_some();
    }
    let cors = Cors::default()
        .origins(&settings.server.allowed_origins)
        .credentials(true)
        .enforce(true);
    let engine = settings.engine.clone().cors(cors).cookie(cookie);
    engine.recovery(Some(settings.recovery.clone()).filter(|on| on.enabled))
}

/// Whether a request that opens a connection carries a header or a cookie that is good.
async fn at_handshake(
    authenticator: &Authenticator,
    log_throttle: &LogThrottle,
    request: &EngineRequest,
) -> Result<(), Forbidden> {
    let nothing = Args::default();
    let query = request.url().split_once('?').map(|(_, query)| query);
    let credentials = Credentials::new(&nothing, request.address().ip())
        .with_headers(
            request.header_bytes("authorization"),
            request.header_bytes("cookie"),
        )
        .with_trusted_origin(request.is_trusted_origin())
        .with_query(query);
    match authenticator.proven(&credentials).await {
        Ok(_) => Ok(()),
        Err(reason) => {
            if let Some(more) = log_throttle.permit() {
                tracing::info!(address = %request.address(), %reason, more, "handshake refused");
            }
            authenticator.count(reason);
            Err(if reason.is_blamed() {
                Forbidden::unauthenticated()
            } else {
                Forbidden::default()
            })
        }
    }
}

/// Lines about refused handshakes at once, before it is one a second.
const REFUSALS: u32 = 100;

/// Authenticates callers of the HTTP API, or of a part of it.
fn callers(
    authenticator: &Authenticator,
    access: &Access,
    may: fn(&Access, &Principal) -> bool,
) -> http::api::Callers {
    let (authenticator, access) = (authenticator.clone(), access.clone());
    Arc::new(move |authorization| {
        let (authenticator, access) = (authenticator.clone(), access.clone());
        Box::pin(async move {
            let caller = authenticator.caller(authorization.as_deref()).await;
            let caller = caller.map_err(Turned::Unauthenticated)?;
            if may(&access, &caller) {
                Ok(Arc::new(caller))
            } else {
                Err(Turned::Forbidden(caller.subject))
            }
        })
    })
}

/// How often each caller may call the HTTP API. What is one too many, the API counts.
fn pace(settings: &Settings) -> Users {
    let limits = config::Limits {
        requests_per_second: settings.limits.in_force().api_calls_per_second,
        users: CALLERS,
        ..config::Limits::default()
    };
    Users::new(&limits, Arc::default())
}

/// Callers of the HTTP API that are remembered; past that the longest unseen ones are forgotten.
const CALLERS: usize = 1000;

/// Looks whether the address can be had: a server that cannot have it makes no database.
fn try_address(address: SocketAddr) -> Result<(), RunError> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let bound = socket.and_then(|socket| {
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

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(fault) => f.write_str(fault),
            Self::Keys(_) => f.write_str("the keys of tokens cannot be used"),
            Self::Roles(_) => f.write_str("the roles make no sense"),
            Self::Adapter(fault) => fault.fmt(f),
            Self::Executor(fault) => fault.fmt(f),
            Self::Open(_) => f.write_str("cannot open the store"),
            Self::Store(_) => f.write_str("cannot prepare the store"),
            Self::Tls(_) => f.write_str("cannot encrypt connections"),
            Self::Server(_) => f.write_str("cannot start the server"),
            Self::Signals(_) => f.write_str("cannot receive signals"),
            Self::Hurried => f.write_str("a second signal came while the server was stopping"),
            Self::Tasks(names) => {
                let names = names.join(", ");
                write!(f, "what cannot be started again has ended: {names}")
            }
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Settings(_)
            | Self::Executor(_)
            | Self::Adapter(_)
            | Self::Hurried
            | Self::Tasks(_) => None,
            Self::Keys(error) => Some(error),
            Self::Roles(error) => Some(error),
            Self::Open(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Server(error) => Some(error),
            Self::Signals(error) => Some(error),
        }
    }
}
