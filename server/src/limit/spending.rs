//! Shares the budgets of users between the servers of a cluster.
//!
//! A user has one budget on all servers. Each server charges an event of its own immediately, and
//! reports it to the other servers, which charge it as well. A report waits until the user has
//! spent half of the server's share of the budget, or for [`STALE`]. There are therefore far fewer
//! reports than events. Every event is charged once by every server.
//!
//! Bound: of n servers, each has accepted at most one budget that the others do not know yet, and
//! less than half of a share waits to be reported. All servers together therefore accept at most n
//! budgets and a half, and beyond that the pace of one server, however a user spreads its events.
//! For this, charges must never be lost: they may exceed the budget, by as much as this bound
//! permits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use roomcast::internal::SharedTokenBucket;
use serde::{Deserialize, Serialize};

use super::users::{Allowance, Class, Users};

/// The events of one user on another server since the last report of the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    user: Arc<str>,
    /// Number of events by class, in the order of the classes. Servers of other versions can know
    /// fewer or more classes: missing counts are 0, and unknown classes are ignored.
    events: Vec<u32>,
    /// By class: milliseconds until these events alone are used up at the pace of the class. A
    /// missing time is 0.
    rest: Vec<u32>,
}

/// The users with unreported events.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// The number of servers in the cluster, including this one. Events are noted only if there are
    /// several.
    servers: AtomicU32,
    active: Mutex<Vec<Arc<Allowance>>>,
}

/// The unreported events of one user on this server, by class.
#[derive(Debug, Default)]
pub(super) struct UnreportedEvents {
    events: [AtomicU32; Class::ALL.len()],
    /// When these events alone are used up.
    rested: [SharedTokenBucket; Class::ALL.len()],
    /// Milliseconds for which the oldest of them has waited.
    age: AtomicU32,
    /// Whether the user is in the list of users with unreported events.
    is_active: AtomicBool,
}

impl Spending {
    /// Returns the number of users with unreported events.
    pub(super) fn len(&self) -> usize {
        self.active.lock().len()
    }

    /// Notes an event of a user.
    #[inline]
    pub(super) fn note(
        &self,
        class: Class,
        allowance: &Arc<Allowance>,
        now: Duration,
        step: Duration,
    ) {
        if self.servers.load(Ordering::Relaxed) > 1 {
            self.note_shared(class, allowance, now, step);
        }
    }

    fn note_shared(&self, class: Class, allowance: &Arc<Allowance>, now: Duration, step: Duration) {
        let unreported = &allowance.unreported;
        if let Some(rested) = unreported.rested.get(class as usize) {
            let rest = rested.get().time().saturating_sub(now) + step;
            rested.charge(now, step, rest, Duration::MAX - now);
        }
        if let Some(events) = unreported.events.get(class as usize) {
            events.fetch_add(1, Ordering::Release);
        }
        if !unreported.is_active.swap(true, Ordering::AcqRel) {
            self.active.lock().push(Arc::clone(allowance));
        }
    }

    /// Returns the maximum number of windows that a user may owe: a budget for each server, plus
    /// unreported events.
    pub(super) fn debt(&self) -> u32 {
        self.servers
            .load(Ordering::Relaxed)
            .max(1)
            .saturating_add(1)
    }
}

impl UnreportedEvents {
    /// Removes and returns all events of a user for a report.
    fn take(&self, user: &Arc<str>, now: Duration) -> Option<Spent> {
        self.age.store(0, Ordering::Relaxed);
        let rest = |rested: &SharedTokenBucket| {
            let rest = rested.reset().time().saturating_sub(now).as_nanos();
            u32::try_from(rest.div_ceil(1_000_000)).unwrap_or(u32::MAX)
        };
        let events: Vec<u32> = self
            .events
            .iter()
            .map(|events| events.swap(0, Ordering::Acquire))
            .collect();
        let rest = self.rested.iter().map(rest).collect();
        let has_events = events.iter().any(|count| *count > 0);
        has_events.then(|| Spent {
            user: Arc::clone(user),
            events,
            rest,
        })
    }
}

