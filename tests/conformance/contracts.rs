//! Contract servers behave as their contracts describe by default, without the variables that
//! extend them.

use std::{
    collections::BTreeSet,
    env, fs,
    net::SocketAddr,
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Frame, RawClient, ServerProcess, process::example_path};

/// A contract server started with `PORT` and no other variable.
struct Plain {
    process: ServerProcess,
    /// The lines that it printed until its main listener was ready.
    lines: Vec<String>,
    port: u16,
}

impl Plain {
    fn start(example: &str) -> Self {
        // Held so that free ports stay free until the server has bound them.
        static STARTING: Mutex<()> = Mutex::new(());
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let port = free_ports();
        let mut command = Command::new(example_path(example));
        for variable in [
            "LISTENER_NAMES",
            "PING_TIMEOUT_MS",
            "PING_INTERVAL_MS",
            "CONNECT_TIMEOUT_MS",
            "SLOW_MS",
        ] {
            command.env_remove(variable);
        }
        command.env("PORT", port.to_string());
        let main = format!("listening on 127.0.0.1:{port}");
        let address = ([127, 0, 0, 1], port).into();
        let process = ServerProcess::spawn(&mut command, move |line| {
            (line == main).then_some((address, None))
        });
        let lines = process.early_log().lines().map(str::to_owned).collect();
        Self {
            process,
            lines,
            port,
        }
    }

    fn address(&self, offset: u16) -> SocketAddr {
        ([127, 0, 0, 1], self.port + offset).into()
    }

    /// Returns the open packet of a session.
    fn open(&self, offset: u16) -> Value {
        let mut client = RawClient::connect(self.address(offset));
        let opened = client.get("/socket.io/?EIO=4&transport=polling").body;
        serde_json::from_str(opened.strip_prefix('0').unwrap()).unwrap()
    }

    /// Returns the ports on which the process listens.
    fn ports(&self) -> BTreeSet<u16> {
        let folder = format!("/proc/{}/fd", self.process.pid());
        let sockets: BTreeSet<_> = fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter_map(|link| {
                let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
                Some(inode.to_owned())
            })
            .collect();
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
        let tables = tables.map(Result::unwrap_or_default).concat();
        let listening = tables.lines().filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (_, port) = fields.get(1)?.split_once(':')?;
            let is_own = fields.get(3) == Some(&"0A") && sockets.contains(*fields.get(9)?);
            is_own.then(|| u16::from_str_radix(port, 16).unwrap())
        });
        listening.collect()
    }
}

/// Returns the first of several consecutive free ports.
fn free_ports() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    loop {
        let first = crate::port::free_port();
        if (first..first + 5).all(|port| is_free(&port)) {
            return first;
        }
    }
}

#[test]
fn the_times_of_contract_servers_are_those_of_their_contracts() {
    for (example, interval, timeout, payload) in [
        ("conformance", 300, 200, 1_000_000),
        ("client_suite", 2000, 20_000, 1_000_000),
        ("interop", 1000, 2000, 1_000_000),
        ("fanout", 25_000, 20_000, 1_000_000),
    ] {
        let server = Plain::start(example);
        let opened = server.open(0);
        let expected = json!({
            "pingInterval": interval, "pingTimeout": timeout, "maxPayload": payload
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(opened[name], *value, "{example} {name}");
        }
    }
}

#[test]
fn contract_server_has_exactly_the_listeners_of_its_contract() {
    for (example, count) in [
        ("conformance", 1),
        ("client_suite", 1),
        ("interop", 3),
        ("fanout", 1),
    ] {
        let server = Plain::start(example);
        let ports: BTreeSet<_> = (server.port..server.port + count).collect();
        assert_eq!(server.ports(), ports, "{example}");
        for offset in 0..count {
            assert_eq!(server.open(offset)["upgrades"], json!(["websocket"]));
        }
        let is_listener = |line: &&String| {
            let address = line.strip_prefix("listening on ");
            address.is_some_and(|address| address.parse::<SocketAddr>().is_ok())
        };
        let listeners = server.lines.iter().filter(is_listener).count();
        assert_eq!(listeners, server.lines.len(), "{:?}", server.lines);
    }
}

#[test]
fn slow_namespace_admits_after_300_ms_with_any_connect_data() {
    let server = Plain::start("interop");
    for auth in ["", "{\"ms\":0}", "{\"ms\":60000}"] {
        let mut client = RawClient::connect(server.address(0));
        client.open_websocket("/socket.io/");
        let sent = Instant::now();
        client.send_text(format!("40/slow,{auth}"));
        // No ping is answered, so the server ends the session 3 s after it was opened: a longer
        // delay brings no answer.
        let answer = loop {
            match client.frame() {
                Frame::Text(ping) if ping == "2" => {}
                Frame::Text(answer) => break answer,
                frame => panic!("no answer but {frame:?}"),
            }
        };
        assert!(answer.starts_with("40/slow,{"), "{answer}");
        assert!(sent.elapsed() >= Duration::from_millis(300), "{auth}");
    }
}

#[test]
fn conformance_disconnects_a_client_without_a_namespace_after_1000_ms() {
    let server = Plain::start("conformance");
    let start = Instant::now();
    let mut client = RawClient::connect(server.address(0));
    client.open_websocket("/socket.io/");
    // Pings are answered, so a missing pong is not the cause.
    client.expect_close();
    assert!(start.elapsed() >= Duration::from_millis(1000));
}

#[test]
fn client_suite_answers_no_handshake_before_10_ms() {
    let server = Plain::start("client_suite");
    // One slow handshake would hide a missing delay, twenty do not.
    for _ in 0..20 {
        let start = Instant::now();
        server.open(0);
        assert!(start.elapsed() >= Duration::from_millis(10));
    }
}

#[test]
fn variables_enable_additions_to_the_contracts() {
    let variables = [("PACKED_RECOVERY", "1"), ("PING_TIMEOUT_MS", "12345")];
    let server = ServerProcess::example_with("interop", &variables);
    let mut fourth = server.address();
    fourth.set_port(fourth.port() + 3);
    let opened = RawClient::connect(fourth).get("/socket.io/?EIO=4&transport=polling");
    assert!(opened.body.contains("\"pingTimeout\":12345"), "{opened:?}");
    assert!(
        env::var("PACKED_RECOVERY").is_err(),
        "only that server has it"
    );
}
