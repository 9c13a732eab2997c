//! What the contract servers share: where they listen, and when they stop.

use std::{env, net::Ipv6Addr, time::Duration};

use roomcast::Server;
use tokio::signal::unix::{SignalKind, signal};

/// Serves on `$PORT` of 127.0.0.1, and of ::1 where `localhost` is that too, until SIGTERM.
pub(crate) async fn run(server: Server) -> Result<(), roomcast::Error> {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be received");
    let port: u16 = number("PORT").unwrap_or_default();
    let mut server = server.bind(&format!("127.0.0.1:{port}")).await?;
    let port = server
        .local_addrs()
        .first()
        .map_or(port, |address| address.port());
    if localhost_is_ipv6().await {
        server = server.bind(&format!("[::1]:{port}")).await?;
    }
    for address in server.local_addrs().iter().rev() {
        println!("listening on {address}");
    }
    let stop = async {
        terminate.recv().await;
    };
    server.grace(Duration::from_secs(5)).run_until(stop).await;
    Ok(())
}

/// A number in the environment.
pub(crate) fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    env::var(variable).ok()?.parse().ok()
}

async fn localhost_is_ipv6() -> bool {
    let resolved = tokio::net::lookup_host("localhost:0").await;
    resolved.is_ok_and(|mut all| all.any(|address| address.ip() == Ipv6Addr::LOCALHOST))
        && tokio::net::TcpListener::bind("[::1]:0").await.is_ok()
}