impl Users {
    /// Returns the report for the other servers. `servers` is the size of the cluster, `elapsed`
    /// the time since the last call. Without other servers, nothing is noted.
    pub(crate) fn spent(&self, servers: usize, elapsed: Duration) -> Vec<Spent> {
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        let spending = self.spending();
        spending.servers.store(servers, Ordering::Relaxed);
        let now = self.now();
        let active = std::mem::take(&mut *spending.active.lock());
        let (mut reported, mut waiting) = (Vec::new(), Vec::new());
        for allowance in active {
            // An event that is noted from here on makes the user active again.
            allowance
                .unreported
                .is_active
                .store(false, Ordering::Release);
            let is_due = self.is_due(&allowance, servers);
            if is_due && reported.len() < MAX_REPORTED_USERS {
                reported.extend(allowance.unreported.take(&allowance.name, now));
            } else {
                waiting.push((allowance, is_due));
            }
        }
        let elapsed = u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX);
        let mut still = Vec::new();
        for (allowance, is_due) in waiting {
            let unreported = &allowance.unreported;
            let age = unreported
                .age
                .load(Ordering::Relaxed)
                .saturating_add(elapsed);
            unreported.age.store(age, Ordering::Relaxed);
            let is_stale = !is_due && age >= STALE;
            // Users with few events are reported last, and dropped if there are too many of them.
            if is_stale && reported.len() < MAX_REPORTED_USERS {
                reported.extend(unreported.take(&allowance.name, now));
            } else if is_stale || servers == 1 || still.len() >= MAX_WAITING {
                unreported.take(&allowance.name, now);
            } else if !unreported.is_active.swap(true, Ordering::AcqRel) {
                still.push(allowance);
            }
        }
        // Users for whom the report had no room are first in the next one.
        let mut active = spending.active.lock();
        still.append(&mut active);
        *active = still;
        drop(active);
        reported
    }

    /// Returns whether a user has spent half of this server's share of a budget without a report.
    fn is_due(&self, allowance: &Allowance, servers: u32) -> bool {
        let mut classes = Class::ALL.into_iter().zip(&allowance.unreported.events);
        classes.any(|(class, events)| {
            let Some((_, quota)) = self.pace(class) else {
                return false;
            };
            // The more servers there are, the earlier each of them reports.
            let half = quota.div_ceil(servers.saturating_mul(2)).max(1);
            events.load(Ordering::Relaxed) >= half
        })
    }

    /// Charges events that users sent to another server.
    pub(crate) fn charge(&self, spent: &[Spent]) {
        // The list comes from another server, so its length is not trusted.
        for Spent { user, events, rest } in spent.iter().take(MAX_REPORTED_USERS) {
            let is_over = rest.iter().all(|rest| *rest == 0);
            // Used-up events matter only to a user who is active on this server.
            let allowance = match is_over {
                true => self.known(user),
                false => Some(self.allowance(user)),
            };
            let Some(allowance) = allowance else {
                continue;
            };
            for (class, count) in Class::ALL.into_iter().zip(events) {
                if *count > 0 {
                    let rest = rest.get(class as usize).copied().unwrap_or(0);
                    let rest = Duration::from_millis(rest.into());
                    self.charge_class(class, &allowance, *count, rest);
                }
            }
        }
    }
}

