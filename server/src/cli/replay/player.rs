//! Drives one client for each recorded connection.
//!
//! A client sends an event at its recorded time, divided by the speed, and not before it has
//! received the answers that the recorded client had received by then. In strict order, it also
//! waits for what other clients had done and received by then. All waits have a deadline.
//! The clients are futures of one task.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use roomcast::client::{ClientError, Connection, Options, Transports};
use roomcast_protocol::socket::{Arguments, EncodeError, Encoder, Kind, Packet};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::compare::Comparison;
use super::file::{Recording, Sent, Step, Track};
use super::report::{Outcome, Tally};

/// How to replay.
#[derive(Debug)]
pub(super) struct Pace {
    /// How many times faster than recorded.
    pub(super) speed: f64,
    /// How long to wait for an answer.
    pub(super) answer_timeout: Duration,
    /// The payload of `CONNECT`, in which `{user}` stands for the recorded user.
    pub(super) auth: Option<Map<String, Value>>,
    /// Whether the order of different connections is that of the recording.
    pub(super) in_order: bool,
}

/// Replays all connections.
pub(super) async fn play(
    recording: &Recording,
    options: &Options,
    pace: &Pace,
    comparison: &Comparison,
) -> Tally {
    let stage = Stage {
        options,
        pace,
        comparison,
        tally: RefCell::default(),
        order: pace.in_order.then(|| Order::of(recording)),
        start: Instant::now(),
    };
    let tracks = recording.connections.iter().map(|track| stage.play(track));
    let mut playing: FuturesUnordered<_> = tracks.collect();
    while playing.next().await.is_some() {}
    drop(playing);
    stage.tally.into_inner()
}

/// What the clients share.
struct Stage<'a> {
    options: &'a Options,
    pace: &'a Pace,
    comparison: &'a Comparison,
    tally: RefCell<Tally>,
    order: Option<Order>,
    start: Instant,
}

impl Stage<'_> {
    /// Replays a connection, and counts what became of its events.
    async fn play(&self, track: &Track) {
        sleep_until(self.due(track.opened.at_ms)).await;
        let unsent = track.events.iter().map(|_| Outcome::Unsent).collect();
        if let Some(order) = &self.order {
            order.reached(track.line).await;
        }
        let opened = Connection::open(&self.options_of(track)).await;
        self.done(track.line);
        let connection = match opened {
            Ok(connection) => connection,
            Err(error) => {
                let mut tally = self.tally.borrow_mut();
                tally.failed("connection refused", &error);
                track.steps.iter().for_each(|&(line, _)| self.done(line));
                return tally.finished(&track.events, unsent);
            }
        };
        self.tally.borrow_mut().opened();
        let mut client = Client {
            stage: self,
            track,
            connection,
            waiting: HashMap::new(),
            outcomes: unsent,
        };
        let ended = client.run().await;
        if ended.is_ok() {
            // A close that fails changes no answer.
            let _ = client.connection.close().await;
        }
        track.steps.iter().for_each(|&(line, _)| self.done(line));
        let mut tally = self.tally.borrow_mut();
        tally.finished(&track.events, client.outcomes);
        if let Err(error) = ended {
            tally.failed("connection ended", &error);
        }
    }

    /// Notes that a line of the recording is done.
    fn done(&self, line: u64) {
        if let Some(order) = &self.order {
            order.done(line);
        }
    }

    fn options_of(&self, track: &Track) -> Options {
        let opened = &track.opened;
        let auth = self.pace.auth.clone().map(|auth| {
            let mut auth = Value::Object(auth);
            fill(&mut auth, &opened.user);
            auth
        });
        Options {
            namespace: Some(opened.namespace.clone()),
            // A stock client starts with polling, and upgrades.
            transports: if opened.transport == "polling" {
                Transports::Upgrade
            } else {
                Transports::WebSocket
            },
            auth,
            ..self.options.clone()
        }
    }

    /// Returns when something is due that was recorded this many milliseconds after the start.
    fn due(&self, at_ms: f64) -> Instant {
        self.start + Duration::from_secs_f64(at_ms / 1000.0 / self.pace.speed)
    }
}

/// The order of the recording. Each line waits only for earlier ones, and the first one for its own
/// deadline, so no client waits forever.
struct Order {
    /// The lines about starts, answers and ends that are not done.
    open: RefCell<BTreeSet<u64>>,
    changed: Notify,
}

impl Order {
    fn of(recording: &Recording) -> Self {
        let tracks = recording.connections.iter();
        let lines = tracks.flat_map(|track| {
            let steps = track.steps.iter();
            let steps = steps.filter(|(_, step)| !matches!(step, Step::Send(_)));
            steps.map(|&(line, _)| line).chain([track.line])
        });
        Self {
            open: RefCell::new(lines.collect()),
            changed: Notify::new(),
        }
    }

    fn done(&self, line: u64) {
        let mut open = self.open.borrow_mut();
        let was_first = open.first() == Some(&line);
        if open.remove(&line) && was_first {
            self.changed.notify_waiters();
        }
    }

