//! Permissions of users, and login sessions.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::service::rules::bounds::{
    NAME_CHARS, ROLE_CHARS, ROLES, RegisteredUserId, RoleName, SessionData,
};
use crate::service::{
    authorization::{allowed::Allowed, replication::LocalChanges, revocation::Lifetimes},
    cluster::Announcer,
    fault::ServiceError,
    rules::{commands::form::whole, event::Command},
};
use crate::{
    auth::{
        AuthFault, Permission, Principal, Revocations, Roles,
        authenticator::{self, MAX_NAME, UseLogin, name_given},
        is_name, is_reserved, jwt, secret_hash,
    },
    config,
    metrics::{Counter, Gauge, Inventoried, Inventory, Metrics},
    store::{Actor, Login, Store, StoreError, Time},
};

/// Permissions, logins and revocations of one server. Clones share the same state.
#[derive(Clone, Debug)]
pub(crate) struct Access(pub(in crate::service) Arc<AccessInner>);

#[derive(Debug)]
pub(in crate::service) struct AccessInner {
    pub(in crate::service) store: Store,
    pub(in crate::service) roles: Roles,
    pub(in crate::service) revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
    pub(in crate::service) lifetimes: Lifetimes,
    /// Revocations that this server is currently storing.
    pub(in crate::service) own: LocalChanges,
    /// Sends revocations to other servers. Empty without an adapter.
    pub(in crate::service) announcer: OnceLock<Announcer>,
}

/// The body of `POST /api/v1/sessions`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "NewSession")]
pub(crate) struct NewLogin {
    /// The user of the session; must not be a guest.
    #[schemars(with = "RegisteredUserId")]
    pub(crate) user_id: String,
    /// The roles of the session, which must not exceed those of the caller. Default `user`.
    #[schemars(with = "Vec<RoleName>", length(max = ROLES))]
    #[serde(default = "default_roles")]
    pub(crate) roles: Vec<String>,
    /// Seconds until an unused session expires, at most 2,592,000 (`auth.session_max_ttl`).
    #[schemars(range(min = 1, max = 2_592_000))]
    #[serde(deserialize_with = "whole")]
    pub(crate) ttl_seconds: u64,
    /// A JSON object of at most 4,096 bytes that is stored with the session. Its `name` is the name
    /// of the user.
    #[schemars(with = "Option<SessionData>")]
    pub(crate) data: Option<Box<RawValue>>,
}

impl Command for NewLogin {
    const PERMISSION: Option<Permission> = Some(Permission::ApiLogins);
}

/// The command of `GET /api/v1/nodes`.
#[derive(Debug)]
pub(crate) struct ListNodes;

impl Command for ListNodes {
    const PERMISSION: Option<Permission> = Some(Permission::ApiMetrics);
}

/// Returns the roles of a user for whom none are specified.
pub(in crate::service) fn default_roles() -> Vec<String> {
    vec!["user".to_owned()]
}

/// A new session. Its id is not available later.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MadeSession")]
pub(crate) struct MadeLogin {
    session_id: String,
    expires_at: Time,
}

/// Why a caller whose call continues may not continue it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LostAccess {
    Revoked,
    Expired,
    Denied,
}

impl Access {
    /// Creates the access control and restores the revocations from the store.
    pub(crate) async fn open(
        store: Store,
        roles: Roles,
        revocations: Arc<Revocations>,
        metrics: Arc<Metrics>,
        config: &config::Auth,
    ) -> Result<Self, StoreError> {
        let access = Self(Arc::new(AccessInner {
            own: LocalChanges::new(store.is_shared()),
            announcer: OnceLock::new(),
            store,
            roles,
            revocations,
            metrics,
            lifetimes: Lifetimes {
                token_s: config.jwt.max_lifetime.map(|max| max.as_secs()),
                login_s: config.session_max_ttl.as_secs(),
                leeway_s: config.jwt.leeway.as_secs(),
            },
        }));
        access.restore_revocations().await?;
        access.gauge();
        Ok(access)
    }

    /// Sends later revocations of this server to its peers.
    pub(crate) fn announce_to(&self, announcer: Announcer) {
        // The adapter is set only once in the lifetime of the server.
        let _ = self.0.announcer.set(announcer);
    }

    /// Checks and logs whether a principal has a permission. [`Access::allow`] checks commands;
    /// this is for permissions that only some commands need in addition.
    pub(crate) fn require(
        &self,
        by: &Principal,
        permission: Permission,
    ) -> Result<(), ServiceError> {
        if self.0.roles.allow(by, permission) {
            return Ok(());
        }
        self.0.metrics.count(Counter::CommandsDenied);
        roomcast::throttled_log!(
            info,
            user = by.subject,
            permission = permission.as_str(),
            "denied: no role of the user grants it"
        );
        Err(ServiceError::Denied("not allowed"))
    }

