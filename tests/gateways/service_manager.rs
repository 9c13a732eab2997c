//! Notifications to the service manager, the exit code by which it decides whether to restart the
//! server, and the health check.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::server::{ROOMCAST, ServerProcess};
use crate::support::{DEADLINE, RawClient};

/// A service manager that receives notifications.
struct Manager(UnixDatagram);

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    /// Waits for the next notification, and returns its first line.
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("a notification");
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines().next().unwrap().to_owned()
    }

    /// Waits for a notification other than those of the watchdog.
    fn next_state(&self) -> String {
        loop {
            let state = self.next();
            if state != "WATCHDOG=1" {
                return state;
            }
        }
    }
}

#[test]
fn a_service_manager_is_notified_of_start_reload_life_and_stop() {
    let folder = TempDir::new().unwrap();
    let manager = Manager::new(&folder.path().join("notify"));
    let variables = [
        ("NOTIFY_SOCKET", "notify"),
        ("WATCHDOG_USEC", "200000"),
        ("ROOMCAST_SERVER__DRAIN", "2s"),
    ];
    let server = ServerProcess::start(folder.path(), &variables);
    assert_eq!(manager.next_state(), "READY=1");
    let address = server.address();
    assert_eq!(RawClient::connect(address).get("/health/ready").status, 200);
    for _ in 0..5 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    assert_eq!(manager.next_state(), "RELOADING=1");
    assert_eq!(manager.next_state(), "READY=1");
    enter(address);
    let stopping = std::thread::spawn(move || server.terminate());
    assert_eq!(manager.next_state(), "STOPPING=1");
    assert_eq!(RawClient::connect(address).get("/health/ready").status, 503);
    // The server is alive while it drains.
    assert_eq!(manager.next(), "WATCHDOG=1");
    stopping.join().unwrap();
}

#[test]
fn a_service_manager_that_does_not_read_does_not_block_the_server() {
    let folder = TempDir::new().unwrap();
    let _manager = Manager::new(&folder.path().join("notify"));
    // The queue of the socket is full after some hundred notifications.
    let variables = [("NOTIFY_SOCKET", "notify"), ("WATCHDOG_USEC", "2000")];
    let server = ServerProcess::start(folder.path(), &variables);
    server.expect_log(&["could not notify the service manager", "WATCHDOG=1"]);
    let answer = RawClient::connect(server.address()).get("/health/ready");
    assert_eq!(answer.status, 200);
    server.terminate();
}

/// Opens sessions. A server with sessions drains.
fn enter(address: SocketAddr) {
    for _ in 0..10 {
        let path = "/socket.io/?EIO=4&transport=polling";
        assert_eq!(RawClient::connect(address).get(path).status, 200);
    }
}

/// Runs the program, and returns its exit code and output.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(ROOMCAST)
        .args(arguments)
        .current_dir(folder)
        .env_remove("PORT")
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("XDG_STATE_HOME", folder)
        .env("NO_COLOR", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let output = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code(), output)
}

#[test]
fn a_refused_configuration_ends_with_code_2_and_other_failures_with_1() {
    let folder = TempDir::new().unwrap();
    for refused in [
        ("ROOMCAST_STORE__QUEUE", "0"),
        ("ROOMCAST_STORE__QUEUE", "many"),
        ("ROOMCAST_SERVER__TLS__CERT_FILE", "no.pem"),
        ("ROOMCAST_LISTEN", "0.0.0.0:0"),
        ("ROOMCAST_LOG__LEVEL", "verbos"),
        ("PORT", "none"),
    ] {
        let (code, output) = run(folder.path(), &["serve"], &[refused]);
        assert_eq!(code, Some(2), "{refused:?}: {output}");
    }
    let other = ("ROOMCAST_STORE", "sqlite:no/such/folder/chat.db");
    let (code, output) = run(folder.path(), &["serve"], &[other, ("PORT", "1")]);
    assert_eq!(code, Some(2), "PORT needs keys of tokens: {output}");
    let free = ("ROOMCAST_LISTEN", "127.0.0.1:0");
    let (code, output) = run(folder.path(), &["serve"], &[other, free]);
    assert_eq!(code, Some(1), "{output}");
}

