//! The statuses that users set, as plain data: changes go in, the stored values come out.
//!
//! All statuses of users whose ids share a hash are one value that servers share. A writer reads
//! the value before it changes it, so a change never applies to an outdated value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::auth::is_guest;
use crate::service::rules::emissions::attendance::{Status, UserStatus};
use crate::store::Time;

/// The statuses of some users, by user id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::service) struct Statuses(BTreeMap<Arc<str>, StoredStatus>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredStatus {
    status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Arc<str>>,
    timestamp: Time,
}

impl StoredStatus {
    /// Returns whether the status is that of a user who has set none.
    ///
    /// It is retained for a while, so that no server clock dates the next change earlier than this
    /// one.
    fn is_default(&self) -> bool {
        self.status == Status::default() && self.text.is_none()
    }

    fn is_over(&self, user: &str, now: Time) -> bool {
        let retention = match (self.is_default(), is_guest(user)) {
            (true, _) => DEFAULT_RETENTION,
            (false, true) => GUEST_RETENTION,
            (false, false) => RETENTION,
        };
        self.timestamp.after(retention) <= now
    }

    fn of(&self, user: &Arc<str>) -> UserStatus {
        UserStatus {
            user_id: Arc::clone(user),
            status: self.status,
            text: self.text.clone(),
            timestamp: self.timestamp,
        }
    }

    /// Returns the maximum size of the entry as JSON, in bytes.
    fn size(&self, user: &str) -> usize {
        // In both strings, only quotation marks and backslashes need escaping, which takes two
        // bytes each.
        ENTRY_OVERHEAD + 2 * (user.len() + self.text.as_ref().map_or(0, |text| text.len()))
    }
}

impl Statuses {
    /// Returns the number of stored statuses, including expired ones.
    pub(in crate::service) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the status of a user, if one is set.
    pub(in crate::service) fn get(&self, user: &str, now: Time) -> Option<UserStatus> {
        let (user, stored) = self.0.get_key_value(user)?;
        (!stored.is_over(user, now)).then(|| stored.of(user))
    }

    /// Sets the status of a user, or returns `None` if it is unchanged.
    ///
    /// Expired entries are removed. If the value is full, the oldest entries are evicted, those of
    /// guests first.
    pub(in crate::service) fn set(
        &mut self,
        user: &str,
        status: Status,
        text: Option<&Arc<str>>,
        now: Time,
    ) -> Option<UserStatus> {
        let before = self.0.get(user);
        let known = before.filter(|stored| !stored.is_over(user, now));
        let is_known = match known {
            Some(stored) => stored.status == status && stored.text.as_ref() == text,
            None => status == Status::default() && text.is_none(),
        };
        if is_known {
            return None;
        }
        // The later of two changes has the later time, regardless of the clocks of two servers.
        let next = before.map_or(now, |stored| now.max(stored.timestamp.after(TICK)));
        let stored = StoredStatus {
            status,
            text: text.cloned(),
            timestamp: next,
        };
        let user: Arc<str> = user.into();
        let updated = stored.of(&user);
        self.0.remove(&user);
        // Expired entries are removed on writes, so that no task needs to visit all values.
        self.0.retain(|user, stored| !stored.is_over(user, now));
        // The size of the value is limited. Guests are evicted first, since they return with new
        // ids anyway.
        self.make_room(MAX_BYTES - stored.size(&user));
        self.0.insert(user, stored);
        Some(updated)
    }

    /// Removes the status of a user. Returns whether there was one.
    pub(in crate::service) fn remove(&mut self, user: &str) -> bool {
        self.0.remove(user).is_some()
    }

    fn make_room(&mut self, room: usize) {
        let mut size: usize = self.0.iter().map(|(user, stored)| stored.size(user)).sum();
        let rank = |(user, stored): (&Arc<str>, &StoredStatus)| {
            (!is_guest(user), stored.timestamp, Arc::clone(user))
        };
        while size > room
            && let Some((_, _, user)) = self.0.iter().map(rank).min()
            && let Some(stored) = self.0.remove(&user)
        {
            size -= stored.size(&user);
        }
    }

