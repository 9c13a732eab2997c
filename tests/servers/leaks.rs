//! The server of `tests/leaks`, whose clients end in every way and must leave nothing open. Each
//! timeout is short, so that many endings fit into a test.
//!
//! With `MOUNT` the server is mounted in axum. Otherwise it also listens with TLS on the next port,
//! and for a load balancer with the PROXY protocol two ports further. That listener has its own
//! server, whose metrics are served as `proxied_…`.

#![expect(
    clippy::disallowed_methods,
    reason = "its events are no rows of the chat"
)]

#[path = "support/mounted.rs"]
mod mounted;
mod support;

use std::{env, net::Ipv4Addr, sync::Arc, time::Duration};

use roomcast::{
    Ack, Args, Builder, Config, Event, Io, Refusal, Server, State,
    limit::Proxies,
    network::Network,
    options::{AddressLimits, Recovery},
    service::Tls,
};
use roomcast_server::auth::{JwtAuthenticator, Keys, Revocations, Revoked};

/// The allocator of the binary, so that memory is returned as in production.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SHORT: Duration = Duration::from_millis(500);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), roomcast::Error> {
    let limits = AddressLimits::default();
    let balancer = Network::of(Ipv4Addr::LOCALHOST.into());
    let balancers = Proxies::new([balancer]).with_proxy_protocol();
    let proxied = build(
        Io::builder().config(config()).guard(&limits, balancers),
        None,
    )?;
    let io = build(Io::builder().config(config()), Some(&proxied))?;
    if let Ok(how) = env::var("MOUNT") {
        return mounted::run(io, &how).await;
    }
    let file = |variable| env::var(variable).unwrap_or_default();
    let tls = Tls::from_files(file("TLS_CERT"), file("TLS_KEY")).expect("a certificate");
    support::run_all(vec![
        ("", Server::new(io.clone())),
        ("tls", Server::new(io).tls(tls)),
        ("proxied", Server::new(proxied)),
    ])
    .await
}

fn config() -> Config {
    Config::default()
        // A client that answers has enough time; a client that does not ends within seconds.
        .ping_interval(6 * SHORT)
        .ping_timeout(6 * SHORT)
        .upgrade_timeout(6 * SHORT)
        .connect_timeout(6 * SHORT)
        .header_timeout(6 * SHORT)
        .body_timeout(6 * SHORT)
        .message_timeout(SHORT)
        .close_timeout(SHORT)
        .outbox_bytes(256 * 1024)
        // Far more than an honest client of the test sends.
        .packets_per_second(50)
        .throttle_timeout(SHORT)
}

/// The server for the load balancer.
struct ProxiedServer(Option<Io>);

/// Adds the namespaces. `proxied` is another server whose metrics are served with this server's.
fn build(mut io: Builder, proxied: Option<&Io>) -> Result<Io, roomcast::Error> {
    if env::var("RECOVERY").is_ok() {
        io = io.recovery(Recovery::default().window(2 * SHORT));
    }
    let revocations = Arc::new(Revocations::new());
    io = io.shared_state(Arc::clone(&revocations));
    io = io
        .state(ProxiedServer(proxied.cloned()))
        .namespace("/", |namespace| {
            namespace
                .on("join", async |event: Event, room: String| {
                    Ack(event.socket.join(&room).is_ok())
                })
                .on("greet", async |event: Event| {
                    event.socket.emit("greeting", ());
                })
                .on("bye", async |event: Event, everything: bool| {
                    if everything {
                        event.socket.close_connection();
                    } else {
                        event.socket.disconnect();
                    }
                    // A disconnected socket cannot join a room.
                    let late = event.socket.join("late");
                    assert!(late.is_err() || !event.socket.is_in("late"));
                })
                .on("ask", async |event: Event, milliseconds: u64| {
                    let ask = event.socket.timeout(Duration::from_millis(milliseconds));
                    let _ = ask.emit_with_ack::<Args>("question", ()).await;
                })
                .on("ask_room", async |event: Event, room: String| {
                    let ask = event.io().to(&room).timeout(Duration::from_millis(100));
                    let _ = ask.emit_with_acks::<Args>("question", ());
                })
                .on("flood", async |event: Event| {
                    let text = "x".repeat(64 * 1024);
                    // Until it is disconnected, which happens long before the end.
                    for _ in 0..4096 {
                        if !event.socket.is_connected() {
                            break;
                        }
                        event.socket.emit("item", &text);
                        tokio::task::yield_now().await;
                    }
                })
                .on("panic", async |event: Event| {
                    assert!(event.name().is_empty(), "asked to");
                })
                .on(
                    "revoke",
                    async |event: Event, user: String, revocations: State<Revocations>| {
                        let user = Revoked::User(user);
                        let until = jiff::Timestamp::now() + Duration::from_secs(60);
                        let inserted = revocations.insert(&user, until);
                        // A concurrent revocation of another user may have disconnected the client
                        // already.
                        event.io().revalidate();
                        // The entry would outlive the test.
                        revocations.remove(&user);
                        Ack(inserted.is_ok())
                    },
                )
                .on(
                    "metrics",
                    async |event: Event, beside: State<ProxiedServer>| {
                        let own = event.io().metrics().render();
                        let proxied = beside.0.as_ref().map(|io| io.metrics().render());
                        let proxied = proxied.unwrap_or_default();
                        Ack(own + &proxied.replace("roomcast_", "proxied_"))
                    },
                )
        })
        .namespace("/refused", |namespace| {
            namespace
                .middleware(async |_: roomcast::Connect| Err::<(), _>(Refusal::new("NO", "nobody")))
        })
        .namespace("/panics", |namespace| {
            namespace.on_connect(async |event: Event| {
                assert!(event.socket.is_in("never"), "as it should");
            })
        });
    let keys = Keys::from_secret(b"of clients that end in every way");
    io = io.namespace("/members", |namespace| {
        namespace.authenticate(
            JwtAuthenticator::from_keys(keys)
                .revocations(revocations)
                .leeway(Duration::ZERO)
                .expiring_lead(SHORT)
                .grace(SHORT),
        )
    });
    Ok(io.build()?)
}
