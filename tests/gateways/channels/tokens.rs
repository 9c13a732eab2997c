//! Rights from tokens that a backend gives to one user for one channel.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Channels, SECRET, token};
use crate::client::Client;
use crate::guard::signed_with;

/// Declares channels that only holders of tokens follow, and others.
const TICKETS: [(&str, &str); 5] = [
    ("ROOMCAST_CHANNELS__TICKETS__PATTERN", "tickets:{n}"),
    ("ROOMCAST_CHANNELS__TICKETS__FOLLOW", "token,role:support"),
    ("ROOMCAST_CHANNELS__TICKETS__PUBLISH", "services,token"),
    ("ROOMCAST_CHANNELS__OFFICE__PATTERN", "office"),
    ("ROOMCAST_CHANNELS__OFFICE__FOLLOW", "role:support"),
];

fn seconds_ahead(seconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs() + seconds
}

/// Returns a token for channels that is valid for a minute.
fn ticket(user: &str, channel: &Value) -> String {
    let claims = json!({"sub": user, "exp": seconds_ahead(60), "channel": channel});
    signed_with(SECRET, &claims)
}

async fn publish(channels: &Channels, channel: &str, id: &str) {
    let event = json!({"event": "ticket", "data": id, "id": id});
    let path = format!("/channels/{channel}/events");
    let (status, answer) = channels.call("POST", &path, event).await;
    assert_eq!(status, 200, "{answer}");
}