    /// Returns the users whose status is new or differs from `before`.
    pub(in crate::service) fn since<'a>(&'a self, before: &Self) -> BTreeSet<&'a Arc<str>> {
        let is_news =
            |(user, stored): &(&Arc<str>, &StoredStatus)| before.0.get(*user) != Some(*stored);
        self.0
            .iter()
            .filter(is_news)
            .map(|(user, _)| user)
            .collect()
    }

    /// Returns the users whose status in `before` is still valid but was evicted.
    pub(in crate::service) fn evicted<'a>(
        &self,
        before: &'a Self,
        now: Time,
    ) -> BTreeSet<&'a Arc<str>> {
        let is_evicted = |(user, stored): &(&Arc<str>, &StoredStatus)| {
            !self.0.contains_key(*user) && !stored.is_default() && !stored.is_over(user, now)
        };
        let before = before.0.iter().filter(is_evicted);
        before.map(|(user, _)| user).collect()
    }
}

/// Retention time of the status of a user with an account.
const RETENTION: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Retention time of the status of a guest.
const GUEST_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
/// Retention time of a reset to the default status: far longer than server clocks differ.
const DEFAULT_RETENTION: Duration = Duration::from_secs(60 * 60);

/// The minimum time between two changes.
const TICK: Duration = Duration::from_millis(1);

