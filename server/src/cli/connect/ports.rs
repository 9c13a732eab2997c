//! Checks whether the addresses are free, or in use by a running server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{Finding, Status};
use crate::config::{AdminListen, Settings};

/// Checks the addresses of clients and of operators.
pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let has_tls = settings.server.tls.cert_file.is_some();
    let mut findings = vec![address("server.listen", settings.server.listen, has_tls).await];
    if let Some(listen) = settings.server.tls.redirect_listen {
        findings.push(address("server.tls.redirect_listen", listen, false).await);
    }
    if let AdminListen::At(listen) = settings.server.admin_listen() {
        findings.push(address("server.admin_listen", listen, false).await);
    }
    findings
}

async fn address(key: &str, address: SocketAddr, has_tls: bool) -> Finding {
    let error = match bind(address) {
        Ok(()) => return Finding::ok(key, format!("{address} is free")),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::AddrInUse && is_roomcast(address).await {
        return Finding::ok(key, format!("{address} is in use by a running roomcast"));
    }
    let remedy = if error.kind() == ErrorKind::AddrInUse {
        let port = address.port();
        format!("`ss -ltnp 'sport = :{port}'` names the program: stop it, or set {key}")
    } else if error.kind() == ErrorKind::PermissionDenied {
        format!("set {key} to a port of 1024 or more, or give the server CAP_NET_BIND_SERVICE")
    } else {
        format!("set {key} to an address of this machine")
    };
    // A running server with TLS does not answer without it, and cannot be told from other programs.
    let status = match has_tls && error.kind() == ErrorKind::AddrInUse {
        true => Status::Warning,
        false => Status::Error,
    };
    Finding::bad(status, key, format!("{address}: {error}"), remedy)
}

fn bind(address: SocketAddr) -> std::io::Result<()> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections of a previous server in the TIME_WAIT state do not block the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    // Only listening reports another listener that reuses the address.
    socket.listen(1).map(drop)
}

/// Returns whether a roomcast server without TLS answers at an address.
async fn is_roomcast(address: SocketAddr) -> bool {
    // The listener of operators serves metrics, but not the state of clients.
    for (path, part) in [
        ("/health/websocket", "\"sessions\""),
        ("/metrics", "roomcast_"),
        // The listener of redirects refuses the name `localhost`, or redirects it.
        ("/", "roomcast: "),
    ] {
        if get(address, path).await.contains(part) {
            return true;
        }
    }
    false
}

/// Returns the response to a request, or an empty text if there is none.
async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(TIMEOUT, answer).await;
    let answer = answer.ok().and_then(Result::ok).unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

const TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum size of a read answer in bytes.
const MAX_ANSWER: u64 = 64 << 10;
