//! Servers whose role does not own the tables and has exactly the documented grants.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::client::Client;
use crate::documented;
use crate::guard::{KEY, signed};
use crate::market::{client, must, signal, trade};
use crate::nodes::Database;
use crate::server::{ServerProcess, UNLIMITED};
use crate::support::RawClient;
use crate::trades::{Hook, Reply, order};

/// More than anything here takes. The adapter removes its old rows every 15 to 45 s.
const DEADLINE: Duration = Duration::from_secs(120);

/// A message that was stored in 2024, in its own conversation.
const OLD: &str = "
    INSERT INTO conversations (id, last_seq, is_open, created_at, updated_at)
        VALUES ('018d0000-0000-7000-8000-000000000001', 1, false, '2024-01-14', '2024-01-14');
    INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type, metadata, created_at)
        VALUES ('018d0000-0000-7000-8000-000000000002', '018d0000-0000-7000-8000-000000000001', 1, 'ann', 'Ann',
            'old', 'user', '{}', '2024-01-14');
    INSERT INTO socket_io_attachments (created_at, payload)
        SELECT now() - interval '1 hour', 'old' FROM generate_series(1, 1500)";

/// Calls the API as a service, with a key for the request.
async fn call(binary: &ServerProcess, method: &str, path: &str, body: Value) -> (u16, Value) {
    let claims = json!({"sub": "backend", "roles": ["service"], "exp": 4_000_000_000_u64});
    let (token, address) = (signed(&claims), binary.address());
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Idempotency-Key: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        uuid::Uuid::new_v4(),
        body.len()
    );
    let answer = spawn_blocking(move || {
        let mut client = RawClient::connect(address);
        client.send(request);
        client.response()
    });
    let answer = answer.await.unwrap();
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body));
    (answer.status, body)
}

/// Calls the API as a service and expects success.
async fn done(binary: &ServerProcess, method: &str, path: &str, body: Value) -> Value {
    let (status, answer) = call(binary, method, path, body).await;
    assert!(
        (200..300).contains(&status),
        "{method} {path}: {status} {answer}"
    );
    answer
}

