use super::*;

const GRACE: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(250);

#[test]
fn only_the_first_socket_of_a_user_is_announced() {
    let (mut presence, now) = start();
    let [a, b, c] = [socket(1), socket(2), socket(3)];
    assert_eq!(
        presence.join(now, a, &user("ann"), Time::now()),
        joined("ann")
    );
    assert_eq!(presence.join(now, b, &user("ann"), Time::now()), None);
    assert_eq!(
        presence.join(now, c, &user("bob"), Time::now()),
        joined("bob")
    );
    assert_eq!(
        connections(&presence),
        [("ann".into(), 2), ("bob".into(), 1)]
    );
}

#[test]
fn joining_twice_changes_nothing() {
    let (mut presence, now) = start();
    assert_eq!(
        presence.join(now, socket(1), &user("ann"), Time::now()),
        joined("ann")
    );
    assert_eq!(presence.handle_timeout(now), Some(Notice::List));
    assert_eq!(
        presence.join(now, socket(1), &user("ann"), Time::now()),
        None
    );
    assert_eq!(presence.poll_timeout(), None);
    assert_eq!(presence.leave(now, &socket(1), "ann"), left("ann"));
}

#[test]
fn only_the_last_leaving_socket_is_announced_immediately() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    presence.join(now, socket(2), &user("ann"), Time::now());
    assert_eq!(presence.leave(now, &socket(1), "ann"), None);
    assert_eq!(presence.leave(now, &socket(1), "ann"), None);
    assert_eq!(presence.leave(now, &socket(2), "ann"), left("ann"));
    assert!(presence.is_empty());
}

#[test]
fn disconnected_user_is_announced_after_the_grace_period() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    drain(&mut presence, now);
    presence.lose(now, &socket(1), "ann");
    assert_eq!(connections(&presence), [("ann".into(), 0)]);
    assert_eq!(
        drain(&mut presence, now + GRACE - Duration::from_millis(1)),
        [Notice::List]
    );
    assert_eq!(presence.poll_timeout(), Some(now + GRACE));
    assert_eq!(
        presence.handle_timeout(now + GRACE),
        Some(Notice::Disconnected(user("ann")))
    );
    assert!(presence.is_empty());
}

#[test]
fn reconnect_within_the_grace_period_is_not_announced() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    presence.lose(now, &socket(1), "ann");
    let back = now + GRACE / 2;
    assert_eq!(
        presence.join(back, socket(2), &user("ann"), Time::now()),
        None
    );
    assert_eq!(drain(&mut presence, now + GRACE * 2), [Notice::List]);
    assert_eq!(connections(&presence), [("ann".into(), 1)]);
    assert_eq!(presence.leave(back, &socket(2), "ann"), left("ann"));
}

#[test]
fn each_disconnect_starts_a_new_grace_period() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    presence.lose(now, &socket(1), "ann");
    presence.join(now + GRACE / 2, socket(2), &user("ann"), Time::now());
    presence.lose(now + GRACE / 2, &socket(2), "ann");
    let notices = drain(&mut presence, now + GRACE);
    assert!(!notices.contains(&Notice::Disconnected(user("ann"))));
    let notices = drain(&mut presence, now + GRACE / 2 + GRACE);
    assert!(notices.contains(&Notice::Disconnected(user("ann"))));
}

#[test]
fn disconnect_of_one_of_two_sockets_is_not_announced() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    presence.join(now, socket(2), &user("ann"), Time::now());
    presence.lose(now, &socket(1), "ann");
    assert_eq!(drain(&mut presence, now + GRACE * 2), [Notice::List]);
    assert_eq!(connections(&presence), [("ann".into(), 1)]);
}

