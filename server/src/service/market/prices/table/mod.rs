//! The last price of each symbol known to this server, and which prices the store already has.
//!
//! Prices published here are sent immediately and stored in batches. Prices of other servers are
//! read from the store. Of two prices of a symbol, the newer one is current on every server,
//! regardless of the order of storing. If their times are equal, the one stored last is current. A
//! server that reads an older price than it knows stores its own again.
//!
//! Nothing in this module waits or sends.

use std::collections::{BTreeMap, HashMap};

use crate::metrics::{Inventoried, Inventory};
use crate::service::rules::commands::prices::NewPrice;
use crate::service::rules::emissions::prices::Price;
use crate::store::Time;

/// The last price of each symbol.
#[derive(Default)]
pub(super) struct PriceTable {
    prices: HashMap<String, Last>,
    /// The symbols whose price is not stored yet, without duplicates, in storing order.
    queue: BTreeMap<QueuePosition, String>,
    /// Counts the prices marked for storing.
    version: u64,
}

/// A position in the queue. Urgent prices precede bulk prices; each kind keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct QueuePosition {
    is_bulk: bool,
    number: u64,
}

struct Last {
    price: Price,
    /// When the price was published here, or stored by another server.
    published: Option<Time>,
    /// The last known journal revision of the symbol. 0 if none.
    revision: u64,
    /// The version of the price and its position in the queue, if it is to be stored.
    unstored: Option<(u64, QueuePosition)>,
    /// Prices up to this version are settled: stored, or superseded by a newer stored price.
    settled: u64,
    /// The store failed to store prices up to this version.
    failed: u64,
    /// The store refused prices up to this version because it has too many symbols.
    refused: u64,
}

/// A price to be stored.
pub(super) struct Unstored {
    pub(super) price: Price,
    version: u64,
}

/// A price whose publisher waits until it, or a newer price of its symbol, is stored.
#[derive(Debug)]
pub(super) struct Awaited {
    symbol: String,
    version: u64,
}

/// The state of awaited prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    Stored,
    Waiting,
    /// The store failed. It will store them later.
    Failed,
    /// The store has too many symbols and does not store them.
    Refused,
}

/// The outcome of published prices.
pub(super) struct PublishOutcome {
    /// The prices that became current. Older prices are omitted.
    pub(super) news: Vec<Price>,
    /// The prices that are not stored yet, including prices that were already known.
    pub(super) awaited: Vec<Awaited>,
}

