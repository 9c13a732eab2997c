//! Roles and their permissions.
//!
//! Roles are configurable, permissions are fixed. A principal has the union of its roles'
//! permissions. It is cached because every event checks it.

mod permission;

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

pub use self::permission::{Permission, Permissions};
use super::Principal;
use crate::{
    config::Role,
    metrics::{Counter, Gauge, Metrics},
};

/// The role of guests, whose identity is not verified.
pub(crate) const GUEST: &str = "guest";

/// Returns the effective roles of a principal: those of its credentials, and [`GUEST`] for guests.
pub(crate) fn roles_of(principal: &Principal) -> impl Iterator<Item = &str> {
    let guest = principal.guest.then_some(GUEST);
    principal.roles.iter().map(String::as_str).chain(guest)
}

/// The configured roles, and a cache of principals' permissions.
pub struct Roles {
    grants: HashMap<String, Grants>,
    cache: Cache,
}

/// The permissions of a role.
#[derive(Debug)]
struct Grants {
    permissions: Permissions,
    /// The configuration rule that grants each permission, for people.
    rules: Vec<(Permission, Arc<str>)>,
}

impl Roles {
    /// Resolves the permissions of each role. Caches the permissions of at most `remembered`
    /// principals.
    ///
    /// # Errors
    ///
    /// If a role refers to an unknown permission or role, or inherits itself.
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

    /// Returns whether the roles of a principal grant a permission.
    #[must_use]
    pub fn allow(&self, by: &Principal, permission: Permission) -> bool {
        self.permissions(by).has(permission)
    }

    /// Returns all permissions that the roles of a principal grant.
    #[must_use]
    pub fn permissions(&self, by: &Principal) -> Permissions {
        self.cache.get(by, || self.compute(by))
    }

    /// Returns the first of `roles` that grants a permission which the principal does not have.
    #[must_use]
    pub fn beyond<'a>(&self, by: &Principal, roles: &'a [String]) -> Option<&'a str> {
        let own = self.permissions(by);
        let is_beyond = |role: &&String| {
            let grants = self.grants.get(*role);
            grants.is_some_and(|grants| !grants.permissions.are_within(own))
        };
        roles.iter().find(is_beyond).map(String::as_str)
    }

    fn compute(&self, by: &Principal) -> Permissions {
        roles_of(by)
            .filter_map(|role| self.grants.get(role))
            .fold(Permissions::default(), |all, grants| {
                all.and(grants.permissions)
            })
    }

    /// Returns the rule with which one of these roles grants a permission.
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

    /// Returns the roles that grant a permission, sorted by name.
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

    /// Evicts the cached permissions of matching principals, given by subject and roles.
    pub fn forget(&self, is_meant: impl Fn(&str, &[String]) -> bool) {
        self.cache.forget(is_meant);
    }

    /// Evicts cached permissions that were not used since the call before the last.
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

/// Adds the rules of a role and of the roles that it inherits. `path` is the chain of inheritance.
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
    // Two roles may inherit the same role. A cycle exists only if a role is on its own path.
    path.pop();
    Ok(())
}

/// Returns whether a pattern (`*`, `area:*` or a name) matches a permission.
fn matches(pattern: &str, permission: Permission) -> bool {
    let name = permission.as_str();
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(area) => area.ends_with(':') && name.starts_with(area),
        None => pattern == name,
    }
}

/// The reason why the roles are invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RolesError {
    /// A role inherits an undefined role.
    UnknownRole(String),
    /// A role inherits itself.
    Cycle(String),
    /// A role has an unknown permission.
    UnknownPermission {
        /// The role.
        role: String,
        /// The unknown permission.
        permission: String,
    },
}

impl fmt::Display for RolesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRole(role) => write!(
                f,
                "role `{role}` is inherited but not defined: define `[auth.roles.{role}]` or remove \
                 it from `inherits`"
            ),
            Self::Cycle(role) => write!(
                f,
                "role `{role}` inherits itself: remove the cycle from `inherits`"
            ),
            Self::UnknownPermission { role, permission } => {
                write!(
                    f,
                    "auth.roles.{role}: unknown permission `{permission}`: expected *"
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

/// Cached permissions by principal. The cache is bounded and swept.
struct Cache {
    shards: [Mutex<HashMap<Box<str>, CachedPermissions>>; SHARDS],
    hasher: RandomState,
    /// Maximum entries of one shard.
    limit: usize,
    /// Counts sweeps; serves as the clock of the cache.
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

    fn get(&self, by: &Principal, compute: impl FnOnce() -> Permissions) -> Permissions {
        let now = self.sweeps.load(Ordering::Relaxed);
        // Every event of every socket uses the cache, so a single lock would be contended.
        let shard = self.hasher.hash_one(by.subject.as_str()) as usize % SHARDS;
        let Some(shard) = self.shards.get(shard) else {
            return compute();
        };
        let mut entries = shard.lock();
        if let Some(entry) = entries.get_mut(by.subject.as_str())
            // A user can be connected with two tokens with different roles. An entry is valid for
            // only one of them.
            && *entry.roles == *by.roles
            && entry.guest == by.guest
        {
            entry.used = now;
            self.metrics.count(Counter::PermissionCacheHits);
            return entry.permissions;
        }
        self.metrics.count(Counter::PermissionCacheMisses);
        let permissions = compute();
        let before = entries.len();
        if before >= self.limit && !entries.contains_key(by.subject.as_str()) {
            // Any entry may be evicted: recomputing it is cheap, and tracking the order of use is
            // not.
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
        // Entries used since the previous sweep stay, so an unused entry lives for one to two
        // intervals.
        self.retain(|_, entry| now.wrapping_sub(entry.used) < 2);
    }

    fn retain(&self, predicate: impl Fn(&str, &CachedPermissions) -> bool) {
        for shard in &self.shards {
            let mut entries = shard.lock();
            let before = entries.len();
            entries.retain(|subject, entry| predicate(subject, entry));
            // The memory of many removed entries is freed. The factor of four keeps the map from
            // shrinking and growing repeatedly.
            if entries.len() < entries.capacity() / 4 {
                let capacity = entries.len() * 2;
                entries.shrink_to(capacity);
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
    fn roles_inherit_permissions_of_other_roles() {
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
    fn caller_cannot_grant_a_role_with_permissions_it_lacks() {
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
    fn explanation_names_the_rule_that_allows_an_action() {
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
    fn invalid_roles_are_an_error_at_startup() {
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
    fn permissions_are_cached_until_roles_change_or_entries_are_evicted() {
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
    fn permission_cache_is_bounded_and_swept() {
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
