//! Hears from the store what other servers have revoked.
//!
//! Each server asks twice a second for what was written since it asked last, so that a revocation holds
//! everywhere within a second of its answer. What the server itself is revoking meanwhile is left
//! alone: it knows better than what was read before.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::auth::Revoked;
use crate::service::authorization::access::Access;
use crate::store::{Revocation, RevocationMark, StoreError, Time};
use roomcast::Io;

/// What this server revokes itself while it asks for what others do.
#[derive(Debug)]
pub(in crate::service) struct Own {
    /// Whether somebody asks.
    is_followed: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is being stored, and how often at the same time.
    storing: HashMap<Revoked, usize>,
    /// What was stored since the last question.
    stored: HashSet<Revoked>,
}

/// A revocation of this server on its way into the store.
pub(in crate::service) struct Storing<'a> {
    own: &'a Own,
    revoked: Revoked,
}

/// What came of what was read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    /// Entries that were not known like that.
    news: usize,
    /// Entries that this server is changing itself: to be read again.
    own: usize,
    /// Entries for which there is no room: to be read again.
    too_many: usize,
}

/// The time between two questions.
#[derive(Debug)]
pub(in crate::service) struct Pause(Duration);

impl Pause {
    pub(in crate::service) fn new() -> Self {
        Self(TURN)
    }

    pub(in crate::service) async fn pass(&self) {
        sleep(self.0).await;
    }

    pub(in crate::service) fn answered(&mut self) {
        self.0 = TURN;
    }

    pub(in crate::service) fn failed(&mut self, error: StoreError) {
        // That others are faster says nothing about the store.
        if error != StoreError::Overloaded {
            self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Own {
    pub(in crate::service) fn new(is_followed: bool) -> Self {
        Self {
            is_followed,
            state: Mutex::default(),
        }
    }

    /// To be held from before something is revoked in memory until it is stored.
    pub(in crate::service) fn begin(&self, revoked: &Revoked) -> Option<Storing<'_>> {
        if !self.is_followed {
            return None;
        }
        let mut state = self.state.lock();
        *state.storing.entry(revoked.clone()).or_default() += 1;
        Some(Storing {
            own: self,
            revoked: revoked.clone(),
        })
    }

    /// From now on what is read may be older than what is stored.
    fn ask(&self) {
        self.state.lock().stored = HashSet::new();
    }
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        let mut state = self.own.state.lock();
        if let Some(count) = state.storing.get_mut(&self.revoked) {
            *count -= 1;
            if *count == 0 {
                state.storing.remove(&self.revoked);
            }
        }
        state.stored.insert(self.revoked.clone());
    }
}

impl Access {
    /// Takes over what other servers of the store revoke, or let end sooner, for as long as it is
    /// polled.
    pub(crate) async fn follow(self, io: Io) {
        let mut mark = RevocationMark::default();
        let mut pause = Pause::new();
        let mut is_full = false;
        loop {
            pause.pass().await;
            match self.look(&io, mark).await {
                Ok((taken, next)) => {
                    pause.answered();
                    if taken.too_many > 0 && !is_full {
                        tracing::error!("other servers have revoked more than there may be");
                    }
                    is_full = taken.too_many > 0;
                    if taken.own + taken.too_many == 0 {
                        mark = next;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "what other servers revoke is not known at the moment");
                    pause.failed(error);
                }
            }
        }
    }

    async fn look(
        &self,
        io: &Io,
        mark: RevocationMark,
    ) -> Result<(Taken, RevocationMark), StoreError> {
        let inner = &self.0;
        inner.own.ask();
        let (rows, next) = inner.store.revocations_since(mark).await?;
        let taken = self.take(&rows);
        if taken.news > 0 {
            self.gauge();
            inner.roles.forget(|_, _| true);
            let disconnected = io.revalidate();
            tracing::info!(
                entries = taken.news,
                disconnected,
                "revoked by another server"
            );
        }
        Ok((taken, next))
    }