/// The table has the maximum number of symbols.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl PriceTable {
    pub(super) fn get(&self, symbol: &str) -> Option<&Price> {
        self.prices.get(symbol).map(|last| &last.price)
    }

    /// Returns the price of a symbol if it was published at or after `since`, or is not stored yet.
    pub(super) fn current(&self, symbol: &str, since: Time) -> Option<&Price> {
        let last = self.prices.get(symbol)?;
        (!last.is_over(since)).then_some(&last.price)
    }

    /// Removes and returns the symbols whose prices were all published before `since`.
    pub(super) fn expire(&mut self, since: Time) -> Vec<String> {
        let over = self.prices.extract_if(|_, last| last.is_over(since));
        let mut symbols: Vec<_> = over.map(|(symbol, _)| symbol).collect();
        // All servers send the expiries of several symbols in the same order.
        symbols.sort_unstable();
        symbols
    }

    /// Returns the version of a symbol's price if it is to be stored.
    pub(super) fn unstored_version(&self, symbol: &str) -> Option<u64> {
        let (version, _) = self.prices.get(symbol)?.unstored?;
        Some(version)
    }

    /// Removes a symbol unless its price changed since this version. Returns whether it was
    /// removed.
    pub(super) fn withdraw(&mut self, symbol: &str, version: Option<u64>) -> bool {
        if self.unstored_version(symbol) != version {
            return false;
        }
        let Some(last) = self.prices.remove(symbol) else {
            return false;
        };
        if let Some((_, place)) = last.unstored {
            self.queue.remove(&place);
        }
        true
    }

    /// Applies a withdrawal from the journal. Returns whether it ended a price.
    ///
    /// A price that this server has not stored yet remains, because it will be stored after the
    /// withdrawal.
    pub(super) fn apply_withdrawal(&mut self, symbol: &str, revision: u64) -> bool {
        let Some(last) = self.prices.get_mut(symbol) else {
            return false;
        };
        if revision <= last.revision {
            return false;
        }
        last.revision = revision;
        last.unstored.is_none() && self.prices.remove(symbol).is_some()
    }

    /// Returns whether `more` additional symbols might exceed the limit.
    pub(super) fn is_nearly_full(&self, more: usize) -> bool {
        self.prices.len() + more > MOST_SYMBOLS
    }

    /// Notes that the price of a symbol was published at this time.
    pub(super) fn note_published(&mut self, symbol: &str, time: Time) {
        if let Some(last) = self.prices.get_mut(symbol) {
            last.published = last.published.max(Some(time));
        }
    }

    /// Applies published prices, either all or none. A single price is stored before prices of a
    /// batch.
    pub(super) fn put(&mut self, input: Vec<NewPrice>, now: Time) -> Result<PublishOutcome, Full> {
        // New symbols are only counted if there might not be enough room.
        if self.is_nearly_full(input.len()) {
            let symbols = input.iter().map(|one| one.symbol.as_str());
            let mut new: Vec<_> = symbols
                .filter(|one| !self.prices.contains_key(*one))
                .collect();
            new.sort_unstable();
            new.dedup();
            if self.prices.len() + new.len() > MOST_SYMBOLS {
                return Err(Full);
            }
        }
        let is_bulk = input.len() > 1;
        let mut symbols: Vec<_> = input.iter().map(|one| one.symbol.clone()).collect();
        let news = input
            .into_iter()
            .filter_map(|one| self.publish(one, now, is_bulk))
            .collect();
        symbols.sort_unstable();
        symbols.dedup();
        // The response to an older price contains the newer one, which must be stored by then.
        let awaited = symbols.into_iter().filter_map(|symbol| {
            let (version, _) = self.prices.get(&symbol)?.unstored?;
            Some(Awaited { symbol, version })
        });
        let awaited = awaited.collect();
        Ok(PublishOutcome { news, awaited })
    }

    fn publish(&mut self, new: NewPrice, now: Time, is_bulk: bool) -> Option<Price> {
        let NewPrice {
            symbol,
            price,
            timestamp,
        } = new;
        // Without a time it is now, or the time of the previous price if that is later.
        let known = self.prices.get(&symbol).map(|last| last.price.timestamp);
        let timestamp = timestamp.unwrap_or_else(|| known.map_or(now, |known| known.max(now)));
        // Services can use several connections, so an older price can arrive after a newer one.
        if known.is_some_and(|known| timestamp < known) {
            return None;
        }
        let price = Price {
            symbol,
            price,
            timestamp,
        };
        self.set(&price, None);
        self.note_published(&price.symbol, now);
        self.mark(&price.symbol, is_bulk);
        Some(price)
    }

    /// Sets a price, with its revision if it comes from the journal.
    fn set(&mut self, price: &Price, revision: Option<u64>) {
        if let Some(last) = self.prices.get_mut(&price.symbol) {
            last.price.clone_from(price);
            last.revision = revision.unwrap_or(last.revision);
        } else {
            let last = Last {
                price: price.clone(),
                published: None,
                revision: revision.unwrap_or(0),
                unstored: None,
                settled: 0,
                failed: 0,
                refused: 0,
            };
            self.prices.insert(price.symbol.clone(), last);
        }
    }

    /// Marks the price of a symbol for storing.
    fn mark(&mut self, symbol: &str, is_bulk: bool) {
        // Each price has its own version, so that a price that arrives while another is being
        // stored remains unstored.
        self.version += 1;
        let Some(last) = self.prices.get_mut(symbol) else {
            return;
        };
        let new = QueuePosition {
            is_bulk,
            number: self.version,
        };
        // A queued symbol keeps its position unless the new one is earlier. Otherwise a symbol that
        // changes constantly would never be stored.
        let place = match last.unstored {
            Some((_, place)) if place <= new => place,
            Some((_, place)) => {
                self.queue.remove(&place);
                new
            }
            None => new,
        };
        last.unstored = Some((self.version, place));
        self.queue.entry(place).or_insert_with(|| symbol.to_owned());
    }

    /// Returns the next `most` prices to store. They stay in the queue until
    /// [`stored`](Self::stored) removes them.
    pub(super) fn unstored(&self, most: usize) -> Vec<Unstored> {
        let known = |symbol: &String| {
            let last = self.prices.get(symbol)?;
            Some(Unstored {
                price: last.price.clone(),
                version: last.unstored?.0,
            })
        };
        self.queue.values().filter_map(known).take(most).collect()
    }

    /// Notes that prices were stored with these revisions. A price without a revision was refused
    /// permanently.
    pub(super) fn stored(&mut self, stored: &[Unstored], revisions: &[Option<u64>]) {
        for (one, revision) in stored.iter().zip(revisions) {
            let Some(last) = self.prices.get_mut(&one.price.symbol) else {
                continue;
            };
            // If another price was stored after this one, this one is stored again.
            let is_last = revision.is_none_or(|revision| revision >= last.revision);
            last.revision = last.revision.max(revision.unwrap_or(0));
            if revision.is_none() {
                last.refused = last.refused.max(one.version);
            } else if is_last {
                last.settled = last.settled.max(one.version);
            }
            let Some((version, place)) = last.unstored else {
                continue;
            };
            self.queue.remove(&place);
            if version == one.version && is_last {
                last.unstored = None;
                continue;
            }
            // The symbol moves to the end, so that other symbols are stored before it.
            self.version += 1;
            let place = QueuePosition {
                is_bulk: place.is_bulk,
                number: self.version,
            };
            last.unstored = Some((version, place));
            self.queue.insert(place, one.price.symbol.clone());
        }
    }

    /// Notes that prices could not be stored. They stay in the queue.
    pub(super) fn failed(&mut self, unstored: &[Unstored]) {
        for one in unstored {
            if let Some(last) = self.prices.get_mut(&one.price.symbol) {
                last.failed = last.failed.max(one.version);
            }
        }
    }

    /// Returns the state of awaited prices, and removes stored prices from the end of the list.
    pub(super) fn settle(&self, awaited: &mut Vec<Awaited>) -> Settlement {
        while let Some(one) = awaited.last() {
            if let Some(last) = self.prices.get(&one.symbol)
                && last.settled < one.version
            {
                if last.refused >= one.version {
                    return Settlement::Refused;
                }
                // A price that is no longer marked for storing was superseded by a newer stored
                // one.
                if last.unstored.is_some() {
                    return if last.failed < one.version {
                        Settlement::Waiting
                    } else {
                        Settlement::Failed
                    };
                }
            }
            awaited.pop();
        }
        Settlement::Stored
    }

    /// Applies a price from the journal. Returns whether it became current.
    pub(super) fn apply_journaled(&mut self, price: &Price, revision: u64) -> bool {
        let Some(last) = self.prices.get_mut(&price.symbol) else {
            let has_room = self.prices.len() < MOST_SYMBOLS;
            if has_room {
                self.set(price, Some(revision));
            }
            return has_room;
        };
        if revision <= last.revision {
            return false;
        }
        last.revision = revision;
        if price == &last.price {
            return false;
        }
        let is_newer = price.timestamp > last.price.timestamp
            || (price.timestamp == last.price.timestamp && last.unstored.is_none());
        if !is_newer {
            // The journal has an older price after this server's newer one, so the newer one is
            // stored again.
            self.mark(&price.symbol, true);
            return false;
        }
        if let Some((_, place)) = last.unstored.take() {
            self.queue.remove(&place);
        }
        self.set(price, Some(revision));
        true
    }
}

impl Last {
    /// Returns whether the price is stored and was last published before `since`.
    fn is_over(&self, since: Time) -> bool {
        self.unstored.is_none() && self.published.is_some_and(|published| published < since)
    }
}

/// Maximum number of symbols with a known price.
pub(super) const MOST_SYMBOLS: usize = 10_000;

impl Inventoried for PriceTable {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("prices", &self.prices);
        inventory.add("prices to store", self.queue.len() as u64, None);
    }
}

#[cfg(test)]
mod tests;
