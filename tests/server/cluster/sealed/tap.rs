//! A client of a broker without the secret: it reads what servers exchange, and sends arbitrary
//! messages.

use std::{
    future::poll_fn,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
};

use roomcast::types::Bytes;
use tokio::runtime::Runtime;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::local::until;

/// A message that was sent to the broker.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    /// The command with its arguments, or the channel with its message.
    pub(super) parts: Vec<Bytes>,
}

impl Captured {
    /// Returns whether the message contains this text, plain or in base 64.
    pub(super) fn shows(&self, text: &str) -> bool {
        use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
        let has = |bytes: &[u8]| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        self.parts.iter().any(|part| {
            let decoded = BASE64_STANDARD_NO_PAD.decode(part);
            has(part) || decoded.is_ok_and(|decoded| has(&decoded))
        })
    }
}

/// The messages that a tap has seen.
type Seen = Arc<Mutex<Vec<Captured>>>;

/// A connection to a broker that sees everything.
pub(super) enum Tap {
    Redis {
        seen: Seen,
        raw: TcpStream,
    },
    Nats {
        seen: Seen,
        raw: TcpStream,
    },
    Postgres {
        seen: Seen,
        client: Box<tokio_postgres::Client>,
        runtime: Runtime,
    },
}

impl Tap {
    pub(super) fn redis(port: u16) -> Self {
        let seen = Seen::default();
        let mut monitor = TcpStream::connect(("127.0.0.1", port)).unwrap();
        monitor.write_all(b"MONITOR\r\n").unwrap();
        let mut lines = BufReader::new(monitor);
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        assert_eq!(first, "+OK\r\n");
        let seeing = Arc::clone(&seen);
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let parts = quoted(&line);
                let sends = ["PUBLISH", "SPUBLISH", "XADD"].map(str::as_bytes);
                if parts.first().is_some_and(|name| sends.contains(&&**name)) {
                    seeing.lock().unwrap().push(Captured { parts });
                }
            }
        });
        let raw = TcpStream::connect(("127.0.0.1", port)).unwrap();
        Self::Redis { seen, raw }
    }

    pub(super) fn nats(port: u16, key: &str) -> Self {
        let (seen, key) = (Seen::default(), key.to_owned());
        let mut raw = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut lines = BufReader::new(raw.try_clone().unwrap());
        raw.write_all(b"CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n")
            .unwrap();
        let mut line = String::new();
        while line != "PONG\r\n" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        let seeing = Arc::clone(&seen);
        thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                let words: Vec<_> = line.split_whitespace().collect();
                // A message with headers has two lengths; the last is the total.
                if let ["MSG" | "HMSG", subject, .., length] = words[..] {
                    let mut payload = vec![0; length.parse::<usize>().unwrap() + 2];
                    lines.read_exact(&mut payload).unwrap();
                    payload.truncate(payload.len() - 2);
                    // Ignores the internal messages of NATS streams.
                    if subject.starts_with("roomcast") && subject.contains(&key) {
                        let parts = vec![subject.to_owned().into(), payload.into()];
                        seeing.lock().unwrap().push(Captured { parts });
                    }
                }
                line.clear();
            }
        });
        Self::Nats { seen, raw }
    }

    /// Connects with a role that has only the right to connect, which suffices to listen and to
    /// notify.
    pub(super) fn postgres(url: &str, channels: &[String]) -> Self {
        let seen = Seen::default();
        let runtime = Runtime::new().unwrap();
        let (client, mut driver) = runtime
            .block_on(tokio_postgres::connect(url, NoTls))
            .unwrap();
        let seeing = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| driver.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let parts = [notification.channel(), notification.payload()];
                    let parts = parts.map(|part| part.to_owned().into()).to_vec();
                    seeing.lock().unwrap().push(Captured { parts });
                }
            }
        });
        for channel in channels {
            let listen = format!("LISTEN \"{}\"", channel.replace('"', "\"\""));
            runtime.block_on(client.batch_execute(&listen)).unwrap();
        }
        Self::Postgres {
            seen,
            client: Box::new(client),
            runtime,
        }
    }

    /// Waits until at least this many messages have arrived, and takes all.
    pub(super) fn take(&self, least: usize) -> Vec<Captured> {
        let (Self::Redis { seen, .. } | Self::Nats { seen, .. } | Self::Postgres { seen, .. }) =
            self;
        until(|| seen.lock().unwrap().len() >= least);
        std::mem::take(&mut seen.lock().unwrap())
    }

    /// Sends a message unchanged.
    pub(super) fn send(&mut self, message: &Captured) {
        match self {
            Self::Redis { raw, .. } => {
                write!(raw, "*{}\r\n", message.parts.len()).unwrap();
                for part in &message.parts {
                    write!(raw, "${}\r\n", part.len()).unwrap();
                    raw.write_all(part).unwrap();
                    raw.write_all(b"\r\n").unwrap();
                }
            }
            Self::Nats { raw, .. } => {
                let [subject, payload] = &message.parts[..] else {
                    panic!("{message:?}");
                };
                let subject = str::from_utf8(subject).unwrap();
                write!(raw, "PUB {subject} {}\r\n", payload.len()).unwrap();
                raw.write_all(payload).unwrap();
                raw.write_all(b"\r\n").unwrap();
            }
            Self::Postgres {
                client, runtime, ..
            } => {
                let parts = message.parts.iter();
                let parts: Vec<_> = parts.map(|part| str::from_utf8(part).unwrap()).collect();
                let (channel, text) = (parts[0], parts[1]);
                let notify = async {
                    let sql = "SELECT pg_notify($1, $2)";
                    client.execute(sql, &[&channel, &text]).await
                };
                runtime.block_on(notify).unwrap();
            }
        }
    }
}

/// Returns the arguments of a command in a line of `MONITOR`.
fn quoted(line: &str) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut bytes = line.bytes();
    while bytes.by_ref().any(|byte| byte == b'"') {
        let mut part = Vec::new();
        while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
            part.push(match byte {
                b'\\' => match bytes.next().unwrap() {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    other => other,
                },
                byte => byte,
            });
        }
        parts.push(part.into());
    }
    parts
}
