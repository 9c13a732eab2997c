//! Snapshots of a journal: the newest entries within bounds, whether there are more, and where they
//! begin.

use super::amending::is_withdrawal;
use super::pages::cursor_of;
use crate::store::{Current, Entry, JournalView, Time};

/// The bounds of the requested entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The maximum number of open entries. If not zero, `newest` limits only closed entries.
    pub(super) open: usize,
    pub(super) newest: usize,
    /// Only entries with a larger revision.
    pub(super) since: Option<u64>,
}

/// The contents of a journal at one moment. Later updates have a larger revision.
#[derive(Debug)]
pub(in crate::service) struct Snapshot {
    pub(in crate::service) revision: u64,
    /// The oldest first, but the newest first in a page of a list.
    pub(in crate::service) entries: Vec<Entry>,
    /// The number of open entries at this moment, if the teller counts them. It includes entries
    /// that did not fit.
    pub(in crate::service) open: u64,
    /// Set if there are only entries with a larger revision than this.
    pub(in crate::service) since: Option<u64>,
    /// The cursor of the page with the omitted entries. `None` if none was omitted.
    pub(in crate::service) cursor: Option<String>,
}

impl Bounds {
    /// Returns the query for these bounds. It reads one more entry of each kind, to determine
    /// whether there are more.
    pub(super) fn current<'a>(&self, journal: &'a str, category: Option<&'a str>) -> Current<'a> {
        let and_one = |most: usize| most + usize::from(most > 0);
        Current {
            journal,
            category,
            open: and_one(self.open),
            newest: and_one(self.newest),
            is_closed: self.open > 0,
            // A client that has a revision must remove entries withdrawn since.
            with_withdrawn: self.since.is_some(),
            before: None,
            now: Time::now(),
        }
    }

    /// Returns whether the journal has reached the revision after which entries are wanted.
    pub(super) fn is_within(&self, view: &JournalView) -> bool {
        self.since.is_none_or(|since| since <= view.revision)
    }
}

impl Snapshot {
    /// Takes the newest entries of a list within the bounds, as many as fit into one event.
    pub(super) fn of(
        view: JournalView,
        bounds: Bounds,
        (journal, category): (&str, Option<&str>),
    ) -> Self {
        let JournalView {
            revision,
            mut entries,
        } = view;
        let Bounds {
            open,
            newest,
            since,
        } = bounds;
        entries.retain(|entry| since.is_none_or(|since| entry.revision > since));
        let is_any = |_: &Entry| true;
        let is_open = |entry: &Entry| entry.is_open;
        let is_closed = |entry: &Entry| !entry.is_open;
        let (is_open_cut, is_newest_cut) = if open > 0 {
            let is_open_cut = cut(&mut entries, open, is_open);
            (is_open_cut, cut(&mut entries, newest, is_closed))
        } else {
            (false, cut(&mut entries, newest, is_any))
        };
        let left_out = entries.len() - fitting(&entries);
        entries.drain(..left_out);
        // The oldest included entry of a kind is newer than all omitted entries of its kind. If no
        // entry of the kind fits, all of them are older than the included entries.
        let oldest = |is_meant: &dyn Fn(&Entry) -> bool| {
            let of_kind = entries.iter().find(|entry| is_meant(entry));
            of_kind
                .or_else(|| entries.first())
                .map(|entry| entry.revision)
        };
        let newest_kind: &dyn Fn(&Entry) -> bool = if open > 0 { &is_closed } else { &is_any };
        let before = [
            oldest(&is_open).filter(|_| is_open_cut),
            oldest(newest_kind).filter(|_| is_newest_cut),
            oldest(&is_any).filter(|_| left_out > 0),
        ];
        // All omitted entries have a smaller revision than this.
        let before = before.into_iter().flatten().max();
        Self {
            revision,
            open: entries.len() as u64,
            entries,
            since,
            cursor: before.map(|before| cursor_of(before, journal, category)),
        }
    }

    /// Returns the keys that were withdrawn after `since`, if there is one.
    pub(in crate::service) fn withdrawn(&self) -> Vec<String> {
        let withdrawals = self.entries.iter().filter(|entry| is_withdrawal(entry));
        withdrawals.map(|entry| entry.key.clone()).collect()
    }

    /// Returns whether older entries were omitted. Entries that are not newer than `since` do not
    /// count.
    pub(in crate::service) fn has_more(&self) -> bool {
        self.cursor.is_some()
    }
}

