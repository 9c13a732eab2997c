//! The contract server, of Roomcast or Node.js, as a process with an adapter.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Stdio},
};

use rustix::process::Pid;

use crate::processor;

/// The implementation of a server.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Roomcast,
    Node,
}

/// A server on the first core, killed when this is dropped.
pub struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server that uses this adapter.
    pub fn start(kind: Kind, adapter: &str) -> Self {
        let cores = processor::cores();
        let mut command = match kind {
            Kind::Roomcast => processor::command(&cores.server, contract().to_str().unwrap()),
            Kind::Node => {
                let mut command = processor::command(&cores.server, "node");
                command.arg(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/benches/nodes/node_server.mjs"
                ));
                command
            }
        };
        let mut process = command
            .env("PORT", "0")
            .env("WORKERS", "1")
            .env("ADAPTER", adapter)
            // Client heartbeats are not part of the measurement.
            .env("PING_INTERVAL_MS", "3600000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv, taskset and the server are there");
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.strip_prefix("listening on ")?;
            address.parse::<SocketAddr>().ok().filter(|a| a.is_ipv4())
        });
        std::thread::spawn(move || log.for_each(drop));
        Self {
            process,
            address: address.expect("the server starts"),
        }
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn process(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Returns its resident memory in bytes.
    pub fn resident(&self) -> usize {
        processor::resident(self.process())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the example `fanout`, which is next to the folder of this program.
fn contract() -> PathBuf {
    let program = env::current_exe().unwrap();
    let path = program.ancestors().nth(2).unwrap().join("examples/fanout");
    assert!(
        path.exists(),
        "{} is not built: cargo build --profile dist --example fanout",
        path.display()
    );
    path
}
