//! The last price of each symbol, as far as this server knows, and which of them the store has.
//!
//! What this server was given is told at once and stored soon after; what others have stored comes from the store. Of two prices
//! of a symbol the newer one counts at every server, whichever was given it and in whatever order they are stored; where the times
//! are the same, the one that is stored last. A server that finds an older one in the store than it knows stores its own again.
//! Nothing in here waits or sends.

use std::collections::HashMap;

use crate::service::rules::emissions::prices::Price;
use crate::store::Time;

/// The last price of each symbol.
#[derive(Default)]
pub(super) struct Table {
    prices: HashMap<String, Last>,
    /// The symbols whose price the store does not have yet, each once.
    unstored: Vec<String>,
    /// How often a price was to be stored.
    version: u64,
}

struct Last {
    price: Price,
    /// The last place in the journal at which the store has had one of the symbol, as far as is known; 0 for none.
    revision: u64,
    /// With which version the price is to be stored, if it is.
    unstored: Option<u64>,
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

/// What became of prices that were given.
pub(super) struct Taken {
    /// The prices that count; others were older than what is known.
    pub(super) news: Vec<Price>,
    /// The version with which the prices are stored.
    pub(super) version: u64,
}

/// There are as many symbols as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Table {
    pub(super) fn get(&self, symbol: &str) -> Option<&Price> {
        self.prices.get(symbol).map(|last| &last.price)
    }

    /// Takes what this server was given, all of it or nothing.
    pub(super) fn put(&mut self, given: Vec<Given>, now: Time) -> Result<Taken, Full> {
        // Nothing is counted while there is room for all.
        if self.prices.len() + given.len() > MOST_SYMBOLS {
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
        let news = given.into_iter().filter_map(|one| self.take(one, now));
        let news = news.collect();
        let version = self.version;
        Ok(Taken { news, version })
    }

    fn take(&mut self, given: Given, now: Time) -> Option<Price> {
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
        self.mark(&price.symbol);
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
                revision: revision.unwrap_or(0),
                unstored: None,
            };
            self.prices.insert(price.symbol.clone(), last);
        }
    }

    /// Notes that the price of a symbol is to be stored.
    fn mark(&mut self, symbol: &str) {
        // Each price has a version of its own, so that one that is given while another is being
        // stored stays unstored.
        self.version += 1;
        if let Some(last) = self.prices.get_mut(symbol)
            && last.unstored.replace(self.version).is_none()
        {
            self.unstored.push(symbol.to_owned());
        }
    }

    /// Whether there is nothing to be stored.
    pub(super) fn is_stored(&self) -> bool {
        self.unstored.is_empty()
    }

    /// What is to be stored, and up to which version that is all. It stays to be stored until [`stored`](Self::stored) is told.
    pub(super) fn unstored(&self) -> (Vec<Unstored>, u64) {
        let known = |symbol: &String| {
            let last = self.prices.get(symbol)?;
            Some(Unstored {
                price: last.price.clone(),
                version: last.unstored?,
            })
        };
        (
            self.unstored.iter().filter_map(known).collect(),
            self.version,
        )
    }

    /// Notes that these were stored at these places. One without a place was refused for good.
    pub(super) fn stored(&mut self, stored: &[Unstored], revisions: &[Option<u64>]) {
        for (one, revision) in stored.iter().zip(revisions) {
            let Some(last) = self.prices.get_mut(&one.price.symbol) else {
                continue;
            };
            // A price behind which another one was stored is stored again.
            let is_last = revision.is_none_or(|revision| revision >= last.revision);
            last.revision = last.revision.max(revision.unwrap_or(0));
            if last.unstored == Some(one.version) && is_last {
                last.unstored = None;
            }
        }
        let prices = &self.prices;
        let is_unstored = |last: &Last| last.unstored.is_some();
        self.unstored
            .retain(|symbol| prices.get(symbol).is_some_and(is_unstored));
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
            self.mark(&price.symbol);
            return false;
        }
        if last.unstored.take().is_some() {
            self.unstored.retain(|symbol| *symbol != price.symbol);
        }
        self.set(price, Some(revision));
        true
    }
}