async fn refusal(client: &mut Client, event: &str, request: Value) -> (String, String) {
    let error = client.ask(event, request).await["error"].clone();
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn token_gives_each_right_for_its_user_and_channel() {
    let channels = Channels::start(&TICKETS);
    publish(&channels, "tickets:1", "first").await;
    let mut ann = channels.user("ann").await;
    let about = |token: &str| json!({"channel": "tickets:1", "token": token});
    let reads = ticket("ann", &json!({"history": "tickets:1"}));
    let writes = ticket("ann", &json!({"publish": "tickets:{n}"}));
    let follows = ticket("ann", &json!({"follow": "tickets:1"}));
    let event = |token: &str| json!({"channel": "tickets:1", "event": "ticket", "data": 2, "id": "2", "token": token});
    let gone = ("NOT_FOUND".to_owned(), "no such channel".to_owned());
    for token in [&reads, &writes] {
        let refused = refusal(&mut ann, "channel:subscribe", about(token)).await;
        assert_eq!(refused, gone);
    }
    let refused = refusal(&mut ann, "channel:history", about(&writes)).await;
    assert_eq!(refused, gone);
    assert_eq!(
        refusal(&mut ann, "channel:publish", event(&reads)).await,
        gone
    );
    let (code, _) = refusal(&mut ann, "channel:publish", event(&follows)).await;
    assert_eq!(
        code, "FORBIDDEN",
        "a follower learns that publishing is denied"
    );
    let page = ann.must("channel:history", about(&reads)).await;
    assert_eq!(page["events"][0]["data"], "first");
    let page = ann.must("channel:subscribe", about(&follows)).await;
    assert_eq!(page["events"][0]["data"], "first");
    ann.must("channel:publish", event(&writes)).await;
    assert_eq!(ann.event("ticket").await[0], 2);
    // Without the token, the channel does not exist, also for its follower.
    let without = json!({"channel": "tickets:1"});
    let refused = refusal(&mut ann, "channel:history", without).await;
    assert_eq!(refused, gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_refused_with_a_reason() {
    let channels = Channels::start(&TICKETS);
    let mut ann = channels.user("ann").await;
    let right = json!({"follow": "tickets:1"});
    let signed = |claims: Value| signed_with(SECRET, &claims);
    let other_secret = "another secret of at least thirty-two bytes";
    let claims = json!({"sub": "ann", "exp": seconds_ahead(60), "channel": right});
    for (token, reason) in [
        (ticket("bob", &right), "token is for another user"),
        (
            ticket("ann", &json!({"follow": "tickets:2"})),
            "token is for another channel",
        ),
        (
            ticket("ann", &json!({"follow": "*"})),
            "token is for another channel",
        ),
        (
            signed(json!({"sub": "ann", "channel": right})),
            "token has no exp",
        ),
        (
            signed(json!({"sub": "ann", "exp": 1, "channel": right})),
            "token has expired",
        ),
        // The leeway for clocks is for logging in.
        (
            signed(json!({"sub": "ann", "exp": seconds_ahead(0) - 5, "channel": right})),
            "token has expired",
        ),
        (
            ticket("ann", &json!({})),
            "token has no claim channel with a right",
        ),
        (
            ticket("ann", &json!({"folow": "tickets:1"})),
            "token has no claim channel with a right",
        ),
        (
            token("ann", json!({})),
            "token has no claim channel with a right",
        ),
        (signed_with(other_secret, &claims), "token is not valid"),
        ("x".to_owned(), "token is not valid"),
        ("x".repeat(100_000), "token is not valid"),
    ] {
        // What does not exist is refused alike.
        for channel in ["tickets:1", "nothing:1"] {
            let request = json!({"channel": channel, "token": token});
            let (code, message) = refusal(&mut ann, "channel:subscribe", request).await;
            assert_eq!(
                (code.as_str(), message.as_str()),
                ("INVALID_PAYLOAD", reason),
                "{token}"
            );
        }
    }
    // A rule without `token` does not take one.
    let office = json!({"channel": "office", "token": ticket("ann", &json!({"follow": "office"}))});
    let (code, _) = refusal(&mut ann, "channel:subscribe", office).await;
    assert_eq!(code, "NOT_FOUND");
    let mut guest = Client::connect(channels.server.address(), &json!({}))
        .await
        .unwrap();
    let request = json!({"channel": "tickets:1", "token": ticket("ann", &right)});
    let (_, message) = refusal(&mut guest, "channel:subscribe", request).await;
    assert_eq!(message, "token is for another user");
    let login = json!({"token": ticket("ann", &right)});
    let refused = Client::connect(channels.server.address(), &login).await;
    assert!(refused.is_err(), "a token for channels is no login");
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_leaves_when_its_token_ends_and_others_stay() {
    let channels = Channels::start(&TICKETS);
    let [mut ann, mut carl] = [
        channels.user("ann").await,
        channels
            .connect("carl", json!({"roles": ["support"]}))
            .await,
    ];
    let short = |user: &str, channel: &str, seconds| {
        let rights = json!({"follow": channel});
        let claims = json!({"sub": user, "exp": seconds_ahead(seconds), "channel": rights});
        json!({"channel": channel, "token": signed_with(SECRET, &claims)})
    };
    ann.must("channel:subscribe", short("ann", "tickets:1", 60))
        .await;
    ann.must("channel:subscribe", short("ann", "tickets:3", 4))
        .await;
    ann.must("channel:subscribe", short("ann", "tickets:2", 2))
        .await;
    // A user who follows by another rule as well stays.
    carl.must("channel:subscribe", short("carl", "tickets:2", 2))
        .await;
    for channel in ["tickets:2", "tickets:3"] {
        let ended = ann.event("channel:ended").await;
        assert_eq!(ended, json!({"channel": channel, "reason": "expired"}));
        publish(&channels, channel, "late").await;
    }
    publish(&channels, "tickets:1", "last").await;
    assert_eq!(ann.event("ticket").await[1]["channel"], "tickets:1");
    assert_eq!(carl.event("ticket").await[1]["channel"], "tickets:2");
    // A new token continues.
    tokio::time::sleep(Duration::from_millis(50)).await; // The end must not come again.
    ann.must("channel:subscribe", short("ann", "tickets:2", 60))
        .await;
    publish(&channels, "tickets:2", "again").await;
    assert_eq!(ann.event("ticket").await[0], "again");
    assert!(ann.events_until_now("channel:ended").await.is_empty());
}