#[test]
fn health_reports_whether_the_server_is_ready_and_why_not() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let variables = [("ROOMCAST_SERVER__DRAIN", "60s")];
    let server = ServerProcess::start(folder, &variables);
    let address = server.address().to_string();
    let url = format!("http://{address}");
    let configured = ("ROOMCAST_LISTEN", address.as_str());
    for (arguments, variables) in [
        (&["health", url.as_str()][..], &[][..]),
        (&["health", &url, "--timeout", "5"], &[]),
        (&["health"], &[configured]),
    ] {
        let (code, output) = run(folder, arguments, variables);
        assert_eq!(
            (code, output.as_str()),
            (Some(0), "ready\n"),
            "{arguments:?}"
        );
    }
    let (code, output) = run(folder, &["health", &url, "--json"], &[]);
    let report: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(report["ready"], true);
    assert_eq!(report["report"]["store"], "ok");

    enter(server.address());
    server.signal(Signal::TERM);
    server.expect_log(&["stopping"]);
    let (code, output) = run(folder, &["health", &url], &[]);
    assert_eq!(code, Some(1), "{output}");
    assert_eq!(output, "roomcast: not ready: the server is draining\n");
    let (code, output) = run(folder, &["health", &url, "--json"], &[]);
    let report: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &report["ready"]), (Some(1), &false.into()));
    drop(server);
    let (code, output) = run(folder, &["health", &url], &[]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.starts_with("roomcast: cannot connect: "), "{output}");
}

#[test]
fn health_gives_up_and_accepts_only_the_report_of_a_server() {
    let folder = TempDir::new().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A connection that closes with unread data is reset, which can discard the answer.
            let request = BufReader::new(stream.try_clone().unwrap());
            let lines = request.lines().map(Result::unwrap);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).unwrap();
        }
    });
    let start = std::time::Instant::now();
    for (arguments, reason) in [
        (
            &["health", silent.as_str(), "--timeout", "1"][..],
            "no answer in time",
        ),
        (&["health", &other], "not a readiness report"),
        (&["health", "ftp://127.0.0.1"], "begins with https://"),
        (
            &["health", "http://u:canary@127.0.0.1"],
            "a user name or a password",
        ),
        (&["health"], "server.listen has port 0"),
    ] {
        let listen = ("ROOMCAST_LISTEN", "127.0.0.1:0");
        let (code, output) = run(folder.path(), arguments, &[listen]);
        assert_eq!(code, Some(1), "{arguments:?}: {output}");
        assert!(output.contains(reason), "{arguments:?}: {output}");
        assert!(!output.contains("canary"), "{output}");
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    let (code, _) = run(folder.path(), &["health", "--timeout", "0"], &[]);
    assert_eq!(code, Some(2));
}

#[test]
fn health_of_a_server_with_tls_asks_the_admin_listener() {
    let folder = TempDir::new().unwrap();
    let issued = rcgen::generate_simple_self_signed(["chat.example".to_owned()]).unwrap();
    fs::write(folder.path().join("cert.pem"), issued.cert.pem()).unwrap();
    let key = issued.signing_key.serialize_pem();
    fs::write(folder.path().join("key.pem"), key).unwrap();
    let tls = [
        ("ROOMCAST_SERVER__TLS__CERT_FILE", "cert.pem"),
        ("ROOMCAST_SERVER__TLS__KEY_FILE", "key.pem"),
    ];
    let mut command = Command::new(ROOMCAST);
    let server = ServerProcess::run(&mut command, folder.path(), &tls);
    let (address, admin) = (server.address().to_string(), server.admin().to_string());
    let own = [
        ("ROOMCAST_LISTEN", address.as_str()),
        ("ROOMCAST_SERVER__ADMIN_LISTEN", &admin),
    ];
    let variables = [&tls[..], &own].concat();
    let (code, output) = run(folder.path(), &["health"], &variables);
    assert_eq!((code, output.as_str()), (Some(0), "ready\n"));
    server.terminate();
}
