//! Fuzzing entry point: recovery offers of clients.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use roomcast_protocol::socket::{Decoder, Limits};

use crate::{
    config::Recovery,
    engine::TestOutboxes,
    metrics::Gauge,
    socket::{
        core::{Io, Socket},
        fuzzing::admit,
        life::Claim,
        recovery::{Offer, Offset},
        types::DisconnectReason,
    },
};

/// Number of recoverable sockets. Each has missed a different event.
const SOCKETS: usize = 2;

/// Runs recovery offers, one per line.
///
/// In the input, `$P0` stands for the first socket's secret. `$O0` is the last event that its
/// client has received, and `$L0` the last event that was sent to it.
pub fn recovery_offers(data: &[u8]) {
    let builder = Io::builder()
        .recovery(Recovery::default())
        .namespace("/", |namespace| namespace);
    let io = builder
        .build()
        .expect("nothing is wrong with one namespace");
    let outboxes = TestOutboxes::polling(Arc::clone(io.metrics()));
    let sockets: Vec<Socket> = (0..SOCKETS).map(|_| admit(&io, &outboxes)).collect();
    let mut text = String::from_utf8_lossy(data).into_owned();
    for (i, socket) in sockets.iter().enumerate() {
        let first = sent(socket, i);
        socket.outbox().supersede();
        socket.close(DisconnectReason::TransportClose);
        let last = sent(socket, i);
        let pid = socket.recoverable().map(|known| known.pid);
        let pid = serde_json::to_string(&pid).unwrap_or_default();
        for (name, value) in [
            ("P", pid.trim_matches('"').to_owned()),
            ("O", first),
            ("L", last),
        ] {
            text = text.replace(&format!("${name}{i}"), &value);
        }
    }
    let mut claims: Vec<Claim> = text
        .lines()
        .take(16)
        .filter_map(|line| offer(&io, line))
        .collect();
    assert!(claims.len() <= SOCKETS, "a session was taken twice");
    let recoverable = io.metrics().gauge(Gauge::RecoverySessions);
    assert_eq!(recoverable, (SOCKETS - claims.len()) as i64);
    for claim in claims.drain(..) {
        let fresh = admit(&io, &outboxes);
        TestOutboxes::take(fresh.outbox());
        let mut old = None;
        let resumed = claim.resume(|socket| {
            old = sockets.iter().position(|known| known == socket);
            let (shared, principal) = (fresh.shared_arc(), socket.principal());
            Socket::recover(
                socket,
                shared,
                principal,
                Default::default(),
                Default::default(),
            )
        });
        resumed.expect("a claim can be used").complete_admission();
        for frame in TestOutboxes::take(fresh.outbox()) {
            let text = String::from_utf8_lossy(&frame.polling()).into_owned();
            let own = old.map(|old| format!("42[\"missed\",{old},"));
            assert!(text.starts_with("40{") || own.is_some_and(|own| text.starts_with(&own)));
        }
    }
    if let Some(table) = io.recovery_table() {
        table.close();
    }
    // Connected sockets keep their server alive, and the server keeps them alive.
    let root = io.of("/").inner();
    for socket in root.iter().flat_map(|root| root.all_sockets()) {
        socket.close(DisconnectReason::ServerNamespaceDisconnect);
    }
    assert_eq!(io.metrics().gauge(Gauge::RecoverySessions), 0);
}

/// Sends an event and returns its offset.
fn sent(socket: &Socket, number: usize) -> String {
    let known = socket
        .namespace_inner()
        .stamp(None)
        .map_or(0, |(stamp, _)| stamp.number);
    socket.emit("missed", number);
    let (number, tag) = (known + 1, None);
    Offset { number, tag }.to_string()
}

fn offer(io: &Io, line: &str) -> Option<Claim> {
    let packet = Decoder::new(Limits::default()).text(format!("0{line}").into());
    let packet = packet.ok()??;
    let offer = Offer::of(&packet.args)?;
    let table = io.recovery_table()?;
    match pin!(table.claim(offer, &packet.nsp)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(claim) => claim,
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::recovery_offers;

    #[test]
    fn the_seeds_hold() {
        let mut seeds = 0;
        for entry in std::fs::read_dir("fuzz/seeds/recovery_offers").unwrap() {
            recovery_offers(&std::fs::read(entry.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 0, "the folder has no seed");
        recovery_offers(b"");
    }
}
