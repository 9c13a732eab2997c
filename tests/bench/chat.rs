//! Benchmarks of the binary's own chat, without options for its events.

use std::{
    net::SocketAddr,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    STATE, assert_clean, bench, command, count, finish,
    support::{Polling, RawClient, ServerProcess},
};

/// A process of `roomcast serve`, killed on drop.
pub(crate) struct Chat {
    process: ServerProcess,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Chat {
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let defaults = [("ROOMCAST_STORE", "memory:"), ("XDG_STATE_HOME", STATE)];
        let variables = [defaults.as_slice(), variables].concat();
        let process = ServerProcess::start(folder.path(), &variables);
        Self {
            address: process.address(),
            process,
            folder,
        }
    }

    /// Returns the number of rows in its SQLite database that match.
    fn rows(&self, of: &str) -> i64 {
        let database = rusqlite::Connection::open(self.folder.path().join("chat.db")).unwrap();
        let count = format!("SELECT count(*) FROM {of}");
        database.query_row(&count, [], |row| row.get(0)).unwrap()
    }

    fn deleted(&self) -> i64 {
        self.rows("conversations WHERE deleted_at IS NOT NULL")
    }

    /// Asserts that only the Lobby is left.
    fn assert_nothing_is_left(&self) {
        assert_eq!(self.rows("conversations WHERE deleted_at IS NULL"), 1);
        assert_eq!(self.rows("members"), 0);
    }
}

#[test]
fn defaults_fit_the_chat_server() {
    let chat = Chat::start(&[]);
    let url = format!("http://{} --json", chat.address);
    let report = assert_clean(&bench(&format!("fanout {url} --clients 10 --rate 20")));
    assert_eq!(count(&report, "/messages/sent"), 12);
    assert_eq!(
        count(&report, "/messages/delivered"),
        12 * 9,
        "senders get no copy"
    );
    assert_eq!(count(&report, "/acks/count"), 10);

    let report = assert_clean(&bench(&format!("echo {url} --clients 10 --rate 20")));
    assert_eq!(count(&report, "/messages/delivered"), 12);
    assert_clean(&bench(&format!("slow {url} --clients 10 --rate 20")));
    assert_clean(&bench(&format!("connect {url} --clients 10 --rate 20")));
    assert_clean(&bench(&format!("idle {url} --clients 10")));
}

const SECRET: (&str, &str) = (
    "ROOMCAST_AUTH__JWT__SECRET",
    "a secret of at least thirty-two bytes",
);

#[test]
fn acknowledged_bench_messages_are_stored_once_in_order() {
    for store in ["memory:", "sqlite:chat.db"] {
        let chat = Chat::start(&[SECRET, ("ROOMCAST_STORE", store)]);
        let words = format!(
            "chat http://{} --json --clients 12 --rooms 3 --rate 60 --threads 2",
            chat.address
        );
        let output = command(&words).env(SECRET.0, SECRET.1).output();
        let report = assert_clean(&finish(output.unwrap()));
        assert_eq!(count(&report, "/messages/sent"), 36);
        assert_eq!(count(&report, "/messages/delivered"), 36 * 3);
        assert_eq!(count(&report, "/stored/found"), 36, "{store}");
        assert_eq!(count(&report, "/acks/count"), 30, "0.1 s is not measured");
        assert_eq!(count(&report, "/toAll/count"), 30);
        let metrics = RawClient::connect(chat.process.admin())
            .get("/metrics")
            .body;
        let processed = "roomcast_message_processing_seconds_count 37\n";
        assert!(metrics.contains(processed), "with the one before the run");
        if store != "memory:" {
            assert_eq!(chat.deleted(), 3);
            chat.assert_nothing_is_left();
        }
    }
}

#[test]
fn chat_with_another_secret_refuses_the_tokens() {
    let chat = Chat::start(&[SECRET]);
    let words = format!("chat http://{} --clients 4 --rooms 2", chat.address);
    let output = command(&words)
        .env(SECRET.0, "another secret of thirty-two bytes")
        .output();
    let outcome = finish(output.unwrap());
    let error = outcome.error();
    assert!(error.contains("refuses: unauthorized"), "{error}");
}

