//! A proxy in the test process that can break connections.

#![allow(dead_code, reason = "a module of several binaries")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    /// The last bytes from the server.
    received: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            connections: Arc::default(),
            received: Arc::default(),
        };
        let Self {
            accepted,
            connections,
            received,
            ..
        } = proxy.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::Relaxed);
                let received = Arc::clone(&received);
                let connection = tokio::spawn(async move {
                    let server = TcpStream::connect(server).await.unwrap();
                    forward(client, server, &received).await;
                });
                connections.lock().unwrap().push(connection.abort_handle());
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Returns the secret id of the session that the server opened last.
    pub(crate) fn last_pid(&self) -> Option<String> {
        let received = self.received.lock().unwrap();
        let text = String::from_utf8_lossy(&received);
        let (_, rest) = text.rsplit_once("\"pid\":\"")?;
        rest.split_once('"').map(|(pid, _)| pid.to_owned())
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

/// Forwards both directions until each has ended.
async fn forward(client: TcpStream, server: TcpStream, received: &Mutex<Vec<u8>>) {
    let (mut client_reader, mut client_writer) = client.into_split();
    let (mut server_reader, mut server_writer) = server.into_split();
    let to_server = async {
        let _ = copy(&mut client_reader, &mut server_writer).await;
        let _ = server_writer.shutdown().await;
    };
    let to_client = async {
        let mut chunk = [0; 8192];
        while let Ok(count @ 1..) = server_reader.read(&mut chunk).await {
            {
                let mut received = received.lock().unwrap();
                let excess = received.len().saturating_sub(MAX_RECEIVED);
                received.drain(..excess);
                received.extend_from_slice(&chunk[..count]);
            }
            if client_writer.write_all(&chunk[..count]).await.is_err() {
                break;
            }
        }
        let _ = client_writer.shutdown().await;
    };
    tokio::join!(to_server, to_client);
}

const MAX_RECEIVED: usize = 64 << 10;
