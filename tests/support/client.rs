//! A TCP connection of a client that controls every byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::DEADLINE;

/// A connection, and the received bytes that were not taken yet.
pub struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawClient {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Connects with a receive buffer of about this many bytes, so that unread data stays at the
    /// server.
    pub fn connect_with_buffer(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Connects from this local address, which may be any of `127.0.0.0/8`.
    pub fn connect_from(local: &str, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let local: IpAddr = local.parse().unwrap();
        socket.bind(&SocketAddr::new(local, 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    /// Writes all of `bytes`.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Writes all of `bytes` to a server that may close at the same time.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Writes each byte in its own segment.
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// Closes the sending side; reading continues.
    pub fn shutdown_write(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Returns exactly `count` bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(
                self.fill(),
                "closed after {:?}",
                self.received.escape_ascii().to_string()
            );
        }
        self.received.drain(..count).collect()
    }

    /// Returns the bytes up to and including `end`.
    pub fn take_until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self
                .received
                .windows(end.len())
                .position(|part| part == end)
            {
                return self.received.drain(..at + end.len()).collect();
            }
            assert!(
                self.fill(),
                "closed after {:?}",
                self.received.escape_ascii().to_string()
            );
        }
    }

    /// Returns everything until the server closes, which it must.
    pub fn take_all(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.received)
    }

    /// Returns whether the server has closed and everything that it sent was taken.
    pub fn is_at_end(&mut self) -> bool {
        self.received.is_empty() && !self.fill()
    }

    /// Waits for input that nothing reads, and returns whether it has arrived. Dropping the client
    /// then makes the kernel reset the connection.
    pub fn has_unread_input(&self) -> bool {
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        self.stream.peek(&mut [0]).unwrap() > 0
    }

    /// Sends `bytes`, and returns whether the server has closed a moment later. What it sent before
    /// is dropped.
    pub fn has_closed_after(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = self.try_send(bytes);
        thread::sleep(Duration::from_millis(50)); // Pace of a slow client.
        self.received.clear();
        sent.is_err() || self.read(Duration::from_millis(1)).is_none()
    }

    /// Waits for input or the end, and returns whether there is input, or `None` if the server does
    /// nothing.
    pub fn wait(&mut self) -> Option<bool> {
        if !self.received.is_empty() {
            return Some(true);
        }
        match self.read(DEADLINE) {
            Some(0) => None,
            Some(_) => Some(true),
            None => Some(false),
        }
    }

    /// Reads once, waiting up to the deadline. Returns false if the server has closed.
    fn fill(&mut self) -> bool {
        let received = self.received.len();
        let progress = self.read(DEADLINE);
        let shown = self.received[..received.min(200)]
            .escape_ascii()
            .to_string();
        assert_ne!(
            progress,
            Some(0),
            "nothing came; received so far: {shown:?}"
        );
        progress.is_some()
    }

    /// Reads once. Returns the number of bytes, 0 after `wait` without any, or `None` at the end.
    fn read(&mut self, wait: Duration) -> Option<usize> {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    return Some(count);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Some(0),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return None,
                    kind => panic!("{kind:?}: {error}"),
                },
            }
        }
    }
}
