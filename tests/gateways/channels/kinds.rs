//! Declarations of kinds: what is refused, and reloads.

use serde_json::json;
use tempfile::TempDir;

use super::{Channels, token};

#[tokio::test(flavor = "multi_thread")]
async fn reload_replaces_kinds_and_followers_without_the_right_leave() {
    let channels = Channels::start(&[]);
    let before = channels.config();
    let reload = |text: String, expected: &[&str]| channels.reload(&text, expected);
    let mut carl = channels
        .connect("carl", json!({"roles": ["support"]}))
        .await;
    for channel in ["orders:ann:42", "news"] {
        carl.must("channel:subscribe", json!({"channel": channel}))
            .await;
    }
    // A wrong kind changes nothing, although the others are right.
    let tickets = "[channels.tickets]\npattern = \"tickets:{n}\"\nfollow = [\"anyone\"]\n";
    let wrong = tickets.replace("anyone", "anyon");
    let refused = [
        "ERROR",
        "configuration not reloaded",
        "did you mean `anyone`?",
    ];
    reload(format!("{before}{wrong}"), &refused);
    let subscribe = json!({"channel": "tickets:1"});
    assert_eq!(
        carl.ask("channel:subscribe", subscribe.clone()).await["error"]["code"],
        "NOT_FOUND"
    );

    let changed = before.replace("role:support", "role:admin");
    let changed = changed.replace("pattern = \"news\"", "pattern = \"news:{topic}\"");
    reload(
        format!("{changed}{tickets}"),
        &["INFO", "configuration reloaded", "channels.news.pattern"],
    );
    let mut ended = [
        carl.event("channel:ended").await,
        carl.event("channel:ended").await,
    ];
    ended.sort_by_key(|ended| ended["channel"].to_string());
    assert_eq!(ended[0], json!({"channel": "news", "reason": "removed"}));
    assert_eq!(
        ended[1],
        json!({"channel": "orders:ann:42", "reason": "forbidden"})
    );
    carl.must("channel:subscribe", subscribe).await;
}

/// The server knows the claim of those who connected earlier once they have authenticated again.
#[tokio::test(flavor = "multi_thread")]
async fn reload_applies_rules_about_claims_that_no_rule_had_before() {
    let channels = Channels::start(&[]);
    let claims = json!({"others": ["7"]});
    let mut ann = channels.connect("ann", claims.clone()).await;
    let changed = channels.config().replace("claim:customers", "claim:others");
    channels.reload(
        &changed,
        &["INFO", "configuration reloaded", "channels.orders.follow"],
    );
    let subscribe = json!({"channel": "orders:7:42"});
    let refused = ann.ask("channel:subscribe", subscribe.clone()).await;
    assert_eq!(refused["error"]["code"], "NOT_FOUND");
    let refresh = json!({"token": token("ann", claims.clone())});
    ann.must("auth:refresh", refresh).await;
    ann.must("channel:subscribe", subscribe.clone()).await;
    let mut bob = channels.connect("bob", claims).await;
    bob.must("channel:subscribe", subscribe.clone()).await;
    let mut carl = channels.connect("carl", json!({"customers": ["7"]})).await;
    let refused = carl.ask("channel:subscribe", subscribe).await;
    assert_eq!(refused["error"]["code"], "NOT_FOUND");
}

/// The configuration is unchanged, and only the file that it names has another content.
#[tokio::test(flavor = "multi_thread")]
async fn reload_reads_the_schemas_again_and_refuses_wrong_ones() {
    let channels = Channels::start(&[]);
    let config = channels.config();
    let schema = channels.folder.path().join("order.json");
    let before = std::fs::read_to_string(&schema).unwrap();
    let publish = async |status: &str, id: &str| {
        let event = json!({"event": "order:updated", "data": {"status": status}, "id": id});
        let path = "/channels/orders:ann:42/events";
        channels.call("POST", path, event).await
    };
    let (status, answer) = publish("lost", "1").await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["error"]["details"]["field"], "data.status");
    std::fs::write(&schema, "{").unwrap();
    let refused = ["ERROR", "configuration not reloaded", "is not JSON"];
    channels.reload(&config, &refused);
    assert_eq!(publish("open", "2").await.0, 200);
    assert_eq!(publish("lost", "3").await.0, 400);
    std::fs::write(&schema, before.replace("\"open\"", "\"lost\"")).unwrap();
    channels.reload(&config, &["INFO", "configuration reloaded"]);
    assert_eq!(publish("lost", "4").await.0, 200);
    assert_eq!(publish("open", "5").await.0, 400);
}

