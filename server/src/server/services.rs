//! The services of the server, created from the store and the configuration.

use std::sync::Arc;

use super::RunError;
use super::options::{chat_settings, recovery_window};
use super::otlp::{self, Exporter};
use crate::auth::{
    Revocations, Roles, authenticator::Authenticator, backend::BackendLogins, configured,
    jwt::KeyRing,
};
use crate::config::Settings;
use crate::gateway::{self, AdminUi};
use crate::limit::Users;
use crate::metrics::Metrics;
use crate::metrics::diagnosis::Diagnosis;
use crate::metrics::trace::{Spans, Traces};
use crate::service::api::LogLevel;
use crate::service::{
    Access, Asker, Channels, Chat, FeedProgress, Hooks, Journals, Kinds, Market, Notifications,
    Overlap, SignalAccess, Subscriptions, answer_channel_peers,
    api::{Admin, AlertLog, answer_peers, trace_for_peers},
    audit::{Audit, AuditFile},
    cluster::{self, Announcer},
};
use crate::store::{Store, StoreError};
use roomcast::{Builder, connection::EngineRequest, internal::LogThrottle};

/// The services that handle events and requests, and the state that tasks use.
pub(super) struct Services {
    pub(super) access: Access,
    pub(super) admin: Admin,
    /// The namespace of the admin UI, if it is enabled.
    pub(super) admin_ui: Option<AdminUi>,
    pub(super) alerts: AlertLog,
    /// Sends announcements to other servers. `None` without an adapter.
    pub(super) announcer: Option<Announcer>,
    pub(super) authenticator: Authenticator,
    /// The backend whose login sessions are accepted, if configured.
    pub(super) backend: Option<Arc<BackendLogins>>,
    pub(super) channels: Channels,
    pub(super) chat: Chat,
    /// Finds clients and rooms that cause trouble.
    pub(super) diagnosis: Diagnosis,
    /// Exports spans, if a collector is configured.
    pub(super) exporter: Option<Exporter>,
    /// The position up to which the change feed of the store was read.
    pub(super) fed: Arc<FeedProgress>,
    pub(super) hooks: Hooks,
    pub(super) journals: Journals,
    /// The keys that verify tokens.
    pub(super) keys: Arc<KeyRing>,
    pub(super) log_level: LogLevel,
    pub(super) market: Market,
    pub(super) metrics: Arc<Metrics>,
    /// Records the events of moderators.
    pub(super) audit: Audit,
    pub(super) notifications: Notifications,
    pub(super) traces: Traces,
    pub(super) users: Arc<Users>,
}

impl Services {
    /// Creates all services.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid, or the store cannot be read.
    pub(super) async fn open(
        settings: &Settings,
        store: &Store,
        metrics: Arc<Metrics>,
        log_level: LogLevel,
        audit_file: Option<AuditFile>,
    ) -> Result<Self, RunError> {
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
        // The revocations are read before any client can be admitted.
        let access = access.await.map_err(RunError::Store)?;
        let keys = Arc::new(configured::ring(settings).map_err(RunError::Keys)?);
        let backend = BackendLogins::new(&auth.backend).map_err(RunError::Outbound)?;
        let kinds = Kinds::new(&settings.channels).map_err(RunError::Channels)?;
        let signals = SignalAccess::new(&settings.market.signals).map_err(RunError::Channels)?;
        let authenticator = Authenticator::new(
            configured::tokens(auth, &keys, &revocations),
            access.logins(),
            backend.clone(),
            settings.guests(),
            revocations,
            Arc::clone(&metrics),
        );
        let exporting = otlp::open(&settings.otlp, &metrics);
        let (spans, exporter) = exporting.map_err(RunError::Outbound)?;
        let announcer = announcer(settings, store, &metrics, &spans).await;
        let announcer = announcer.map_err(RunError::Store)?;
        let hooks = Hooks::new(
            &settings.webhooks,
            store.clone(),
            Arc::clone(&metrics),
            spans.clone(),
        );
        let hooks = hooks.map_err(RunError::Outbound)?;
        let journals = Journals::new(
            store.clone(),
            hooks.clone(),
            recovery_window(settings),
            settings.market.retention,
        );
        let asker = Asker::new(&settings.ask, Arc::clone(&metrics));
        let asker = asker.map_err(RunError::Outbound)?;
        let checked = kinds.check_served(asker.is_some(), settings.webhooks.url.is_some());
        checked.map_err(RunError::Channels)?;
        let checks = (access.clone(), authenticator.clone(), asker);
        let journaled = (journals.clone(), hooks.clone(), Arc::clone(&metrics));
        let reach = (&settings.limits, announcer.clone());
        let channels = Channels::open(kinds, signals.claims(), journaled, checks, reach);
        let channels = channels.await.map_err(RunError::Store)?;
        let notifications = Notifications::new(journals.clone(), &settings.notifications);
        let fed = Arc::new(FeedProgress::new());
        let traces = Traces::new(spans);
        let chat = Chat::new(
            store.clone(),
            access.clone(),
            notifications.clone(),
            (&chat_settings(settings), &settings.presence),
            recovery_window(settings),
            (announcer.clone(), Arc::clone(&fed), traces.clone()),
            Arc::clone(&metrics),
        );
        let chat = chat.map_err(RunError::Absent)?;
        let (journaled, config) = (journals.clone(), &settings.market);
        let market = Market::new(journaled, notifications.clone(), signals, config);
        let market = market.map_err(RunError::Outbound)?;
        let alerts = AlertLog::new(
            store.clone(),
            hooks.clone(),
            settings.store.is_postgres(),
            Arc::clone(&metrics),
        );
        let audit = Audit::new(
            store.clone(),
            access.clone(),
            audit_file,
            Arc::clone(&metrics),
        );
        let admin = Admin::new(
            access.clone(),
            audit.clone(),
            Arc::clone(&metrics),
            alerts.clone(),
        );
        let users = Arc::new(Users::new(&settings.limits, Arc::clone(&metrics)));
        let (section, profile) = (&settings.admin_ui, settings.profile());
        let admin_ui = AdminUi::new(section, profile, Arc::clone(&users), admin.clone());
        Ok(Self {
            admin,
            admin_ui,
            audit,
            alerts,
            access,
            announcer,
            authenticator,
            backend,
            channels,
            chat,
            diagnosis: Diagnosis::default(),
            exporter,
            fed,
            hooks,
            journals,
            keys,
            log_level,
            market,
            notifications,
            traces,
            users,
            metrics,
        })
    }

