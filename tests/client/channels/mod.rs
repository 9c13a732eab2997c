//! Channels of the chat server, against literal answers: subscriptions. `requests` has the others.

mod requests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use roomcast::client::{
    Client, ClientError, DisconnectReason, Socket,
    channels::{Channel, ChannelEnd, ChannelError, ChannelItem, ChannelToken, Subscription},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    fake::{Fake, Session},
    suite::within,
};

const ORDER: &str = "orders:7:42";

/// A connected client, and the server's end of its connection.
struct Connected {
    fake: Fake,
    session: Session,
    socket: Socket,
}

impl Connected {
    async fn start() -> Self {
        let fake = Fake::start().await;
        let client = Client::builder(fake.url()).reconnection_delay(Duration::from_millis(1));
        let socket = client.socket().unwrap();
        socket.open();
        let session = fake.connected().await;
        // A request that is answered before the client notices its connection is sent again.
        within(socket.connect()).await.unwrap();
        Self {
            fake,
            session,
            socket,
        }
    }

    /// Subscribes, with an answer that has the events 1 and 2.
    async fn subscribed(&mut self, channel: &Channel) -> Subscription {
        let subscribing = subscribe(channel, None);
        let (id, _) = request(&mut self.session, "channel:subscribe").await;
        answer(&mut self.session, id, page([1, 2], 2)).await;
        let mut subscription = within(subscribing).await.unwrap().unwrap();
        assert_eq!(events(&mut subscription, 2).await, [1, 2]);
        subscription
    }

    /// Breaks the connection, and accepts the next one.
    async fn reconnect(self) -> Self {
        drop(self.session);
        let session = self.fake.connected().await;
        Self { session, ..self }
    }
}

fn subscribe(
    channel: &Channel,
    since: Option<&'static str>,
) -> JoinHandle<Result<Subscription, ChannelError>> {
    let channel = channel.clone();
    tokio::spawn(async move { channel.subscribe(since).await })
}

/// Returns the id of the next acknowledgement, and the payload of its event without the channel.
async fn request(session: &mut Session, event: &str) -> (u64, Value) {
    let packet = session.next().await;
    let start = packet.find('[').unwrap();
    let (name, mut payload): (String, Value) = serde_json::from_str(&packet[start..]).unwrap();
    assert_eq!(name, event, "{packet}");
    let channel = payload.as_object_mut().unwrap().remove("channel");
    assert_eq!(channel, Some(json!(ORDER)), "{packet}");
    (packet[2..start].parse().unwrap(), payload)
}

async fn answer(session: &mut Session, id: u64, mut answer: Value) {
    answer["success"] = json!(true);
    session.send(&format!("43{id}[{answer}]")).await;
}

async fn refuse(session: &mut Session, id: u64, mut error: Value) {
    error["message"] = json!("refused");
    let answer = json!({"success": false, "error": error});
    session.send(&format!("43{id}[{answer}]")).await;
}

fn invalid(field: &str) -> Value {
    json!({"code": "INVALID_PAYLOAD", "details": {"field": field}})
}

/// An answer with these events.
fn page(numbers: impl IntoIterator<Item = u64>, position: u64) -> Value {
    let events = numbers.into_iter().map(|number| {
        let position = format!("p{number}");
        json!({
            "event": "updated", "data": number, "position": position, "id": format!("i{number}"),
            "timestamp": "2026-01-02T03:04:05.678Z",
        })
    });
    let events: Vec<Value> = events.collect();
    json!({"position": format!("p{position}"), "events": events, "hasMore": false})
}

/// Sends an event of a channel.
async fn send(session: &mut Session, channel: &str, number: u64) {
    let meta = json!({
        "channel": channel, "position": format!("p{number}"), "id": format!("i{number}"),
        "timestamp": "2026-01-02T03:04:05.678Z",
    });
    session
        .send(&format!("42[\"updated\",{number},{meta}]"))
        .await;
}

async fn end(session: &mut Session, reason: &str) {
    let ended = json!({"channel": ORDER, "reason": reason});
    session
        .send(&format!("42[\"channel:ended\",{ended}]"))
        .await;
}

async fn item(subscription: &mut Subscription) -> ChannelItem {
    within(subscription.next()).await.unwrap()
}

/// Returns the data of the next events, and checks the position.
async fn events(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut data = Vec::new();
    for _ in 0..count {
        match item(subscription).await {
            ChannelItem::Event(event) => data.push(event.data().unwrap()),
            other => panic!("{other:?} after {data:?}"),
        }
        let position = data.last().map(|number| format!("p{number}"));
        assert_eq!(subscription.position(), position.as_deref());
    }
    data
}

