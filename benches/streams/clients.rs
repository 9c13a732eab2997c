//! Authors and readers of messages, each with a connection.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use roomcast::client::Connection;
use roomcast_protocol::socket::{Args, Kind};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    task::{JoinHandle, spawn_local},
    time::{sleep, sleep_until},
};

use crate::{
    binary::Server,
    connections::{DELIVERY_TIMEOUT, Service, connect, must},
    processor, publish,
    text::{PIECE, is_exact, piece},
};

/// The time between the ends of two messages.
const FINISH_DELAY: Duration = Duration::from_millis(20);
/// The time in which a server tells all members who has joined.
const JOIN_TIME: Duration = Duration::from_secs(3);

/// What a run measured.
pub struct Readings {
    /// The time from when a piece was due until readers had it, for each server.
    pub times: [Vec<Duration>; 2],
    /// How much later than at the author's server a piece was with the reader at the other one.
    pub lag: Vec<Duration>,
    pub acknowledged: Vec<Duration>,
    /// How often the stored length of a message had changed since its author was told last.
    pub stored: usize,
    /// Texts that were not what must follow.
    pub faults: usize,
    /// Messages that a reader did not receive whole.
    pub missing: usize,
    pub refused: usize,
}

/// The authors of a run, and what its readers have received.
pub struct Chat {
    authors: Vec<Author>,
    writing: Vec<JoinHandle<Written>>,
    received: Rc<RefCell<Received>>,
    readers: usize,
    /// When the first piece of the first author was due, and the pieces of each message.
    start: Instant,
    rate: u32,
    pieces: usize,
}

/// An author that has written a message, and the answers to its pieces.
type Written = (Author, Vec<Answered>);

struct Answered {
    due: Instant,
    at: Instant,
    is_accepted: bool,
    /// Whether more is stored than at the answer before.
    has_stored: bool,
}

#[derive(Default)]
struct Received {
    deliveries: u64,
    faults: usize,
    /// By the id of the message, the arrival of each piece at a reader, and the number of its
    /// server.
    whole: HashMap<String, Vec<(usize, Vec<Instant>)>>,
}

struct Author {
    connection: Connection,
    conversation: String,
    message: String,
    /// The number of messages that it has begun.
    begun: usize,
}

impl Chat {
    /// Connects authors to the first of these servers, and a reader for each at every server.
    pub async fn open(servers: &[&Server], authors: u32) -> Self {
        let mut chat = Self::empty();
        for n in 0..authors {
            let names: Vec<String> = (0..servers.len()).map(|at| format!("r{at}-{n}")).collect();
            let author = Author::open(servers[0], &format!("a{n}"), &names).await;
            for (at, name) in names.iter().enumerate() {
                let reader = reader(servers[at], name, &author.conversation).await;
                chat.read(reader, at);
            }
            chat.authors.push(author);
        }
        chat.readers = servers.len();
        sleep(JOIN_TIME).await;
        chat
    }

    /// Connects an author and this many readers of one conversation, who are in the room of
    /// [`publish`], too.
    pub async fn open_one(server: &Server, readers: usize) -> Self {
        let mut chat = Self::empty();
        let names: Vec<String> = (0..readers).map(|n| format!("r{n}")).collect();
        let author = Author::open(server, "a", &names).await;
        let mut service = Service::connect(server.address()).await;
        for name in &names {
            let reader = reader(server, name, &author.conversation).await;
            service.join(&reader, publish::ROOM).await;
            chat.read(reader, 0);
        }
        chat.authors.push(author);
        chat.readers = readers;
        sleep(JOIN_TIME).await;
        chat
    }

    fn empty() -> Self {
        Self {
            authors: Vec::new(),
            writing: Vec::new(),
            received: Rc::default(),
            readers: 0,
            start: Instant::now(),
            rate: 1,
            pieces: 0,
        }
    }

    /// Lets a reader of a server read until the run ends.
    fn read(&self, reader: Connection, at: usize) {
        spawn_local(read(reader, at, Rc::clone(&self.received)));
    }

