//! What users have done on this server, for the others of a cluster, and what they have done there.
//!
//! A user has one budget on all servers. Each of them charges at once what is done on it, and tells the others
//! about every second of those users who have done more there than half of its share of their budget; the
//! others charge that as well. So what is told is bounded by what is done, and nobody is told of who does
//! little: half of the budget, over all servers together, stays untold. Until it is told, what a user does at
//! several servers at the same time counts at each alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::users::{Allowance, Class, Users};

/// What one user has done on another server since it was told of last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    user: Arc<str>,
    /// By class, in their order. A server of another version may know fewer classes, or more: what it does not say is
    /// nothing, and what this one does not know is left out.
    #[serde(default)]
    events: Vec<u32>,
}

/// Those who have done something that was not told.
#[derive(Debug, Default)]
pub(super) struct Spending {
    is_shared: AtomicBool,
    active: Mutex<Vec<Arc<Allowance>>>,
}

/// What one user has done here and nobody was told of, in thousandths of an event.
#[derive(Debug, Default)]
pub(super) struct Untold {
    events: [AtomicU32; Class::ALL.len()],
    /// Whether the user is among those who have done something.
    is_active: AtomicBool,
}

impl Spending {
    /// A user has done something.
    #[inline]
    pub(super) fn note(&self, class: Class, allowance: &Arc<Allowance>) {
        if self.is_shared.load(Ordering::Relaxed) {
            self.note_shared(class, allowance);
        }
    }

    fn note_shared(&self, class: Class, allowance: &Arc<Allowance>) {
        let untold = &allowance.untold;
        if let Some(events) = untold.events.get(class as usize) {
            let more = |events: u32| Some(events.saturating_add(EVENT));
            let _ = events.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
        if !untold.is_active.swap(true, Ordering::AcqRel) {
            self.active.lock().push(Arc::clone(allowance));
        }
    }
}

impl Users {
    /// What other servers are told now, of so many servers and after so much time since it was asked for
    /// last. Nothing is noted where there are no others.
    pub(crate) fn spent(&self, servers: usize, elapsed: Duration) -> Vec<Spent> {
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        let spending = self.spending();
        spending.is_shared.store(servers > 1, Ordering::Relaxed);
        let active = std::mem::take(&mut *spending.active.lock());
        let mut told = Vec::new();
        let mut still = Vec::new();
        for allowance in active {
            let untold = &allowance.untold;
            // What is noted from here on makes the user active again.
            untold.is_active.store(false, Ordering::Release);
            let mut events = [0; Class::ALL.len()];
            let mut is_left = false;
            for (class, (count, told_of)) in Class::ALL
                .into_iter()
                .zip(untold.events.iter().zip(&mut events))
            {
                let Some((step, quota)) = self.pace(class) else {
                    continue;
                };
                let known = count.load(Ordering::Relaxed);
                // The bound of what is told depends on the share: the more servers there are, the
                // sooner each of them tells.
                let share = quota.saturating_mul(EVENT) / servers;
                // Less than one event is nothing to tell.
                let is_due = known >= (share / 2).max(EVENT);
                let taken = if is_due && told.len() < MAX_TOLD {
                    *told_of = known / EVENT;
                    *told_of * EVENT
                } else if is_due {
                    0
                } else {
                    // The share of this server has come back meanwhile.
                    let back = elapsed.as_secs_f64() / step.as_secs_f64() / f64::from(servers);
                    known.min((back * f64::from(EVENT)).ceil() as u32)
                };
                is_left |= count.fetch_sub(taken, Ordering::Relaxed) > taken;
            }
            if events.iter().any(|count| *count > 0) {
                let (user, events) = (Arc::clone(&allowance.name), events.to_vec());
                told.push(Spent { user, events });
            }
            if is_left && servers > 1 && !untold.is_active.swap(true, Ordering::AcqRel) {
                still.push(allowance);
            }
        }
        // Who had no room is told of first the next time.
        let mut active = spending.active.lock();
        still.append(&mut active);
        *active = still;
        drop(active);
        told
    }

    /// Charges what users have done on another server, as far as that: nobody waits longer for it than for a
    /// budget that was used up here.
    pub(crate) fn charge(&self, spent: &[Spent]) {
        // The list comes from another server, so its length is not taken on trust.
        for Spent { user, events } in spent.iter().take(MAX_TOLD) {
            let allowance = self.allowance(user);
            for (class, count) in Class::ALL.into_iter().zip(events) {
                if *count > 0 {
                    self.charge_class(class, &allowance, *count);
                }
            }
        }
    }
}

const EVENT: u32 = 1000;
/// Users of whom others are told at once; the rest is told a second later.
const MAX_TOLD: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    const SECOND: Duration = Duration::from_secs(1);

    fn servers() -> [Users; 2] {
        let servers = [(); 2].map(|()| Users::new(&Limits::default(), Arc::default()));
        for server in &servers {
            assert_eq!(server.spent(2, SECOND), []);
        }
        servers
    }

    fn send(server: &Users, user: &str, messages: usize) -> usize {
        let may = |_: &usize| server.check(Class::Messages, user).is_ok();
        (0..messages).filter(may).count()
    }

