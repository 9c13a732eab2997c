//! Clients that return after their server has gone: the load of `reconnect.py`.
//!
//! `returning CLIENTS TOKENS URL...` connects one client for each line of the file of tokens, which
//! all use the first URL. A client reconnects as the stock client does by its defaults: after 1 s
//! with a randomization of 50 %, doubled after each failure up to 5 s, without an end. Commands on
//! standard input: `use N` sends connections that open from then on to the N-th URL, as a load
//! balancer does; `begin` discards the account; `report` prints it as one line of JSON.

#![allow(missing_docs, clippy::indexing_slicing, reason = "a bench")]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    env, fs, io,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use roomcast::client::{Connection, Options};
use serde_json::json;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc},
    task::{LocalSet, spawn_local},
    time::sleep,
};

/// The delay before the first attempt, and the longest delay: the defaults of the stock client.
const DELAY: f64 = 1.0;
const MAX_DELAY: f64 = 5.0;
/// The share of the delay by which it varies.
const RANDOMIZATION: f64 = 0.5;
/// The number of clients that connect at the same time at the beginning.
const CONNECTING: usize = 64;

#[derive(Default)]
struct Crowd {
    targets: Vec<Options>,
    used: Cell<usize>,
    connected: Cell<usize>,
    account: RefCell<Account>,
}

/// The returns and failures since `begin`.
#[derive(Default)]
struct Account {
    /// For each return, the Unix times in milliseconds of the loss, of the start of the attempt
    /// that succeeded and of its success, and the number of attempts.
    returns: Vec<(f64, f64, f64, u32)>,
    lost: usize,
    failures: BTreeMap<String, u64>,
}

fn main() {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().expect("returning CLIENTS TOKENS URL...");
    let clients: usize = next().parse().expect("a number of clients");
    let tokens = fs::read_to_string(next()).expect("a file of tokens");
    let targets = arguments.map(Options::new).collect();
    let crowd = Rc::new(Crowd {
        targets,
        ..Crowd::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    LocalSet::new().block_on(&runtime, async {
        let places = Arc::new(Semaphore::new(CONNECTING));
        for token in tokens.lines().take(clients) {
            let place = Arc::clone(&places).acquire_owned().await;
            let client = live(Rc::clone(&crowd), token.to_owned(), place);
            spawn_local(client);
        }
        while crowd.connected.get() < clients {
            sleep(Duration::from_millis(20)).await;
        }
        println!("ready");
        let (sender, mut commands) = mpsc::channel(1);
        std::thread::spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                let _ = sender.blocking_send(line);
            }
        });
        while let Some(line) = commands.recv().await {
            crowd.obey(&line);
        }
    });
}

impl Crowd {
    fn obey(&self, line: &str) {
        match line.split_once(' ') {
            Some(("use", number)) => self.used.set(number.parse().expect("a number")),
            None if line == "begin" => drop(self.account.take()),
            None if line == "report" => {
                let account = self.account.borrow();
                let report = json!({
                    "connected": self.connected.get(),
                    "lost": account.lost,
                    "returns": account.returns,
                    "failures": account.failures,
                });
                println!("{report}");
            }
            _ => panic!("unknown command {line}"),
        }
    }
}

/// Keeps one client connected. `place` is free once it has connected for the first time.
async fn live(crowd: Rc<Crowd>, token: String, place: Result<OwnedSemaphorePermit, AcquireError>) {
    let mut place = place.ok();
    let mut lost_at = None;
    let mut attempts = 0;
    loop {
        let began = now();
        let options = Options {
            auth: Some(json!({"token": token})),
            ..crowd.targets[crowd.used.get()].clone()
        };
        attempts += 1;
        match Connection::open(&options).await {
            Ok(mut connection) => {
                crowd.connected.set(crowd.connected.get() + 1);
                if let Some(lost_at) = lost_at {
                    let mut account = crowd.account.borrow_mut();
                    account.returns.push((lost_at, began, now(), attempts));
                }
                drop(place.take());
                attempts = 0;
                while connection.next().await.is_ok() {}
                crowd.connected.set(crowd.connected.get() - 1);
                crowd.account.borrow_mut().lost += 1;
                lost_at = Some(now());
            }
            Err(error) => {
                let mut account = crowd.account.borrow_mut();
                *account.failures.entry(error.to_string()).or_default() += 1;
            }
        }
        sleep(delay(attempts)).await;
    }
}

/// Returns the delay after this number of failed attempts.
fn delay(attempts: u32) -> Duration {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    let chance = u64::from_le_bytes(bytes) as f64 / u64::MAX as f64;
    let delay = DELAY * 2_f64.powi(attempts.min(16) as i32);
    let delay = delay * (1.0 + RANDOMIZATION * (2.0 * chance - 1.0));
    Duration::from_secs_f64(delay.min(MAX_DELAY))
}

/// Returns the Unix time in milliseconds.
fn now() -> f64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.expect("the clock is set").as_secs_f64() * 1000.0
}