/// Maximum users in one report. The remaining users are in the next one, a second later.
const MAX_REPORTED_USERS: usize = 1000;
/// Maximum users with few events that wait to be reported.
const MAX_WAITING: usize = 100_000;
/// Milliseconds after which users with few events are reported.
const STALE: u32 = 60_000;

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
    fn events_on_one_server_are_charged_on_the_other() {
        let [a, b] = servers();
        assert_eq!(send(&a, "ann", 20), 20);
        let reported = a.spent(2, SECOND);
        assert_eq!(reported.len(), 1);
        assert_eq!(
            (&*reported[0].user, &reported[0].events[..]),
            ("ann", &[20, 0, 0, 0, 0, 0, 0][..])
        );
        assert_eq!(a.spent(2, SECOND), [], "it is reported once");
        let read = serde_json::to_string(&reported).unwrap();
        b.charge(&serde_json::from_str::<Vec<Spent>>(&read).unwrap());
        assert_eq!(send(&b, "ann", 30), 10);
        assert_eq!(send(&b, "bob", 30), 30);
    }

    #[test]
    fn connected_user_owes_at_most_one_budget_per_server_plus_one() {
        let [a, b] = servers();
        let (ann, _) = b.enter("ann");
        send(&a, "ann", 30);
        let reported = a.spent(2, SECOND);
        for _ in 0..10 {
            b.charge(&reported);
        }
        // Three budgets are spent, of which one may be owed.
        let wait = b.take(Class::Messages, &ann).unwrap_err().duration();
        assert!(wait <= 122 * SECOND && wait > 120 * SECOND, "{wait:?}");
    }

    #[test]
    fn unknown_classes_of_other_versions_are_ignored() {
        let [a, _] = servers();
        let read = |json: &str| serde_json::from_str::<Vec<Spent>>(json).unwrap();
        a.charge(&read(r#"[{"user":"ann","events":[20],"rest":[40000]}]"#));
        assert_eq!(send(&a, "ann", 30), 10);
        a.charge(&read(
            r#"[{"user":"bob","events":[20,0,0,0,0,0,0,7],"rest":[40000,0,0,0,0,0,0,9],"later":1}]"#,
        ));
        assert_eq!(send(&a, "bob", 30), 10);
        a.charge(&read(r#"[{"user":"eve","events":[],"rest":[]}]"#));
        assert_eq!(send(&a, "eve", 30), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn few_events_of_a_user_are_reported_after_a_minute_and_charged() {
        let [a, b] = servers();
        // Half of a share is 7.5 events.
        assert_eq!(send(&a, "ann", 7), 7);
        assert_eq!(send(&a, "bob", 7), 7);
        for _ in 0..59 {
            tokio::time::advance(SECOND).await;
            assert_eq!(a.spent(2, SECOND), []);
        }
        tokio::time::advance(SECOND).await;
        // Bob used up his budget on this server, so his seven events count. Ann's are used up.
        assert_eq!(send(&b, "bob", 30), 30);
        let reported = a.spent(2, SECOND);
        assert_eq!(reported.len(), 2);
        b.charge(&reported);
        assert_eq!(send(&b, "ann", 31), 30);
        let wait = b.check(Class::Messages, "bob").unwrap_err();
        assert_eq!(wait.duration(), 16 * SECOND);
        assert!(a.spending().active.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_event_more_than_half_of_a_share_is_reported_in_the_next_second() {
        let [a, _] = servers();
        assert_eq!(send(&a, "ann", 7), 7);
        assert_eq!(a.spent(2, SECOND), []);
        assert_eq!(send(&a, "ann", 1), 1);
        let reported = a.spent(2, SECOND);
        assert_eq!(reported[0].events, [8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reported[0].rest, [16_000, 0, 0, 0, 0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn expired_spending_of_unknown_users_is_not_stored() {
        let [a, _] = servers();
        tokio::time::advance(60 * SECOND).await;
        let over = r#"[{"user":"ann","events":[7],"rest":[0,0,0,0]}]"#;
        a.charge(&serde_json::from_str::<Vec<Spent>>(over).unwrap());
        assert!(a.known("ann").is_none());
        let running = r#"[{"user":"ann","events":[7],"rest":[9000]}]"#;
        a.charge(&serde_json::from_str::<Vec<Spent>>(running).unwrap());
        assert!(a.known("ann").is_some());
        assert_eq!(send(&a, "ann", 30), 25);
    }

    #[test]
    fn spending_is_not_recorded_without_peers() {
        let [a, _] = servers();
        send(&a, "ann", 20);
        assert_eq!(a.spent(1, SECOND).len(), 1, "it was still to be reported");
        send(&a, "bob", 20);
        assert!(a.spending().active.lock().is_empty());
    }

    #[test]
    fn users_beyond_the_report_limit_are_in_the_next_report() {
        let [a, _] = servers();
        for n in 0..MAX_REPORTED_USERS + 10 {
            assert_eq!(send(&a, &format!("user {n}"), 10), 10);
        }
        assert_eq!(a.spent(2, SECOND).len(), MAX_REPORTED_USERS);
        assert_eq!(a.spent(2, SECOND).len(), 10);
        assert_eq!(a.spent(2, SECOND), []);
    }

    #[test]
    fn every_waiting_user_is_reported_and_then_inactive() {
        let limits = Limits {
            messages_per_minute: Some(2),
            ..Limits::default()
        };
        let server = Users::new(&limits, Arc::default());
        assert_eq!(server.spent(4, SECOND), []);
        for n in 0..2 * MAX_REPORTED_USERS + 10 {
            assert_eq!(send(&server, &format!("user {n}"), 1), 1);
        }
        let reported: Vec<_> = (0..4).flat_map(|_| server.spent(4, SECOND)).collect();
        assert_eq!(reported.len(), 2 * MAX_REPORTED_USERS + 10);
        assert!(server.spending().active.lock().is_empty());
    }

    #[test]
    fn user_on_two_servers_gets_little_more_than_one_budget() {
        let [a, b] = servers();
        // Ten iterations of one second each, in which the budget hardly recovers.
        let mut sent = 0;
        for _ in 0..10 {
            sent += send(&a, "ann", 5) + send(&b, "ann", 5);
            b.charge(&a.spent(2, SECOND));
            a.charge(&b.spent(2, SECOND));
        }
        // The unreported rest is less than half of the budget.
        assert!((30..=30 + 15).contains(&sent), "{sent}");
    }

    /// A sending pattern: the number of attempts at a server in a tenth of a second, the `tick`th.
    type Pattern = fn(server: usize, servers: usize, tick: usize) -> usize;

    /// Simulates a user who sends for ten minutes. Returns for each second how many messages all
    /// servers have accepted. Each server reports every second, at a different time.
    async fn play(count: usize, class: Class, pattern: Pattern) -> Vec<usize> {
        let servers: Vec<Users> = (0..count)
            .map(|_| Users::new(&Limits::default(), Arc::default()))
            .collect();
        for server in &servers {
            server.spent(count, SECOND);
        }
        let (mut accepted, mut by_second) = (0, Vec::new());
        for tick in 0..6000 {
            tokio::time::advance(SECOND / 10).await;
            for (number, server) in servers.iter().enumerate() {
                for _ in 0..pattern(number, count, tick) {
                    accepted += usize::from(server.check(class, "ann").is_ok());
                }
                if tick % 10 == number % 10 {
                    let reported = server.spent(count, SECOND);
                    // A report is in flight while the other servers continue.
                    let others = servers.iter().enumerate();
                    for (_, other) in others.filter(|(other, _)| *other != number) {
                        other.charge(&reported);
                    }
                }
            }
            if tick % 10 == 9 {
                by_second.push(accepted);
            }
        }
        by_second
    }

    #[tokio::test(start_paused = true)]
    async fn users_on_all_servers_get_a_budget_per_server_plus_half_and_one_rate() {
        let patterns: [(&str, Pattern); 6] = [
            ("without pause", |_, _, _| 2),
            ("all at once every minute", |_, _, tick| {
                if tick % 600 == 0 { 40 } else { 0 }
            }),
            ("a bit less than a share at each", |_, servers, tick| {
                usize::from(tick % (20 * servers + 1) == 0)
            }),
            (
                "little at all but one",
                |server, servers, tick| match server {
                    0 => 1,
                    _ => usize::from(tick % (20 * servers + 1) == server),
                },
            ),
            ("a bit less than the pace at each", |server, _, tick| {
                usize::from(tick % 21 == server)
            }),
            ("at one after the other", |server, servers, tick| {
                usize::from(tick / 100 % servers == server)
            }),
        ];
        for count in [2, 3, 5, 10] {
            for (name, pattern) in patterns {
                for (class, budget, window) in [(Class::Messages, 30, 60), (Class::Typing, 5, 1)] {
                    let by_second = play(count, class, pattern).await;
                    for (second, accepted) in by_second.into_iter().enumerate() {
                        let bound = count * budget + budget / 2 + (second + 1) * budget / window;
                        assert!(
                            accepted <= bound,
                            "{name}, {count} servers, {class:?}, second {second}: {accepted} of {bound}"
                        );
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_servers_accept_at_most_145_messages_in_80_seconds() {
        let by_second = play(3, Class::Messages, |_, _, _| 2).await;
        assert!(by_second[79] <= 145, "{}", by_second[79]);
        // The user loses nothing either: in ten minutes, the pace of one server is available.
        let all = by_second[599];
        assert!((300..=345 + 60).contains(&all), "{all}");
    }
}