    #[test]
    fn what_a_user_has_done_on_one_server_is_charged_on_the_other() {
        let [a, b] = servers();
        assert_eq!(send(&a, "ann", 20), 20);
        let told = a.spent(2, SECOND);
        let events = vec![20, 0, 0, 0];
        assert_eq!(
            told,
            [Spent {
                user: "ann".into(),
                events
            }]
        );
        assert_eq!(a.spent(2, SECOND), [], "it is told once");
        let read = serde_json::to_string(&told).unwrap();
        b.charge(&serde_json::from_str::<Vec<Spent>>(&read).unwrap());
        assert_eq!(send(&b, "ann", 30), 10);
        assert_eq!(send(&b, "bob", 30), 30);
    }

    #[test]
    fn a_user_who_is_connected_is_charged_too_and_for_no_more_than_a_budget() {
        let [a, b] = servers();
        let (ann, _) = b.enter("ann");
        send(&a, "ann", 30);
        let told = a.spent(2, SECOND);
        for _ in 0..10 {
            b.charge(&told);
        }
        let wait = b.take(Class::Messages, &ann).unwrap_err();
        assert!(wait <= 2 * SECOND, "{wait:?}");
    }

    #[test]
    fn a_server_of_another_version_may_know_other_classes() {
        let [a, _] = servers();
        let read = |json: &str| serde_json::from_str::<Vec<Spent>>(json).unwrap();
        a.charge(&read(r#"[{"user":"ann","events":[20]}]"#));
        assert_eq!(send(&a, "ann", 30), 10);
        a.charge(&read(r#"[{"user":"bob","events":[20,0,0,0,7],"later":1}]"#));
        assert_eq!(send(&a, "bob", 30), 10);
        a.charge(&read(r#"[{"user":"eve"}]"#));
        assert_eq!(send(&a, "eve", 30), 30);
    }

    #[test]
    fn of_those_who_do_little_nobody_is_told() {
        let [a, _] = servers();
        // Half of a share is seven and a half.
        assert_eq!(send(&a, "ann", 7), 7);
        assert_eq!(a.spent(2, SECOND), []);
        // A message in four seconds is the share of a server of two.
        assert_eq!(a.spent(2, 40 * SECOND), []);
        assert!(a.spending().active.lock().is_empty());
        assert_eq!(send(&a, "ann", 7), 7);
        assert_eq!(a.spent(2, SECOND), []);
        assert_eq!(send(&a, "ann", 1), 1);
        assert_eq!(a.spent(2, SECOND).len(), 1);
    }

    #[test]
    fn where_there_are_no_others_nothing_is_noted() {
        let [a, _] = servers();
        send(&a, "ann", 20);
        assert_eq!(a.spent(1, SECOND).len(), 1, "it was still to be told");
        send(&a, "bob", 20);
        assert!(a.spending().active.lock().is_empty());
    }

    #[test]
    fn what_is_too_much_for_one_message_is_told_in_the_next() {
        let [a, _] = servers();
        for n in 0..MAX_TOLD + 10 {
            assert_eq!(send(&a, &format!("user {n}"), 10), 10);
        }
        assert_eq!(a.spent(2, SECOND).len(), MAX_TOLD);
        assert_eq!(a.spent(2, SECOND).len(), 10);
        assert_eq!(a.spent(2, SECOND), []);
    }

    #[test]
    fn who_waits_to_be_told_of_is_told_of_and_is_not_active_for_good() {
        let limits = Limits {
            messages_per_minute: Some(2),
            ..Limits::default()
        };
        let server = Users::new(&limits, Arc::default());
        assert_eq!(server.spent(4, SECOND), []);
        for n in 0..2 * MAX_TOLD + 10 {
            assert_eq!(send(&server, &format!("user {n}"), 1), 1);
        }
        let told: Vec<_> = (0..4).flat_map(|_| server.spent(4, SECOND)).collect();
        assert_eq!(told.len(), 2 * MAX_TOLD + 10);
        assert!(server.spending().active.lock().is_empty());
    }

    #[test]
    fn the_rest_of_an_event_comes_back_however_many_servers_there_are() {
        let [a, _] = servers();
        // Told of when there are ten servers; when there are a thousand, next to nothing comes back in a second.
        assert_eq!(send(&a, "ann", 1), 1);
        assert_eq!(a.spent(2, SECOND), []);
        assert_eq!(a.spent(1_000_000, SECOND), []);
        for _ in 0..1000 {
            a.spent(1_000_000, SECOND);
        }
        assert!(a.spending().active.lock().is_empty());
    }

    #[test]
    fn a_user_who_sends_at_two_servers_gets_hardly_more_than_one_budget() {
        let [a, b] = servers();
        // Ten turns of a second each, in which next to nothing comes back.
        let mut sent = 0;
        for _ in 0..10 {
            sent += send(&a, "ann", 5) + send(&b, "ann", 5);
            b.charge(&a.spent(2, SECOND));
            a.charge(&b.spent(2, SECOND));
        }
        // What is still untold is less than half of the budget.
        assert!((30..=30 + 15).contains(&sent), "{sent}");
    }
}
