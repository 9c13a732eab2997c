//! Pages of a journal for services: newest entries first, read in the same way as snapshots.

use sha2::{Digest as _, Sha256};

use super::{JournalKind, Snapshot, is_withdrawal, snapshot::Bounds};
use crate::metrics::hex;
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::REVISION_DIGITS;
use crate::service::rules::content::page_limit;
use crate::store::{Current, Time};

/// Which current entries a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Part {
    All,
    /// Only entries that are open.
    Open,
    /// Only entries that are closed.
    Closed,
}

impl<S> JournalKind<S> {
    /// Returns a page of the current entries of a topic, the newest first, up to a limit, after the
    /// page that returned a cursor. With `since`, it has only entries with a larger revision; a
    /// revision that the journal has not reached is ignored.
    pub(in crate::service) async fn page(
        &self,
        topic: Option<&str>,
        part: Part,
        (cursor, limit): (Option<&str>, Option<usize>),
        since: Option<u64>,
    ) -> Result<Snapshot, ServiceError> {
        let limit = page_limit(limit)?;
        let (journal, category) = (&self.journal(topic), self.category(topic));
        let list = list_of(journal, category);
        let before = cursor.map(|cursor| {
            let (revision, of) =
                place(cursor).ok_or_else(|| ServiceError::invalid("cursor", "is not a cursor"))?;
            if of == list {
                Ok(revision)
            } else {
                Err(ServiceError::NotFound("the cursor is of another list"))
            }
        });
        let (open, newest) = match part {
            Part::Open => (limit + 1, 0),
            Part::All | Part::Closed => (0, limit + 1),
        };
        let current = Current {
            journal,
            category,
            open,
            newest,
            is_closed: part == Part::Closed,
            with_withdrawn: since.is_some(),
            before: before.transpose()?,
            now: Time::now(),
        };
        let mut view = self.journals.store().journal(current).await?;
        let since = since.filter(|since| *since <= view.revision);
        if since.is_none() {
            view.entries.retain(|entry| !is_withdrawal(entry));
        }
        let bounds = Bounds {
            open: 0,
            newest: limit,
            since,
        };
        let mut page = Snapshot::of(view, bounds, (journal, category));
        page.entries.reverse();
        Ok(page)
    }
}

/// Returns the cursor of the page of a list that has the entries before a revision.
pub(super) fn cursor_of(before: u64, journal: &str, category: Option<&str>) -> String {
    format!("{before}.{}", list_of(journal, category))
}

/// Returns the part of a cursor that identifies its list, so that it is invalid for other users or
/// channels.
fn list_of(journal: &str, category: Option<&str>) -> String {
    let category = category.unwrap_or_default();
    // The names of users and channels contain no control characters, so no two lists have the same
    // input.
    let hash = Sha256::digest(format!("{journal}\0{category}"));
    hex(hash.get(..LIST_BYTES).unwrap_or(&hash))
}

/// Returns the revision and the list in a cursor.
fn place(cursor: &str) -> Option<(u64, &str)> {
    let (revision, of) = cursor.split_once('.')?;
    let is_digit = |digit: u8| digit.is_ascii_digit();
    let is_hash = |digit: u8| is_digit(digit) || (b'a'..=b'f').contains(&digit);
    if revision.len() > REVISION_DIGITS || !revision.bytes().all(is_digit) {
        return None;
    }
    let is_list = of.len() == 2 * LIST_BYTES && of.bytes().all(is_hash);
    revision
        .parse()
        .ok()
        .filter(|_| is_list)
        .map(|revision| (revision, of))
}

const LIST_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_valid_only_for_its_own_list() {
        let lists = [
            ("trades:ann", None),
            ("trades:bob", None),
            ("signals", None),
            ("signals", Some("gold")),
        ]
        .map(|(journal, category)| list_of(journal, category));
        for (n, list) in lists.iter().enumerate() {
            for (m, other) in lists.iter().enumerate() {
                let cursor = format!("7.{list}");
                let (revision, of) = place(&cursor).unwrap();
                assert_eq!((revision, of == other), (7, n == m), "{list} {other}");
            }
        }
        let list = &lists[0];
        for wrong in [
            "",
            "7",
            list,
            &format!("x.{list}"),
            &format!("-1.{list}"),
            "7.x",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
