use parking_lot::Mutex;

use super::*;

fn users(limits: &Limits) -> Users {
    Users::new(limits, Arc::default())
}

#[test]
fn a_user_has_thirty_messages_a_minute_and_five_typing_notices_a_second() {
    let users = users(&Limits::default());
    for (class, burst, wait) in [(Class::Messages, 30, 2000), (Class::Typing, 5, 200)] {
        for _ in 0..burst {
            assert_eq!(users.check(class, "ann"), Ok(()));
        }
        let retry_after = users.check(class, "ann").unwrap_err();
        assert!(
            retry_after.duration() <= Duration::from_millis(wait),
            "{retry_after:?}"
        );
        assert_eq!(users.check(class, "bob"), Ok(()));
    }
    assert_eq!(users.check(Class::Requests, "ann"), Ok(()));
    assert_eq!(users.metrics.counter(Counter::LimitedMessages), 1);
    assert_eq!(users.metrics.counter(Counter::LimitedTyping), 1);
}

#[test]
fn replaced_limits_apply_to_users_who_are_connected() {
    let users = users(&Limits::default());
    let (ann, _) = users.enter("ann");
    for _ in 0..30 {
        assert_eq!(users.take(Class::Messages, &ann), Ok(()));
    }
    assert!(users.take(Class::Messages, &ann).is_err());
    let limits = |messages, connections| Limits {
        messages_per_minute: messages,
        connections_per_user: Some(connections),
        ..Limits::default()
    };
    // The budget that is used up recovers faster.
    users.replace_limits(&limits(Some(60_000), 1));
    let wait = users.take(Class::Messages, &ann).unwrap_err();
    assert_eq!(wait, RetryAfter::new(Duration::ZERO));
    assert!(!users.may_connect("ann"));
    assert!(!users.enter("ann").1);
    users.replace_limits(&limits(Some(0), 0));
    for _ in 0..100 {
        assert_eq!(users.take(Class::Messages, &ann), Ok(()));
    }
    assert!(users.may_connect("ann"));
    users.replace_limits(&limits(None, 3));
    assert!(
        users.take(Class::Messages, &ann).is_err(),
        "the debt stayed"
    );
    assert!(users.may_connect("ann"));
}

#[test]
fn rate_limited_users_are_notified_once_a_second_per_class() {
    let users = users(&Limits::default());
    let (ann, _) = users.enter("ann");
    let (bob, _) = users.enter("bob");
    let count = |class, user: &Allowance| (0..100).filter(|_| user.may_notify(class)).count();
    // One more if a second ends during the loop.
    assert!((1..=2).contains(&count(Class::Typing, &ann)));
    assert!((1..=2).contains(&count(Class::Messages, &ann)));
    assert!((1..=2).contains(&count(Class::Typing, &bob)));
}

#[test]
fn limit_of_zero_means_unlimited() {
    let limits = Limits {
        messages_per_minute: Some(0),
        ..Limits::default()
    };
    let users = users(&limits);
    for _ in 0..1000 {
        assert_eq!(users.check(Class::Messages, "ann"), Ok(()));
    }
}

#[test]
fn reconnecting_does_not_refill_a_users_buckets() {
    let users = users(&Limits::default());
    let (ann, _) = users.enter("ann");
    while users.take(Class::Messages, &ann).is_ok() {}
    users.leave("ann");
    let (ann, _) = users.enter("ann");
    assert!(users.take(Class::Messages, &ann).is_err());
    assert!(users.check(Class::Messages, "ann").is_err());
}

#[test]
fn connections_of_a_user_share_its_limits() {
    let users = users(&Limits::default());
    let (tab, _) = users.enter("ann");
    let (other, _) = users.enter("ann");
    while users.take(Class::Messages, &tab).is_ok() {}
    assert!(users.take(Class::Messages, &other).is_err());
}

#[test]
fn spent_limits_are_kept_while_an_ending_connection_holds_the_user() {
    let users = users(&Limits::default());
    let (ann, _) = users.enter("ann");
    while users.take(Class::Messages, &ann).is_ok() {}
    users.leave("ann");
    users.sweep_once();
    drop(ann);
    users.sweep_once();
    assert!(users.check(Class::Messages, "ann").is_err());
}

