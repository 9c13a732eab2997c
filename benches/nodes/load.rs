//! Members of rooms on both servers, and one sending client for each room.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use roomcast::client::{Connection, Options, Transports};
use roomcast_protocol::socket::Kind;
use tokio::{sync::watch, task::JoinSet};

use crate::{processor, servers::Server, support::Client};

/// The clients of a run, and the messages that are sent to them.
pub struct Plan {
    /// The number of clients of each server.
    pub members: usize,
    pub rooms: usize,
    /// Messages per second, of all senders together.
    pub rate: usize,
    /// The measured seconds; the same load runs for [`WARM_UP`] seconds before.
    pub seconds: usize,
}

/// The results. Times count from when a message was due.
pub struct Figures {
    /// The latency to the members on the sender's server.
    pub local: Vec<Duration>,
    /// The latency to the members on the other server.
    pub remote: Vec<Duration>,
    /// For each message, the time from the last member on the sender's server to the last on the
    /// other server, if that was later.
    pub lag: Vec<Duration>,
    pub lost: usize,
    /// The processor time of both servers, in seconds.
    pub cpu: f64,
    /// The resident memory of both servers, in bytes.
    pub resident: usize,
}

const WARM_UP: usize = 3;
/// The maximum time for messages in flight.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// The size of a message in bytes.
const PAYLOAD: usize = 128;
/// The number of digits of its number, at its beginning.
const DIGITS: usize = 9;

/// The message numbers that a member has received, and when.
type ReceivedMessages = Vec<(usize, Instant)>;

/// Plays a plan with two servers. The senders of the rooms alternate between the first and the
/// second server.
pub fn play(servers: &[Server; 2], plan: &Plan) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut members = JoinSet::new();
    let (end, ended) = watch::channel(false);
    runtime.block_on(async {
        for (at, server) in servers.iter().enumerate() {
            for n in 0..plan.members {
                let room = n % plan.rooms;
                let connection = enter(server, room).await;
                let received = receive(connection, ended.clone());
                members.spawn(async move { (at, room, received.await) });
            }
        }
    });
    let mut senders: Vec<Client> = (0..plan.rooms)
        .map(|room| Client::connect(servers[room % 2].address()))
        .collect();
    let count = (WARM_UP + plan.seconds) * plan.rate;
    let (done, sent) = mpsc::channel();
    let rate = plan.rate;
    let start = Instant::now() + Duration::from_millis(100);
    let due = move |n: usize| start + Duration::from_secs_f64(n as f64 / rate as f64);
    thread::spawn(move || {
        for n in 0..count {
            thread::sleep(due(n).saturating_duration_since(Instant::now()));
            let room = n % senders.len();
            let text = format!(
                "42[\"bcast\",\"room {room}\",\"{n:0DIGITS$}{}\"]",
                "x".repeat(PAYLOAD - DIGITS)
            );
            senders[room].send(&text);
        }
        // The senders stay connected until everything has arrived.
        let _ = done.send(senders);
    });
    let first = WARM_UP * plan.rate;
    let worked = || processor::worked(&servers.each_ref().map(Server::process));
    let (cpu, resident, received) = runtime.block_on(async {
        tokio::time::sleep_until(due(first).into()).await;
        let before = worked();
        tokio::time::sleep_until(due(count).into()).await;
        let cpu = worked() - before;
        let resident = servers.iter().map(Server::resident).sum();
        tokio::time::sleep(DELIVERY_TIMEOUT).await;
        let _ = end.send(true);
        (cpu, resident, members.join_all().await)
    });
    let _ = sent.recv();
    let mut figures = Figures {
        local: Vec::new(),
        remote: Vec::new(),
        lag: Vec::new(),
        lost: 0,
        cpu,
        resident,
    };
    let mut last = [vec![None; count], vec![None; count]];
    for (at, room, received) in received {
        let expected = (first..count).filter(|n| n % plan.rooms == room).count();
        let measured = received.iter().filter(|(n, _)| *n >= first);
        let mut received_count = 0;
        for &(n, when) in measured {
            assert_eq!(n % plan.rooms, room, "in the wrong room");
            let time = when.saturating_duration_since(due(n));
            let is_local = room % 2 == at;
            let times = if is_local {
                &mut figures.local
            } else {
                &mut figures.remote
            };
            times.push(time);
            let latest = &mut last[usize::from(!is_local)][n];
            *latest = (*latest).max(Some(when));
            received_count += 1;
        }
        figures.lost += expected - received_count;
    }
    let [local, remote] = last;
    let both = local.iter().zip(&remote);
    let both = both.filter_map(|(local, remote)| Some(((*local)?, (*remote)?)));
    figures.lag = both
        .map(|(local, remote)| remote.saturating_duration_since(local))
        .collect();
    figures
}

/// Connects a client and joins a room.
async fn enter(server: &Server, room: usize) -> Connection {
    let options = Options {
        transports: Transports::WebSocket,
        ..Options::new(format!("http://{}", server.address()))
    };
    let mut connection = Connection::open(&options).await.unwrap();
    let message_id = connection
        .request("join", &(format!("room {room}"),))
        .unwrap();
    loop {
        let packet = connection.next().await.unwrap();
        if packet.kind == Kind::Ack && packet.id == Some(message_id) {
            return connection;
        }
    }
}

/// Records messages until the run ends. Each must arrive once, and in order.
async fn receive(mut connection: Connection, mut ended: watch::Receiver<bool>) -> ReceivedMessages {
    let mut received = ReceivedMessages::new();
    loop {
        let packet = tokio::select! {
            packet = connection.next() => packet.unwrap(),
            _ = ended.changed() => return received,
        };
        let now = Instant::now();
        let payload = packet.args.raw(0).unwrap();
        assert_eq!(payload.len(), PAYLOAD + 2, "shorter or longer than it was");
        let number = std::str::from_utf8(&payload[1..=DIGITS]).unwrap();
        let number = number.parse().unwrap();
        let before = received.last().map(|(before, _)| *before);
        assert!(before < Some(number), "{number} after {before:?}");
        received.push((number, now));
    }
}
