//! Invalid configurations are refused when the real server starts, with the reason.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tempfile::TempDir;

use crate::client::Client;
use crate::guard::{SECRET, signed_with};
use crate::server::ServerProcess;
use crate::support::DEADLINE;

/// Variables, and a part of the resulting error.
const REFUSED: &[(&[(&str, &str)], &str)] = &[
    (
        &[("ROOMCAST_LISTEN", "localhost")],
        "ROOMCAST_LISTEN: `server.listen`",
    ),
    (
        &[("ROOMCAST_LISTEN", "0.0.0.0:0")],
        "no client could authenticate",
    ),
    (
        &[
            ("ROOMCAST_LISTEN", "0.0.0.0:0"),
            ("ROOMCAST_PROFILE", "development"),
        ],
        "the development profile",
    ),
    (&[("ROOMCAST_PROFILE", "test")], "server.profile"),
    (&[("ALLOWED_ORIGINS", "*")], "credentials to any origin"),
    (
        &[("ALLOWED_ORIGINS", "https://*.com")],
        "credentials to any origin",
    ),
    (
        &[(
            "ALLOWED_ORIGINS",
            "https://app.example,https://*example.com",
        )],
        "credentials to any origin",
    ),
    (
        &[("ALLOWED_ORIGINS", "https://app.example#x")],
        "ALLOWED_ORIGINS",
    ),
    (
        &[
            ("ROOMCAST_PROFILE", "production"),
            ("ROOMCAST_AUTH__GUEST", "false"),
        ],
        "unknown variable ROOMCAST_AUTH__GUEST, did you mean ROOMCAST_AUTH__GUESTS?",
    ),
    (&[("ALLOWED_ORIGINS", "app.example")], "ALLOWED_ORIGINS"),
    (
        &[("ALLOWED_ORIGINS", "https://app.example/chat")],
        "ALLOWED_ORIGINS",
    ),
    (
        &[(
            "ROOMCAST_PAGE__IMAGES",
            "https://img.example.org, https://img.example.org/a",
        )],
        "page.images has an entry that is no valid origin",
    ),
    (
        &[
            ("ROOMCAST_LISTEN", "127.0.0.1:3999"),
            ("ROOMCAST_PAGE__IMAGES", "http://localhost:3999"),
        ],
        "page.images has the origin of this server",
    ),
    (
        &[("ROOMCAST_SERVER__TRUSTED_PROXIES", "10.0.0.0/33")],
        "server.trusted_proxies",
    ),
    (
        &[("ROOMCAST_SERVER__TRUSTED_PROXIES", "proxy.example")],
        "server.trusted_proxies",
    ),
    (
        &[("ROOMCAST_SERVER__PROXY_PROTOCOL", "true")],
        "set server.trusted_proxies",
    ),
    (
        &[("ROOMCAST_SERVER__TLS__CERT_FILE", "cert.pem")],
        "cert_file and key_file",
    ),
    (
        &[
            ("ROOMCAST_SERVER__TLS__CERT_FILE", "none.pem"),
            ("ROOMCAST_SERVER__TLS__KEY_FILE", "none.pem"),
        ],
        "none.pem",
    ),
    (&[("ROOMCAST_LIMITS__PRESET", "lax")], "limits.preset"),
    (&[("ROOMCAST_LIMITS__CONNECTS", "-1")], "limits.connects"),
    (
        &[("ROOMCAST_LIMITS__CONNECTS_WINDOW", "0s")],
        "limits.connects_window is zero",
    ),
    (
        &[("ROOMCAST_LIMITS__CONNECTS_WINDOW", "5")],
        "limits.connects_window",
    ),
    (
        &[
            ("ROOMCAST_LIMITS__CONNECTS_WINDOW", "1ms"),
            ("ROOMCAST_LIMITS__CONNECTS", "100000"),
        ],
        "limits.connects_window is too short",
    ),
    (
        &[("ROOMCAST_LIMITS__BLOCK_TIME", "0s")],
        "limits.block_window or limits.block_time is zero",
    ),
    (
        &[("ROOMCAST_LIMITS__BLOCK_TIME", "2000years")],
        "limits.block_time is over a year",
    ),
    (
        &[("ROOMCAST_LIMITS__ADDRESSES", "0")],
        "limits.addresses or limits.users is zero",
    ),
    (
        &[("ROOMCAST_LIMITS__BLOCKED", "everybody")],
        "limits.blocked",
    ),
    (
        &[("ROOMCAST_LIMITS__EXEMPT_LOOPBACK", "maybe")],
        "limits.exempt_loopback",
    ),
    (&[("ROOMCAST_ENGINE__PATH", "socket.io")], "slash"),
    (
        &[("ROOMCAST_ENGINE__PING_INTERVAL", "0s")],
        "ping_interval is zero",
    ),
    (
        &[("ROOMCAST_ENGINE__PING_TIMEOUT", "500years")],
        "ping_timeout is over a year",
    ),
    (
        &[("ROOMCAST_ENGINE__MAX_PAYLOAD", "0")],
        "max_payload is zero",
    ),
    (
        &[("ROOMCAST_ENGINE__TRANSPORTS", "webtransport")],
        "engine.transports",
    ),
    (
        &[("ROOMCAST_ENGINE__PACKETS_PER_SECOND", "-5")],
        "engine.packets_per_second",
    ),
    (
        &[
            ("ROOMCAST_ENGINE__COOKIE__NAME", "io"),
            ("ROOMCAST_ENGINE__COOKIE__SAME_SITE", "none"),
        ],
        "browsers drop engine.cookie",
    ),
    (
        &[("ROOMCAST_ENGINE__COOKIE__NAME", "a b")],
        "a cookie cannot have",
    ),
    (&[("ROOMCAST_CHAT__PAGE", "0")], "chat.page is zero"),
    (
        &[("ROOMCAST_PRESENCE__GRACE", "9999years")],
        "presence.grace is over a year",
    ),
    (&[("ROOMCAST_AUTH__JWT__SECRET", "")], "auth.jwt.secret"),
    (
        &[
            ("ROOMCAST_AUTH__JWT__SECRET", "x"),
            ("ROOMCAST_AUTH__JWT__ALGORITHM", "none"),
        ],
        "auth.jwt.secret",
    ),
    (
        &[("ROOMCAST_AUTH__JWT__JWKS_URL", "http://id.example/keys")],
        "auth.jwt.jwks_url",
    ),
    (
        &[("ROOMCAST_AUTH__JWT__KEYS_FILE", "none.json")],
        "none.json",
    ),
    (
        &[
            ("ROOMCAST_AUTH__AT_HANDSHAKE", "true"),
            ("ROOMCAST_AUTH__GUESTS", "true"),
        ],
        "auth.at_handshake excludes guests",
    ),
    (&[("ROOMCAST_STORE", "redis://x")], "store"),
    (&[("ROOMCAST_ADAPTER__URL", "")], "adapter.url is empty"),
    (&[("ROOMCAST_ADAPTER__URL", "mqtt://x")], "adapter.url"),
    (
        &[("ROOMCAST_ADAPTER__URL", "redis://localhost")],
        "must also share one store",
    ),
    (&[("ROOMCAST_ADAPTER__KEY", "a b")], "adapter.key"),
    (
        &[("ROOMCAST_ADAPTER__SECRET", "too short")],
        "adapter.secret has a secret of less than 32 bytes, or of one repeated character: `openssl",
    ),
    (
        &[(
            "ROOMCAST_ADAPTER__SECRET",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        )],
        "adapter.secret",
    ),
    (
        &[(
            "ROOMCAST_ADAPTER__SECRET",
            "0123456789abcdef0123456789abcdef,0123456789abcdef0123456789abcdef",
        )],
        "adapter.secret: secret 2 is in the list twice",
    ),
    (
        &[
            (
                "ROOMCAST_ADAPTER__SECRET",
                "0123456789abcdef0123456789abcdef",
            ),
            ("ROOMCAST_ADAPTER__TRUST", "shared-with-node"),
        ],
        "adapter.secret has no effect",
    ),
    (
        &[
            ("ROOMCAST_ADAPTER__ACCEPT_PLAIN", "true"),
            ("ROOMCAST_ADAPTER__TRUST", "shared-with-node"),
        ],
        "adapter.accept_plain",
    ),
    (&[("ROOMCAST_ADAPTER__TRUST", "all")], "adapter.trust"),
    (&[("ROOMCAST_NODE__ID", "a b")], "node.id"),
    (
        &[("ROOMCAST_NODE__ADDRESS", "10.0.0.5:3000")],
        "node.address",
    ),
    (&[("ROOMCAST_LOG__LEVEL", "=x=")], "log.level"),
];