#[test]
fn connections_of_a_user_are_limited() {
    let users = users(&Limits {
        connections_per_user: Some(2),
        ..Limits::default()
    });
    assert!(users.may_connect("ann"));
    assert!(users.enter("ann").1);
    assert!(users.enter("ann").1);
    assert!(!users.may_connect("ann"));
    assert!(!users.enter("ann").1);
    users.leave("ann");
    assert!(!users.may_connect("ann"));
    users.leave("ann");
    assert!(users.may_connect("ann"));
    assert!(users.may_connect("bob"));
    assert_eq!(users.metrics.counter(Counter::RefusedUser), 2);
}

#[test]
fn disconnected_users_are_evicted_when_their_budgets_are_full() {
    let users = users(&Limits::default());
    users.enter("ann");
    users.leave("ann");
    users.enter("bob");
    assert_eq!(users.check(Class::Messages, "carl"), Ok(()));
    users.sweep_once();
    // Carl's entry is retained because he sent a message.
    assert_eq!(users.metrics.gauge(Gauge::LimitedUsers), 2);
}

#[test]
fn a_hundred_thousand_inactive_users_are_evicted() {
    let users = users(&Limits {
        requests_per_second: Some(1000),
        users: 1_000_000,
        ..Limits::default()
    });
    for n in 0..100_000 {
        assert_eq!(users.check(Class::Requests, &n.to_string()), Ok(()));
    }
    assert_eq!(users.metrics.counter(Counter::UsersEvicted), 0);
    // A millisecond later, the budgets have recovered.
    let start = Instant::now();
    loop {
        users.sweep_once();
        if users.metrics.gauge(Gauge::LimitedUsers) == 0 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "they stay");
    }
    let room = |shard: &Mutex<Shard>| {
        let shard = shard.lock();
        shard.connected.capacity() + shard.idle.capacity()
    };
    let room: usize = users.shards.iter().map(room).sum();
    assert!(
        room <= 3 * SHARDS * 2 * MAX_CAPACITY,
        "{room} entries of room"
    );
}

#[test]
fn a_hundred_thousand_users_do_not_exceed_the_user_limit() {
    let users = users(&Limits {
        users: 320,
        ..Limits::default()
    });
    for n in 0..100_000 {
        assert_eq!(users.check(Class::Messages, &n.to_string()), Ok(()));
    }
    users.sweep_once();
    let remembered = users.metrics.gauge(Gauge::LimitedUsers);
    assert!(remembered <= 320, "{remembered}");
    assert!(users.metrics.counter(Counter::UsersEvicted) > 99_000);
}

#[test]
fn exhausted_user_stays_exhausted_through_a_flood_of_others() {
    let users = users(&Limits {
        users: 320,
        ..Limits::default()
    });
    let start = Instant::now();
    let (ann, _) = users.enter("ann");
    while users.take(Class::Messages, &ann).is_ok() {}
    users.leave("ann");
    drop(ann);
    for n in 0..20_000 {
        let guest = format!("guest {n}");
        let (allowance, _) = users.enter(&guest);
        assert_eq!(users.take(Class::Messages, &allowance), Ok(()));
        users.leave(&guest);
    }
    let again = (0..30).take_while(|_| users.check(Class::Messages, "ann").is_ok());
    // One message recovers every two seconds.
    let most = start.elapsed().as_secs() as usize / 2 + 1;
    assert!(again.count() <= most, "more than {most}");
    assert_eq!(users.metrics.counter(Counter::UsersSharing), 0);
}

#[test]
fn newcomers_share_a_budget_while_all_others_are_exhausted() {
    let users = users(&Limits {
        messages_per_minute: Some(4),
        users: 320,
        ..Limits::default()
    });
    let exhaust = |name: &str| {
        let (allowance, _) = users.enter(name);
        let taken = (0..10).filter(|_| users.take(Class::Messages, &allowance).is_ok());
        let taken = taken.count();
        users.leave(name);
        taken
    };
    // However many users come, and however often, they have no more than one budget per entry and
    // shared allowance.
    let taken: usize = (0..10_000).map(|n| exhaust(&format!("guest {n}"))).sum();
    assert!(taken <= 4 * (320 + 2 * SHARDS), "{taken}");
    let again: usize = (0..10_000).map(|n| exhaust(&format!("guest {n}"))).sum();
    assert!(again <= 4 * 2 * SHARDS, "{again}");
    users.sweep_once();
    assert!(users.metrics.gauge(Gauge::LimitedUsers) <= 320);
    assert!(users.metrics.counter(Counter::UsersSharing) < 20_000);
}
