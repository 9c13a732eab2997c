//! The plan of a run, and its validation.

use std::{sync::Arc, time::Duration};

use roomcast::client::{Options, Transports};

use super::{Scenario, Vocabulary, schedule::Schedule, stamp::MIN_PAYLOAD};

/// The plan of a run. [`check`](Self::check) validates it before the run starts.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The behaviour of the clients.
    pub scenario: Scenario,
    /// The server, and how each client connects to it; its `auth` comes from the vocabulary.
    pub client: Options,
    /// The events of the server.
    pub vocabulary: Vocabulary,
    /// Name of the vocabulary, for the report.
    pub preset: String,
    /// The number of connections, at least 1; with `connect` the maximum number that are open or
    /// opening.
    pub clients: usize,
    /// The number of rooms, at least 1; client `i` is in room `i % rooms`. If messages go to rooms,
    /// each room needs two clients.
    pub rooms: usize,
    /// The number of sending clients in each room, at least 1.
    pub senders: usize,
    /// Messages, requests or connections per second, all clients together: 0.001 to 10,000,000.
    pub rate: f64,
    /// The text size of a message in bytes, at least 32 and at most half of
    /// [`Options::max_queued`].
    pub payload: usize,
    /// The measured time: more than zero, at most 24 h.
    pub duration: Duration,
    /// The time with the same load before the measured time, at most 24 h.
    pub warmup: Duration,
    /// The maximum time after it for messages in flight to arrive; the run ends earlier if none is.
    pub drain: Duration,
    /// Connections per second while clients connect before the load: 0.001 to 10,000,000.
    pub connect_rate: f64,
    /// The number of threads, each with its own clients: 1 to 256, and at most the number of
    /// clients.
    pub threads: usize,
    /// The share of the clients that stop reading in `slow`, from 0 to less than 1.
    pub slow_share: f64,
    /// A token for each client, which replaces `{token}` in the `auth` of the vocabulary.
    /// [`subject`](Self::subject) returns its user.
    pub tokens: Arc<[String]>,
    /// The process id of the server on this machine, to measure its processor time and memory.
    pub server_pid: Option<u32>,
}

impl Plan {
    /// Checks whether the plan can run.
    ///
    /// # Errors
    /// Returns why the plan cannot work, as a text for the command line.
    pub fn check(&self) -> Result<(), String> {
        let is_broadcast = self.scenario.is_broadcast();
        if self.clients == 0 || self.threads == 0 || self.rooms == 0 || self.senders == 0 {
            return Err("clients, rooms, senders and threads must be at least 1".into());
        }
        if self.threads > self.clients.min(256) {
            return Err("there cannot be more threads than clients, nor more than 256".into());
        }
        // The client supports TLS if another package of the build enables it, but this tool does
        // not measure it.
        let url = &self.client.url;
        if url.starts_with("https://") || url.starts_with("wss://") {
            return Err(format!("{url}: TLS is not supported"));
        }
        for (name, rate) in [("rate", self.rate), ("connect-rate", self.connect_rate)] {
            if !(rate.is_finite() && (0.001..=10_000_000.0).contains(&rate)) {
                return Err(format!(
                    "{name} must be between 0.001 and 10,000,000 per second"
                ));
            }
        }
        if self.payload < MIN_PAYLOAD {
            return Err(format!(
                "payload must have {MIN_PAYLOAD} bytes or more: it says who sent it"
            ));
        }
        if self.payload > self.client.max_queued / 2 {
            return Err("payload is too large".into());
        }
        if self.duration.is_zero() || self.duration > MAX_DURATION || self.warmup > MAX_DURATION {
            return Err("duration must be more than 0 and at most 24 h".into());
        }
        if is_broadcast && self.clients < 2 * self.rooms {
            return Err(format!(
                "{} clients in {} rooms: a room needs two",
                self.clients, self.rooms
            ));
        }
        if self.scenario == Scenario::Slow {
            if !(0.0..1.0).contains(&self.slow_share) || self.rooms > 1 {
                return Err("slow needs one room and a slow share between 0 and 1".into());
            }
            if self.slow_clients() == 0 || self.clients - self.slow_clients() < 2 {
                return Err("slow needs a slow client and two others".into());
            }
        }
        if self.scenario == Scenario::Chat {
            if self.tokens.len() < self.clients {
                return Err("chat needs a token for each client".into());
            }
            if self.vocabulary.join.is_none() || !self.vocabulary.send.ack {
                return Err("chat needs the events of our own chat: --preset chat".into());
            }
        } else if is_broadcast
            && !self.vocabulary.conversations
            && self.vocabulary.room(self.rooms - 1).is_none()
        {
            return Err(format!(
                "preset {} has {} rooms: name more with --room, or use --preset rooms or events of \
                 your own",
                self.preset,
                self.vocabulary.rooms.len()
            ));
        }
        if self.scenario == Scenario::Echo && !self.vocabulary.echo.ack {
            return Err("echo needs an event that is acknowledged".into());
        }
        Ok(())
    }

