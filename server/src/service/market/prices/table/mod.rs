//! The last price of each symbol, as far as this server knows, and which of them the store has.
//!
//! What this server was given is sent at once and stored in batches; what others have stored comes from the store. Of two prices
//! of a symbol the newer one counts at every server, whichever was given it and in whatever order they are stored; where the times
//! are the same, the one that is stored last. A server that finds an older one in the store than it knows stores its own again.
//! Nothing in here waits or sends.

use std::collections::{BTreeMap, HashMap};

use crate::service::rules::emissions::prices::Price;
use crate::store::Time;

/// The last price of each symbol.
#[derive(Default)]
pub(super) struct Table {
    prices: HashMap<String, Last>,
    /// The symbols whose price the store does not have yet, each once, in the order in which they are stored.
    queue: BTreeMap<Place, String>,
    /// How often a price was to be stored.
    version: u64,
}

/// A place in the queue: all urgent prices precede the others, and each kind keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    is_bulk: bool,
    number: u64,
}

struct Last {
    price: Price,
    /// When the price was published here, or stored by another server.
    published: Option<Time>,
    /// The last place in the journal at which the store has had one of the symbol, as far as is known; 0 for none.
    revision: u64,
    /// With which version the price is to be stored, and its place in the queue, if it is to be stored.
    unstored: Option<(u64, Place)>,
    /// The version up to which prices of the symbol are settled: stored, or followed by a newer stored one.
    settled: u64,
    /// The version up to which the store has failed to store a price of the symbol.
    failed: u64,
    /// The version up to which the store has refused prices of the symbol, since it has too many symbols.
    refused: u64,
}

/// A price that this server is given.
pub(super) struct Given {
    pub(super) symbol: String,
    pub(super) price: f64,
    /// The time of the price; none means now, or the time of the price before it if that is later.
    pub(super) timestamp: Option<Time>,
}

/// A price that is to be stored.
pub(super) struct Unstored {
    pub(super) price: Price,
    version: u64,
}

/// A price for which a caller waits until the store has it, or a newer price of its symbol.
#[derive(Debug)]
pub(super) struct Awaited {
    symbol: String,
    version: u64,
}

/// What has become of awaited prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    Stored,
    Waiting,
    /// The store has failed. It stores them later.
    Failed,
    /// The store has too many symbols, and does not store them.
    Refused,
}

/// What became of prices that were given.
pub(super) struct Taken {
    /// The prices that count; others were older than what is known.
    pub(super) news: Vec<Price>,
    /// The prices that the store does not have yet, also if they were known before.
    pub(super) awaited: Vec<Awaited>,
}

