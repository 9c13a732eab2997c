//! Applies revocations that other servers add or shorten.
//!
//! Revocations that this server is currently storing are skipped, because its own change is newer
//! than what was read.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::auth::Revoked;
use crate::metrics::{Inventoried, Inventory, Size};
use crate::service::{
    authorization::access::Access,
    feed::{Applied, Applier, Applying, Entries},
};
use crate::store::{Feed, Revocation, StoreError, Time};
use roomcast::Io;

/// Revocations that this server writes while it reads those of its peers.
#[derive(Debug)]
pub(in crate::service) struct LocalChanges {
    /// Whether the store is shared, so that other servers change it.
    is_followed: bool,
    state: Mutex<PendingWrites>,
    /// Held while rows are applied and put into effect.
    applying: Mutex<()>,
}

#[derive(Debug, Default)]
struct PendingWrites {
    /// Revocations that are being stored, with the number of concurrent writes.
    storing: HashMap<Revoked, usize>,
    /// Revocations stored since the current read began. `None` if no read is in progress.
    stored: Option<HashSet<Revoked>>,
}

/// A read of the store. Its result may be older than concurrent writes of this server.
struct StoreRead<'a>(&'a LocalChanges);

/// A revocation that this server is storing.
pub(in crate::service) struct PendingRevocation<'a> {
    own: &'a LocalChanges,
    revoked: Revoked,
}

/// The outcome of applying stored revocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ApplyOutcome {
    /// Entries that changed the state in memory.
    news: usize,
    /// Entries that this server is changing itself. They must be read again.
    own: usize,
    /// Entries that do not fit into the list. They must be read again.
    too_many: usize,
}

/// Applies changes of revocations on this server.
pub(crate) struct RevocationApplier {
    access: Access,
    io: Io,
    /// Whether the list was full. It is logged only once.
    is_full: AtomicBool,
}

impl LocalChanges {
    pub(in crate::service) fn new(is_followed: bool) -> Self {
        Self {
            is_followed,
            state: Mutex::default(),
            applying: Mutex::default(),
        }
    }

    /// Marks a revocation as being stored. Hold the guard from before the change in memory until
    /// the row is stored.
    pub(in crate::service) fn begin(&self, revoked: &Revoked) -> Option<PendingRevocation<'_>> {
        if !self.is_followed {
            return None;
        }
        let mut state = self.state.lock();
        *state.storing.entry(revoked.clone()).or_default() += 1;
        Some(PendingRevocation {
            own: self,
            revoked: revoked.clone(),
        })
    }

    /// Marks the start of a read. Hold the guard until the result is applied.
    fn start_read(&self) -> StoreRead<'_> {
        self.state.lock().stored = Some(HashSet::new());
        StoreRead(self)
    }
}

impl Inventoried for LocalChanges {
    fn report(&self, inventory: &mut Inventory) {
        let state = self.state.lock();
        inventory.map("revocations being stored", &state.storing);
        let read = state.stored.as_ref();
        let read = read.map_or_else(Size::default, |stored| {
            Size::of::<Revoked>(stored.len(), stored.capacity())
        });
        inventory.size("revocations stored during a read", read);
    }
}

impl PendingWrites {
    fn has(&self, revoked: &Revoked) -> bool {
        let stored = self.stored.as_ref();
        self.storing.contains_key(revoked) || stored.is_some_and(|stored| stored.contains(revoked))
    }
}

impl Drop for StoreRead<'_> {
    fn drop(&mut self) {
        self.0.state.lock().stored = None;
    }
}

impl Drop for PendingRevocation<'_> {
    fn drop(&mut self) {
        let mut state = self.own.state.lock();
        if let Some(count) = state.storing.get_mut(&self.revoked) {
            *count -= 1;
            if *count == 0 {
                state.storing.remove(&self.revoked);
            }
        }
        if let Some(stored) = &mut state.stored {
            stored.insert(self.revoked.clone());
        }
    }
}

impl Applier for RevocationApplier {
    fn topic(&self) -> &'static str {
        "revocations"
    }

    fn apply<'a>(&'a self, feed: &'a Feed, changed: &'a Entries) -> Applying<'a> {
        Box::pin(async move {
            let _read = self.access.0.own.start_read();
            match changed {
                Entries::These(keys) => self.read_keys(feed, keys).await,
                Entries::All => self.read_all(feed).await,
            }
        })
    }
}