/// The maximum size of a value in bytes, below [`roomcast::adapter::values::MAX_VALUE`] including
/// its envelope.
const MAX_BYTES: usize = 60 << 10;
/// The size of an entry in bytes without its strings.
const ENTRY_OVERHEAD: usize = 96;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::service::cluster::corpus::{contains_all, lines};

    fn time(second: u64) -> Time {
        let noon: Time = "2025-01-31T12:00:00Z".parse().unwrap();
        noon.after(Duration::from_secs(second))
    }

    fn busy(statuses: &mut Statuses, user: &str, second: u64) -> Option<UserStatus> {
        statuses.set(user, Status::Busy, None, time(second))
    }

    #[test]
    fn repeated_or_initial_default_status_is_no_change() {
        let mut statuses = Statuses::default();
        assert_eq!(statuses.set("ann", Status::Online, None, time(0)), None);
        let text = Arc::from("on holiday");
        let stored = statuses
            .set("ann", Status::Away, Some(&text), time(1))
            .unwrap();
        assert_eq!(
            (stored.timestamp, stored.text.as_deref()),
            (time(1), Some("on holiday"))
        );
        assert_eq!(
            statuses.set("ann", Status::Away, Some(&text), time(2)),
            None
        );
        let stored = busy(&mut statuses, "ann", 3).unwrap();
        assert_eq!(stored.text, None, "the text is set with the status");
        assert_eq!(statuses.get("ann", time(4)), Some(stored));
    }

    #[test]
    fn stored_statuses_of_all_versions_are_read() {
        let mut all = Vec::new();
        for line in lines("values.txt")
            .iter()
            .filter(|line| line.is == "status")
        {
            let stored: Value = serde_json::from_str(&line.text).unwrap();
            let statuses: Statuses = serde_json::from_value(stored["value"].clone()).unwrap();
            let again = serde_json::to_string(&statuses).unwrap();
            let before = stored["value"].to_string();
            assert!(contains_all(&before, &again), "{}: {again}", line.name);
            all.extend(
                statuses
                    .0
                    .into_iter()
                    .map(|(user, stored)| (user.to_string(), stored.status)),
            );
        }
        let expected = [
            ("ann", Status::Away),
            ("bob", Status::Busy),
            ("carl", Status::Online),
            ("guest:1", Status::Offline),
        ];
        assert_eq!(
            all,
            expected.map(|(user, status)| (user.to_owned(), status))
        );
    }

    #[test]
    fn later_change_has_a_later_time_even_if_the_clock_is_set_back() {
        let mut statuses = Statuses::default();
        let first = busy(&mut statuses, "ann", 60).unwrap();
        let second = statuses.set("ann", Status::Online, None, time(0)).unwrap();
        let third = busy(&mut statuses, "ann", 30).unwrap();
        assert!(first.timestamp < second.timestamp && second.timestamp < third.timestamp);
    }

    #[test]
    fn statuses_expire_and_those_of_guests_sooner() {
        let mut statuses = Statuses::default();
        for user in ["ann", "guest:1"] {
            busy(&mut statuses, user, 0).unwrap();
        }
        let (day, year) = (24 * 60 * 60, 365 * 24 * 60 * 60);
        assert!(statuses.get("guest:1", time(day - 1)).is_some());
        assert!(statuses.get("guest:1", time(day)).is_none());
        assert!(statuses.get("ann", time(year - 1)).is_some());
        assert!(statuses.get("ann", time(year)).is_none());
        busy(&mut statuses, "bob", year).unwrap();
        assert_eq!(
            statuses.0.len(),
            1,
            "what is over goes with the next change"
        );
    }

    #[test]
    fn full_value_evicts_statuses_of_guests_first() {
        let mut statuses = Statuses::default();
        let text = Arc::from("\u{1f600}".repeat(80));
        let mut set = |user: &str, second| {
            statuses
                .set(user, Status::Busy, Some(&text), time(second))
                .unwrap();
            let json = serde_json::to_string(&statuses).unwrap();
            assert!(
                json.len() < roomcast::adapter::values::MAX_VALUE - 100,
                "{}",
                json.len()
            );
        };
        set("ann", 0);
        for n in 0..1000 {
            set(&format!("guest:{n}\"{}", "\\".repeat(110)), n);
        }
        set("bob", 1000);
        assert!(
            statuses.get("ann", time(1000)).is_some(),
            "older than all guests"
        );
        assert!(statuses.get("guest:0\"", time(1000)).is_none());
        assert!(statuses.0.len() > 30, "{}", statuses.0.len());
    }

    #[test]
    fn changed_and_new_statuses_are_reported() {
        let mut before = Statuses::default();
        busy(&mut before, "ann", 0).unwrap();
        busy(&mut before, "bob", 0).unwrap();
        let mut after = before.clone();
        after.set("bob", Status::Away, None, time(1)).unwrap();
        busy(&mut after, "eve", 1).unwrap();
        let news: Vec<&str> = after
            .since(&before)
            .into_iter()
            .map(|user| &**user)
            .collect();
        assert_eq!(news, ["bob", "eve"]);
        assert!(after.since(&after).is_empty());
    }

    #[test]
    fn evicted_statuses_are_reported_and_expired_ones_are_not() {
        let text = Arc::from("x".repeat(80));
        let set = |statuses: &mut Statuses, user: &str, second| {
            let stored = statuses.set(user, Status::Busy, Some(&text), time(second));
            assert!(stored.is_some());
        };
        let mut before = Statuses::default();
        set(&mut before, "guest:1", 0);
        let mut count = 0;
        while before.get("guest:1", time(count)).is_some() {
            count += 1;
            let mut after = before.clone();
            set(&mut after, &format!("user {count}"), count);
            let evicted = after.evicted(&before, time(count));
            let evicted: Vec<&str> = evicted.into_iter().map(|user| &**user).collect();
            let is_full = after.get("guest:1", time(count)).is_none();
            assert_eq!(evicted, if is_full { vec!["guest:1"] } else { vec![] });
            before = after;
        }
        let year = 366 * 24 * 60 * 60;
        let mut after = before.clone();
        busy(&mut after, "ann", year).unwrap();
        assert!(after.evicted(&before, time(year)).is_empty());
    }

    #[test]
    fn statuses_serialize_in_the_shared_format() {
        let mut statuses = Statuses::default();
        let text = Arc::from("on holiday");
        statuses
            .set("ann", Status::Away, Some(&text), time(0))
            .unwrap();
        busy(&mut statuses, "bob", 0).unwrap();
        let json = r#"{"ann":{"status":"away","text":"on holiday","timestamp":"2025-01-31T12:00:00.000Z"},"bob":{"status":"busy","timestamp":"2025-01-31T12:00:00.000Z"}}"#;
        assert_eq!(serde_json::to_string(&statuses).unwrap(), json);
        assert_eq!(serde_json::from_str::<Statuses>(json).unwrap(), statuses);
    }
}