/// Runs a command of the server to its end, and returns whether it succeeded, and its output.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast"));
    command
        .args(arguments)
        .current_dir(folder.path())
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("ROOMCAST_STORE", "memory:")
        .env("NO_COLOR", "1")
        .env("XDG_STATE_HOME", folder.path())
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let start = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if start.elapsed() > DEADLINE {
            process.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2)); // Poll interval.
    }
    let output = process.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn invalid_configuration_is_refused_with_the_reason() {
    assert!(run(&["check-config"], &[]).0);
    for (variables, reason) in REFUSED {
        let (works, output) = run(&["check-config"], variables);
        assert!(!works && output.contains(reason), "{variables:?}: {output}");
        assert!(!output.contains("panicked"), "{variables:?}: {output}");
    }
}

#[test]
fn server_does_not_start_with_invalid_configuration() {
    for (variables, reason) in REFUSED {
        // A server that does start is killed at the deadline, and recognized by its output.
        let (works, output) = run(&[], variables);
        assert!(!works && output.contains(reason), "{variables:?}: {output}");
        assert!(!output.contains("listening on"), "{variables:?}: {output}");
    }
}

#[test]
fn the_configuration_is_shown_without_the_password_of_the_adapter() {
    let url = (
        "ROOMCAST_ADAPTER__URL",
        "redis://ann:canary@localhost:6379/1",
    );
    let node = ("ROOMCAST_NODE__ID", "node-1");
    let (works, output) = run(&["print-config"], &[url, node]);
    assert!(works && !output.contains("canary"), "{output}");
    for line in [
        "url = \"redis://ann:***@localhost:6379/1\"",
        "key = \"socket.io\"",
        "id = \"node-1\"",
    ] {
        assert!(output.contains(line), "{line} in {output}");
    }
}

