//! The subjects of a cluster in NATS: where a message goes, and who has sent it.
//!
//! ```text
//! roomcast.KEY.all.SENDER
//! roomcast.KEY.room.NAMESPACE.ROOM.SENDER
//! roomcast.KEY.node.RECEIVER.SENDER
//! roomcast-pulse.KEY
//! ```
//!
//! Every server gets all of them, and reads no more than the subject of what is not for it.

use crate::adapter::envelope::{Channel, NodeId};

/// The subjects of one cluster, as one server uses them.
#[derive(Debug)]
pub(super) struct Subjects {
    /// What all begin with that carry envelopes, with the full stop behind it.
    prefix: String,
    /// Where servers say that they are there.
    pub(super) pulse: String,
    /// The name of the stream that keeps what was sent for a while.
    pub(super) stream: String,
    /// The name of this server as the last part of the subjects to which it sends.
    sender: String,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver<'a> {
    All,
    /// Servers on which the room with this [name](room) is open.
    Room(&'a str),
    /// Nobody who is known: it is not a subject to which servers of this version send.
    Unknown,
}

impl Subjects {
    pub(super) fn new(key: &str, sender: &str) -> Self {
        let key = token(key);
        Self {
            prefix: format!("roomcast.{key}."),
            pulse: format!("roomcast-pulse.{key}"),
            stream: format!("roomcast-{key}"),
            sender: token(sender),
        }
    }

    /// Everything that carries envelopes.
    pub(super) fn everything(&self) -> String {
        format!("{}>", self.prefix)
    }

    /// Where an envelope is sent.
    pub(super) fn of(&self, channel: Channel<'_>) -> String {
        let Self { prefix, sender, .. } = self;
        let name = match channel {
            Channel::Room(namespace, name) => room(namespace, name.as_str()),
            Channel::Node(node) => return self.to(node),
            Channel::All => None,
        };
        match name {
            Some(name) => format!("{prefix}room.{name}.{sender}"),
            None => format!("{prefix}all.{sender}"),
        }
    }

    /// Where an envelope for one server is sent.
    pub(super) fn to(&self, node: &NodeId) -> String {
        let Self { prefix, sender, .. } = self;
        format!("{prefix}node.{}.{sender}", token(node.as_str()))
    }

    /// Whether NATS says that an envelope must not be sent.
    pub(super) fn is_forbidden(&self, error: &str) -> bool {
        let error = error.to_lowercase();
        let refusal = format!("permissions violation for publish to \"{}", self.prefix);
        error.contains(&refusal.to_lowercase())
    }

    /// The receivers of a message that has come; `None` if it is this server's own, or for another server alone.
    pub(super) fn receiver<'a>(&self, subject: &'a str) -> Option<Receiver<'a>> {
        let path = subject.strip_prefix(&*self.prefix);
        let Some((to, sender)) = path.and_then(|path| path.rsplit_once('.')) else {
            return Some(Receiver::Unknown);
        };
        if sender == self.sender {
            return None;
        }
        match to.split_once('.') {
            None if to == "all" => Some(Receiver::All),
            Some(("room", name)) => Some(Receiver::Room(name)),
            Some(("node", node)) if node == self.sender => Some(Receiver::All),
            Some(("node", _)) => None,
            Some(_) | None => Some(Receiver::Unknown),
        }
    }
}

/// What a sealed message on a subject is bound to: the subject without the name of the cluster, which is part of the
/// key already. Words of servers are bound to their whole subject.
pub(super) fn place(subject: &str) -> &[u8] {
    subject.splitn(3, '.').nth(2).unwrap_or(subject).as_bytes()
}

/// The part of a subject that says which room; `None` if that would be longer than a subject should be. What is
/// for such a room goes to everybody.
pub(super) fn room(namespace: &str, room: &str) -> Option<String> {
    let name = format!("{}.{}", token(namespace), token(room));
    (name.len() <= MAX_ROOM).then_some(name)
}

/// The name of the key-value bucket of a cluster, for which NATS permits fewer characters than for subjects.
pub(super) fn bucket(key: &str) -> String {
    format!("roomcast-{}", escaped(key, b"-", '_'))
}

/// A text as one part of a subject: letters, digits, `-` and `_` as they are, of everything else the bytes.
pub(super) fn token(text: &str) -> String {
    escaped(text, b"-_", '=')
}

/// Letters, digits and what is `plain` as they are, of everything else the bytes, each behind a sign.
fn escaped(text: &str, plain: &[u8], sign: char) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            token.push(char::from(byte));
        } else {
            token.push(sign);
            let digits = [byte >> 4, byte & 15];
            token.extend(
                digits
                    .iter()
                    .filter_map(|digit| char::from_digit((*digit).into(), 16)),
            );
        }
    }
    token
}

/// The longest name of a room with its namespace, in bytes of a subject.
const MAX_ROOM: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Room;

    #[test]
    fn what_is_sent_is_for_those_whom_its_subject_names() {
        let [a, b] = ["a", "b*"].map(|name| NodeId::new(name).unwrap());
        let sender = Subjects::new("k.1", a.as_str());
        let receiver = Subjects::new("k.1", b.as_str());
        let other = Subjects::new("k.2", b.as_str());
        let lobby = Room::from("lobby > 1");
        let long = Room::from("x".repeat(300));
        let name = room("/", "lobby > 1").unwrap();
        for (channel, subject, expected) in [
            (Channel::All, "roomcast.k=2e1.all.a", Some(Receiver::All)),
            (
                Channel::Room("/", &lobby),
                "roomcast.k=2e1.room.=2f.lobby=20=3e=201.a",
                Some(Receiver::Room(&name)),
            ),
            (
                Channel::Room("/", &long),
                "roomcast.k=2e1.all.a",
                Some(Receiver::All),
            ),
            (
                Channel::Node(&b),
                "roomcast.k=2e1.node.b=2a.a",
                Some(Receiver::All),
            ),
            (Channel::Node(&a), "roomcast.k=2e1.node.a.a", None),
        ] {
            assert_eq!(sender.of(channel), subject);
            assert_eq!(receiver.receiver(subject), expected, "{subject}");
            assert_eq!(sender.receiver(subject), None, "{subject} is its own");
            assert_eq!(
                other.receiver(subject),
                Some(Receiver::Unknown),
                "{subject} is of another cluster"
            );
        }
        for subject in [
            "",
            "roomcast.k=2e1.",
            "roomcast.k=2e1.all",
            "roomcast.k=2e1.x.y.a",
        ] {
            assert_eq!(
                receiver.receiver(subject),
                Some(Receiver::Unknown),
                "{subject}"
            );
        }
    }
}