/// Removes the oldest excess entries of a kind. Returns whether there were any.
fn cut(entries: &mut Vec<Entry>, most: usize, is_meant: impl Fn(&Entry) -> bool) -> bool {
    let count = entries.iter().filter(|entry| is_meant(entry)).count();
    let mut over = count.saturating_sub(most);
    let is_cut = over > 0;
    entries.retain(|entry| {
        let goes = over > 0 && is_meant(entry);
        over -= usize::from(goes);
        !goes
    });
    is_cut
}

/// Returns how many of the newest entries fit into one event.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().rev().take_while(|entry| {
        // An entry larger than the limit gets a snapshot for itself.
        let is_first = bytes == 0;
        bytes += entry.body.len();
        is_first || bytes <= SNAPSHOT_BYTES
    });
    fitting.count()
}

/// The maximum size of the entries in a snapshot, in bytes.
///
/// With its two copies, the event and the acknowledgement, it stays far below the limit of a
/// client's queue.
const SNAPSHOT_BYTES: usize = 192 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries with these revisions; those of even revisions are open.
    fn view(revisions: impl Iterator<Item = u64>, body_bytes: usize) -> JournalView {
        let entry = |revision: u64| Entry {
            revision,
            key: revision.to_string(),
            body: "x".repeat(body_bytes),
            category: None,
            is_open: revision.is_multiple_of(2),
            created_at: Time::now(),
            expires_at: None,
        };
        JournalView {
            revision: 100,
            entries: revisions.map(entry).collect(),
        }
    }

    fn taken(view: JournalView, bounds: Bounds) -> (Vec<u64>, Option<u64>) {
        let snapshot = Snapshot::of(view, bounds, ("trades:ann", None));
        let revisions = snapshot.entries.iter().map(|entry| entry.revision);
        let before = snapshot.cursor.map(|cursor| {
            let (before, _) = cursor.split_once('.').unwrap();
            before.parse().unwrap()
        });
        (revisions.collect(), before)
    }

    #[test]
    fn more_is_reported_exactly_if_an_entry_is_left_out() {
        let bounds = |open, newest, since| Bounds {
            open,
            newest,
            since,
        };
        // Without a distinction between open and closed entries.
        assert_eq!(
            taken(view(1..=3, 1), bounds(0, 3, None)),
            (vec![1, 2, 3], None)
        );
        assert_eq!(
            taken(view(1..=4, 1), bounds(0, 3, None)),
            (vec![2, 3, 4], Some(2))
        );
        assert_eq!(taken(view(0..0, 1), bounds(0, 3, None)), (vec![], None));
        // Only entries newer than a revision count.
        assert_eq!(
            taken(view(1..=4, 1), bounds(0, 3, Some(1))),
            (vec![2, 3, 4], None)
        );
        assert_eq!(taken(view(1..=4, 1), bounds(0, 3, Some(4))), (vec![], None));
        assert_eq!(
            taken(view(1..=4, 1), bounds(0, 2, Some(1))),
            (vec![3, 4], Some(3))
        );
        // Each kind has its own bound.
        assert_eq!(
            taken(view(1..=6, 1), bounds(3, 3, None)),
            (vec![1, 2, 3, 4, 5, 6], None)
        );
        assert_eq!(
            taken(view(1..=6, 1), bounds(3, 2, None)),
            (vec![2, 3, 4, 5, 6], Some(3))
        );
        assert_eq!(
            taken(view(1..=6, 1), bounds(2, 3, None)),
            (vec![1, 3, 4, 5, 6], Some(4))
        );
        assert_eq!(
            taken(view(1..=6, 1), bounds(2, 2, None)),
            (vec![3, 4, 5, 6], Some(4))
        );
    }

    #[test]
    fn entries_that_do_not_fit_are_reported_as_more() {
        let third = SNAPSHOT_BYTES / 3;
        let bounds = Bounds {
            open: 0,
            newest: 9,
            since: None,
        };
        assert_eq!(taken(view(1..=3, third), bounds), (vec![1, 2, 3], None));
        assert_eq!(taken(view(1..=4, third), bounds), (vec![2, 3, 4], Some(2)));
        assert_eq!(
            taken(view(1..=2, SNAPSHOT_BYTES + 1), bounds),
            (vec![2], Some(2))
        );
        // No closed entry fits beside the open entries, so all closed entries are older than the
        // included ones.
        let open_last = view([1, 3, 4, 6, 8].into_iter(), third);
        let bounds = Bounds {
            open: 3,
            newest: 1,
            since: None,
        };
        assert_eq!(taken(open_last, bounds), (vec![4, 6, 8], Some(4)));
    }
}
