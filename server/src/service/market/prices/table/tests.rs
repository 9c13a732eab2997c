use super::*;

fn at(second: u32) -> Time {
    format!("2025-01-31T12:00:{second:02}Z").parse().unwrap()
}

fn input(symbol: &str, price: f64, second: Option<u32>) -> NewPrice {
    NewPrice {
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

/// Publishes prices at this second. Returns the prices that became current.
fn put(table: &mut PriceTable, second: u32, prices: Vec<NewPrice>) -> Vec<f64> {
    let outcome = table.put(prices, at(second)).ok().unwrap();
    outcome.news.iter().map(|price| price.price).collect()
}

/// Stores all unstored prices with these revisions.
fn store(table: &mut PriceTable, revisions: &[Option<u64>]) {
    let unstored = table.unstored(usize::MAX);
    assert_eq!(unstored.len(), revisions.len());
    table.stored(&unstored, revisions);
}

fn is_stored(table: &PriceTable) -> bool {
    table.unstored(1).is_empty()
}

fn last(table: &PriceTable, symbol: &str) -> f64 {
    table.get(symbol).unwrap().price
}

#[test]
fn prices_published_during_a_store_write_are_stored_next() {
    let mut table = PriceTable::default();
    let all = vec![
        input("A", 1.0, None),
        input("B", 1.0, None),
        input("A", 2.0, None),
    ];
    assert_eq!(put(&mut table, 0, all), [1.0, 1.0, 2.0]);
    let first = table.unstored(usize::MAX);
    assert_eq!(first.len(), 2);
    put(&mut table, 1, vec![input("A", 3.0, None)]);
    table.stored(&first, &[Some(1), Some(2)]);
    let second = table.unstored(usize::MAX);
    let prices: Vec<_> = second.iter().map(|one| one.price.price).collect();
    assert_eq!(prices, [3.0]);
    assert!(!is_stored(&table));
    table.stored(&second, &[Some(3)]);
    assert!(is_stored(&table) && table.unstored(usize::MAX).is_empty());
    // A refused price is not stored again.
    put(&mut table, 2, vec![input("C", 1.0, None)]);
    let outcome = table.put(vec![input("D", 1.0, None)], at(2)).ok().unwrap();
    let mut awaited = outcome.awaited;
    store(&mut table, &[None, None]);
    assert!(is_stored(&table));
    assert_eq!(last(&table, "C"), 1.0);
    assert_eq!(table.settle(&mut awaited), Settlement::Refused);
}

#[test]
fn older_price_is_ignored_and_untimed_price_is_never_older() {
    let mut table = PriceTable::default();
    assert_eq!(put(&mut table, 0, vec![input("A", 1.0, Some(30))]), [1.0]);
    assert!(put(&mut table, 0, vec![input("A", 2.0, Some(29))]).is_empty());
    assert_eq!(put(&mut table, 0, vec![input("A", 3.0, Some(30))]), [3.0]);
    assert_eq!(put(&mut table, 10, vec![input("A", 4.0, None)]), [4.0]);
    assert_eq!(table.get("A"), Some(&price("A", 4.0, 30)));
    assert_eq!(put(&mut table, 40, vec![input("A", 5.0, None)]), [5.0]);
    assert_eq!(table.get("A"), Some(&price("A", 5.0, 40)));
}

#[test]
fn newer_price_of_two_servers_wins_in_any_storing_order() {
    let mut table = PriceTable::default();
    put(&mut table, 1, vec![input("A", 1.0, None)]);
    // A newer price makes storing the own price unnecessary.
    assert!(table.apply_journaled(&price("A", 2.0, 2), 1));
    assert!(is_stored(&table));
    assert_eq!(last(&table, "A"), 2.0);
    // If an older price is stored after the own price, the own price is stored again.
    put(&mut table, 5, vec![input("A", 5.0, None)]);
    store(&mut table, &[Some(2)]);
    assert!(is_stored(&table));
    assert!(!table.apply_journaled(&price("A", 4.0, 4), 3));
    assert!(!is_stored(&table));
    store(&mut table, &[Some(4)]);
    assert_eq!((last(&table, "A"), is_stored(&table)), (5.0, true));
    // A price that is read again is not new.
    assert!(!table.apply_journaled(&price("A", 4.0, 4), 3));
    assert!(!table.apply_journaled(&price("A", 5.0, 5), 4));
    assert!(!table.apply_journaled(&price("A", 5.0, 5), 5));
    assert!(is_stored(&table));
    assert!(table.apply_journaled(&price("B", 5.0, 1), 9));
}

#[test]
fn last_stored_of_two_prices_with_equal_time_wins_on_both_servers() {
    let [mut here, mut there] = [PriceTable::default(), PriceTable::default()];
    put(&mut here, 1, vec![input("A", 1.0, None)]);
    put(&mut there, 1, vec![input("A", 2.0, None)]);
    // Both prices are being stored. This server reads the other's price before the outcome of its
    // own.
    let (own, other) = (here.unstored(9), there.unstored(9));
    assert!(!here.apply_journaled(&price("A", 2.0, 1), 2));
    here.stored(&own, &[Some(1)]);
    there.stored(&other, &[Some(2)]);
    assert!(!there.apply_journaled(&price("A", 1.0, 1), 1));
    // The other price is last in the store, so this server stores its own again.
    store(&mut here, &[Some(3)]);
    assert!(there.apply_journaled(&price("A", 1.0, 1), 3));
    assert!(is_stored(&here) && is_stored(&there));
    assert_eq!((last(&here, "A"), last(&there, "A")), (1.0, 1.0));
}

fn symbols(unstored: &[Unstored]) -> Vec<&str> {
    let symbols = unstored.iter().map(|one| one.price.symbol.as_str());
    symbols.collect()
}

#[test]
fn lone_prices_precede_a_burst_and_repeated_symbols_go_to_the_end() {
    let mut table = PriceTable::default();
    let burst = ["A", "B", "C", "D"].map(|symbol| input(symbol, 1.0, None));
    put(&mut table, 0, burst.into());
    put(&mut table, 0, vec![input("X", 1.0, None)]);
    put(&mut table, 0, vec![input("C", 2.0, None)]);
    let first = table.unstored(3);
    assert_eq!(symbols(&first), ["X", "C", "A"]);
    // `A` changes while it is being stored, and must not delay the other symbols.
    let again = vec![input("A", 2.0, None), input("B", 2.0, None)];
    put(&mut table, 0, again);
    table.stored(&first, &[Some(1), Some(2), Some(3)]);
    assert_eq!(symbols(&table.unstored(9)), ["B", "D", "A"]);
}

#[test]
fn awaited_prices_are_settled_once_stored_replaced_or_failed() {
    let mut table = PriceTable::default();
    let outcome = table.put(vec![input("A", 1.0, Some(5))], at(5));
    let mut first = outcome.ok().unwrap().awaited;
    assert_eq!(table.settle(&mut first), Settlement::Waiting);
    // An older price is settled when the newer one is stored.
    let older = table
        .put(vec![input("A", 9.0, Some(1))], at(5))
        .ok()
        .unwrap();
    let (mut older, unstored) = (older.awaited, table.unstored(9));
    assert_eq!(older.len(), 1);
    let newer = table.put(vec![input("A", 2.0, Some(6))], at(6));
    let mut newer = newer.ok().unwrap().awaited;
    table.stored(&unstored, &[Some(1)]);
    assert_eq!(table.settle(&mut first), Settlement::Stored);
    assert_eq!(table.settle(&mut older), Settlement::Stored);
    assert_eq!(table.settle(&mut newer), Settlement::Waiting);
    table.failed(&table.unstored(9));
    assert_eq!(table.settle(&mut newer), Settlement::Failed);
    // A price published after the failure waits for its own outcome.
    let last = table.put(vec![input("A", 3.0, Some(7))], at(7));
    let mut last = last.ok().unwrap().awaited;
    assert_eq!(table.settle(&mut last), Settlement::Waiting);
    assert!(table.apply_journaled(&price("A", 4.0, 8), 2));
    assert_eq!(table.settle(&mut last), Settlement::Stored);
}

#[test]
fn symbol_expires_unless_published_again_or_unstored() {
    let mut table = PriceTable::default();
    put(&mut table, 0, vec![input("A", 1.0, None)]);
    put(&mut table, 0, vec![input("B", 1.0, None)]);
    store(&mut table, &[Some(1), Some(2)]);
    // Expiry depends on the time of publication, not on the time of the price.
    put(&mut table, 5, vec![input("B", 1.0, Some(0))]);
    assert!(table.apply_journaled(&price("C", 1.0, 0), 3));
    table.note_published("C", at(4));
    assert!(table.current("A", at(0)).is_some());
    assert!(table.current("A", at(1)).is_none());
    assert_eq!(table.expire(at(4)), ["A"]);
    assert_eq!(table.expire(at(9)), ["C"]);
    assert!(table.current("B", at(9)).is_some(), "it is not stored yet");
    store(&mut table, &[Some(4)]);
    assert_eq!(table.expire(at(9)), ["B"]);
    assert!(table.get("B").is_none());
}

#[test]
fn withdrawal_ends_a_price_unless_a_newer_one_follows() {
    let mut table = PriceTable::default();
    put(&mut table, 0, vec![input("A", 1.0, None)]);
    let known = table.unstored_version("A");
    assert!(table.withdraw("A", known) && table.get("A").is_none());
    assert!(is_stored(&table), "it is no longer to be stored");
    assert!(!table.withdraw("A", None));
    // A price published while the withdrawal is being stored remains current.
    put(&mut table, 1, vec![input("A", 2.0, None)]);
    let known = table.unstored_version("A");
    put(&mut table, 2, vec![input("A", 3.0, None)]);
    assert!(!table.withdraw("A", known));
    assert!(!table.apply_withdrawal("A", 1), "it is not stored yet");
    store(&mut table, &[Some(2)]);
    assert!(
        !table.apply_withdrawal("A", 1),
        "it was stored after the withdrawal"
    );
    assert!(table.apply_withdrawal("A", 3) && table.get("A").is_none());
    assert!(!table.apply_withdrawal("A", 3));
}

#[test]
fn number_of_symbols_is_limited() {
    let mut table = PriceTable::default();
    let all = (0..MOST_SYMBOLS - 1).map(|n| input(&n.to_string(), 1.0, None));
    put(&mut table, 0, all.collect());
    let two = vec![input("x", 1.0, None), input("y", 1.0, None)];
    assert!(table.put(two, at(0)).is_err());
    assert!(table.get("x").is_none(), "all or nothing");
    let again = vec![
        input("x", 1.0, None),
        input("x", 2.0, None),
        input("0", 2.0, None),
    ];
    put(&mut table, 0, again);
    assert_eq!((last(&table, "x"), last(&table, "0")), (2.0, 2.0));
    assert!(!table.apply_journaled(&price("y", 1.0, 0), 1));
    assert_eq!(put(&mut table, 0, vec![input("1", 2.0, None)]), [2.0]);
}
