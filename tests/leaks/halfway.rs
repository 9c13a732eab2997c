//! A connection through a proxy that stops forwarding, like a network with an unplugged cable:
//! neither side is notified.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::support::RawClient;

/// The path between a client and the server.
pub(crate) struct SilentProxy {
    up: Arc<AtomicBool>,
    down: Arc<AtomicBool>,
}

impl SilentProxy {
    /// Connects a client to the server through such a proxy.
    pub(crate) fn connect(server: SocketAddr) -> (RawClient, Self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = RawClient::connect(listener.local_addr().unwrap());
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(server).unwrap();
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let way = Self {
            up: Arc::new(AtomicBool::new(true)),
            down: Arc::new(AtomicBool::new(true)),
        };
        let copies = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let (up, down) = (Arc::clone(&way.up), Arc::clone(&way.down));
        thread::spawn(move || pass_on(near, far, &up));
        thread::spawn(move || pass_on(copies.1, copies.0, &down));
        (client, way)
    }

    /// Drops everything that the client sends from now on, including its close.
    pub(crate) fn silence_client(&self) {
        self.up.store(false, Ordering::SeqCst);
    }

    /// Drops everything that the server sends from now on.
    pub(crate) fn silence_server(&self) {
        self.down.store(false, Ordering::SeqCst);
    }
}

/// Forwards data until the end, or until forwarding is switched off. It then reads on, so that the
/// sender notices nothing.
fn pass_on(mut from: TcpStream, mut to: TcpStream, open: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if open.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    if open.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Write);
    }
}