#[test]
fn file_with_an_unknown_key_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("roomcast.toml");
    for (text, reason) in [
        ("[limits]\nconnect = 5", "did you mean `limits.connects`"),
        (
            "[limits]\nblock_after_credential = 5",
            "limits.block_after_credentials",
        ),
        ("[limits", "roomcast.toml"),
        ("[limits]\nconnects = \"many\"", "limits.connects"),
    ] {
        std::fs::write(&path, text).unwrap();
        let file = path.display().to_string();
        let (works, output) = run(&["--config", &file, "check-config"], &[]);
        assert!(!works && output.contains(reason), "{text}: {output}");
    }
}

/// Returns a key set with this secret.
pub(crate) fn key_set(secret: &str, algorithm: &str) -> String {
    let k = URL_SAFE_NO_PAD.encode(secret);
    json!({"keys": [{"kty": "oct", "kid": "own", "alg": algorithm, "k": k}]}).to_string()
}

#[test]
fn production_refuses_secrets_that_can_be_guessed_and_development_warns() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys.json");
    let file = path.display().to_string();
    let text: String = ('!'..).take(64).collect();
    for (algorithm, needed) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        let repeated = "x".repeat(needed);
        for (secret, is_weak) in [
            (&text[..needed - 1], true),
            (&text[..needed], false),
            (&*repeated, true),
        ] {
            std::fs::write(&path, key_set(secret, algorithm)).unwrap();
            let own = [
                ("ROOMCAST_AUTH__JWT__SECRET", secret),
                ("ROOMCAST_AUTH__JWT__ALGORITHM", algorithm),
            ];
            let of_file = [("ROOMCAST_AUTH__JWT__KEYS_FILE", &*file); 2];
            for (variables, named) in [(own, "auth.jwt.secret: "), (of_file, "key `own`: ")] {
                let [one, other] = variables;
                let production = ("ROOMCAST_PROFILE", "production");
                let (works, output) = run(&["check-config"], &[one, other, production]);
                assert_eq!(works, !is_weak, "{algorithm} {secret}: {output}");
                for part in [named, "can be guessed", "`openssl rand -base64 48`"] {
                    assert_eq!(output.contains(part), is_weak, "{part} in {output}");
                }
                assert!(!output.contains(secret), "{output}");
            }
            let (works, output) = run(&["check-config"], &own);
            assert!(works, "{output}");
            assert_eq!(output.contains("can be guessed"), is_weak, "{output}");
        }
    }
    for key in [
        "WEBHOOKS__SECRET",
        "WEBHOOKS__PREVIOUS_SECRET",
        "SERVER__METRICS_TOKEN",
    ] {
        let key = format!("ROOMCAST_{key}");
        let mut variables = vec![
            ("ROOMCAST_PROFILE", "production"),
            ("ROOMCAST_WEBHOOKS__URL", "https://app.example/hooks"),
            ("ROOMCAST_WEBHOOKS__SECRET", &text[..32]),
        ];
        assert!(run(&["check-config"], &variables).0);
        variables.push((&key, &text[..31]));
        let (works, output) = run(&["check-config"], &variables);
        assert!(!works && output.contains("can be guessed"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_secret_in_a_changed_file_of_keys_is_not_used() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, key_set(SECRET, "HS256")).unwrap();
    let variables = [
        ("ROOMCAST_PROFILE", "production"),
        ("ROOMCAST_AUTH__JWT__KEYS_FILE", path.to_str().unwrap()),
    ];
    let server = ServerProcess::start(folder.path(), &variables);
    let enter = async |secret: &str| {
        let claims = json!({"sub": "ann", "roles": ["user"], "exp": 4_000_000_000_u64});
        let auth = json!({"token": signed_with(secret, &claims)});
        Client::connect(server.address(), &auth).await.is_ok()
    };
    assert!(enter(SECRET).await);
    std::fs::write(&path, key_set("short", "HS256")).unwrap();
    server.expect_log(&["ERROR", "could not load the changed key file", "key `own`"]);
    assert!(enter(SECRET).await && !enter("short").await);
    let other = SECRET.replace('a', "b");
    std::fs::write(&path, key_set(&other, "HS256")).unwrap();
    server.expect_log(&["key file reloaded"]);
    assert!(enter(&other).await && !enter(SECRET).await);
}
