//! Shared by the contract servers: addresses and shutdown.

use std::{
    env,
    future::ready,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use roomcast::{Server, metrics::Metrics};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

/// Serves on `$PORT` of 127.0.0.1, and of ::1 if `localhost` has that address too, until SIGTERM.
#[allow(dead_code, reason = "one of the servers has several ports")]
pub(crate) async fn run(server: Server) -> Result<(), roomcast::Error> {
    run_all(vec![("", server)]).await
}

/// Serves each server on a port of its own, starting at `$PORT`, until SIGTERM. Each server prints
/// its address; the first server, which has no name, is printed last. With `LISTENER_NAMES=1` each
/// address of a named server is printed with its name.
pub(crate) async fn run_all(servers: Vec<(&str, Server)>) -> Result<(), roomcast::Error> {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be received");
    let first: u16 = match number("PORT") {
        Some(0) | None if servers.len() > 1 => free_ports(servers.len()),
        port => port.unwrap_or_default(),
    };
    let is_dual = localhost_is_ipv6().await;
    let mut bound = Vec::new();
    for ((name, server), offset) in servers.into_iter().zip(0..) {
        let mut server = server
            .bind(&format!("127.0.0.1:{}", first + offset))
            .await?;
        let port = server.local_addrs().first().map_or(0, SocketAddr::port);
        if is_dual {
            server = server.bind(&format!("[::1]:{port}")).await?;
        }
        bound.push((name, server));
    }
    let has_names = number("LISTENER_NAMES") == Some(1);
    for (name, server) in bound.iter().rev() {
        for address in server.local_addrs().iter().rev() {
            if has_names && !name.is_empty() {
                println!("{name} on {address}");
            }
            println!("listening on {address}");
        }
    }
    let (stop, stopped) = tokio::sync::watch::channel(());
    let mut running = JoinSet::new();
    for (_, server) in bound {
        let mut stopped = stopped.clone();
        running.spawn(server.grace(Duration::from_secs(5)).run_until(async move {
            // An error means that the sender was dropped, which also means to stop.
            let _ = stopped.changed().await;
        }));
    }
    terminate.recv().await;
    drop(stop);
    while running.join_next().await.is_some() {}
    Ok(())
}

/// Serves these metrics at `/metrics`, one after another.
#[allow(dead_code, reason = "not every server tells them")]
pub(crate) fn tell<const N: usize>(metrics: [&Arc<Metrics>; N]) -> axum::Router {
    let metrics = metrics.map(Arc::clone);
    let render = move || ready(metrics.each_ref().map(|metrics| metrics.render()).concat());
    axum::Router::new().route("/metrics", axum::routing::get(render))
}

/// Returns the first of `count` consecutive free ports. They are below the range from which the
/// kernel assigns ports. Each process starts its search elsewhere.
fn free_ports(count: usize) -> u16 {
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = std::process::id() as usize * count;
    (0..10_000)
        .map(|looked| 10_000 + ((start + looked * count) % 9_000) as u16)
        .find(|&first| (first..).take(count).all(is_free))
        .expect("there are free ports")
}

/// Returns a number from the environment, or `None` if the variable is not set.
///
/// # Panics
///
/// Panics if the variable is not a number that fits.
pub(crate) fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

async fn localhost_is_ipv6() -> bool {
    let resolved = tokio::net::lookup_host("localhost:0").await;
    resolved.is_ok_and(|mut all| all.any(|address| address.ip() == Ipv6Addr::LOCALHOST))
        && tokio::net::TcpListener::bind("[::1]:0").await.is_ok()
}
