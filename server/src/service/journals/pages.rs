//! Pages of a journal, for services that read what was published: the newest first, by the reader that snapshots are made with.

use sha2::{Digest as _, Sha256};

use super::{Journals, Snapshot};
use crate::service::fault::ServiceError;
use crate::service::rules::content::page_limit;
use crate::store::{Current, Entry, Time};

/// Which page somebody wants.
#[derive(Debug)]
pub(in crate::service) struct WantedPage<'a> {
    /// The name of the journal.
    pub(in crate::service) journal: String,
    pub(in crate::service) category: Option<&'a str>,
    pub(in crate::service) part: Part,
    /// The cursor of the page before.
    pub(in crate::service) cursor: Option<&'a str>,
    /// Entries at most, if that is said.
    pub(in crate::service) limit: Option<usize>,
}

/// Which current entries a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Part {
    All,
    /// Only entries that are open.
    Open,
    /// Only entries that are closed.
    Closed,
}

/// Current entries of a journal.
#[derive(Debug)]
pub(in crate::service) struct Page {
    /// The revision of the journal when the page was read.
    pub(in crate::service) revision: u64,
    /// The newest first.
    pub(in crate::service) entries: Vec<Entry>,
    /// Where the next page begins, if there is one.
    pub(in crate::service) cursor: Option<String>,
}

impl Journals {
    /// A page of what is current now.
    pub(in crate::service) async fn page(
        &self,
        wanted: WantedPage<'_>,
    ) -> Result<Page, ServiceError> {
        let limit = page_limit(wanted.limit)?;
        let list = list_of(&wanted);
        let before = wanted.cursor.map(|cursor| {
            let none = || ServiceError::invalid("cursor", "is none of this list");
            place(cursor, &list).ok_or_else(none)
        });
        let (open, newest) = match wanted.part {
            Part::Open => (limit + 1, 0),
            Part::All | Part::Closed => (0, limit + 1),
        };
        let current = Current {
            journal: &wanted.journal,
            category: wanted.category,
            open,
            newest,
            is_closed: wanted.part == Part::Closed,
            before: before.transpose()?,
            now: Time::now(),
        };
        let mut view = self.0.store.journal(current).await?;
        // The one entry beyond the page, which is the oldest, says whether there is another page.
        let beyond = view.entries.len().saturating_sub(limit);
        view.entries.drain(..beyond);
        let Snapshot {
            revision,
            mut entries,
            has_more,
            open: _,
        } = Snapshot::of(view);
        entries.reverse();
        let last = entries.last().filter(|_| has_more || beyond > 0);
        Ok(Page {
            revision,
            cursor: last.map(|last| format!("{}.{list}", last.revision)),
            entries,
        })
    }
}

/// What a cursor names its list by, so that it is of no use for the list of another user or channel.
fn list_of(wanted: &WantedPage<'_>) -> String {
    let category = wanted.category.unwrap_or_default();
    // The names of users and channels have no control characters, so that no two lists are hashed alike.
    let hash = Sha256::digest(format!("{}\0{category}", wanted.journal));
    hash.iter()
        .take(LIST_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The revision that a cursor of a list names.
fn place(cursor: &str, list: &str) -> Option<u64> {
    let (revision, of) = cursor.split_once('.')?;
    revision.parse().ok().filter(|_| of == list)
}

const LIST_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(journal: &str, category: Option<&'a str>) -> WantedPage<'a> {
        WantedPage {
            journal: journal.into(),
            category,
            part: Part::All,
            cursor: None,
            limit: None,
        }
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list() {
        let lists = [
            wanted("trades:ann", None),
            wanted("trades:bob", None),
            wanted("signals", None),
            wanted("signals", Some("gold")),
        ]
        .map(|wanted| list_of(&wanted));
        for (n, list) in lists.iter().enumerate() {
            for (m, other) in lists.iter().enumerate() {
                let place = place(&format!("7.{list}"), other);
                assert_eq!(place, (n == m).then_some(7), "{list} {other}");
            }
        }
        let list = &lists[0];
        for wrong in ["", "7", list, &format!("x.{list}"), &format!("-1.{list}")] {
            assert_eq!(place(wrong, list), None, "{wrong}");
        }
    }
}