#[test]
fn wrong_declaration_is_refused_at_start_with_file_key_and_remedy() {
    use std::process::Command;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("roomcast.toml");
    let schema = folder.path().join("order.json");
    let refusal = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(crate::server::ROOMCAST);
        let output = command
            .arg("check-config")
            .arg("--config")
            .arg(&path)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
    };
    let orders = "[channels.orders]\npattern = \"orders:{order}\"\nfollow = [\"users\"]\n";
    for (text, expected) in [
        (
            format!("{orders}folow = []"),
            [
                "roomcast.toml: line 4: unknown key `channels.orders.folow`",
                "`channels.orders.follow`",
            ],
        ),
        (
            orders.replace("users", "user"),
            [
                "roomcast.toml: line 3: channels.orders.follow",
                "did you mean `users`?",
            ],
        ),
        (
            orders.replace("users", "owner:{id}"),
            ["channels.orders.follow", "did you mean `{order}`?"],
        ),
        (
            format!("{orders}[channels.all]\npattern = \"orders:all\"\nfollow = [\"users\"]"),
            [
                "channels.all.pattern `orders:all` overlaps with",
                "both match `orders:all`",
            ],
        ),
        (
            "[channels.orders]".to_owned(),
            ["channels.orders.pattern is missing", "orders:{order}"],
        ),
        (
            format!("{orders}events = {{ connect = \"x\" }}"),
            [
                "line 4: channels.orders.events has `connect`",
                "server's own",
            ],
        ),
        (
            format!("{orders}events = {{ message = \"x\" }}"),
            [
                "line 4: channels.orders.events has `message`",
                "server's own",
            ],
        ),
        (
            format!("{orders}events = {{ \"portfolio:update\" = \"x\" }}"),
            [
                "line 4: channels.orders.events has `portfolio:update`",
                "server's own",
            ],
        ),
        (
            format!("{orders}events = {{ a = \"{}\" }}", schema.display()),
            ["line 4: channels.orders.events has `a`", "cannot be read"],
        ),
        (
            format!("{orders}history = {{ events = 0 }}"),
            ["channels.orders.history.events must be", "10000"],
        ),
        (
            format!("{orders}history = \"lats\""),
            [
                "roomcast.toml: line 4",
                "expected `last`, `none`, or a table",
            ],
        ),
        (
            format!("{orders}history = {{ last = true, none = true }}"),
            [
                "channels.orders.history has both `last` and `none`: remove one",
                "line 4",
            ],
        ),
        (
            format!("{orders}max_followers = 0"),
            [
                "line 4: channels.orders.max_followers must be 1 or more",
                "value 0",
            ],
        ),
        (
            format!("{orders}publishes_per_second = -1"),
            ["line 4: `channels.orders.publishes_per_second`", "`-1`"],
        ),
        (
            format!("{orders}presense = true"),
            [
                "line 4: unknown key `channels.orders.presense`",
                "did you mean `channels.orders.presence`?",
            ],
        ),
    ] {
        let found = refusal(&text);
        assert!(
            expected.iter().all(|part| found.contains(part)),
            "{text}\n{found}"
        );
    }
    for (text, expected) in [
        ("{", "is not JSON"),
        (
            r#"{"$ref": "https://example.com/a"}"#,
            "leads out of the file",
        ),
        (r##"{"$ref": "#"}"##, "recurses without bound"),
        (r#"{"pattern": "^(?!a)"}"#, "/pattern"),
    ] {
        std::fs::write(&schema, text).unwrap();
        let found = refusal(&format!(
            "{orders}events = {{ a = \"{}\" }}",
            schema.display()
        ));
        assert!(found.contains(expected), "{text}\n{found}");
    }
    drop(folder);
}