    /// Returns whether the run needs new conversations.
    pub(crate) fn makes_conversations(&self) -> bool {
        let has_messages = !self.scenario.is_silent();
        self.scenario == Scenario::Chat || (has_messages && self.vocabulary.conversations)
    }

    /// Returns how many clients stop reading. These are the last clients.
    pub(crate) fn slow_clients(&self) -> usize {
        if self.scenario != Scenario::Slow {
            return 0;
        }
        (self.clients as f64 * self.slow_share).ceil() as usize
    }

    /// Returns how many clients send. These are the first clients.
    pub(crate) fn all_senders(&self) -> usize {
        match self.scenario {
            Scenario::Fanout | Scenario::Rooms | Scenario::Slow | Scenario::Chat => {
                let healthy = self.clients - self.slow_clients();
                self.senders.saturating_mul(self.rooms).min(healthy)
            }
            Scenario::Echo => self.clients,
            Scenario::Connect => self.threads,
            Scenario::Idle => 1,
        }
    }

    /// Returns the user of a client's token: `bench-` and the client's number.
    #[must_use]
    pub fn subject(client: usize) -> String {
        format!("bench-{client}")
    }

    /// Returns the room of a client.
    pub(crate) fn room_of(&self, client: usize) -> usize {
        client % self.rooms.max(1)
    }

    /// Returns the schedule of the messages.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule {
            rate: self.rate,
            senders: self.all_senders().max(1),
            length: self.warmup + self.duration,
        }
    }

    /// Returns the number of open files that the run needs.
    pub(crate) fn open_files(&self) -> u64 {
        let each = match self.client.transports {
            Transports::WebSocket => 1,
            Transports::Polling => 2,
            Transports::Upgrade => 3,
        };
        self.clients as u64 * each + 64
    }
}

const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::Preset;

    /// Returns a small plan for the contract server.
    pub(crate) fn small_plan(scenario: Scenario) -> Plan {
        let (clients, rooms, rate) = scenario.defaults();
        Plan {
            scenario,
            client: Options::default(),
            vocabulary: Preset::Rooms.vocabulary(),
            preset: "rooms".into(),
            clients,
            rooms,
            senders: 1,
            rate,
            payload: 64,
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            drain: Duration::from_secs(1),
            connect_rate: 1000.0,
            threads: 1,
            slow_share: 0.2,
            tokens: Arc::default(),
            server_pid: None,
        }
    }

    #[test]
    fn the_defaults_can_be_played() {
        for scenario in [
            Scenario::Fanout,
            Scenario::Rooms,
            Scenario::Echo,
            Scenario::Connect,
            Scenario::Idle,
            Scenario::Slow,
        ] {
            assert_eq!(small_plan(scenario).check(), Ok(()), "{scenario:?}");
        }
    }

    #[test]
    fn invalid_options_are_refused_with_a_reason() {
        let refused = |scenario, change: fn(&mut Plan), reason: &str| {
            let mut plan = small_plan(scenario);
            change(&mut plan);
            let error = plan.check().unwrap_err();
            assert!(error.contains(reason), "{error}");
        };
        refused(Scenario::Fanout, |p| p.clients = 0, "at least 1");
        refused(Scenario::Fanout, |p| p.rate = f64::NAN, "rate");
        refused(Scenario::Fanout, |p| p.rate = 0.0, "rate");
        refused(Scenario::Fanout, |p| p.payload = 10, "32 bytes");
        refused(
            Scenario::Fanout,
            |p| p.duration = Duration::ZERO,
            "duration",
        );
        refused(Scenario::Fanout, |p| p.threads = 200, "threads");
        refused(Scenario::Rooms, |p| p.clients = 150, "a room needs two");
        refused(Scenario::Slow, |p| p.slow_share = 1.0, "slow");
        refused(Scenario::Slow, |p| p.clients = 2, "slow needs");
        refused(
            Scenario::Rooms,
            |p| p.vocabulary.any_room = false,
            "has 0 rooms",
        );
        refused(Scenario::Chat, |_| (), "a token for each client");
        let signed = |p: &mut Plan| p.tokens = vec![String::new(); p.clients].into();
        refused(Scenario::Chat, signed, "--preset chat");
    }

    #[test]
    fn slow_clients_do_not_send() {
        let mut plan = small_plan(Scenario::Slow);
        plan.senders = 100;
        assert_eq!((plan.slow_clients(), plan.all_senders()), (20, 80));
    }
}
