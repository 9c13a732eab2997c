//! Roles and what they may do.
//!
//! Roles are configuration, permissions are ours. What a principal may do is the union of what its
//! roles grant; it is worked out once and remembered, since every event asks.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;

use super::Principal;
use crate::{
    config::Role,
    metrics::{Counter, Gauge, Metrics},
};

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Something that a role may allow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Permission {
            $($(#[$doc])* $name,)+
        }

        impl Permission {
            /// All permissions.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name of the permission in configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

permissions! {
    /// Join, leave and read conversations, see who is there.
    ChatRead = "chat:read",
    /// Send messages.
    ChatSend = "chat:send",
    /// Send messages as a machine.
    ChatSendAi = "chat:send_ai",
    /// Make conversations and change their members.
    ChatManage = "chat:manage",
    /// Change messages and conversations of others.
    ChatModerate = "chat:moderate",
    /// Show that one is typing.
    ChatType = "chat:type",
    /// Make and end logins over HTTP.
    ApiLogins = "api:sessions",
    /// Revoke tokens, logins, users and roles over HTTP.
    ApiRevocations = "api:revocations",
    /// Block addresses over HTTP.
    ApiBlocks = "api:blocks",
    /// Read the metrics from another machine.
    ApiMetrics = "api:metrics",
    /// Ask over HTTP why somebody may do something.
    ApiExplain = "api:explain",
    /// Ask over HTTP who is where, and what users say of themselves, and set that in their name.
    ApiPresence = "api:presence",
    /// Read conversations of anybody over HTTP, and make and change them in the name of users.
    ApiConversations = "api:conversations",
    /// Read messages of anybody over HTTP, and send, edit and delete them in the name of users.
    ApiMessages = "api:messages",
    /// Publish events over HTTP.
    ApiEmit = "api:emit",
    /// List and disconnect sockets over HTTP.
    ApiSockets = "api:sockets",
    /// List rooms over HTTP, and see who is in them.
    ApiRooms = "api:rooms",
    /// Make logins over HTTP that may do more than whoever makes them.
    RolesGrant = "roles:grant",
    /// Come into the namespace of admins.
    Admin = "admin",
    /// Have trades executed.
    TradesExecute = "trades:execute",
    /// Publish trades of users.
    TradesPublish = "trades:publish",
    /// Read trades of anybody over HTTP.
    TradesRead = "trades:read",
    /// Publish signals.
    SignalsPublish = "signals:publish",
    /// Read signals over HTTP.
    SignalsRead = "signals:read",
    /// Publish portfolios of users.
    PortfolioPublish = "portfolio:publish",
    /// Read portfolios of anybody over HTTP.
    PortfolioRead = "portfolio:read",
    /// Publish prices, which trades are filled at.
    PricesPublish = "prices:publish",
    /// Send notifications to users.
    NotificationsPublish = "notifications:publish",
    /// Read notifications of anybody over HTTP.
    NotificationsRead = "notifications:read",
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// Whether it has this one.
    #[must_use]
    pub fn has(self, permission: Permission) -> bool {
        self.0 & Self::of(permission).0 != 0
    }

    const fn of(permission: Permission) -> Self {
        Self(1 << permission as u32)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of these are among those.
    fn are_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

/// The role of those whom nobody vouches for.
pub(crate) const GUEST: &str = "guest";

/// The roles that count for a principal: those of its credentials, and [`GUEST`] for guests, whose
/// principals have none.
pub(crate) fn roles_of(principal: &Principal) -> impl Iterator<Item = &str> {
    let guest = principal.guest.then_some(GUEST);
    principal.roles.iter().map(String::as_str).chain(guest)
}

/// The roles there are, and the permissions of those who were asked about lately.
pub struct Roles {
    grants: HashMap<String, Grants>,
    cache: Cache,
}

/// What a role allows.
#[derive(Debug)]
struct Grants {
    permissions: Permissions,
    /// The rule of the configuration by which, for people.
    rules: Vec<(Permission, Arc<str>)>,
}

impl Roles {
    /// Works out what each role allows, for at most `remembered` principals at a time.
    ///
    /// # Errors
    ///
    /// If a role names a permission or a role that does not exist, or inherits itself.
    pub fn new(
        roles: &BTreeMap<String, Role>,
        remembered: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, RolesError> {
        let mut grants = HashMap::new();
        for name in roles.keys() {
            let mut rules = Vec::new();
            collect(roles, name, &mut Vec::new(), &mut rules)?;
            let permissions = rules
                .iter()
                .fold(Permissions::default(), |all, (permission, _)| {
                    all.and(Permissions::of(*permission))
                });
            grants.insert(name.clone(), Grants { permissions, rules });
        }
        Ok(Self {
            grants,
            cache: Cache::new(remembered, metrics),
        })
    }

    /// Whether a principal may do this, by its roles.
    #[must_use]
    pub fn allow(&self, by: &Principal, permission: Permission) -> bool {
        self.permissions(by).has(permission)
    }

    /// Everything that a principal may do, by its roles.
    #[must_use]
    pub fn permissions(&self, by: &Principal) -> Permissions {
        self.cache.get(by, || self.work_out(by))
    }

    /// The first of these roles that allows something which a principal may not do.
    #[must_use]
    pub fn beyond<'a>(&self, by: &Principal, roles: &'a [String]) -> Option<&'a str> {
        let own = self.permissions(by);
        let is_beyond = |role: &&String| {
            let grants = self.grants.get(*role);
            grants.is_some_and(|grants| !grants.permissions.are_within(own))
        };
        roles.iter().find(is_beyond).map(String::as_str)
    }

    fn work_out(&self, by: &Principal) -> Permissions {
        roles_of(by)
            .filter_map(|role| self.grants.get(role))
            .fold(Permissions::default(), |all, grants| {
                all.and(grants.permissions)
            })
    }

    /// The rule by which one of these roles allows something.
    #[must_use]
    pub fn rule<'a>(
        &self,
        roles: impl IntoIterator<Item = &'a str>,
        permission: Permission,
    ) -> Option<Arc<str>> {
        roles.into_iter().find_map(|role| {
            let rules = &self.grants.get(role)?.rules;
            let rule = rules.iter().find(|(granted, _)| *granted == permission);
            rule.map(|(_, rule)| Arc::clone(rule))
        })
    }

    /// The roles that allow something, in the order of their names.
    #[must_use]
    pub fn granting(&self, permission: Permission) -> Vec<&str> {
        let mut roles: Vec<_> = self
            .grants
            .iter()
            .filter(|(_, grants)| grants.permissions.has(permission))
            .map(|(role, _)| role.as_str())
            .collect();
        roles.sort_unstable();
        roles
    }

    /// Forgets what was worked out for everybody whose roles are to be looked at again.
    pub fn forget(&self, is_meant: impl Fn(&str, &[String]) -> bool) {
        self.cache.forget(is_meant);
    }

    /// Forgets what was worked out for those who were not asked about since the last but one call.
    pub fn sweep(&self) {
        self.cache.sweep();
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roles")
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// Adds the rules of a role and of those that it inherits; `path` is where it came from.
fn collect(
    roles: &BTreeMap<String, Role>,
    name: &str,
    path: &mut Vec<String>,
    rules: &mut Vec<(Permission, Arc<str>)>,
) -> Result<(), RolesError> {
    let Some(role) = roles.get(name) else {
        return Err(RolesError::UnknownRole(name.to_owned()));
    };
    if path.iter().any(|known| known == name) {
        return Err(RolesError::Cycle(name.to_owned()));
    }
    path.push(name.to_owned());
    for pattern in &role.permissions {
        let rule: Arc<str> = format!("auth.roles.{name}.permissions: {pattern}").into();
        let matching = Permission::ALL.iter().filter(|one| matches(pattern, **one));
        let before = rules.len();
        rules.extend(matching.map(|permission| (*permission, Arc::clone(&rule))));
        if rules.len() == before {
            let (role, permission) = (name.to_owned(), pattern.clone());
            return Err(RolesError::UnknownPermission { role, permission });
        }
    }
    for inherited in &role.inherits {
        collect(roles, inherited, path, rules)?;
    }
    // Two roles may inherit one role in common; only a role on its own path is a cycle.
    path.pop();
    Ok(())
}

/// Whether a pattern, `*`, `area:*` or a name, means a permission.
fn matches(pattern: &str, permission: Permission) -> bool {
    let name = permission.as_str();
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(area) => area.ends_with(':') && name.starts_with(area),
        None => pattern == name,
    }
}

/// Why there are no roles.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RolesError {
    /// A role inherits one that is not there.
    UnknownRole(String),
    /// A role inherits itself.
    Cycle(String),
    /// A role has a permission that is not there.
    UnknownPermission {
        /// The role.
        role: String,
        /// What it has.
        permission: String,
    },
}

impl fmt::Display for RolesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRole(role) => write!(f, "a role inherits `{role}`, which is not there"),
            Self::Cycle(role) => write!(f, "the role `{role}` inherits itself"),
            Self::UnknownPermission { role, permission } => {
                write!(
                    f,
                    "auth.roles.{role}: no permission `{permission}`; there are *"
                )?;
                for permission in Permission::ALL {
                    write!(f, ", {}", permission.as_str())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for RolesError {}

/// Permissions by principal: bounded, and swept.
struct Cache {
    shards: [Mutex<HashMap<Box<str>, CachedPermissions>>; SHARDS],
    hasher: RandomState,
    /// Entries of one shard.
    limit: usize,
    /// Counts sweeps: the clock of the cache.
    sweeps: AtomicU32,
    metrics: Arc<Metrics>,
}

struct CachedPermissions {
    roles: Box<[String]>,
    guest: bool,
    permissions: Permissions,
    used: u32,
}

const SHARDS: usize = 16;

impl Cache {
    fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            limit: limit.div_ceil(SHARDS).max(1),
            sweeps: AtomicU32::new(0),
            metrics,
        }
    }

    fn get(&self, by: &Principal, work_out: impl FnOnce() -> Permissions) -> Permissions {
        let now = self.sweeps.load(Ordering::Relaxed);
        // Every event of every socket comes here, so one lock for all would be contended.
        let shard = self.hasher.hash_one(by.subject.as_str()) as usize % SHARDS;
        let Some(shard) = self.shards.get(shard) else {
            return work_out();
        };
        let mut entries = shard.lock();
        if let Some(entry) = entries.get_mut(by.subject.as_str())
            // A user may be connected with two tokens whose roles differ; the entry counts for one
            // of them.
            && *entry.roles == *by.roles
            && entry.guest == by.guest
        {
            entry.used = now;
            self.metrics.count(Counter::PermissionCacheHits);
            return entry.permissions;
        }
        self.metrics.count(Counter::PermissionCacheMisses);
        let permissions = work_out();
        let before = entries.len();
        if before >= self.limit && !entries.contains_key(by.subject.as_str()) {
            // Any entry may go: working one out again is cheap, and keeping an order of use is not.
            let victim = entries.keys().next().cloned();
            victim.and_then(|victim| entries.remove(&victim));
        }
        let entry = CachedPermissions {
            roles: by.roles.as_slice().into(),
            guest: by.guest,
            permissions,
            used: now,
        };
        entries.insert(by.subject.as_str().into(), entry);
        self.resized(before, entries.len());
        permissions
    }

    fn forget(&self, is_meant: impl Fn(&str, &[String]) -> bool) {
        self.retain(|subject, entry| !is_meant(subject, &entry.roles));
    }

    fn sweep(&self) {
        let now = self.sweeps.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // Whoever was used since the sweep before stays, so an entry lives for one to two
        // intervals.
        self.retain(|_, entry| now.wrapping_sub(entry.used) < 2);
    }

    fn retain(&self, keep: impl Fn(&str, &CachedPermissions) -> bool) {
        for shard in &self.shards {
            let mut entries = shard.lock();
            let before = entries.len();
            entries.retain(|subject, entry| keep(subject, entry));
            // The room of a crowd that has gone is given back; a quarter keeps the map from
            // shrinking and growing in turns.
            if entries.len() < entries.capacity() / 4 {
                let kept = entries.len() * 2;
                entries.shrink_to(kept);
            }
            self.resized(before, entries.len());
        }
    }

    fn resized(&self, before: usize, after: usize) {
        self.metrics
            .shift(Gauge::PermissionCache, after as i64 - before as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Auth;

    fn roles(remembered: usize) -> (Roles, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        let roles = Roles::new(&Auth::default().roles, remembered, Arc::clone(&metrics));
        (roles.unwrap(), metrics)
    }

    fn custom(table: &[(&str, &[&str], &[&str])]) -> Result<Roles, RolesError> {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
        let table = table.iter().map(|(name, permissions, inherits)| {
            let role = Role {
                permissions: texts(permissions),
                inherits: texts(inherits),
            };
            ((*name).to_owned(), role)
        });
        Roles::new(&table.collect(), 100, Arc::default())
    }

    fn with(role: &str) -> Principal {
        Principal::new(format!("somebody with {role}")).with_role(role)
    }

    #[test]
    fn roles_inherit_what_others_may() {
        let (roles, _) = roles(100);
        for (role, send, send_ai, revoke) in [
            ("user", true, false, false),
            ("coach", true, false, false),
            ("ai", true, true, false),
            ("service", true, true, true),
            ("admin", true, true, true),
            ("nobody", false, false, false),
        ] {
            let by = with(role);
            assert_eq!(roles.allow(&by, Permission::ChatSend), send, "{role}");
            assert_eq!(roles.allow(&by, Permission::ChatSendAi), send_ai, "{role}");
            assert_eq!(
                roles.allow(&by, Permission::ApiRevocations),
                revoke,
                "{role}"
            );
        }
        let guest = Principal::guest("guest:1", "Ann");
        assert!(roles.allow(&guest, Permission::ChatSend));
        assert!(!roles.allow(&guest, Permission::ChatSendAi));
        assert!(!roles.allow(&Principal::new("no roles"), Permission::ChatRead));
    }

    #[test]
    fn a_role_is_beyond_who_may_not_do_all_that_it_allows() {
        let (roles, _) = roles(100);
        let beyond = |by, role: &str| {
            roles
                .beyond(&with(by), &["user".into(), role.into()])
                .is_some()
        };
        for role in ["user", "guest", "coach", "ai", "service", "nobody"] {
            assert!(!beyond("service", role), "{role}");
            assert!(!beyond("admin", role), "{role}");
        }
        assert!(beyond("service", "admin") && !beyond("admin", "admin"));
        assert!(beyond("user", "ai") && !beyond("coach", "user"));
    }

    #[test]
    fn the_rule_that_allows_something_is_named() {
        let (roles, _) = roles(100);
        let rule = |role, permission| roles.rule([role], permission);
        assert_eq!(
            rule("service", Permission::ChatSend).as_deref(),
            Some("auth.roles.user.permissions: chat:send")
        );
        assert_eq!(
            rule("admin", Permission::ChatSend).as_deref(),
            Some("auth.roles.admin.permissions: *")
        );
        assert_eq!(rule("user", Permission::ChatSendAi), None);
        let granting = roles.granting(Permission::ChatSendAi);
        assert_eq!(granting, ["admin", "ai", "service"]);
    }

    #[test]
    fn roles_that_make_no_sense_are_an_error_at_start() {
        let unknown = RolesError::UnknownRole("b".into());
        assert_eq!(custom(&[("a", &[], &["b"])]).unwrap_err(), unknown);
        let cycle = custom(&[("a", &[], &["b"]), ("b", &[], &["a"])]).unwrap_err();
        assert!(matches!(cycle, RolesError::Cycle(_)));
        for pattern in ["chat:sing", "chat", "chat*", "chat:s*", ""] {
            let error = custom(&[("a", &[pattern], &[])]).unwrap_err();
            assert!(
                matches!(error, RolesError::UnknownPermission { .. }),
                "{pattern}"
            );
        }
        assert!(
            custom(&[
                ("a", &["chat:*"], &["b", "c"]),
                ("b", &[], &["c"]),
                ("c", &[], &[])
            ])
            .is_ok()
        );
    }

    #[test]
    fn permissions_are_remembered_until_the_roles_change_or_are_forgotten() {
        let (roles, metrics) = roles(100);
        let misses = || metrics.counter(Counter::PermissionCacheMisses);
        let ann = with("user");
        for _ in 0..3 {
            assert!(roles.allow(&ann, Permission::ChatSend));
        }
        assert_eq!(
            (misses(), metrics.counter(Counter::PermissionCacheHits)),
            (1, 2)
        );
        let demoted = Principal::new(ann.subject.clone());
        assert!(!roles.allow(&demoted, Permission::ChatSend));
        assert_eq!((misses(), metrics.gauge(Gauge::PermissionCache)), (2, 1));
        roles.forget(|subject, _| subject == ann.subject);
        assert_eq!(metrics.gauge(Gauge::PermissionCache), 0);
        assert!(!roles.allow(&demoted, Permission::ChatSend));
        assert_eq!(misses(), 3);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_swept() {
        let (roles, metrics) = roles(64);
        for n in 0..1000 {
            let by = Principal::new(format!("user {n}")).with_role("user");
            assert!(roles.allow(&by, Permission::ChatSend));
        }
        let size = metrics.gauge(Gauge::PermissionCache);
        assert!((1..=64).contains(&size), "{size}");
        roles.sweep();
        let ann = with("user");
        assert!(roles.allow(&ann, Permission::ChatSend));
        roles.sweep();
        assert_eq!(metrics.gauge(Gauge::PermissionCache), 1, "used since");
        roles.sweep();
        assert_eq!(metrics.gauge(Gauge::PermissionCache), 0);
    }
}