    /// Lets each author write a message. Returns when the first piece is due.
    pub async fn begin(&mut self, rate: u32, seconds: u32) -> Instant {
        for author in &mut self.authors {
            author.message = author.begin().await;
        }
        self.received.borrow_mut().whole.clear();
        self.start = Instant::now() + Duration::from_millis(200);
        (self.rate, self.pieces) = (rate, (rate * seconds) as usize);
        let all = self.authors.len() as u32;
        for (n, author) in self.authors.drain(..).enumerate() {
            let first = self.start + Duration::from_secs(1) / rate / all * n as u32;
            let delay = FINISH_DELAY * n as u32;
            self.writing
                .push(spawn_local(author.write(first, rate, self.pieces, delay)));
        }
        self.start
    }

    /// Waits until all have finished, and returns what was measured after a time.
    pub async fn end(&mut self, from: Instant) -> Readings {
        let mut readings = Readings {
            times: [Vec::new(), Vec::new()],
            lag: Vec::new(),
            acknowledged: Vec::new(),
            stored: 0,
            faults: 0,
            missing: 0,
            refused: 0,
        };
        for writing in self.writing.drain(..) {
            let (author, answers) = writing.await.unwrap();
            for answer in answers {
                readings.refused += usize::from(!answer.is_accepted);
                if answer.due >= from {
                    let time = answer.at.saturating_duration_since(answer.due);
                    readings.acknowledged.push(time);
                    readings.stored += usize::from(answer.has_stored);
                }
            }
            self.authors.push(author);
        }
        let end = Instant::now() + DELIVERY_TIMEOUT;
        let expected = self.authors.len() * self.readers;
        let count = || {
            self.received
                .borrow()
                .whole
                .values()
                .map(Vec::len)
                .sum::<usize>()
        };
        while count() < expected && Instant::now() < end {
            sleep(Duration::from_millis(10)).await;
        }
        readings.missing = expected - count();
        let received = self.received.borrow();
        readings.faults = received.faults;
        for (n, author) in self.authors.iter().enumerate() {
            let all = self.authors.len() as u32;
            let first = self.start + Duration::from_secs(1) / self.rate / all * n as u32;
            let due = |k: usize| first + Duration::from_secs(1) / self.rate * k as u32;
            let measured = (0..self.pieces).filter(|k| due(*k) >= from);
            let Some(readers) = received.whole.get(&author.message) else {
                continue;
            };
            for k in measured {
                let mut last = [None; 2];
                for (at, arrivals) in readers {
                    let time = arrivals[k].saturating_duration_since(due(k));
                    readings.times[*at].push(time);
                    last[*at] = last[*at].max(Some(time));
                }
                if let [Some(here), Some(there)] = last {
                    readings.lag.push(there.saturating_sub(here));
                }
            }
        }
        readings
    }

    /// Returns the server's processor time for a delivery in the next seconds, in microseconds.
    pub async fn cost(&self, server: &Server, seconds: u32) -> f64 {
        let deliveries = || self.received.borrow().deliveries;
        let (cpu, before) = (processor::worked(&[server.process()]), deliveries());
        sleep(Duration::from_secs(seconds.into())).await;
        let cpu = processor::worked(&[server.process()]) - cpu;
        cpu / (deliveries() - before) as f64 * 1e6
    }

    /// Opens messages, each with a piece of text.
    pub async fn open_messages(&mut self, count: u32) {
        let author = &mut self.authors[0];
        for _ in 0..count {
            let message = author.begin().await;
            let payload = json!({"messageId": message, "offset": 0, "text": piece(0)});
            must(&mut author.connection, "append_message", &payload).await;
        }
    }
}

impl Author {
    async fn open(server: &Server, name: &str, members: &[String]) -> Self {
        let mut connection = connect(server.address(), name).await;
        let payload = json!({ "memberIds": members });
        let answer = must(&mut connection, "create_conversation", &payload).await;
        Self {
            connection,
            conversation: answer["conversation"]["id"].as_str().unwrap().to_owned(),
            message: String::new(),
            begun: 0,
        }
    }