/// There are as many symbols as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Table {
    pub(super) fn get(&self, symbol: &str) -> Option<&Price> {
        self.prices.get(symbol).map(|last| &last.price)
    }

    /// Returns the price of a symbol that was published at this time or later, or is still to be stored.
    pub(super) fn current(&self, symbol: &str, since: Time) -> Option<&Price> {
        let last = self.prices.get(symbol)?;
        (!last.is_over(since)).then_some(&last.price)
    }

    /// Removes symbols of which no price was published at this time or later, and returns them.
    pub(super) fn expire(&mut self, since: Time) -> Vec<String> {
        let over = self.prices.extract_if(|_, last| last.is_over(since));
        let mut symbols: Vec<_> = over.map(|(symbol, _)| symbol).collect();
        // Followers of several symbols receive their ends in one order at every server.
        symbols.sort_unstable();
        symbols
    }

    /// The version with which the price of a symbol is to be stored, if it is.
    pub(super) fn unstored_version(&self, symbol: &str) -> Option<u64> {
        let (version, _) = self.prices.get(symbol)?.unstored?;
        Some(version)
    }

    /// Removes a symbol unless a price was given since it had this version. Returns whether it was removed.
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

    /// Takes a withdrawal that the store has at a place. Returns whether a price ended by it. A price that this server has not
    /// stored yet stays, since it is stored after the withdrawal.
    pub(super) fn hear_end(&mut self, symbol: &str, revision: u64) -> bool {
        let Some(last) = self.prices.get_mut(symbol) else {
            return false;
        };
        if revision <= last.revision {
            return false;
        }
        last.revision = revision;
        last.unstored.is_none() && self.prices.remove(symbol).is_some()
    }

    /// Whether there may be no place for this number of further symbols.
    pub(super) fn is_nearly_full(&self, more: usize) -> bool {
        self.prices.len() + more > MOST_SYMBOLS
    }

    /// Notes that the price of a symbol was published at this time.
    pub(super) fn note_published(&mut self, symbol: &str, time: Time) {
        if let Some(last) = self.prices.get_mut(symbol) {
            last.published = last.published.max(Some(time));
        }
    }

    /// Takes what this server was given, all of it or nothing. A price that comes alone is stored before those that come together.
    pub(super) fn put(&mut self, given: Vec<Given>, now: Time) -> Result<Taken, Full> {
        // Nothing is counted while there is room for all.
        if self.is_nearly_full(given.len()) {
            let symbols = given.iter().map(|one| one.symbol.as_str());
            let mut new: Vec<_> = symbols
                .filter(|one| !self.prices.contains_key(*one))
                .collect();
            new.sort_unstable();
            new.dedup();
            if self.prices.len() + new.len() > MOST_SYMBOLS {
                return Err(Full);
            }
        }
        let is_bulk = given.len() > 1;
        let mut symbols: Vec<_> = given.iter().map(|one| one.symbol.clone()).collect();
        let news = given
            .into_iter()
            .filter_map(|one| self.take(one, now, is_bulk))
            .collect();
        symbols.sort_unstable();
        symbols.dedup();
        // An older price is answered with the newer one, so the newer one must be stored by then.
        let awaited = symbols.into_iter().filter_map(|symbol| {
            let (version, _) = self.prices.get(&symbol)?.unstored?;
            Some(Awaited { symbol, version })
        });
        let awaited = awaited.collect();
        Ok(Taken { news, awaited })
    }

    fn take(&mut self, given: Given, now: Time, is_bulk: bool) -> Option<Price> {
        let Given {
            symbol,
            price,
            timestamp,
        } = given;
        let known = self.prices.get(&symbol).map(|last| last.price.timestamp);
        let timestamp = timestamp.unwrap_or_else(|| known.map_or(now, |known| known.max(now)));
        // Services may send over several connections, so an older price can come behind a newer
        // one.
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

    /// Notes a price, and its place in the store if it comes from there.
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

    /// Notes that the price of a symbol is to be stored.
    fn mark(&mut self, symbol: &str, is_bulk: bool) {
        // Each price has a version of its own, so that one that is given while another is being
        // stored stays unstored.
        self.version += 1;
        let Some(last) = self.prices.get_mut(symbol) else {
            return;
        };
        let new = Place {
            is_bulk,
            number: self.version,
        };
        // A symbol that already waits keeps its place, unless the new place is an earlier one:
        // otherwise a symbol that changes all the time would never be stored.
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

    /// The next prices that are to be stored, at most so many. They stay in the queue until [`stored`](Self::stored) removes them.
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

    /// Notes that these were stored at these places. A price without a place was refused for good.
    pub(super) fn stored(&mut self, stored: &[Unstored], revisions: &[Option<u64>]) {
        for (one, revision) in stored.iter().zip(revisions) {
            let Some(last) = self.prices.get_mut(&one.price.symbol) else {
                continue;
            };
            // A price behind which another one was stored is stored again.
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
            // It continues at the end, so that the other symbols are stored before it.
            self.version += 1;
            let place = Place {
                is_bulk: place.is_bulk,
                number: self.version,
            };
            last.unstored = Some((version, place));
            self.queue.insert(place, one.price.symbol.clone());
        }
    }

    /// Notes that these could not be stored. They stay in the queue.
    pub(super) fn failed(&mut self, unstored: &[Unstored]) {
        for one in unstored {
            if let Some(last) = self.prices.get_mut(&one.price.symbol) {
                last.failed = last.failed.max(one.version);
            }
        }
    }

    /// Returns what has become of awaited prices, and removes those from the end of the list that are stored.
    pub(super) fn settle(&self, awaited: &mut Vec<Awaited>) -> Settlement {
        while let Some(one) = awaited.last() {
            if let Some(last) = self.prices.get(&one.symbol)
                && last.settled < one.version
            {
                if last.refused >= one.version {
                    return Settlement::Refused;
                }
                // A price that is no longer to be stored was followed by a newer one of the store.
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

    /// Takes what the store has at a place. Returns whether it is news.
    pub(super) fn hear(&mut self, price: &Price, revision: u64) -> bool {
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
            // The store has an older price behind the newer one of this server, which is therefore
            // stored once more.
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
    /// Whether the price is stored and was not published since this time.
    fn is_over(&self, since: Time) -> bool {
        self.unstored.is_none() && self.published.is_some_and(|published| published < since)
    }
}

/// Symbols of which prices are known.
pub(super) const MOST_SYMBOLS: usize = 10_000;

#[cfg(test)]
mod tests;