    /// Returns whether a principal has a permission, without logging.
    pub(crate) fn allows(&self, by: &Principal, permission: Permission) -> bool {
        self.0.roles.allow(by, permission)
    }

    /// Returns why the token of a caller would now be refused, or why the caller may no longer
    /// execute a command with this permission. For calls whose response is a long stream.
    pub(crate) fn recheck(&self, by: &Principal, permission: Permission) -> Result<(), LostAccess> {
        let Self(inner) = self;
        let leeway = Duration::from_secs(inner.lifetimes.leeway_s);
        match jwt::revalidate(by, &inner.revocations, leeway) {
            Ok(()) if self.allows(by, permission) => Ok(()),
            Ok(()) => Err(LostAccess::Denied),
            Err(AuthFault::Revoked) => Err(LostAccess::Revoked),
            Err(_) => Err(LostAccess::Expired),
        }
    }

    /// Returns the names of all permissions of a principal.
    pub(crate) fn permissions(&self, by: &Principal) -> Vec<&'static str> {
        let granted = self.0.roles.permissions(by);
        let all = Permission::ALL.iter().filter(|one| granted.has(**one));
        all.map(|one| one.as_str()).collect()
    }

    /// Returns a principal as an actor for the store. A principal with `chat:moderate` may change
    /// data of other users.
    pub(in crate::service) fn actor(&self, by: &Principal) -> Actor {
        Actor {
            user_id: by.subject.clone(),
            is_admin: self.allows(by, Permission::ChatModerate),
        }
    }

    /// Returns whether a principal may read the metrics.
    pub(crate) fn may_scrape(&self, by: &Principal) -> bool {
        let is_allowed = self.allows(by, Permission::ApiMetrics);
        if !is_allowed {
            self.0.metrics.count(Counter::CommandsDenied);
        }
        is_allowed
    }

    /// Returns whether a principal may call the HTTP API for more than its own data.
    pub(crate) fn may_call(&self, by: &Principal) -> bool {
        let permissions = self.0.roles.permissions(by);
        let calls = |permission: &&Permission| {
            let name = permission.as_str();
            // Users read the chat with permissions of their own.
            let reads = name.ends_with(":read") && !name.starts_with("chat:");
            let serves = name.starts_with("api:") || name.ends_with(":publish");
            reads || serves
        };
        let mut all = Permission::ALL.iter().filter(calls);
        all.any(|permission| permissions.has(*permission))
    }

    /// Creates a login with a random id chosen by the server.
    pub(crate) async fn make_login(
        &self,
        allowed: Allowed<NewLogin>,
    ) -> Result<MadeLogin, ServiceError> {
        let (by, new) = allowed.into_parts();
        if !is_name(&new.user_id, NAME_CHARS) || is_reserved(&new.user_id) {
            let problem = "must have 1 to 128 characters, none of them control or invisible, and not \
                           be the id of a guest or `erased`";
            return Err(ServiceError::invalid("userId", problem));
        }
        if new.roles.len() > ROLES || !new.roles.iter().all(|role| is_name(role, ROLE_CHARS)) {
            return Err(ServiceError::invalid(
                "roles",
                "must be up to 32 short texts",
            ));
        }
        // Without this check, a service that may create logins could grant itself every role.
        if let Some(role) = self.0.roles.beyond(&by, &new.roles)
            // A gateway that logs in admins needs more roles than its own, for which there is a
            // separate permission.
            && !self.allows(&by, Permission::RolesGrant)
        {
            roomcast::throttled_log!(
                info,
                by = by.subject,
                role,
                "denied: the new session would have more rights than its creator"
            );
            return Err(ServiceError::Denied(
                "a session must not have more permissions than its creator",
            ));
        }
        let max = self.0.lifetimes.login_s;
        if !(1..=max).contains(&new.ttl_seconds) {
            let problem = format!("must be from 1 to {max}");
            return Err(ServiceError::invalid("ttlSeconds", problem));
        }
        if new
            .data
            .as_ref()
            // The size matters for each socket, because every principal of the login carries the
            // data.
            .is_some_and(|data| data.get().len() > MAX_DATA_BYTES || !data.get().starts_with('{'))
        {
            let problem = "must be an object of at most 4096 bytes";
            return Err(ServiceError::invalid("data", problem));
        }
        let name = new.data.as_ref().and_then(|data| name_given(data.get()));
        if name.is_some_and(|name| !is_name(&name, MAX_NAME)) {
            let problem = "must have 1 to 256 characters, none of them control or invisible";
            return Err(ServiceError::invalid("data.name", problem));
        }
        let mut random = [0; 32];
        // The server chooses the id. An id chosen by the caller could lure a user into a login that
        // an attacker already knows.
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        let session_id = URL_SAFE_NO_PAD.encode(random);
        let now = Timestamp::now();
        let expires_at = after(now, new.ttl_seconds).into();
        let login = Login {
            // Only the hash is stored, so that read access to the database does not allow a login.
            id_hash: secret_hash(&session_id),
            user_id: new.user_id,
            roles: new.roles,
            data: new.data.map(|data| data.get().to_owned()),
            ttl_s: new.ttl_seconds,
            created_at: now.into(),
            expires_at,
        };
        tracing::info!(by = by.subject, user = login.user_id, "session created");
        self.0.store.insert_login(login).await?;
        Ok(MadeLogin {
            session_id,
            expires_at,
        })
    }

    /// Returns the function with which the authenticator uses logins.
    pub(crate) fn logins(&self) -> UseLogin {
        let access = self.clone();
        Arc::new(move |hash| {
            let access = access.clone();
            Box::pin(async move { access.use_login(&hash).await.map_err(drop) })
        })
    }

    /// Looks up a login and extends its expiry.
    async fn use_login(
        &self,
        hash: &str,
    ) -> Result<Option<authenticator::ActiveLogin>, StoreError> {
        let Self(inner) = self;
        let Some(login) = inner.store.login(hash).await? else {
            return Ok(None);
        };
        let now = Timestamp::now();
        let mut expires_at: Timestamp = login.expires_at.into();
        let prolonged = after(now, login.ttl_s);
        // The expiry is extended only by at least 5% of the lifetime, because each extension is a
        // write.
        let worth = SignedDuration::from_secs(i64::try_from(login.ttl_s / 20).unwrap_or(0));
        let mut holder = Principal::new(&*login.user_id);
        holder.roles.clone_from(&login.roles);
        holder.session = Some(login.id_hash);
        // Repeated attempts must not keep a revoked login alive beyond its revocation.
        if expires_at > now
            && prolonged.duration_since(expires_at) >= worth
            && !inner.revocations.covers(&holder)
        {
            let prolonged = Time::from(prolonged);
            // A failed write must not prevent the login.
            match inner.store.touch_login(hash, prolonged).await {
                Ok(true) => expires_at = prolonged.into(),
                Ok(false) => return Ok(None),
                Err(_) => {}
            }
        }
        Ok(Some(authenticator::ActiveLogin {
            user_id: login.user_id,
            roles: login.roles,
            expires_at,
            data: login.data,
        }))
    }

    /// Removes expired entries at a fixed interval. Runs until dropped.
    pub(crate) async fn sweep(self) {
        let mut interval = tokio::time::interval(SWEEP);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.0.revocations.sweep();
            self.0.roles.sweep();
            self.gauge();
            // A failed sweep is retried in the next iteration. Expired entries are refused anyway
            // because of their time.
            if let Err(error) = self.0.store.sweep_logins(Time::now()).await {
                tracing::debug!(%error, "could not remove ended sessions");
            }
            if let Err(error) = self.0.store.sweep_requests(Time::now(), MAX_KEYS).await {
                tracing::debug!(%error, "could not remove expired idempotency keys");
            }
        }
    }

    pub(in crate::service) fn gauge(&self) {
        let metrics = &self.0.metrics;
        let change = self.0.revocations.len() as i64 - metrics.gauge(Gauge::Revocations);
        metrics.shift(Gauge::Revocations, change);
    }
}

/// Returns the time `seconds` later, or [`Timestamp::MAX`] on overflow.
pub(in crate::service) fn after(time: Timestamp, seconds: u64) -> Timestamp {
    let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Maximum bytes of a login's data.
const MAX_DATA_BYTES: usize = 4096;
pub(in crate::service) const HOUR_S: u64 = 3600;
/// Maximum number of stored idempotency keys. Beyond it, the oldest are removed before they expire.
const MAX_KEYS: usize = 100_000;
/// The interval between two sweeps.
const SWEEP: Duration = Duration::from_secs(60);

impl Inventoried for Access {
    fn report(&self, inventory: &mut Inventory) {
        let (inner, gauge) = (&self.0, Gauge::PermissionCache);
        let cached = u64::try_from(inner.metrics.gauge(gauge)).unwrap_or(0);
        inventory.add("permission cache", cached, None);
        inventory.add("revocations", inner.revocations.len() as u64, None);
        inner.own.report(inventory);
    }
}