#[test]
fn expelled_user_loses_all_sockets_even_in_the_grace_period() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    presence.join(now, socket(2), &user("ann"), Time::now());
    let (sockets, notice) = presence.expel(now, "ann").unwrap();
    assert_eq!((sockets, notice), (vec![socket(1), socket(2)], left("ann")));
    assert!(presence.is_empty() && presence.expel(now, "ann").is_none());
    presence.join(now, socket(3), &user("bob"), Time::now());
    presence.lose(now, &socket(3), "bob");
    let (sockets, notice) = presence.expel(now, "bob").unwrap();
    assert_eq!((sockets, notice), (vec![], left("bob")));
    assert_eq!(drain(&mut presence, now + GRACE), [Notice::List]);
    assert_eq!(presence.connections(), 0);
}

#[test]
fn each_changed_user_is_published_once() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    presence.join(now, socket(2), &user("ann"), Time::now());
    presence.join(now, socket(3), &user("bob"), Time::now());
    presence.leave(now, &socket(3), "bob");
    let changed = presence.take_changed();
    let changed: Vec<_> = changed.keys().map(AsRef::as_ref).collect();
    assert_eq!(changed, ["ann", "bob"]);
    assert_eq!(presence.shared("ann").unwrap().connections, 2);
    assert_eq!(presence.shared("bob"), None);
    assert!(presence.take_changed().is_empty());
    presence.leave(now, &socket(1), "ann");
    presence.lose(now, &socket(2), "ann");
    assert_eq!(presence.take_changed().len(), 1);
    let in_grace = presence.shared("ann").unwrap().connections;
    assert_eq!(in_grace, 1, "as long as the grace lasts");
    drain(&mut presence, now + GRACE);
    assert_eq!(presence.take_changed().len(), 1);
    assert_eq!(presence.shared("ann"), None);
    presence.join(now, socket(1), &user("ann"), Time::now());
    presence.take_changed();
    presence.share_all();
    assert_eq!(presence.take_changed().len(), 1);
}

#[test]
fn first_list_is_immediate_and_later_lists_are_throttled() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    assert_eq!(drain(&mut presence, now), [Notice::List]);
    for n in 2..20 {
        presence.join(now, socket(n), &user(&format!("u{n}")), Time::now());
    }
    assert_eq!(presence.poll_timeout(), Some(now + INTERVAL));
    assert_eq!(
        drain(&mut presence, now + INTERVAL - Duration::from_millis(1)),
        []
    );
    assert_eq!(drain(&mut presence, now + INTERVAL), [Notice::List]);
    assert_eq!(presence.poll_timeout(), None);
}

#[test]
fn large_lists_are_truncated_and_sent_less_often() {
    let (mut presence, now) = start();
    for n in 0..2000 {
        presence.join(now, socket(n), &user(&format!("u{n}")), Time::now());
    }
    assert_eq!(drain(&mut presence, now), [Notice::List]);
    let (list, here) = (presence.list(Uuid::nil()), presence.here(Uuid::nil()));
    assert_eq!((list.users.len(), list.count), (100, 2000));
    assert_eq!((here.users.len(), here.count), (1000, 2000));
    let mut lists = Vec::new();
    let mut emitted = BTreeSet::new();
    presence.leave(now, &socket(0), "u0");
    let mut time = now;
    while let Some(next) = presence.poll_timeout() {
        time = next.max(time);
        for notice in drain(&mut presence, time) {
            match notice.user() {
                Some(user) => assert!(emitted.insert(Arc::clone(&user.user_id))),
                None => lists.push(time),
            }
        }
    }
    let [list] = lists.as_slice() else {
        panic!("{lists:?}");
    };
    assert!(
        list.duration_since(now) > Duration::from_secs(1),
        "{list:?}"
    );
    assert!(
        emitted.len() > 1000 && emitted.contains("u0"),
        "{}",
        emitted.len()
    );
}

