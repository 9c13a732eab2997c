//! A server in this process and simple blocking clients for it.

#![allow(dead_code, reason = "each bench uses its part")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use roomcast::{
    Ack, Args, Builder, Config, Event, Io, Server,
    limit::Proxies,
    options::{AddressLimits, Recovery},
};
use roomcast_protocol::websocket::{self, Decoder, Opcode, Role};
use socket2::{Domain, Socket, Type};

/// Creates a server with the events of the load generators' contract: join a room, broadcast to it,
/// echo.
pub fn io() -> Io {
    events(Io::builder())
}

/// Creates the same server with connection state recovery.
pub fn io_with_recovery() -> Io {
    events(Io::builder().recovery(Recovery::default()))
}

/// Creates the same server with these options.
pub fn io_with(config: Config) -> Io {
    events(Io::builder().config(config))
}

/// Creates the same server with a limit of this many connections.
pub fn io_for(connections: usize) -> Io {
    let limits = AddressLimits::default().connections(connections);
    events(Io::builder().guard(&limits, Proxies::default()))
}

fn events(mut io: Builder) -> Io {
    io = io.namespace("/", |namespace| {
        namespace
            .on("join", async |event: Event, room: String| {
                event.socket.join(room)
            })
            .on(
                "bcast",
                async |event: Event, room: String, payload: Args| {
                    event.socket.io().to(room).emit("msg", payload);
                },
            )
            .on("stall", async |event: Event| {
                let text = "x".repeat(64 * 1024);
                // This is as much as the kernel buffers for clients that do not read; the rest is
                // dropped.
                for _ in 0..32 {
                    event.io().to("stalled").volatile().emit("fill", &text);
                    tokio::task::yield_now().await;
                }
                Ack(())
            })
            .on("echo", async |_: Event, payload: Args| Ack(payload))
    });
    io.build().expect("the options are valid")
}

/// Serves `io` on a free port until the process ends.
pub fn serve(io: Io, workers: usize) -> SocketAddr {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let server = runtime
        .block_on(Server::new(io).bind("127.0.0.1:0"))
        .expect("a free port");
    let address = server.local_addrs()[0];
    std::thread::spawn(move || runtime.block_on(server.run()));
    address
}

/// The request that opens a WebSocket.
pub const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client that has joined `/`, on any stream.
pub struct Client<S = TcpStream> {
    stream: S,
    decoder: Decoder,
    input: Vec<u8>,
    start: usize,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::open(address);
        client.enter();
        client
    }

    /// Opens a WebSocket session that has joined no namespace.
    pub fn open(address: SocketAddr) -> Self {
        Self::over(connected(address))
    }

    /// Creates a client that has joined `/` and a room, and whose buffers [`stall`](Self::stall)
    /// fills.
    pub fn stalled(address: SocketAddr, room: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let small = socket.set_recv_buffer_size(4096);
        small.expect("a TCP option");
        socket.connect(&address.into()).expect("the server listens");
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("a TCP option");
        let mut client = Self::over(stream);
        client.enter();
        client.join(room);
        client.join("stalled");
        client
    }

    /// Fills the buffers of all stalled clients.
    pub fn stall(&mut self) {
        self.send("420[\"stall\"]");
        assert!(self.receive().starts_with(b"430["));
    }
}

/// Connects to a server, and sends without delay.
pub fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP option");
    stream
}

impl<S: Read + Write> Client<S> {
    /// Opens a WebSocket session on a stream.
    pub fn over(mut stream: S) -> Self {
        stream
            .write_all(UPGRADE.as_bytes())
            .expect("the server reads");
        let mut input = Vec::new();
        let end = loop {
            read(&mut stream, &mut input);
            if let Some(at) = input.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
        };
        input.drain(..end);
        let limits = websocket::Limits {
            max_message: 1 << 20,
            max_fragments: 1,
        };
        let mut client = Self {
            stream,
            decoder: Decoder::new(Role::Client, limits),
            input,
            start: 0,
        };
        assert!(client.receive().starts_with(b"0{"));
        client
    }

    /// Joins `/`.
    pub fn enter(&mut self) {
        self.send("40");
        assert!(self.receive().starts_with(b"40{"));
    }

    pub fn join(&mut self, room: &str) {
        self.send(&format!("420[\"join\",\"{room}\"]"));
        assert!(self.receive().starts_with(b"430["));
    }

    pub fn send(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text.as_bytes());
    }

    fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        let key = Some([1, 2, 3, 4]);
        websocket::encode_frame(&mut frame, websocket::Fragment::Final, opcode, payload, key);
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// Closes the WebSocket, and waits until the server has closed the connection.
    pub fn close(mut self) {
        self.send_frame(Opcode::Close, &1000_u16.to_be_bytes());
        let mut rest = Vec::new();
        // A server may close TLS without an alert.
        let _ = self.stream.read_to_end(&mut rest);
    }

    /// Waits for a ping and answers it.
    pub fn answer_ping(&mut self) {
        let text = self.message();
        assert_eq!(text, "2");
        self.send("3");
    }

    /// Returns the next text message. Answers pings that arrive before it.
    pub fn receive(&mut self) -> bytes::Bytes {
        loop {
            let text = self.message();
            if text != "2" {
                return text;
            }
            self.send("3");
        }
    }

    fn message(&mut self) -> bytes::Bytes {
        loop {
            let mut input = &self.input[self.start..];
            let event = self.decoder.decode(&mut input).expect("valid frames");
            self.start = self.input.len() - input.len();
            match event {
                Some(websocket::Event::Text(text)) => return text,
                Some(other) => panic!("{other:?}"),
                None => {
                    self.input.clear();
                    self.start = 0;
                    read(&mut self.stream, &mut self.input);
                }
            }
        }
    }
}

fn read(stream: &mut impl Read, input: &mut Vec<u8>) {
    let mut chunk = [0; 16 * 1024];
    let n = stream.read(&mut chunk).expect("the server lives");
    assert!(n > 0, "the server closed");
    input.extend_from_slice(&chunk[..n]);
}

/// Starts a receiver that counts its messages on its own thread.
pub fn count_messages(mut client: Client, counted: Arc<std::sync::atomic::AtomicU64>) {
    std::thread::spawn(move || {
        loop {
            client.receive();
            counted.fetch_add(1, std::sync::atomic::Ordering::Release);
        }
    });
}

/// Returns options that keep heartbeats out of the measurement.
pub fn quiet() -> Config {
    Config::default().ping_interval(std::time::Duration::from_secs(3600))
}