/// Waits until a query of the owner has this result.
async fn until_sql(database: &Database, query: &str, expected: &str) {
    let start = Instant::now();
    loop {
        let found = database.sql(query);
        if found == expected {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{query}: {found}");
        sleep(Duration::from_millis(100)).await; // Poll interval.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_exactly_the_documented_grants_do_all_their_work() {
    let database = Database::new();
    drop(database.server_with(&[]));
    let mut of_the_adapter = documented::of_a_server("", "{role}");
    of_the_adapter.retain(|statement| statement.contains("socket_io_attachments"));
    assert_eq!(of_the_adapter.len(), 3, "the table and two grants");
    let role = database.restricted_role(&of_the_adapter.join("; "));
    let url = database.url_as(&role);
    database.sql(OLD);
    let hook = Hook::start(&[Reply::Answer(204, "")]);
    let hook_url = hook.url();
    let start = |node: &str| {
        let variables = [
            KEY,
            ("ROOMCAST_LOG__LEVEL", "debug"),
            ("ROOMCAST_NODE__ID", node),
            ("ROOMCAST_STORE", &url),
            ("ROOMCAST_STORE__MIGRATE", "false"),
            ("ROOMCAST_STORE__RETENTION", "1day"),
            ("ROOMCAST_STORE__RETENTION_INTERVAL", "100ms"),
            ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0"),
            ("ROOMCAST_MARKET__PRICES", "AAPL=100.5"),
            ("ROOMCAST_WEBHOOKS__URL", &hook_url),
            ("ROOMCAST_WEBHOOKS__SECRET", "a secret of webhooks"),
            ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
            ("ROOMCAST_PUBLICATIONS__RESUME_DELAY", "10ms"),
        ];
        ServerProcess::start(
            database.folder(),
            &[UNLIMITED.as_slice(), &variables].concat(),
        )
    };
    let servers = [start("a"), start("b")];
    for server in &servers {
        server.until_joined(true).await;
    }
    let mut ann = client(&servers[0], "ann", "admin").await;
    let mut bob = client(&servers[1], "bob", "user").await;
    let id = chat(&mut ann, &mut bob).await;
    market(&servers, &mut ann, &mut bob).await;
    services(&database, &servers, &mut ann, &mut bob).await;
    let exported = export(&url, &id);
    assert!(exported.status.success(), "{exported:?}");
    assert!(String::from_utf8_lossy(&exported.stdout).contains("conversation"));
    ann.must("delete_conversation", json!({"conversationId": id}))
        .await;

    let id = id.as_str().unwrap();
    let left =
        format!("SELECT count(*) FROM messages WHERE conversation_id = '{id}' OR content = 'old'");
    until_sql(&database, &left, "0").await;
    until_sql(&database, "SELECT count(*) FROM webhook_deliveries", "0").await;
    let old =
        "SELECT count(*) FROM socket_io_attachments WHERE created_at < now() - interval '30 min'";
    until_sql(&database, old, "0").await;
    for server in servers {
        let log = [server.early_log(), &server.log()].concat();
        server.terminate();
        let denied = log.lines().find(|line| {
            ["permission denied", "must be owner", "lacks privileges"]
                .iter()
                .any(|part| line.contains(part))
        });
        assert_eq!(denied, None);
    }
    assert_eq!(
        database.sql("SELECT count(*) FROM nodes WHERE expires_at > clock_timestamp()"),
        "0",
        "a server that ends says so"
    );
}

/// Does everything that members of a conversation do, and returns its id.
async fn chat(ann: &mut Client, bob: &mut Client) -> Value {
    let id = ann
        .create(json!({"title": "Two", "memberIds": ["bob"]}))
        .await;
    for client in [&mut *ann, &mut *bob] {
        client.must("join_conversation", id.clone()).await;
    }
    // Too long for a notification, so it reaches the other server as a row.
    let long =
        json!({"conversationId": id, "content": "word ".repeat(1_900), "clientMessageId": "once"});
    let first = ann.must("message", long).await["message"]["id"].clone();
    assert_eq!(bob.event("message").await["id"], first);
    let answer =
        json!({"conversationId": id, "content": "for @ann", "replyTo": first, "mentions": ["ann"]});
    let answer = bob.must("message", answer).await["message"]["id"].clone();
    assert_eq!(ann.event("message").await["id"], answer);
    bob.must(
        "edit_message",
        json!({"messageId": answer, "content": "another word"}),
    )
    .await;
    let begin = json!({"conversationId": id, "clientMessageId": "pieces"});
    let pieces = ann.must("begin_message", begin).await["message"]["id"].clone();
    let piece = json!({"messageId": pieces, "offset": 0, "text": "half"});
    ann.must("append_message", piece).await;
    assert_eq!(bob.event("message").await["id"], pieces);
    let end = json!({"messageId": pieces, "offset": 4});
    ann.must("finish_message", end).await;
    assert_eq!(bob.event("message_edited").await["content"], "half");
    for client in [&mut *ann, &mut *bob] {
        let emoji = json!({"messageId": answer, "emoji": "\u{1F44D}"});
        client.must("add_reaction", emoji).await;
    }
    for client in [&mut *ann, &mut *bob] {
        let emoji = json!({"messageId": answer, "emoji": "\u{1F44D}"});
        client.must("remove_reaction", emoji).await;
    }
    ann.must("pin_message", json!({"messageId": answer})).await;
    ann.must("unpin_message", json!({"messageId": answer}))
        .await;
    ann.must("pin_message", json!({"messageId": first})).await;
    ann.must("mark_read", json!({"conversationId": id, "seq": 2}))
        .await;
    ann.must(
        "set_notification_level",
        json!({"conversationId": id, "level": "mentions"}),
    )
    .await;
    ann.must("message_search", json!({"query": "another"}))
        .await;
    ann.must("message_history", json!({"conversationId": id}))
        .await;
    ann.must("set_status", json!({"status": "away", "text": "back soon"}))
        .await;
    let member = |user: &str| json!({"conversationId": id, "userId": user});
    ann.must("add_member", member("carl")).await;
    ann.must("remove_member", member("carl")).await;
    ann.must(
        "rename_conversation",
        json!({"conversationId": id, "title": "Three"}),
    )
    .await;
    let invite = json!({"conversationId": id, "uses": 1, "expiresIn": 60});
    let invite = ann.must("create_invite", invite).await["token"].clone();
    bob.must("preview_invite", json!({"token": invite})).await;
    bob.must("join_invite", json!({"token": invite})).await;
    ann.must("revoke_invites", json!({"conversationId": id}))
        .await;
    bob.must("delete_message", json!({"messageId": answer}))
        .await;
    bob.must("conversations", json!({})).await;
    bob.must("leave_conversation", id.clone()).await;
    id
}

/// Uses trades, signals, prices, portfolios and notifications.
async fn market(servers: &[ServerProcess; 2], ann: &mut Client, bob: &mut Client) {
    for (event, payload) in [
        ("subscribe:trades", json!({"userId": "ann"})),
        ("subscribe:signals", json!({})),
        ("subscribe:portfolio", json!({"userId": "ann"})),
        ("subscribe:prices", json!({"symbols": ["AAPL"]})),
        ("subscribe:notifications", json!({})),
    ] {
        ann.must(event, payload).await;
    }
    let other = &servers[1];
    must(other, "/trades", trade("t1", "pending")).await;
    must(other, "/trades", trade("t1", "executed")).await;
    must(other, "/signals", signal("s1", Some("c"))).await;
    must(other, "/prices", json!({"symbol": "AAPL", "price": 101.25})).await;
    let portfolio = json!({"userId": "ann", "totalValue": 1, "cash": 1, "positions": []});
    must(other, "/portfolios", portfolio).await;
    let notice = json!({
        "notificationId": "n1", "userId": "ann", "type": "info", "priority": "urgent", "title": "T", "message": "m",
    });
    must(other, "/notifications", notice).await;
    for event in [
        "trade:update",
        "signal:new",
        "price:update",
        "portfolio:update",
        "notification:new",
    ] {
        ann.event(event).await;
    }
    ann.must("notification:ack", json!({"notificationId": "n1"}))
        .await;
    ann.must("execute:trade", order("AAPL")).await;
    bob.must("subscribe:signals", json!({"channelId": "c"}))
        .await;
}

/// Does what services do: requests with keys, sessions, revocations, blocks and publications.
async fn services(
    database: &Database,
    servers: &[ServerProcess; 2],
    ann: &mut Client,
    bob: &mut Client,
) {
    let [here, there] = servers;
    let conversation = json!({"title": "By key", "memberIds": ["ann"]});
    let made = done(here, "POST", "/conversations", conversation).await;
    let path = format!(
        "/conversations/{}",
        made["conversation"]["id"].as_str().unwrap()
    );
    done(here, "DELETE", &path, Value::Null).await;
    let session = json!({"userId": "carl", "ttlSeconds": 60, "roles": ["user"]});
    let session = done(here, "POST", "/sessions", session).await["sessionId"].clone();
    let mut carl = Client::connect(there.address(), &json!({"sessionId": session}))
        .await
        .unwrap();
    carl.must("conversations", json!({})).await;
    let ended = format!("/sessions/{}", session.as_str().unwrap());
    done(here, "DELETE", &ended, Value::Null).await;
    // The other server reads it from the table of changes.
    done(
        here,
        "POST",
        "/revocations",
        json!({"userId": "bob", "until": "2100-01-01T00:00:00Z"}),
    )
    .await;
    assert_eq!(bob.event("error").await["code"], "TOKEN_REVOKED");
    let block = json!({"cidr": "192.0.2.0/24", "reason": "spam"});
    let block = done(here, "POST", "/blocks", block).await["id"].clone();
    let unblock = format!("/blocks/{}", block.as_str().unwrap());
    done(here, "DELETE", &unblock, Value::Null).await;
    database.sql("SELECT roomcast_publish_to_user('ann', 'news', '1', 'a key')");
    assert_eq!(ann.event("news").await, json!(1));
}

fn export(url: &str, conversation: &Value) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .env("ROOMCAST_STORE", url)
        .env("ROOMCAST_STORE__MIGRATE", "false")
        .args([
            "export",
            "--conversation",
            conversation.as_str().unwrap(),
            "--versions",
        ])
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_writable_by_public_causes_a_warning_at_start() {
    let database = Database::new();
    let closed = database.server_with(&[]);
    let warnings = [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "REVOKE ALL ON FUNCTION roomcast_publish(text,text,jsonb,text) FROM PUBLIC",
    ];
    for warning in warnings {
        assert!(
            !closed.early_log().contains(warning),
            "{}",
            closed.early_log()
        );
    }
    database.sql(
        "GRANT CREATE ON SCHEMA public TO PUBLIC;
         GRANT EXECUTE ON FUNCTION roomcast_publish(text, text, jsonb, text) TO PUBLIC",
    );
    let open = database.server_with(&[]);
    for warning in warnings {
        let lines: Vec<_> = open.early_log().lines().collect();
        let found = lines.iter().filter(|line| line.contains(warning));
        assert_eq!(found.count(), 1, "{lines:?}");
        // The statement in the warning closes the schema.
        database.sql(warning);
    }
    let closed = database.server_with(&[]);
    for warning in warnings {
        assert!(
            !closed.early_log().contains(warning),
            "{}",
            closed.early_log()
        );
    }
}
