//! The subjects of a cluster in NATS: the receivers of a message, and its sender.
//!
//! ```text
//! roomcast.KEY.all.SENDER
//! roomcast.KEY.room.NAMESPACE.ROOM.SENDER
//! roomcast.KEY.node.RECEIVER.SENDER
//! roomcast-pulse.KEY
//! ```
//!
//! Every server receives all of them, and only reads the subject of messages for other servers.

use crate::adapter::envelope::{Channel, NodeId};

/// The subjects of one cluster, as one server uses them.
#[derive(Debug)]
pub(super) struct Subjects {
    /// The prefix of all subjects for envelopes, including the trailing full stop.
    prefix: String,
    /// The subject of pulses.
    pub(super) pulse: String,
    /// The name of the stream that stores messages for a limited time.
    pub(super) stream: String,
    /// The name of this server as the last part of its subjects.
    sender: String,
}

/// The receivers of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver<'a> {
    All,
    /// Servers on which the room with this [name](room) is open.
    Room(&'a str),
    /// Unknown: servers of this version do not send to this subject.
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

    /// Returns the pattern of all subjects for envelopes.
    pub(super) fn everything(&self) -> String {
        format!("{}>", self.prefix)
    }

    /// Returns the subject for an envelope.
    pub(super) fn of(&self, channel: Channel<'_>) -> String {
        let Self { prefix, sender, .. } = self;
        let name = match channel {
            Channel::Room(namespace, name) => room(namespace, name.as_str()),
            Channel::Node(node) => return self.to(node),
            Channel::All => None,
        };
        match name {
            Some(name) => [prefix.as_str(), "room.", &name, ".", sender].concat(),
            None => [prefix.as_str(), "all.", sender].concat(),
        }
    }

    /// Returns the subject for an envelope to one server.
    pub(super) fn to(&self, node: &NodeId) -> String {
        let Self { prefix, sender, .. } = self;
        format!("{prefix}node.{}.{sender}", token(node.as_str()))
    }

    /// Returns whether an error of NATS means that this user may not send an envelope.
    pub(super) fn is_forbidden(&self, error: &str) -> bool {
        let error = error.to_lowercase();
        let refusal = format!("permissions violation for publish to \"{}", self.prefix);
        error.contains(&refusal.to_lowercase())
    }

    /// Returns the receivers of a message. Returns `None` if this server sent it, or if it is for
    /// another server.
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

/// Returns the place to which a sealed message on a subject is bound. It is the subject without the
/// name of the cluster, which is already part of the key. Pulses are bound to their whole subject.
pub(super) fn place(subject: &str) -> &[u8] {
    subject.splitn(3, '.').nth(2).unwrap_or(subject).as_bytes()
}

/// Returns the part of a subject that identifies a room. Returns `None` if it would be too long for
/// a subject. Messages for such a room go to all servers.
pub(super) fn room(namespace: &str, room: &str) -> Option<String> {
    let name = [&*token(namespace), ".", &*token(room)].concat();
    (name.len() <= MAX_ROOM).then_some(name)
}

/// Returns a text as one part of a subject. Letters, digits, `-` and `_` stay unchanged. Each other
/// byte becomes `=` and its hexadecimal digits.
fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            token.push(char::from(byte));
        } else {
            token.push('=');
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

/// The maximum length of a room's name with its namespace, in bytes of a subject.
const MAX_ROOM: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Room;

    #[test]
    fn subject_names_the_receivers_of_a_message() {
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
