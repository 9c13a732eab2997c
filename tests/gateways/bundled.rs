//! Subscriptions to trades that include the portfolio and the notifications of the user
//! (`market.bundle_subscriptions`).

use serde_json::{Value, json};

use crate::market::{client, must, start, trade};

const BUNDLED: (&str, &str) = ("ROOMCAST_MARKET__BUNDLE_SUBSCRIPTIONS", "true");

fn notice(id: &str, user: &str) -> Value {
    json!({"notificationId": id, "userId": user, "type": "info", "title": "T", "message": "M"})
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_bring_portfolio_and_notifications_if_bundled() {
    let server = start(&[BUNDLED]);
    let mut ann = client(&server.binary, "ann", "user").await;
    let answer = ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    assert_eq!(answer["room"], "trades:ann");
    assert_eq!(
        ann.event("portfolio:subscribed").await["room"],
        "portfolio:ann"
    );
    let subscribed = ann.event("notifications:subscribed").await;
    assert_eq!(subscribed["room"], "notifications:ann");

    let portfolio = json!({"userId": "ann", "totalValue": 1.5, "cash": 1, "positions": []});
    must(&server.binary, "/portfolios", portfolio).await;
    must(&server.binary, "/notifications", notice("n1", "ann")).await;
    must(&server.binary, "/trades", trade("t1", "pending")).await;
    assert_eq!(
        ann.event("portfolio:update").await["totalValue"],
        json!(1.5)
    );
    assert_eq!(ann.event("notification:new").await["notificationId"], "n1");
    assert_eq!(ann.event("trade:update").await["tradeId"], "t1");

    ann.must("unsubscribe:trades", json!({"userId": "ann"}))
        .await;
    for (event, room) in [
        ("portfolio:unsubscribed", "portfolio:ann"),
        ("notifications:unsubscribed", "notifications:ann"),
        ("trades:unsubscribed", "trades:ann"),
    ] {
        assert_eq!(ann.event(event).await["room"], room);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundled_subscription_is_for_the_own_user_only() {
    let server = start(&[BUNDLED]);
    let mut ann = client(&server.binary, "ann", "user").await;
    ann.refused("subscribe:trades", json!({"userId": "bob"}), "FORBIDDEN")
        .await;
    ann.refused("unsubscribe:trades", json!({"userId": "bob"}), "FORBIDDEN")
        .await;
    must(&server.binary, "/notifications", notice("n1", "bob")).await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    must(&server.binary, "/notifications", notice("n2", "ann")).await;
    assert_eq!(ann.event("notification:new").await["notificationId"], "n2");
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_bring_nothing_else_by_default() {
    let server = start(&[]);
    let mut ann = client(&server.binary, "ann", "user").await;
    ann.must("subscribe:trades", json!({"userId": "ann"})).await;
    let portfolio = json!({"userId": "ann", "totalValue": 1.5, "cash": 1, "positions": []});
    must(&server.binary, "/portfolios", portfolio).await;
    must(&server.binary, "/notifications", notice("n1", "ann")).await;
    must(&server.binary, "/trades", trade("t1", "pending")).await;
    assert_eq!(ann.event("trade:update").await["tradeId"], "t1");
    for event in [
        "portfolio:subscribed",
        "portfolio:update",
        "notifications:subscribed",
        "notification:new",
    ] {
        assert!(ann.events_until_now(event).await.is_empty(), "{event}");
    }
}