#[test]
fn bench_does_not_write_into_existing_conversations() {
    let chat = Chat::start(&[]);
    let url = format!("http://{} --json --clients 8 --rate 20", chat.address);
    for scenario in ["fanout", "echo", "slow", "rooms --rooms 3"] {
        assert_clean(&bench(&format!("{scenario} {url}")));
    }
    let lobby = "00000000-0000-4000-8000-000000000001";
    let outcome = bench(&format!("fanout http://{} --room {lobby}", chat.address));
    assert!(
        outcome
            .error()
            .contains("--room: the chat's rooms are conversations that people use"),
        "{}",
        outcome.err
    );
    // Any client sees that the Lobby has no messages.
    let session = Polling::open(chat.address, "/socket.io/");
    let history = format!(r#"421["message_history",{{"conversationId":"{lobby}"}}]"#);
    for packet in ["40{}".to_owned(), history] {
        assert_eq!(session.post(packet).parts(), (200, "ok"));
    }
    let mut answers = String::new();
    while !answers.contains("431[") {
        answers += &session.poll().body;
    }
    let nothing = r#"431[{"success":true,"messages":[],"hasMore":false}]"#;
    assert!(answers.contains(nothing), "{answers}");
}

/// Waits for a condition while a benchmark runs.
fn until(bench: &mut Child, mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        assert_eq!(bench.try_wait().unwrap(), None, "it has ended");
        thread::sleep(Duration::from_millis(5)); // Poll interval.
    }
}

#[test]
fn interrupted_bench_deletes_its_conversations() {
    // First while it creates them, which takes time because there are many; then under load.
    for (rooms, is_time) in [
        (
            200,
            (|chat| chat.rows("conversations") > 3) as fn(&Chat) -> bool,
        ),
        (2, |chat| chat.rows("messages") > 20),
    ] {
        let chat = Chat::start(&[SECRET, ("ROOMCAST_STORE", "sqlite:chat.db")]);
        let words = format!(
            "chat http://{} --json --clients {} --rooms {rooms} --rate 100 --duration 600",
            chat.address,
            2 * rooms
        );
        let mut bench = command(&words);
        let bench = bench.env(SECRET.0, SECRET.1);
        let bench = bench.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut bench = bench.spawn().unwrap();
        until(&mut bench, || is_time(&chat));
        let id = Pid::from_raw(i32::try_from(bench.id()).unwrap()).unwrap();
        kill_process(id, Signal::INT).unwrap();
        let outcome = finish(bench.wait_with_output().unwrap());
        assert!([1, 2].contains(&outcome.code), "{}", outcome.err);
        let output = outcome.out.clone() + &outcome.err;
        assert!(output.contains("stopped before"), "{output}");
        assert!(!output.contains("are left"), "{output}");
        assert!(chat.deleted() > 0);
        chat.assert_nothing_is_left();
    }
}

#[test]
fn undeleted_conversations_are_reported_as_a_problem() {
    let chat = Chat::start(&[SECRET, ("ROOMCAST_STORE", "sqlite:chat.db")]);
    let words = format!(
        "chat http://{} --json --clients 4 --rooms 2 --rate 20 --duration 600",
        chat.address
    );
    let mut bench = command(&words);
    let bench = bench.env(SECRET.0, SECRET.1);
    let bench = bench.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut bench = bench.spawn().unwrap();
    until(&mut bench, || chat.rows("messages") > 20);
    chat.process.signal(Signal::KILL);
    let id = Pid::from_raw(i32::try_from(bench.id()).unwrap()).unwrap();
    kill_process(id, Signal::INT).unwrap();
    let outcome = finish(bench.wait_with_output().unwrap());
    let report = outcome.report();
    assert_eq!((outcome.code, &report["complete"]), (1, &false.into()));
    let problems = report["problems"].as_array().unwrap();
    let last = problems.last().unwrap().as_str().unwrap();
    let start = "conversations of this run are left: ";
    assert!(last.starts_with(start), "{report:#}");
}

#[test]
fn bench_reports_that_the_chat_admits_no_guests() {
    let chat = Chat::start(&[
        ("ROOMCAST_PROFILE", "production"),
        ("ALLOWED_ORIGINS", "http://a.example"),
    ]);
    let outcome = bench(&format!("fanout http://{}", chat.address));
    assert!(
        outcome.error().contains("refuses: unauthorized"),
        "{}",
        outcome.err
    );
}
