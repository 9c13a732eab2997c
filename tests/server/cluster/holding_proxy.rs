//! A proxy for Redis that can hold back answers.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::redis_server::RedisServer;

/// Passes everything, until the answers to some clients are held back.
pub(super) struct HoldingProxy {
    port: u16,
    /// The command that marks the clients whose answers can be held back.
    command: &'static str,
    is_held: AtomicBool,
}

impl HoldingProxy {
    pub(super) fn start(redis: &RedisServer, command: &'static str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            command,
            is_held: AtomicBool::new(false),
        });
        let (own, url) = (Arc::clone(&between), redis.url());
        let redis = url.strip_prefix("redis://").unwrap().to_owned();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&redis).unwrap();
                let ways = [(&client, &server), (&server, &client)];
                let ways =
                    ways.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()));
                let is_marked = Arc::new(AtomicBool::new(false));
                for (is_answer, (from, to)) in [false, true].into_iter().zip(ways) {
                    let (own, is_marked) = (Arc::clone(&own), Arc::clone(&is_marked));
                    thread::spawn(move || own.pass(is_answer, &is_marked, from, to));
                }
            }
        });
        between
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn pass(
        &self,
        is_answer: bool,
        is_marked: &AtomicBool,
        mut from: TcpStream,
        mut to: TcpStream,
    ) {
        let mut bytes = [0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let passed = &bytes[..length];
            let command = self.command.as_bytes();
            if !is_answer && passed.windows(command.len()).any(|word| word == command) {
                is_marked.store(true, Ordering::Relaxed);
            }
            while is_answer
                && is_marked.load(Ordering::Relaxed)
                && self.is_held.load(Ordering::Relaxed)
            {
                thread::sleep(Duration::from_millis(1)); // The pace of looking.
            }
            if to.write_all(passed).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    pub(super) fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Relaxed);
    }
}
