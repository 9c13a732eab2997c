//! Journals in memory.

use std::collections::{BTreeMap, HashMap};

use super::tables::{ENTRY_BYTES, Tables, add};
use crate::store::{
    Amend, Append, Appended, Current, Entry, IfOpen, JournalSweep, JournalView, Quota, Replace,
    StoreError, Time, WITHDRAWAL,
};

/// A journal. Its revision never decreases, even when entries are removed.
#[derive(Debug, Default)]
pub(super) struct Journal {
    revision: u64,
    entries: BTreeMap<u64, Entry>,
    /// The revision of the current entry of each key.
    current: HashMap<String, u64>,
}

impl Journal {
    /// Returns the current entry of a key.
    pub(super) fn current(&self, key: &str) -> Option<&Entry> {
        self.entries.get(self.current.get(key)?)
    }

    fn is_current(&self, entry: &Entry) -> bool {
        self.current.get(&entry.key) == Some(&entry.revision)
    }

    /// Returns the current entries that have not expired, newest first.
    fn newest(&self, now: Time) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.values().rev();
        entries.filter(move |entry| self.is_current(entry) && !is_expired(entry, now))
    }

    /// Removes an entry and returns the freed bytes.
    fn remove(&mut self, revision: u64) -> usize {
        let Some(entry) = self.entries.remove(&revision) else {
            return 0;
        };
        if self.current.get(&entry.key) == Some(&revision) {
            self.current.remove(&entry.key);
        }
        size(&entry.key, &entry.body, entry.category.as_deref())
    }
}

impl Tables {
    pub(super) fn append(&mut self, append: Append) -> Result<Appended, StoreError> {
        let now = append.created_at;
        let known = self.journals.get(&append.journal);
        let before = known.and_then(|journal| journal.current(&append.key));
        match before {
            Some(before)
                if !before.is_open
                    || append.if_open == IfOpen::Refuse
                    || append.is_outdated(before) =>
            {
                return Ok(Appended::There(before.clone()));
            }
            // An expired entry remains until the sweep removes it, and counts as absent.
            Some(before) if append.needs_open && is_expired(before, now) => {
                return Ok(Appended::Absent);
            }
            None if append.needs_open => return Ok(Appended::Absent),
            None if append.is_open => {
                let most = append.most_open as usize;
                let open = known.into_iter().flat_map(|journal| journal.newest(now));
                let open = open.filter(|entry| entry.is_open);
                let is_full = match &append.quota {
                    Quota::All => open.count() >= most,
                    Quota::Without(prefix) => {
                        let counted = open.filter(|entry| !entry.key.starts_with(prefix));
                        counted.count() >= most
                    }
                    Quota::Dropping {
                        prefix,
                        body,
                        expires_at,
                    } => {
                        let counted = open.filter(|entry| entry.key.starts_with(prefix));
                        let oldest = counted.skip(most.saturating_sub(1));
                        let oldest: Vec<String> = oldest.map(|entry| entry.key.clone()).collect();
                        for key in oldest {
                            self.append(append.closing(key, body.clone(), *expires_at))?;
                        }
                        false
                    }
                };
                if is_full {
                    return Ok(Appended::Full);
                }
            }
            Some(_) | None => {}
        }
        self.put_entry(append).map(Appended::Stored)
    }

    /// Replaces open entries of one journal. The open entries are counted once for all new keys.
    pub(super) fn replace_entries(
        &mut self,
        replace: &Replace,
    ) -> Result<Vec<Option<u64>>, StoreError> {
        let mut room = None;
        let mut revisions = Vec::with_capacity(replace.entries.len());
        for append in replace.each() {
            let journal = self.journals.get(&append.journal);
            let has_room = match journal.and_then(|journal| journal.current(&append.key)) {
                Some(known) => known.is_open,
                None => {
                    let room = room.get_or_insert_with(|| {
                        let (_, open) = self.count_open(&append.journal, append.created_at);
                        u64::from(append.most_open).saturating_sub(open)
                    });
                    let has_room = *room > 0;
                    *room = room.saturating_sub(1);
                    has_room
                }
            };
            revisions.push(if has_room {
                Some(self.put_entry(append)?.revision)
            } else {
                None
            });
        }
        Ok(revisions)
    }

    /// Stores an entry without further checks of its conditions.
    fn put_entry(&mut self, append: Append) -> Result<Entry, StoreError> {
        let known = self.journals.get(&append.journal);
        let before = known.and_then(|journal| journal.current(&append.key));
        let before = before.map(|entry| entry.revision);
        let mut more = size(&append.key, &append.body, append.category.as_deref());
        if known.is_none() {
            more += append.journal.len() + ENTRY_BYTES;
        }
        self.bytes = add(self.bytes, more, self.max())?;
        let journal = self.journals.entry(append.journal).or_default();
        // The size of the new entry was checked already, so the old entry is removed only for an
        // entry that fits.
        if let Some(before) = before
            && !append.if_open.keeps_replaced()
        {
            self.bytes = self.bytes.saturating_sub(journal.remove(before) as u64);
        }
        journal.revision += 1;
        let entry = Entry {
            revision: journal.revision,
            key: append.key,
            body: append.body,
            category: append.category,
            is_open: append.is_open,
            created_at: append.created_at,
            expires_at: append.expires_at,
        };
        journal.current.insert(entry.key.clone(), entry.revision);
        journal.entries.insert(entry.revision, entry.clone());
        Ok(entry)
    }