#[test]
fn looping_user_causes_few_notices_with_the_correct_last_state() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    let mut emitted = Vec::new();
    for n in 0..100 {
        let time = now + Duration::from_millis(n);
        emitted.extend(presence.join(time, socket(2), &user("bob"), Time::now()));
        emitted.extend(presence.leave(time, &socket(2), "bob"));
    }
    emitted.extend(presence.join(now + INTERVAL / 2, socket(2), &user("bob"), Time::now()));
    emitted.extend(drain(&mut presence, now + INTERVAL));
    emitted.retain(|notice| *notice != Notice::List);
    let expected = [joined("bob"), left("bob"), joined("bob")];
    assert_eq!(emitted, expected.map(Option::unwrap));
}

#[test]
fn present_users_serialize_in_the_documented_form() {
    let (mut presence, now) = start();
    let since: Time = "2025-01-31T12:00:00Z".parse().unwrap();
    let later: Time = "2025-01-31T12:00:01Z".parse().unwrap();
    presence.join(now, socket(1), &user("zoe"), since);
    presence.join(now, socket(2), &user("ann"), later);
    assert_eq!(
        serde_json::to_string(&presence.here(Uuid::nil())).unwrap(),
        r#"{"conversationId":"00000000-0000-0000-0000-000000000000","users":[{"userId":"zoe","name":"zoe's name","connections":1,"since":"2025-01-31T12:00:00.000Z"},{"userId":"ann","name":"ann's name","connections":1,"since":"2025-01-31T12:00:01.000Z"}],"count":2}"#
    );
}

#[test]
fn evicted_user_is_listed_without_sockets_until_the_removal_is_announced() {
    let (mut presence, now) = start();
    let both = [socket(1), socket(2)];
    for one in both.clone() {
        presence.join(now, one, &user("ann"), Time::now());
    }
    presence.join(now, socket(3), &user("bob"), Time::now());
    assert_eq!(presence.evict(now, "ann"), both);
    assert!(presence.is_evicted("ann") && !presence.has(&socket(1), "ann"));
    presence.lose(now, &socket(1), "ann");
    assert_eq!(
        connections(&presence),
        [("ann".into(), 0), ("bob".into(), 1)]
    );
    let later = now + GRACE * 2;
    assert!(!drain(&mut presence, later).contains(&Notice::Disconnected(user("ann"))));
    let expelled = presence.expel(later, "ann");
    assert_eq!(expelled, Some((Vec::new(), left("ann"))));
    // A user in the grace period cannot return either.
    presence.lose(later, &socket(3), "bob");
    assert!(presence.is_attended());
    assert_eq!(presence.evict(later, "bob"), []);
    assert!(presence.is_evicted("bob") && !presence.is_attended());
}

#[test]
fn removal_before_the_last_known_membership_does_not_count() {
    let (mut presence, now) = start();
    presence.join(now, socket(1), &user("ann"), Time::now());
    presence.note_member("ann", 7);
    presence.note_member("ann", 5);
    assert!(presence.is_member_since("ann", 7) && !presence.is_member_since("ann", 8));
    assert!(presence.is_member_since("nobody here", 8));
}

fn start() -> (Presence, Instant) {
    (
        Presence::new(PresenceConfig {
            grace: GRACE,
            interval: INTERVAL,
            listed: 100,
            is_shared: true,
        }),
        Instant::now(),
    )
}

fn socket(n: u32) -> SocketId {
    SocketId::parse(&format!("{n:020}")).unwrap()
}

fn user(id: &str) -> User {
    User {
        user_id: id.into(),
        name: format!("{id}'s name").into(),
    }
}

fn joined(id: &str) -> Option<Notice> {
    Some(Notice::Joined(user(id)))
}

fn left(id: &str) -> Option<Notice> {
    Some(Notice::Left(user(id)))
}

fn drain(presence: &mut Presence, now: Instant) -> Vec<Notice> {
    std::iter::from_fn(|| presence.handle_timeout(now)).collect()
}

fn connections(presence: &Presence) -> Vec<(String, usize)> {
    let users = presence.here(Uuid::nil()).users;
    users
        .iter()
        .map(|user| (user.user.user_id.to_string(), user.connections))
        .collect()
}