    async fn begin(&mut self) -> String {
        self.begun += 1;
        let payload = json!({
            "conversationId": self.conversation,
            "clientMessageId": format!("message {}", self.begun),
        });
        let answer = must(&mut self.connection, "begin_message", &payload).await;
        answer["message"]["id"].as_str().unwrap().to_owned()
    }

    /// Writes a message.
    async fn write(mut self, first: Instant, rate: u32, pieces: usize, delay: Duration) -> Written {
        #[derive(Deserialize)]
        struct Answer {
            success: bool,
            stored: Option<usize>,
        }
        let due = |k: usize| first + Duration::from_secs(1) / rate * k as u32;
        let (mut answers, mut stored) = (Vec::with_capacity(pieces), 0);
        let mut waiting = VecDeque::new();
        let mut sent = 0;
        while answers.len() < pieces {
            tokio::select! {
                packet = self.connection.next() => {
                    let packet = packet.unwrap();
                    let now = Instant::now();
                    if packet.kind == Kind::Ack && let Some((id, due)) = waiting.pop_front() {
                        assert_eq!(packet.id, Some(id), "acknowledgements come in order");
                        let answer: Answer = packet.args.get(0).unwrap();
                        let before = stored;
                        stored = answer.stored.unwrap_or(before);
                        answers.push(Answered {
                            due,
                            at: now,
                            is_accepted: answer.success,
                            has_stored: stored > before,
                        });
                    }
                }
                () = sleep_until(due(sent).into()), if sent < pieces => {
                    let payload = json!({
                        "messageId": self.message,
                        "offset": sent * PIECE,
                        "text": piece(sent),
                    });
                    let id = self.connection.request("append_message", &(payload,)).unwrap();
                    waiting.push_back((id, due(sent)));
                    sent += 1;
                }
            }
        }
        // Not all at the same moment.
        sleep_until((first + Duration::from_secs(1) / rate * pieces as u32 + delay).into()).await;
        let payload = json!({"messageId": self.message, "offset": pieces * PIECE});
        must(&mut self.connection, "finish_message", &payload).await;
        (self, answers)
    }
}

/// Connects a reader of a conversation.
async fn reader(server: &Server, name: &str, conversation: &str) -> Connection {
    let mut connection = connect(server.address(), name).await;
    let payload = json!({ "conversationId": conversation });
    must(&mut connection, "join_conversation", &payload).await;
    connection
}

/// Reads messages until the run ends.
async fn read(mut connection: Connection, at: usize, received: Rc<RefCell<Received>>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Added {
        message_id: String,
        offset: usize,
        text: String,
    }
    #[derive(Deserialize)]
    struct Whole {
        id: String,
        content: String,
    }
    let mut growing: HashMap<String, Vec<Instant>> = HashMap::new();
    while let Ok(packet) = connection.next().await {
        let now = Instant::now();
        let mut received = received.borrow_mut();
        match packet.event_name() {
            "message_appended" => {
                received.deliveries += 1;
                let Added {
                    message_id,
                    offset,
                    text,
                } = get(&packet.args);
                let arrivals = growing.entry(message_id).or_default();
                let follows = offset == arrivals.len() * PIECE && is_exact(offset, &text);
                received.faults += usize::from(!follows);
                arrivals.resize(arrivals.len() + text.len() / PIECE, now);
            }
            "message_edited" => {
                let Whole { id, content } = get(&packet.args);
                let mut arrivals = growing.remove(&id).unwrap_or_default();
                received.faults += usize::from(!is_exact(0, &content));
                arrivals.resize(content.len() / PIECE, now);
                received.whole.entry(id).or_default().push((at, arrivals));
            }
            publish::EVENT => received.deliveries += 1,
            _ => {}
        }
    }
}

fn get<T: serde::de::DeserializeOwned>(args: &Args) -> T {
    args.get(0).unwrap()
}