    pub(super) fn view(&self, current: &Current<'_>) -> JournalView {
        let Some(journal) = self.journals.get(current.journal) else {
            return JournalView::default();
        };
        let is_meant = |entry: &&Entry| {
            let category = entry.category.as_deref();
            let is_before = current.before.is_none_or(|before| entry.revision < before);
            is_before
                && (current.category.is_none() || category == current.category)
                && !entry.body.starts_with(current.excluded_prefix())
        };
        let open = journal.newest(current.now).filter(is_meant);
        let open = open.filter(|entry| entry.is_open).take(current.open);
        let newest = journal.newest(current.now).filter(is_meant);
        let newest = newest.filter(|entry| !(current.is_closed && entry.is_open));
        let chosen: BTreeMap<u64, &Entry> = open
            .chain(newest.take(current.newest))
            .map(|entry| (entry.revision, entry))
            .collect();
        JournalView {
            revision: journal.revision,
            entries: chosen.into_values().cloned().collect(),
        }
    }

    pub(super) fn count_open(&self, journal: &str, now: Time) -> (u64, u64) {
        let Some(journal) = self.journals.get(journal) else {
            return (0, 0);
        };
        let open = journal.newest(now).filter(|entry| entry.is_open);
        (journal.revision, open.count() as u64)
    }

    pub(super) fn entries_after(
        &self,
        journal: &str,
        after: u64,
        through: u64,
        limit: usize,
    ) -> Vec<Entry> {
        let Some(journal) = self.journals.get(journal) else {
            return Vec::new();
        };
        let behind = journal.entries.range(after.saturating_add(1)..);
        let wanted = behind.take_while(|(revision, _)| **revision <= through);
        wanted.take(limit).map(|(_, entry)| entry.clone()).collect()
    }

    pub(super) fn trim_journal(&mut self, name: &str, before: u64) {
        let Some(journal) = self.journals.get_mut(name) else {
            return;
        };
        let old = journal.entries.range(..before);
        let closed = old.filter(|(_, entry)| !entry.is_open && journal.is_current(entry));
        let closed: Vec<u64> = closed.map(|(revision, _)| *revision).collect();
        for revision in closed {
            self.bytes = self.bytes.saturating_sub(journal.remove(revision) as u64);
        }
    }

    /// Replaces the current entry of a key, if the caller knows its revision.
    pub(super) fn amend(&mut self, amend: Amend) -> Result<Option<Entry>, StoreError> {
        let journal = self.journals.get(&amend.journal);
        let known = journal.and_then(|journal| journal.current(&amend.key));
        let Some(known) = known.filter(|known| known.revision == amend.replaces) else {
            return Ok(None);
        };
        let append = Append {
            category: known.category.clone(),
            journal: amend.journal,
            key: amend.key,
            body: amend.body,
            is_open: amend.is_open,
            if_open: IfOpen::Remove,
            needs_open: false,
            created_at: amend.created_at,
            expires_at: amend.expires_at,
            most_open: 0,
            quota: Quota::All,
        };
        self.put_entry(append).map(Some)
    }

    pub(super) fn expire_journal(
        &mut self,
        name: &str,
        before: Time,
        withdrawn_before: Time,
    ) -> u64 {
        let Some(journal) = self.journals.get_mut(name) else {
            return 0;
        };
        let entries = journal.entries.values();
        let old = entries.filter(|entry| {
            let is_withdrawal = entry.body.starts_with(WITHDRAWAL);
            let is_old =
                entry.created_at < before || (is_withdrawal && entry.created_at < withdrawn_before);
            entry.is_open && journal.is_current(entry) && is_old
        });
        let old: Vec<u64> = old.map(|entry| entry.revision).collect();
        for revision in &old {
            self.bytes = self.bytes.saturating_sub(journal.remove(*revision) as u64);
        }
        old.len() as u64
    }

    pub(super) fn sweep_journals(&mut self, sweep: &JournalSweep) -> u64 {
        let mut removed = 0;
        for journal in self.journals.values_mut() {
            let is_old = |entry: &&Entry| {
                is_expired(entry, sweep.now)
                    || (!journal.is_current(entry) && entry.created_at < sweep.replaced_before)
                    || (journal.is_current(entry)
                        && !entry.is_open
                        && entry.expires_at.is_none()
                        && entry.created_at < sweep.closed_before)
            };
            let old = journal.entries.values().filter(is_old);
            let old: Vec<u64> = old.take(sweep.limit).map(|entry| entry.revision).collect();
            for revision in old {
                self.bytes = self.bytes.saturating_sub(journal.remove(revision) as u64);
                removed += 1;
            }
        }
        removed
    }
}

fn is_expired(entry: &Entry, now: Time) -> bool {
    entry.expires_at.is_some_and(|end| end <= now)
}

/// Returns the approximate size of an entry in bytes.
fn size(key: &str, body: &str, category: Option<&str>) -> usize {
    2 * key.len() + body.len() + category.map_or(0, str::len) + size_of::<Entry>() + ENTRY_BYTES
}
