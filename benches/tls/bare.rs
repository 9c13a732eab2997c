//! A bare loop over epoll and `rustls` that does the exchanges of the scenarios and checks nothing.
//!
//! It writes one TLS record for each message, as the bare loop of the comparisons without TLS sends
//! once per delivery.

use std::{
    collections::HashMap,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use roomcast_protocol::websocket::{self, Opcode};
use rustix::event::epoll;
use rustls::{
    CipherSuite, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The number of the listener among the sockets.
const LISTENER: u64 = 0;

struct Peer {
    stream: TcpStream,
    tls: ServerConnection,
    input: Vec<u8>,
    is_open: bool,
    is_member: bool,
}

/// Serves until the measuring process ends. With `prefers_aes_128`, clients get the cipher suite
/// that Roomcast chooses; otherwise they get the first of theirs, as `rustls` does by default.
pub fn serve(prefers_aes_128: bool) {
    let config = config(prefers_aes_128);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    println!("{}", listener.local_addr().expect("an address"));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let add = |socket: &dyn std::os::fd::AsFd, number| {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&poll, socket.as_fd(), data, epoll::EventFlags::IN).expect("epoll");
    };
    add(&listener, LISTENER);
    let mut peers: HashMap<u64, Peer> = HashMap::new();
    let mut last = LISTENER;
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        let space = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&poll, space, None).is_err() {
            continue;
        }
        for event in &events {
            let number = event.data.u64();
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("a socket option");
                    stream.set_nodelay(true).expect("a socket option");
                    last += 1;
                    add(&stream, last);
                    let tls = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
                    peers.insert(
                        last,
                        Peer {
                            stream,
                            tls,
                            input: Vec::new(),
                            is_open: false,
                            is_member: false,
                        },
                    );
                }
                continue;
            }
            let Some(peer) = peers.get_mut(&number) else {
                continue;
            };
            let mut broadcasts = Vec::new();
            if !peer.read(&mut broadcasts) {
                peers.remove(&number);
            }
            for frame in broadcasts {
                for peer in peers.values_mut().filter(|peer| peer.is_member) {
                    peer.send(&frame);
                }
            }
        }
    }
}

impl Peer {
    /// Reads and answers. Returns whether the connection continues.
    fn read(&mut self, broadcasts: &mut Vec<Vec<u8>>) -> bool {
        match self.tls.read_tls(&mut self.stream) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        if self.tls.process_new_packets().is_err() {
            return false;
        }
        self.write();
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = self.tls.reader().read(&mut chunk) {
            self.input.extend_from_slice(&chunk[..n]);
        }
        if !self.is_open {
            if !self.input.ends_with(b"\r\n\r\n") {
                return true;
            }
            self.input.clear();
            self.is_open = true;
            self.send(ACCEPTED);
            self.send(&text(OPEN));
            return true;
        }
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some((opcode, payload, length)) = parse(&mut input[at..]) {
            at += length;
            if opcode == 8 {
                self.send(&[0x88, 2, 3, 0xe8]);
                self.tls.send_close_notify();
                self.write();
                return false;
            }
            self.answer(payload, broadcasts);
        }
        input.drain(..at);
        if !input.is_empty() {
            self.input = input;
        }
        true
    }

    fn answer(&mut self, message: &[u8], broadcasts: &mut Vec<Vec<u8>>) {
        if message == b"40" {
            self.send(&text(b"40{\"sid\":\"AAAAAAAAAAAAAAAAAAAA\"}"));
        } else if message.starts_with(b"420[\"join\"") {
            self.is_member = true;
            self.send(&text(b"430[]"));
        } else if let Some(rest) = message.strip_prefix(b"421[\"echo\",") {
            self.send(&text(&[b"431[", rest].concat()));
        } else if let Some(rest) = message.strip_prefix(b"42[\"bcast\",") {
            let comma = rest
                .iter()
                .position(|byte| *byte == b',')
                .expect("a payload");
            broadcasts.push(text(&[b"42[\"msg\"", &rest[comma..]].concat()));
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).expect("a buffer");
        self.write();
    }

    fn write(&mut self) {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return,
            }
        }
    }
}

/// Unmasks the first frame. Returns its opcode, its payload and its length.
fn parse(input: &mut [u8]) -> Option<(u8, &[u8], usize)> {
    let (opcode, short) = (input.first()? & 0xf, input.get(1)? & 0x7f);
    let (length, head) = match short {
        126 => (
            usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?])),
            4,
        ),
        short => (usize::from(short), 2),
    };
    let key: [u8; 4] = input.get(head..head + 4)?.try_into().ok()?;
    let payload = input.get_mut(head + 4..head + 4 + length)?;
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    Some((opcode, payload, head + 4 + length))
}

fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 4);
    websocket::encode_frame(
        &mut frame,
        websocket::Fragment::Final,
        Opcode::Text,
        payload,
        None,
    );
    frame
}

fn config(prefers_aes_128: bool) -> Arc<ServerConfig> {
    let pem = |name| fs::read(name).expect("a file");
    let certificate = CertificateDer::from_pem_slice(&pem("cert.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&pem("key.pem")).expect("a key");
    let mut provider = rustls::crypto::ring::default_provider();
    let aes_128 = CipherSuite::TLS13_AES_128_GCM_SHA256;
    let suites = &mut provider.cipher_suites;
    suites.sort_by_key(|suite| suite.suite() != aes_128);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the versions are supported")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate");
    config.ticketer = rustls::crypto::ring::Ticketer::new().expect("random numbers");
    config.send_tls13_tickets = 1;
    config.ignore_client_order = prefers_aes_128;
    Arc::new(config)
}

const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OPEN: &[u8] = b"0{\"sid\":\"AAAAAAAAAAAAAAAAAAAA\",\"upgrades\":[],\"pingInterval\":25000,\
    \"pingTimeout\":20000,\"maxPayload\":1000000}";