/// Symbols of which prices are known.
pub(super) const MOST_SYMBOLS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u32) -> Time {
        format!("2025-01-31T12:00:{second:02}Z").parse().unwrap()
    }

    fn given(symbol: &str, price: f64, second: Option<u32>) -> Given {
        Given {
            symbol: symbol.into(),
            price,
            timestamp: second.map(at),
        }
    }

    fn price(symbol: &str, price: f64, second: u32) -> Price {
        Price {
            symbol: symbol.into(),
            price,
            timestamp: at(second),
        }
    }

    /// Gives prices at this second; those that are news.
    fn put(table: &mut Table, second: u32, prices: Vec<Given>) -> Vec<f64> {
        let taken = table.put(prices, at(second)).ok().unwrap();
        taken.news.iter().map(|price| price.price).collect()
    }

    /// Stores all that is to be stored, at these places.
    fn store(table: &mut Table, revisions: &[Option<u64>]) {
        let (unstored, _) = table.unstored();
        assert_eq!(unstored.len(), revisions.len());
        table.stored(&unstored, revisions);
    }

    fn last(table: &Table, symbol: &str) -> f64 {
        table.get(symbol).unwrap().price
    }

    #[test]
    fn what_comes_while_prices_are_stored_is_stored_next() {
        let mut table = Table::default();
        let all = vec![
            given("A", 1.0, None),
            given("B", 1.0, None),
            given("A", 2.0, None),
        ];
        assert_eq!(put(&mut table, 0, all), [1.0, 1.0, 2.0]);
        let (first, version) = table.unstored();
        assert_eq!((first.len(), version), (2, 3));
        put(&mut table, 1, vec![given("A", 3.0, None)]);
        table.stored(&first, &[Some(1), Some(2)]);
        let (second, version) = table.unstored();
        let prices: Vec<_> = second.iter().map(|one| one.price.price).collect();
        assert_eq!((prices, version), (vec![3.0], 4));
        assert!(!table.is_stored());
        table.stored(&second, &[Some(3)]);
        assert!(table.is_stored() && table.unstored().0.is_empty());
        // One that was refused is not stored again.
        put(&mut table, 2, vec![given("C", 1.0, None)]);
        store(&mut table, &[None]);
        assert!(table.is_stored());
        assert_eq!(last(&table, "C"), 1.0);
    }

    #[test]
    fn an_older_price_changes_nothing_and_one_without_a_time_is_never_older() {
        let mut table = Table::default();
        assert_eq!(put(&mut table, 0, vec![given("A", 1.0, Some(30))]), [1.0]);
        assert!(put(&mut table, 0, vec![given("A", 2.0, Some(29))]).is_empty());
        assert_eq!(put(&mut table, 0, vec![given("A", 3.0, Some(30))]), [3.0]);
        assert_eq!(put(&mut table, 10, vec![given("A", 4.0, None)]), [4.0]);
        assert_eq!(table.get("A"), Some(&price("A", 4.0, 30)));
        assert_eq!(put(&mut table, 40, vec![given("A", 5.0, None)]), [5.0]);
        assert_eq!(table.get("A"), Some(&price("A", 5.0, 40)));
    }

    #[test]
    fn of_the_prices_of_two_servers_the_newer_one_counts_whichever_was_stored_last() {
        let mut table = Table::default();
        put(&mut table, 1, vec![given("A", 1.0, None)]);
        // A newer one makes the own one needless.
        assert!(table.hear(&price("A", 2.0, 2), 1));
        assert!(table.is_stored());
        assert_eq!(last(&table, "A"), 2.0);
        // Behind an older one the own one is stored again.
        put(&mut table, 5, vec![given("A", 5.0, None)]);
        store(&mut table, &[Some(2)]);
        assert!(table.is_stored());
        assert!(!table.hear(&price("A", 4.0, 4), 3));
        assert!(!table.is_stored());
        store(&mut table, &[Some(4)]);
        assert_eq!((last(&table, "A"), table.is_stored()), (5.0, true));
        // What is read again, its own or another one's, is no news.
        assert!(!table.hear(&price("A", 4.0, 4), 3));
        assert!(!table.hear(&price("A", 5.0, 5), 4));
        assert!(!table.hear(&price("A", 5.0, 5), 5));
        assert!(table.is_stored());
        assert!(table.hear(&price("B", 5.0, 1), 9));
    }

    #[test]
    fn of_two_prices_of_one_time_the_one_that_is_stored_last_counts_at_both_servers() {
        let [mut here, mut there] = [Table::default(), Table::default()];
        put(&mut here, 1, vec![given("A", 1.0, None)]);
        put(&mut there, 1, vec![given("A", 2.0, None)]);
        // Both are being stored, and each hears of the other's before it knows of its own.
        let ((own, _), (other, _)) = (here.unstored(), there.unstored());
        assert!(!here.hear(&price("A", 2.0, 1), 2));
        here.stored(&own, &[Some(1)]);
        there.stored(&other, &[Some(2)]);
        assert!(!there.hear(&price("A", 1.0, 1), 1));
        // The store has the other's, so that this one is stored again.
        store(&mut here, &[Some(3)]);
        assert!(there.hear(&price("A", 1.0, 1), 3));
        assert!(here.is_stored() && there.is_stored());
        assert_eq!((last(&here, "A"), last(&there, "A")), (1.0, 1.0));
    }

    #[test]
    fn there_are_no_more_symbols_than_may_be() {
        let mut table = Table::default();
        let all = (0..MOST_SYMBOLS - 1).map(|n| given(&n.to_string(), 1.0, None));
        put(&mut table, 0, all.collect());
        let two = vec![given("x", 1.0, None), given("y", 1.0, None)];
        assert!(table.put(two, at(0)).is_err());
        assert!(table.get("x").is_none(), "all or nothing");
        let again = vec![
            given("x", 1.0, None),
            given("x", 2.0, None),
            given("0", 2.0, None),
        ];
        put(&mut table, 0, again);
        assert_eq!((last(&table, "x"), last(&table, "0")), (2.0, 2.0));
        assert!(!table.hear(&price("y", 1.0, 0), 1));
        assert_eq!(put(&mut table, 0, vec![given("1", 2.0, None)]), [2.0]);
    }
}
