//! The WebSocket of a test client, and the task that reads it.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use parking_lot::Mutex;
use roomcast_protocol::{
    Frame,
    engine::{self, Message, payload},
    socket::{self, Args, Decoder, Kind, Nsp, Packet, Parser},
    websocket::{
        self, Event, Opcode, Role, encode_frame,
        handshake::{Request, key, read_answer},
    },
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::client::{ClientError, Received};

/// What the task and the client share.
#[derive(Default)]
pub(super) struct Shared {
    /// Acknowledgements that are waited for.
    pub(super) acks: Mutex<BTreeMap<u64, oneshot::Sender<Args>>>,
    /// Whether the server said goodbye; unset while it has not ended.
    pub(super) goodbye: OnceLock<bool>,
}

/// What has come in.
pub(super) enum Read {
    Packet(Packet),
    /// A ping, which is answered so.
    Reply(Vec<u8>),
    /// A part of something, or nothing of interest.
    Nothing,
}

/// A WebSocket of which the handshake is done.
pub(super) struct Link {
    stream: TcpStream,
    decoder: websocket::Decoder,
    packets: Decoder,
    /// Read and not decoded.
    unread: Vec<u8>,
}

impl Link {
    pub(super) async fn open(
        address: SocketAddr,
        parser: Parser,
        target: &str,
        headers: &[(String, String)],
    ) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let key = key(random());
        let host = address.to_string();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let request = Request {
            target,
            host: &host,
            key: &key,
            headers: &headers,
        };
        let request = request.encode().ok_or(ClientError::InvalidRequest)?;
        write(&stream, request.as_bytes()).await?;
        let mut unread = Vec::new();
        loop {
            more(&stream, &mut unread).await?;
            if let Some(head) = read_answer(&unread, &key)? {
                unread.drain(..head);
                break;
            }
        }
        let limits = websocket::Limits {
            max_message: MAX_MESSAGE,
            ..websocket::Limits::default()
        };
        Ok(Self {
            stream,
            decoder: websocket::Decoder::new(Role::Client, limits),
            packets: Decoder::with_parser(parser, socket::Limits::default()),
            unread,
        })
    }

    /// Reads one message. It may be called off while it waits.
    pub(super) async fn read(&mut self) -> io::Result<Read> {
        loop {
            let mut rest = self.unread.as_slice();
            let event = self.decoder.decode(&mut rest).map_err(invalid)?;
            let used = self.unread.len() - rest.len();
            self.unread.drain(..used);
            match event {
                Some(event) => return self.take(event),
                None => more(&self.stream, &mut self.unread).await?,
            }
        }
    }

    fn take(&mut self, event: Event) -> io::Result<Read> {
        let packet = match event {
            Event::Text(text) => match engine::Packet::decode_text(text).map_err(invalid)? {
                engine::Packet::Message(Message::Text(text)) => {
                    self.packets.text(text).map_err(invalid)?
                }
                engine::Packet::Ping(_) => return Ok(Read::Reply(masked(Opcode::Text, b"3"))),
                engine::Packet::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
                engine::Packet::Open(_)
                | engine::Packet::Pong(_)
                | engine::Packet::Upgrade
                | engine::Packet::Noop
                | engine::Packet::Message(Message::Binary(_)) => None,
            },
            Event::Binary(data) => self.packets.binary(data).map_err(invalid)?,
            Event::Ping(data) => return Ok(Read::Reply(masked(Opcode::Pong, &data))),
            Event::Pong(_) => None,
            Event::Close(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        Ok(packet.map_or(Read::Nothing, Read::Packet))
    }

    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.stream, bytes).await
    }

    /// Reads and writes until one side ends it.
    pub(super) async fn run(
        mut self,
        nsp: Nsp,
        shared: Arc<Shared>,
        mut writes: mpsc::Receiver<Vec<u8>>,
        events: mpsc::Sender<Received>,
    ) {
        let is_goodbye = loop {
            tokio::select! {
                read = self.read() => match read {
                    Ok(Read::Packet(packet)) if packet.nsp != nsp => {}
                    Ok(Read::Packet(packet)) if packet.kind == Kind::Disconnect => break true,
                    Ok(Read::Packet(packet)) => if !give(packet, &shared, &events) {
                        break false;
                    },
                    Ok(Read::Reply(reply)) => if self.write(&reply).await.is_err() {
                        break false;
                    },
                    Ok(Read::Nothing) => {}
                    Err(_) => break false,
                },
                bytes = writes.recv() => match bytes {
                    Some(bytes) => if self.write(&bytes).await.is_err() {
                        break false;
                    },
                    None => {
                        // The server's answer says that it has noticed.
                        let goodbye = masked(Opcode::Close, &[]);
                        if self.write(&goodbye).await.is_ok() {
                            while self.read().await.is_ok() {}
                        }
                        break false;
                    }
                },
            }
        };
        let _ = shared.goodbye.set(is_goodbye);
        // Whoever waits for an acknowledgement learns that it will not come.
        shared.acks.lock().clear();
    }
}

/// Hands a packet to whoever waits for it. `false`: nobody takes events, so too many wait.
fn give(packet: Packet, shared: &Shared, events: &mpsc::Sender<Received>) -> bool {
    match packet.kind {
        Kind::Event => events.try_send(Received::new(packet)).is_ok(),
        Kind::Ack => {
            let waiting = packet.id.and_then(|id| shared.acks.lock().remove(&id));
            if let Some(waiting) = waiting {
                let _ = waiting.send(packet.args);
            }
            true
        }
        Kind::Connect | Kind::ConnectError | Kind::Disconnect => true,
    }
}

/// The bytes of a frame as a client sends them.
pub(super) fn bytes(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in payload::decode(frame.polling()).flatten() {
        let (opcode, data) = if let engine::Packet::Message(Message::Binary(data)) = packet {
            (Opcode::Binary, data)
        } else {
            let mut data = Vec::new();
            packet.encode(&mut data);
            (Opcode::Text, Bytes::from(data))
        };
        out.extend_from_slice(&masked(opcode, &data));
    }
    out
}

/// Reads what there is, at least one byte.
async fn more(stream: &TcpStream, unread: &mut Vec<u8>) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let mut buffer = [0; 4096];
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                unread.extend_from_slice(buffer.get(..read).unwrap_or_default());
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn masked(opcode: Opcode, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + websocket::MAX_HEADER);
    encode_frame(&mut out, true, opcode, data, Some(random()));
    out
}

fn random<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    random
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Bytes of one message that a test may receive.
const MAX_MESSAGE: usize = 64 << 20;
