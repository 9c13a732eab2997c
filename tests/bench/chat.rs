//! The binary's own chat, without a word about its events.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{assert_clean, bench, count};

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

#[test]
fn rooms_of_a_chat_that_has_one_are_refused_before_anything_is_sent() {
    let chat = Chat::start(&[]);
    let outcome = bench(&format!("rooms http://{}", chat.address));
    assert!(
        outcome.error().contains("preset chat has 1 room"),
        "{}",
        outcome.err
    );
}

#[test]
fn a_chat_without_guests_says_whom_it_refuses() {
    let chat = Chat::start(&[
        ("ROOMCAST_PROFILE", "production"),
        ("ALLOWED_ORIGINS", "http://a.example"),
    ]);
    let outcome = bench(&format!("fanout http://{}", chat.address));
    assert!(
        outcome
            .error()
            .contains("refuses the namespace: unauthorized"),
        "{}",
        outcome.err
    );
}