    /// Registers all events from clients and from other servers.
    pub(super) fn register(&self, settings: &Settings, io: Builder) -> Builder {
        let io = io
            .state(self.channels.clone())
            .state(self.chat.clone())
            .state(self.admin.clone())
            .state(self.admin.reports())
            .state(self.alerts.clone())
            .state(self.diagnosis.clone())
            .state(self.market.clone())
            .state(self.subscriptions())
            .state(self.notifications.clone())
            .state(self.traces.clone())
            .shared_state(Arc::clone(&self.users));
        let overlap = Overlap(settings.server.deprecated_events);
        let parts = gateway::Parts {
            authenticator: self.authenticator.clone(),
            users: Arc::clone(&self.users),
            access: self.access.clone(),
            channels: self.channels.clone(),
            chat: self.chat.clone(),
            subscriptions: self.subscriptions(),
            hooks: self.hooks.clone(),
            traces: self.traces.clone(),
            diagnosis: self.diagnosis.clone(),
            audit: self.audit.clone(),
            admin_ui: self.admin_ui.clone(),
        };
        let io = gateway::register(io, parts, overlap, self.announcer.as_ref());
        let io = gateway::register_admins(
            io,
            self.authenticator.clone(),
            Arc::clone(&self.users),
            self.access.clone(),
            self.admin.clone(),
            &self.traces,
            overlap,
        );
        let io = match &self.admin_ui {
            Some(ui) => ui.register(io),
            None => io,
        };
        let mut io = self.chat.handle_announcements(io);
        if self.announcer.is_some() && recovery_window(settings).is_some() {
            io = self.hand_over(io);
        }
        if let Some(announcer) = &self.announcer {
            io = answer_peers(io, announcer);
            io = answer_channel_peers(io, announcer);
            io = trace_for_peers(io, announcer, &self.traces);
        }
        if settings.auth.at_handshake {
            let authenticator = self.authenticator.clone();
            let log_throttle = Arc::new(LogThrottle::new(REFUSALS));
            io = io.allow_request(move |request: EngineRequest| {
                let (authenticator, log_throttle) =
                    (authenticator.clone(), Arc::clone(&log_throttle));
                async move { authenticator.at_handshake(&log_throttle, &request).await }
            });
        }
        io
    }

    /// Lets clients of the chat continue their session on another server. Clients of the admin
    /// namespace start a new session.
    fn hand_over(&self, io: Builder) -> Builder {
        let (chat, subscriptions) = (self.chat.clone(), self.subscriptions());
        io.handover(move |socket| {
            if socket.namespace().name() != "/" {
                return None;
            }
            let left = Channels::rooms_of(socket);
            chat.start_handover(socket, left, |room| subscriptions.followed(room, socket))
        })
    }

    fn subscriptions(&self) -> Subscriptions {
        Subscriptions {
            market: self.market.clone(),
            channels: self.channels.clone(),
        }
    }
}

async fn announcer(
    settings: &Settings,
    store: &Store,
    metrics: &Arc<Metrics>,
    spans: &Spans,
) -> Result<Option<Announcer>, StoreError> {
    if cluster::url(settings).is_none() {
        return Ok(None);
    }
    let id = store.shared_id().await?;
    let announcer = |id| Announcer::new(store.clone(), id, Arc::clone(metrics), spans.clone());
    Ok(id.map(announcer))
}

/// Log lines about refused handshakes before they are limited to one per second.
const REFUSALS: u32 = 100;