async fn forgotten(subscription: &mut Subscription) -> bool {
    match item(subscription).await {
        ChannelItem::Forgotten { has_older } => has_older,
        other => panic!("{other:?}"),
    }
}

/// Returns why the subscription ends, which must be its last item.
async fn ended(subscription: &mut Subscription) -> ChannelEnd {
    let ChannelItem::Ended(end) = item(subscription).await else {
        panic!("the subscription has not ended");
    };
    assert!(within(subscription.next()).await.is_none());
    end
}

fn code(error: &ChannelError) -> &str {
    match error {
        ChannelError::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answer_and_live_events_are_delivered_in_one_order() {
    let Connected {
        mut session,
        socket,
        ..
    } = Connected::start().await;
    let channel = socket.channel(ORDER).token("secret");
    let subscribing = subscribe(&channel, Some("p0"));
    let (id, payload) = request(&mut session, "channel:subscribe").await;
    assert_eq!(payload, json!({"since": "p0", "token": "secret"}));
    send(&mut session, ORDER, 2).await;
    send(&mut session, ORDER, 3).await;
    let mut first = page([1, 2], 2);
    let user =
        json!({"userId": "7", "name": "Ada", "connections": 2, "since": "now", "guest": true});
    first["presence"] = json!({"users": [user], "count": 5, "missing": 1});
    answer(&mut session, id, first).await;
    send(&mut session, "orders:7:43", 9).await;
    send(&mut session, ORDER, 4).await;
    let mut subscription = within(subscribing).await.unwrap().unwrap();
    assert_eq!(subscription.position(), Some("p0"));
    assert_eq!(events(&mut subscription, 4).await, [1, 2, 3, 4]);
    let presence = subscription.presence().unwrap();
    assert_eq!((presence.count, presence.missing), (5, 1));
    let user = &presence.users[0];
    let user = (&*user.user_id, &*user.name, user.connections, user.guest);
    assert_eq!(user, ("7", "Ada", 2, true));
    assert!(!subscription.has_older());
}

#[tokio::test]
async fn event_has_its_name_id_and_time_and_its_data_unchanged() {
    let mut connected = Connected::start().await;
    let channel = connected.socket.channel(ORDER);
    let mut subscription = connected.subscribed(&channel).await;
    let meta = json!({"channel": ORDER, "position": "p3", "id": "i", "timestamp": "now"});
    // No number type has this value, and the offset of a recoverable session follows.
    let event = format!("42[\"order:updated\",{{ \"b\": 1e999 }},{meta},\"offset\"]");
    connected.session.send(&event).await;
    let ChannelItem::Event(event) = item(&mut subscription).await else {
        panic!("no event");
    };
    let shown = (&*event.event, &*event.id, &*event.timestamp, event.json());
    assert_eq!(shown, ("order:updated", "i", "now", "{ \"b\": 1e999 }"));
    event.data::<Value>().unwrap_err();
}

#[tokio::test]
async fn subscription_waits_for_the_connection_and_reports_older_events() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    let subscribing = subscribe(&socket.channel(ORDER), None);
    socket.open();
    let mut session = fake.connected().await;
    let (id, payload) = request(&mut session, "channel:subscribe").await;
    assert_eq!(payload, json!({}));
    let mut newest = page([8, 9], 9);
    newest["hasMore"] = json!(true);
    answer(&mut session, id, newest).await;
    let mut subscription = within(subscribing).await.unwrap().unwrap();
    assert_eq!(subscription.position(), None);
    assert!(subscription.has_older());
    assert_eq!(events(&mut subscription, 2).await, [8, 9]);
}

#[tokio::test]
async fn empty_channel_has_a_position_to_continue_from() {
    let Connected {
        mut session,
        socket,
        ..
    } = Connected::start().await;
    let subscribing = subscribe(&socket.channel(ORDER), None);
    let (id, _) = request(&mut session, "channel:subscribe").await;
    answer(&mut session, id, page([], 0)).await;
    let subscription = within(subscribing).await.unwrap().unwrap();
    assert_eq!(subscription.position(), Some("p0"));
}

#[tokio::test]
async fn lost_connection_continues_after_the_last_event_page_by_page() {
    let mut connected = Connected::start().await;
    let channel = connected.socket.channel(ORDER);
    let mut subscription = connected.subscribed(&channel).await;
    send(&mut connected.session, ORDER, 3).await;
    connected = connected.reconnect().await;
    let reading = tokio::spawn(async move { events(&mut subscription, 6).await });
    for (since, numbers) in [("p3", [4, 5]), ("p5", [6, 7])] {
        let (id, payload) = request(&mut connected.session, "channel:subscribe").await;
        assert_eq!(payload, json!({ "since": since }));
        let mut next = page(numbers, numbers[1]);
        next["hasMore"] = json!(since == "p3");
        answer(&mut connected.session, id, next).await;
    }
    send(&mut connected.session, ORDER, 8).await;
    assert_eq!(within(reading).await.unwrap(), [3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn lost_answer_is_requested_again() {
    let mut connected = Connected::start().await;
    let channel = connected.socket.channel(ORDER);
    let mut subscription = connected.subscribed(&channel).await;
    connected = connected.reconnect().await;
    let reading = tokio::spawn(async move { events(&mut subscription, 2).await });
    request(&mut connected.session, "channel:subscribe").await;
    send(&mut connected.session, ORDER, 3).await;
    connected = connected.reconnect().await;
    let (id, payload) = request(&mut connected.session, "channel:subscribe").await;
    assert_eq!(payload, json!({"since": "p2"}));
    answer(&mut connected.session, id, page([3, 4], 4)).await;
    assert_eq!(within(reading).await.unwrap(), [3, 4]);
}

#[tokio::test]
async fn recovered_session_continues_without_a_request() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).reconnection_delay(Duration::from_millis(1));
    let socket = client.socket().unwrap();
    socket.open();
    let mut session = fake.accept().await;
    assert_eq!(session.next().await, "40");
    session.send("40{\"sid\":\"a\",\"pid\":\"p\"}").await;
    let mut connected = Connected {
        fake,
        session,
        socket,
    };
    let channel = connected.socket.channel(ORDER);
    let mut subscription = connected.subscribed(&channel).await;
    drop(connected.session);
    let mut session = connected.fake.accept().await;
    assert_eq!(session.next().await, "40{\"pid\":\"p\"}");
    send(&mut session, ORDER, 3).await;
    session.send("40{\"sid\":\"a\",\"pid\":\"p\"}").await;
    send(&mut session, ORDER, 4).await;
    assert_eq!(events(&mut subscription, 2).await, [3, 4]);
    end(&mut session, "interrupted").await;
    let reading = tokio::spawn(async move { events(&mut subscription, 1).await });
    let (id, payload) = request(&mut session, "channel:subscribe").await;
    assert_eq!(payload, json!({"since": "p4"}));
    answer(&mut session, id, page([5], 5)).await;
    assert_eq!(within(reading).await.unwrap(), [5]);
}

#[tokio::test]
async fn forgotten_events_are_reported_before_the_newest() {
    let Connected {
        mut session,
        socket,
        ..
    } = Connected::start().await;
    let subscribing = subscribe(&socket.channel(ORDER), Some("p1"));
    let (id, _) = request(&mut session, "channel:subscribe").await;
    let mut newest = page([8, 9], 9);
    newest["hasMore"] = json!(true);
    newest["forgotten"] = json!(true);
    answer(&mut session, id, newest).await;
    let mut subscription = within(subscribing).await.unwrap().unwrap();
    assert!(forgotten(&mut subscription).await);
    assert_eq!(subscription.position(), Some("p1"));
    assert_eq!(events(&mut subscription, 2).await, [8, 9]);
}

#[tokio::test]
async fn refused_position_is_reported_as_forgotten() {
    let Connected {
        mut session,
        socket,
        ..
    } = Connected::start().await;
    let subscribing = subscribe(&socket.channel(ORDER), Some("p7"));
    let (id, _) = request(&mut session, "channel:subscribe").await;
    refuse(&mut session, id, invalid("since")).await;
    let (id, payload) = request(&mut session, "channel:subscribe").await;
    assert_eq!(payload, json!({}));
    answer(&mut session, id, page([1], 1)).await;
    let mut subscription = within(subscribing).await.unwrap().unwrap();
    assert!(!forgotten(&mut subscription).await);
    assert_eq!(events(&mut subscription, 1).await, [1]);
}

#[tokio::test]
async fn end_is_delivered_after_the_events_with_its_reason() {
    for reason in ["forbidden", "expired", "removed", "deleted", "new"] {
        let mut connected = Connected::start().await;
        let channel = connected.socket.channel(ORDER).token("secret");
        let mut subscription = connected.subscribed(&channel).await;
        send(&mut connected.session, ORDER, 3).await;
        end(&mut connected.session, reason).await;
        assert_eq!(events(&mut subscription, 1).await, [3]);
        let end = ended(&mut subscription).await;
        let is_it = match &end {
            ChannelEnd::Forbidden => reason == "forbidden",
            ChannelEnd::Expired => reason == "expired",
            ChannelEnd::Removed => reason == "removed",
            ChannelEnd::Deleted => reason == "deleted",
            ChannelEnd::Other(other) => reason == "new" && other == "new",
            other => panic!("{other:?}"),
        };
        assert!(is_it, "{reason}: {end:?}");
        // The server has ended it, so the client sends nothing more about it.
        drop(subscription);
        connected.socket.emit("next", ()).unwrap();
        assert_eq!(connected.session.next().await, r#"42["next"]"#);
    }
}

/// A token with a number, which counts the calls.
fn numbered_tokens() -> ChannelToken {
    let calls = Arc::new(AtomicUsize::new(0));
    ChannelToken::with(move || {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, ClientError>(format!("t{call}")) }
    })
}

#[tokio::test]
async fn expired_token_is_replaced_and_the_channel_continues() {
    let mut connected = Connected::start().await;
    let channel = connected.socket.channel(ORDER).token(numbered_tokens());
    let mut subscription = connected.subscribed(&channel).await;
    end(&mut connected.session, "expired").await;
    let reading = tokio::spawn(async move { events(&mut subscription, 1).await });
    let (id, payload) = request(&mut connected.session, "channel:subscribe").await;
    assert_eq!(payload, json!({"since": "p2", "token": "t1"}));
    answer(&mut connected.session, id, page([3], 3)).await;
    assert_eq!(within(reading).await.unwrap(), [3]);
}

#[tokio::test]
async fn refusal_after_a_reconnect_ends_the_subscription_unless_it_may_pass() {
    let mut connected = Connected::start().await;
    let channel = connected.socket.channel(ORDER);
    let mut subscription = connected.subscribed(&channel).await;
    connected = connected.reconnect().await;
    let reading = tokio::spawn(async move { ended(&mut subscription).await });
    for error in [
        json!({"code": "BACKEND_UNAVAILABLE", "retryAfter": 1}),
        // The lost connection still counts towards the limit of the user.
        json!({"code": "CONFLICT"}),
        json!({"code": "NOT_FOUND"}),
    ] {
        let (id, payload) = request(&mut connected.session, "channel:subscribe").await;
        assert_eq!(payload, json!({"since": "p2"}));
        refuse(&mut connected.session, id, error).await;
    }
    match within(reading).await.unwrap() {
        ChannelEnd::Failed(error) => assert_eq!(code(&error), "NOT_FOUND"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn slow_application_delays_no_other_event_and_reads_the_rest_again() {
    let mut connected = Connected::start().await;
    let channel = connected.socket.channel(ORDER);
    let mut subscription = connected.subscribed(&channel).await;
    let mut others = connected.socket.stream("other");
    for number in 3..1010 {
        send(&mut connected.session, ORDER, number).await;
    }
    connected.session.send("42[\"other\"]").await;
    within(others.next()).await.unwrap();
    let reading = tokio::spawn(async move { events(&mut subscription, 1008).await });
    let (id, payload) = request(&mut connected.session, "channel:subscribe").await;
    // The position of the first answer counts as well.
    assert_eq!(payload, json!({"since": "p1001"}));
    answer(&mut connected.session, id, page(1002..1010, 1009)).await;
    send(&mut connected.session, ORDER, 1010).await;
    let expected: Vec<u64> = (3..1011).collect();
    assert_eq!(within(reading).await.unwrap(), expected);
}

#[tokio::test]
async fn socket_has_one_subscription_to_a_channel_until_it_is_dropped() {
    let mut connected = Connected::start().await;
    let channel = connected.socket.channel(ORDER);
    let subscription = connected.subscribed(&channel).await;
    let error = within(channel.subscribe(None)).await.unwrap_err();
    assert!(matches!(error, ChannelError::AlreadySubscribed), "{error}");
    subscription.unsubscribe();
    let unsubscribe = r#"42["channel:unsubscribe",{"channel":"orders:7:42"}]"#;
    assert_eq!(connected.session.next().await, unsubscribe);
    drop(connected.subscribed(&channel).await);
    assert_eq!(connected.session.next().await, unsubscribe);
}

#[test]
fn subscription_ends_if_the_runtime_of_the_client_has_ended() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (client, application) = (runtime(), runtime());
    let mut subscription = client.block_on(async {
        let mut connected = Connected::start().await;
        let channel = connected.socket.channel(ORDER);
        connected.subscribed(&channel).await
    });
    drop(client);
    let end = application.block_on(async { ended(&mut subscription).await });
    match end {
        ChannelEnd::Failed(ChannelError::Request(ClientError::Disconnected(reason))) => {
            assert_eq!(reason, DisconnectReason::ForcedClose);
        }
        other => panic!("{other:?}"),
    }
}