    /// Waits until the lines before this one are done.
    async fn reached(&self, line: u64) {
        // All clients are in one task, so nothing changes between the check and the wait.
        while self
            .open
            .borrow()
            .first()
            .is_some_and(|first| *first < line)
        {
            self.changed.notified().await;
        }
    }
}

/// Replaces `{user}` in all texts.
fn fill(value: &mut Value, user: &str) {
    match value {
        Value::String(text) => *text = text.replace("{user}", user),
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, user)),
        Value::Object(fields) => fields.values_mut().for_each(|value| fill(value, user)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The client of one connection.
struct Client<'a> {
    stage: &'a Stage<'a>,
    track: &'a Track,
    connection: Connection,
    /// The events that wait for an answer, by the id of the acknowledgement: index and time.
    waiting: HashMap<u64, (usize, Instant)>,
    outcomes: Vec<Outcome>,
}

impl Client<'_> {
    async fn run(&mut self) -> Result<(), ClientError> {
        for &(line, step) in &self.track.steps {
            match step {
                Step::Send(index) => {
                    if let Some(event) = self.track.events.get(index) {
                        self.receive(self.stage.due(event.at_ms), None).await?;
                        self.receive_until_reached(line).await?;
                        self.send(index, event)?;
                    }
                }
                Step::Receive(index) => {
                    let waiting = self.waiting.values().find(|(waiting, _)| *waiting == index);
                    if let Some(&(_, sent)) = waiting {
                        let deadline = sent + self.stage.pace.answer_timeout;
                        self.receive(deadline, Some(index)).await?;
                    }
                    self.stage.done(line);
                }
                Step::Close(at_ms) => {
                    self.receive(self.stage.due(at_ms), None).await?;
                    self.receive_until_reached(line).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends an event that is due.
    fn send(&mut self, index: usize, event: &Sent) -> Result<(), ClientError> {
        let due = self.stage.due(event.at_ms);
        let args = self.stage.comparison.arguments(&event.args);
        let args = List(&args);
        let now = Instant::now();
        self.stage
            .tally
            .borrow_mut()
            .late(now.saturating_duration_since(due));
        if event.requests_answer {
            let id = self.connection.request(&event.event, &args)?;
            self.waiting.insert(id, (index, now));
            self.set(index, Outcome::Unanswered);
        } else {
            self.connection.emit(&event.event, &args)?;
            self.set(index, Outcome::Sent);
        }
        Ok(())
    }

    /// Handles what arrives until a time, or until an event is answered.
    async fn receive(&mut self, until: Instant, event: Option<usize>) -> Result<(), ClientError> {
        loop {
            if let Some(event) = event
                && !self.waiting.values().any(|(waiting, _)| *waiting == event)
            {
                return Ok(());
            }
            tokio::select! {
                // Time passes also if packets arrive continuously.
                biased;
                () = sleep_until(until) => return Ok(()),
                packet = self.connection.next() => self.handle(&packet?)?,
            }
        }
    }

    /// Handles what arrives until the earlier lines of the recording are done.
    async fn receive_until_reached(&mut self, line: u64) -> Result<(), ClientError> {
        let stage = self.stage;
        let Some(order) = &stage.order else {
            return Ok(());
        };
        loop {
            tokio::select! {
                biased;
                () = order.reached(line) => return Ok(()),
                packet = self.connection.next() => self.handle(&packet?)?,
            }
        }
    }

    fn handle(&mut self, packet: &Packet) -> Result<(), ClientError> {
        match (packet.kind, packet.id) {
            // Servers that await confirmations get them. Their content is not recorded.
            (Kind::Event, Some(id)) => self.connection.ack(id, &()),
            (Kind::Ack, Some(id)) => {
                if let Some((index, sent)) = self.waiting.remove(&id) {
                    self.answered(index, sent.elapsed(), packet);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn answered(&mut self, index: usize, latency: Duration, packet: &Packet) {
        let Some(event) = self.track.events.get(index) else {
            return;
        };
        let Some(recorded) = &event.answer else {
            return self.set(index, Outcome::Unexpected { latency });
        };
        let args = &packet.args;
        let replayed = (0..args.len()).map(|i| args.get(i).unwrap_or(Value::Null));
        let comparison = self.stage.comparison;
        let differences = comparison.compare(&event.event, &recorded.args, replayed.collect());
        let outcome = if differences.is_empty() {
            Outcome::Equal { latency }
        } else {
            Outcome::Different {
                latency,
                differences,
            }
        };
        self.set(index, outcome);
    }

    fn set(&mut self, index: usize, outcome: Outcome) {
        if let Some(place) = self.outcomes.get_mut(index) {
            *place = outcome;
        }
    }
}

/// The arguments of an event.
struct List<'a>(&'a [Value]);

impl Arguments for List<'_> {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        self.0.iter().try_for_each(|value| encoder.value(value))
    }
}