impl RevocationApplier {
    pub(crate) fn new(access: Access, io: Io) -> Self {
        let is_full = AtomicBool::new(false);
        Self {
            access,
            io,
            is_full,
        }
    }

    async fn read_keys(&self, feed: &Feed, keys: &HashSet<String>) -> Result<Applied, StoreError> {
        let named = keys.iter().filter_map(|key| {
            let (kind, value) = key.split_once(':')?;
            Revoked::from_parts(kind, value.to_owned())
        });
        // A key of the feed only indicates a change. A key without a row was removed.
        let mut missing: HashSet<Revoked> = named.collect();
        let names: Vec<_> = missing
            .iter()
            .map(|one| (one.kind(), one.value()))
            .collect();
        let rows = feed.revocations(&names).await?;
        for revoked in rows.iter().filter_map(revoked) {
            missing.remove(&revoked);
        }
        let mut all = self.apply_now(|access| access.apply_rows(&rows));
        all.add(self.apply_now(|access| access.lift(missing)));
        Ok(all)
    }

    async fn read_all(&self, feed: &Feed) -> Result<Applied, StoreError> {
        // The candidates for removal are collected before the table is read, because a concurrent
        // addition may be missing in the result.
        let mut missing: HashSet<Revoked> = self.access.0.revocations.all().into_iter().collect();
        let mut all = Applied::default();
        let mut last: Option<Revocation> = None;
        loop {
            let mut rows = feed.revocations_after(last.as_ref(), PAGE).await?;
            for revoked in rows.iter().filter_map(revoked) {
                missing.remove(&revoked);
            }
            all.add(self.apply_now(|access| access.apply_rows(&rows)));
            // Pages are read by key, because an offset would skip rows when others are removed
            // concurrently.
            last = rows.pop().filter(|_| rows.len() + 1 == PAGE);
            if last.is_none() {
                break;
            }
        }
        all.add(self.apply_now(|access| access.lift(missing)));
        self.is_full.fetch_and(all.too_many, Ordering::Relaxed);
        Ok(all)
    }

    /// Applies changes and puts them into effect.
    fn apply_now(&self, change: impl FnOnce(&Access) -> ApplyOutcome) -> Applied {
        let outcome = self.access.apply(&self.io, change);
        let (own, too_many) = (outcome.own > 0, outcome.too_many > 0);
        if too_many && !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the revocation list is full, revocations of other servers are not in force"
            );
        }
        Applied { own, too_many }
    }
}

fn revoked(row: &Revocation) -> Option<Revoked> {
    Revoked::from_parts(&row.kind, row.value.clone())
}

impl Access {
    /// Applies a revocation that another server has stored and announced.
    ///
    /// An announcement adds and never removes, because it may be older than changes from the feed.
    pub(in crate::service) fn apply_announced_revocation(&self, io: &Io, row: &Revocation) {
        self.apply(io, |access| {
            let known = revoked(row).and_then(|revoked| access.0.revocations.until(&revoked));
            match known {
                Some(until) if Time::from(until) >= row.until => ApplyOutcome::default(),
                _ => access.apply_rows(std::slice::from_ref(row)),
            }
        });
    }

    /// Applies changes and disconnects the sockets that they affect.
    ///
    /// A caller that finds its rows applied by another task returns after they have taken effect,
    /// because sessions may be served from then on.
    fn apply(&self, io: &Io, change: impl FnOnce(&Self) -> ApplyOutcome) -> ApplyOutcome {
        let _applying = self.0.own.applying.lock();
        let outcome = change(self);
        if outcome.news == 0 {
            return outcome;
        }
        self.gauge();
        // The permission cache may contain permissions of a revoked role.
        self.0.roles.forget(|_, _| true);
        let (entries, disconnected) = (outcome.news, io.revalidate());
        tracing::info!(entries, disconnected, "revoked by another server");
        outcome
    }

