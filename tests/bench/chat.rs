//! The binary's own chat, without a word about its events.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    assert_clean, bench, command, count, finish,
    support::{Polling, RawClient},
};

/// `roomcast serve`, killed with this value.
pub(crate) struct Chat {
    process: Child,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

impl Chat {
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let (process, address) = spawn(folder.path(), variables);
        Self {
            process,
            address,
            _folder: folder,
        }
    }
}

fn spawn(folder: &Path, variables: &[(&str, &str)]) -> (Child, SocketAddr) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .current_dir(folder)
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("ROOMCAST_STORE", "memory:")
        .env("ROOMCAST_PROFILE", "development")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = log.by_ref().map(Result::unwrap).find_map(|line| {
        let (_, address) = line.split_once("listening on http://")?;
        let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
        address[..end.unwrap_or(address.len())].parse().ok()
    });
    // A pipe that nobody reads would stop the server sooner or later.
    std::thread::spawn(move || log.for_each(drop));
    (process, address.expect("the server says where it listens"))
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_defaults_fit_our_own_chat() {
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
fn a_chat_stores_what_it_acknowledges_once_and_in_order() {
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
        let metrics = RawClient::connect(chat.address).get("/metrics").body;
        let processed = "roomcast_message_processing_seconds_count 37\n";
        assert!(metrics.contains(processed), "with the one before the run");
    }
}

#[test]
fn a_chat_that_does_not_know_the_secret_refuses_its_tokens() {
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
fn nothing_is_written_into_a_conversation_that_people_use() {
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

#[test]
fn a_chat_without_guests_says_whom_it_refuses() {
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