    /// Takes into memory what differs there.
    fn take(&self, rows: &[Revocation]) -> Taken {
        let inner = &self.0;
        let now = Timestamp::now();
        let mut taken = Taken::default();
        for row in rows {
            let Some(revoked) = Revoked::from_parts(&row.kind, row.value.clone()) else {
                continue;
            };
            // Held until it is in memory: who begins meanwhile comes after.
            let state = inner.own.state.lock();
            let known = inner.revocations.until(&revoked).map(Time::from);
            let until = row.until.into();
            if known == Some(row.until) || known.is_none() && until <= now {
                continue;
            }
            if state.storing.contains_key(&revoked) || state.stored.contains(&revoked) {
                taken.own += 1;
            } else if inner.revocations.insert(&revoked, until).is_err() {
                taken.too_many += 1;
            } else {
                taken.news += 1;
            }
        }
        taken
    }
}

/// How often others are asked for: half of what is promised.
const TURN: Duration = Duration::from_millis(500);
/// How long nobody asks a store that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        auth::{MAX_REVOCATIONS, Principal, Revocations, Roles},
        config,
        store::Store,
    };

    async fn access(revocations: &Arc<Revocations>) -> Access {
        let store = config::Store {
            url: "memory:".into(),
            ..config::Store::default()
        };
        let (store, _commits) = Store::open(&store, Arc::default()).await.unwrap();
        let auth = config::Auth::default();
        let roles = Roles::new(&auth.roles, 1, Arc::default()).unwrap();
        let opened = Access::open(store, roles, Arc::clone(revocations), Arc::default(), &auth);
        let mut access = opened.await.unwrap();
        Arc::get_mut(&mut access.0).unwrap().own = Own::new(true);
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

    fn news(news: usize) -> Taken {
        Taken {
            news,
            ..Taken::default()
        }
    }

    #[tokio::test]
    async fn what_others_revoke_and_let_end_is_taken_over_once() {
        let revocations = Arc::default();
        let access = access(&revocations).await;
        let ann = row("ann", 60);
        assert_eq!(access.take(&[ann.clone(), row("over", -1)]), news(1));
        assert!(is_revoked(&revocations, "ann"));
        assert_eq!(revocations.len(), 1);
        assert_eq!(access.take(&[ann]), news(0));
        assert_eq!(access.take(&[row("ann", -1)]), news(1));
        assert!(!is_revoked(&revocations, "ann"));
    }

    #[tokio::test]
    async fn what_was_read_before_does_not_undo_what_the_server_revokes_itself() {
        let revocations = Arc::default();
        let access = access(&revocations).await;
        let own = &access.0.own;
        let ann = Revoked::User("ann".into());
        let (old, others) = (row("ann", -1), row("bob", 60));
        let later = Timestamp::now() + Duration::from_secs(60);
        own.ask();
        let storing = own.begin(&ann);
        revocations.insert(&ann, later).unwrap();
        let left_alone = Taken { own: 1, ..news(0) };
        let taken = access.take(&[old.clone(), others]);
        assert_eq!(taken, Taken { own: 1, ..news(1) });
        drop(storing);
        assert_eq!(access.take(std::slice::from_ref(&old)), left_alone);
        assert!(is_revoked(&revocations, "ann") && is_revoked(&revocations, "bob"));
        // What is read from now on was stored later.
        own.ask();
        assert_eq!(access.take(&[old]), news(1));
        assert!(!is_revoked(&revocations, "ann"));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_comes_when_there_is_room() {
        let revocations: Arc<Revocations> = Arc::default();
        let access = access(&revocations).await;
        let until = Timestamp::now() + Duration::from_secs(60);
        for n in 0..MAX_REVOCATIONS {
            let token = Revoked::Token(n.to_string());
            revocations.insert(&token, until).unwrap();
        }
        let ann = row("ann", 60);
        let taken = access.take(std::slice::from_ref(&ann));
        assert_eq!(taken.too_many, 1);
        revocations.remove(&Revoked::Token("0".into()));
        assert_eq!(access.take(&[ann]), news(1));
        assert!(is_revoked(&revocations, "ann"));
    }
}