    /// Applies rows that differ from memory.
    fn apply_rows(&self, rows: &[Revocation]) -> ApplyOutcome {
        let inner = &self.0;
        let now = Timestamp::now();
        let mut outcome = ApplyOutcome::default();
        for row in rows {
            let Some(revoked) = revoked(row) else {
                continue;
            };
            // The lock is held until the row is in memory, so that a revocation by this server that
            // starts now is applied later.
            let state = inner.own.state.lock();
            let known = inner.revocations.until(&revoked).map(Time::from);
            let until = row.until.into();
            // A known or expired row changes nothing, and must not disconnect users again.
            if known == Some(row.until) || known.is_none() && until <= now {
                continue;
            }
            if state.has(&revoked) {
                outcome.own += 1;
            } else if inner.revocations.insert(&revoked, until).is_err() {
                outcome.too_many += 1;
            } else {
                outcome.news += 1;
            }
        }
        outcome
    }

    /// Removes revocations from memory that are no longer stored.
    fn lift(&self, missing: impl IntoIterator<Item = Revoked>) -> ApplyOutcome {
        let inner = &self.0;
        let now = Timestamp::now();
        let mut outcome = ApplyOutcome::default();
        for revoked in missing {
            let state = inner.own.state.lock();
            let Some(until) = inner.revocations.until(&revoked) else {
                continue;
            };
            if state.has(&revoked) {
                outcome.own += 1;
            } else {
                inner.revocations.remove(&revoked);
                outcome.news += usize::from(until > now);
            }
        }
        outcome
    }
}

