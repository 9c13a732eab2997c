use std::time::{Duration, Instant};

use super::*;
use crate::config;
use crate::metrics::trace::Traces;
use crate::service::rules::emissions::attendance::User;
use crate::service::rules::html::Rules;
use crate::store::Time;

const GRACE: Duration = Duration::from_secs(5);

#[test]
fn conversation_is_live_while_pinned_or_joined() {
    let conversations = conversations();
    let id = Uuid::from_u128(1);
    assert_eq!(conversations.with(id, |_| ()), None);
    let pin = conversations.pin(id);
    let second = conversations.pin(id);
    drop(second);
    assert_eq!(conversations.with(id, |live| live.id), Some(id));
    join(&conversations, id, socket(1));
    drop(pin);
    assert_eq!(conversations.with(id, |live| live.id), Some(id));
    conversations.with(id, |live| {
        live.presence.leave(Instant::now(), &socket(1), "ann")
    });
    assert_eq!(conversations.with(id, |_| ()), None);
    assert!(is_empty(&conversations));
}

#[test]
fn conversation_is_evicted_after_an_unused_pin() {
    let conversations = conversations();
    drop(conversations.pin(Uuid::from_u128(1)));
    assert!(is_empty(&conversations));
}

#[test]
fn disconnected_socket_cannot_enter() {
    let conversations = conversations();
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let in_first = Entered {
        id: first,
        since: 7,
    };
    let in_second = Entered {
        id: second,
        since: 0,
    };
    let enter = |entered| conversations.enter(&socket(1), entered);
    assert_eq!(enter(in_first), None, "before it has connected");
    conversations.connect(socket(1));
    assert_eq!(enter(in_first), Some(7));
    assert_eq!(enter(in_second), Some(0));
    let later = Entered {
        since: 9,
        ..in_first
    };
    assert_eq!(enter(later), Some(7), "it is in there already");
    conversations.exit(&socket(1), second);
    assert_eq!(conversations.entered(&socket(1)), Some(vec![in_first]));
    assert_eq!(conversations.disconnect(&socket(1)), [in_first]);
    assert_eq!(conversations.entered(&socket(1)), None);
    assert_eq!(enter(in_first), None);
    assert!(conversations.disconnect(&socket(1)).is_empty());
    assert!(is_empty(&conversations));
}

#[tokio::test(start_paused = true)]
async fn the_earliest_timeout_of_all_conversations_comes_first() {
    let conversations = conversations();
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let start = now();
    let later = start + Duration::from_secs(1);
    let due = Mutex::new(Vec::new());
    let waiting = conversations.time_out(|id| {
        conversations.with(id, |live| live.typing.handle_timeout(now()));
        due.lock().push((id, now().duration_since(start).as_secs()));
    });
    let both = async {
        while due.lock().len() < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waiting = async {
        tokio::select! {
            () = waiting => {}
            () = both => {}
        }
    };
    let typing = async {
        // Each timeout is earlier than the one that is currently awaited.
        start_typing(&conversations, second, later);
        tokio::task::yield_now().await;
        start_typing(&conversations, first, start);
    };
    tokio::join!(waiting, typing);
    assert_eq!(*due.lock(), [(first, 6), (second, 7)]);
    assert!(is_empty(&conversations));
}

#[test]
fn concurrent_joins_and_leaves_evict_the_conversation() {
    let conversations = conversations();
    let id = Uuid::from_u128(1);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let conversations = &conversations;
            scope.spawn(move || {
                for _ in 0..2000 {
                    let pin = conversations.pin(id);
                    join(conversations, id, socket(n));
                    drop(pin);
                    let left = conversations.with(id, |live| {
                        live.presence.leave(Instant::now(), &socket(n), "ann");
                    });
                    assert_eq!(left, Some(()), "nobody else takes it away");
                }
            });
        }
    });
    assert!(is_empty(&conversations));
}

#[test]
fn joins_and_departures_are_published() {
    let conversations = sharing(true);
    let id = Uuid::from_u128(1);
    let pin = conversations.pin(id);
    join(&conversations, id, socket(1));
    drop(pin);
    let rows = conversations.take_shared(10);
    let [row] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!((row.conversation_id, &*row.user_id), (id, "ann"));
    assert_eq!(row.present.as_ref().unwrap().connections, 1);
    assert!(conversations.take_shared(10).is_empty());
    conversations.restore_shared(rows);
    conversations.with(id, |live| {
        live.presence.leave(Instant::now(), &socket(1), "ann");
    });
    let rows = conversations.take_shared(10);
    assert_eq!(rows.len(), 1);
    assert!(rows.iter().all(|row| row.present.is_none()), "{rows:?}");
    conversations.share_all();
    assert!(conversations.take_shared(10).is_empty(), "nobody is here");
    assert!(is_empty(&conversations));
}

fn conversations() -> Conversations {
    sharing(false)
}

fn sharing(is_shared: bool) -> Conversations {
    let tempo = PresenceConfig {
        grace: GRACE,
        interval: Duration::from_millis(250),
        listed: 100,
        is_shared,
    };
    let rules = Arc::new(Rules::Text);
    let common = SharedContext::new(
        rules,
        &config::Chat::default(),
        false,
        None,
        Traces::default(),
        Arc::default(),
    );
    Conversations::new(tempo, common)
}

fn is_empty(conversations: &Conversations) -> bool {
    conversations.ids().is_empty()
        && conversations
            .sockets
            .iter()
            .all(|part| part.lock().is_empty())
        && conversations
            .schedule
            .iter()
            .all(|part| part.timeouts.lock().is_empty())
        && conversations.changed.lock().users.is_empty()
}

fn join(conversations: &Conversations, id: Uuid, socket: SocketId) {
    let user = User {
        user_id: "ann".into(),
        name: "Ann".into(),
    };
    let joined = conversations.with(id, |live| {
        live.presence
            .join(Instant::now(), socket, &user, Time::now());
    });
    assert_eq!(joined, Some(()), "pinned before");
}

fn start_typing(conversations: &Conversations, id: Uuid, now: Instant) {
    let user = User {
        user_id: "ann".into(),
        name: "Ann".into(),
    };
    let _pin = conversations.pin(id);
    conversations.with(id, |live| live.typing.start(now, &user, Some(socket(1))));
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn socket(n: u32) -> SocketId {
    SocketId::parse(&format!("{n:020}")).unwrap()
}