/// Maximum number of revocations per query.
const PAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
        time::Duration,
    };

    use roomcast::{Authenticate, Connect, Principal, Refusal, testing::serve};

    use super::*;
    use crate::{
        auth::{MAX_REVOCATIONS, Revocations, Roles},
        config,
        store::Store,
    };

    async fn access(revocations: &Arc<Revocations>) -> Access {
        let store = Store::in_memory().await;
        let auth = config::Auth::default();
        let roles = Roles::new(&auth.roles, 1, Arc::default()).unwrap();
        let opened = Access::open(store, roles, Arc::clone(revocations), Arc::default(), &auth);
        let mut access = opened.await.unwrap();
        Arc::get_mut(&mut access.0).unwrap().own = LocalChanges::new(true);
        access
    }

    fn row(user: &str, seconds: i64) -> Revocation {
        let until = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        Revocation {
            kind: "user".into(),
            value: user.into(),
            until: until.into(),
        }
    }

    fn is_revoked(revocations: &Revocations, user: &str) -> bool {
        revocations.covers(&Principal::new(user))
    }

    fn news(news: usize) -> ApplyOutcome {
        ApplyOutcome {
            news,
            ..ApplyOutcome::default()
        }
    }

    #[tokio::test]
    async fn remote_revocations_and_their_ends_are_applied_once() {
        let revocations = Arc::default();
        let access = access(&revocations).await;
        let ann = row("ann", 60);
        assert_eq!(access.apply_rows(&[ann.clone(), row("over", -1)]), news(1));
        assert!(is_revoked(&revocations, "ann"));
        assert_eq!(revocations.len(), 1);
        assert_eq!(access.apply_rows(&[ann]), news(0));
        assert_eq!(access.apply_rows(&[row("ann", -1)]), news(1));
        assert!(!is_revoked(&revocations, "ann"));
    }

    /// Admits Ann unless she is revoked.
    struct Listed(Arc<Revocations>);

    impl Authenticate for Listed {
        async fn authenticate(&self, _: Connect) -> Result<Principal, Refusal> {
            Ok(Principal::new("ann"))
        }

        fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
            match self.0.covers(principal) {
                true => Err(Refusal::new("TOKEN_REVOKED", "gone")),
                false => Ok(()),
            }
        }
    }

    #[tokio::test]
    async fn row_that_another_task_applies_has_taken_effect() {
        let revocations = Arc::default();
        let access = access(&revocations).await;
        let io = Io::builder().namespace("/", |namespace| {
            namespace.authenticate(Listed(Arc::clone(&revocations)))
        });
        let server = serve(io).await;
        let _client = server.client().connect().await.unwrap();
        let [socket] = server.io().of("/").local().sockets().try_into().unwrap();
        // The first task stops before the client is disconnected.
        let (notifying, notified) = mpsc::channel();
        let (go_on, released) = mpsc::channel();
        let released = Mutex::new(released);
        let observer = socket.on_any_outgoing(move |_| {
            notifying.send(()).unwrap();
            released.lock().recv().unwrap();
        });
        let _observer = observer.unwrap();
        let ann = row("ann", 60);
        let (announced, io, first) = (ann.clone(), server.io().clone(), access.clone());
        let first = thread::spawn(move || first.apply_announced_revocation(&io, &announced));
        notified.recv().unwrap();
        let reader = RevocationApplier::new(access, server.io().clone());
        let second = thread::spawn(move || {
            reader.apply_now(|access| access.apply_rows(&[ann]));
            socket.is_connected()
        });
        // The second task has time to return too early.
        thread::sleep(Duration::from_millis(100));
        assert!(!second.is_finished());
        go_on.send(()).unwrap();
        first.join().unwrap();
        assert!(!second.join().unwrap(), "disconnected when it returns");
    }

    #[tokio::test]
    async fn stale_read_does_not_undo_own_revocations() {
        let revocations = Arc::default();
        let access = access(&revocations).await;
        let own = &access.0.own;
        let ann = Revoked::User("ann".into());
        let (old, others) = (row("ann", -1), row("bob", 60));
        let later = Timestamp::now() + Duration::from_secs(60);
        let read = own.start_read();
        let storing = own.begin(&ann);
        revocations.insert(&ann, later).unwrap();
        let ignored = ApplyOutcome { own: 1, ..news(0) };
        let outcome = access.apply_rows(&[old.clone(), others]);
        assert_eq!(outcome, ApplyOutcome { own: 1, ..news(1) });
        drop(storing);
        assert_eq!(access.apply_rows(std::slice::from_ref(&old)), ignored);
        assert!(is_revoked(&revocations, "ann") && is_revoked(&revocations, "bob"));
        // Rows read from now on were stored later.
        drop(read);
        let _read = own.start_read();
        assert_eq!(access.apply_rows(&[old]), news(1));
        assert!(!is_revoked(&revocations, "ann"));
    }

    #[tokio::test]
    async fn missing_revocations_are_lifted_unless_being_stored() {
        let revocations = Arc::default();
        let access = access(&revocations).await;
        let own = &access.0.own;
        assert_eq!(
            access.apply_rows(&[row("ann", 60), row("bob", 60)]),
            news(2)
        );
        let (ann, bob) = (Revoked::User("ann".into()), Revoked::User("bob".into()));
        let unknown = Revoked::User("carl".into());
        let read = own.start_read();
        let storing = own.begin(&ann);
        let missing = [ann.clone(), bob, unknown];
        assert_eq!(access.lift(missing), ApplyOutcome { own: 1, ..news(1) });
        assert!(is_revoked(&revocations, "ann") && !is_revoked(&revocations, "bob"));
        drop(storing);
        assert_eq!(
            access.lift([ann.clone()]),
            ApplyOutcome { own: 1, ..news(0) }
        );
        drop(read);
        assert_eq!(access.lift([ann]), news(1));
        // Removing an expired revocation changes no session.
        let until = Timestamp::now() - Duration::from_secs(1);
        let over = Revoked::User("dora".into());
        revocations.insert(&over, until).unwrap();
        assert_eq!(access.lift([over]), news(0));
        assert!(revocations.is_empty());
    }

    #[tokio::test]
    async fn excess_revocations_are_counted_and_applied_later() {
        let revocations: Arc<Revocations> = Arc::default();
        let access = access(&revocations).await;
        let until = Timestamp::now() + Duration::from_secs(60);
        for n in 0..MAX_REVOCATIONS {
            let token = Revoked::Token(n.to_string());
            revocations.insert(&token, until).unwrap();
        }
        let ann = row("ann", 60);
        let outcome = access.apply_rows(std::slice::from_ref(&ann));
        assert_eq!(outcome.too_many, 1);
        revocations.remove(&Revoked::Token("0".into()));
        assert_eq!(access.apply_rows(&[ann]), news(1));
        assert!(is_revoked(&revocations, "ann"));
    }
}
