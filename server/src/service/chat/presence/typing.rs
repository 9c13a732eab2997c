//! The users who type in one conversation, as plain data: events and the time go in, notices come
//! out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::Size;
use crate::service::rules::emissions::attendance::User;
use roomcast::SocketId;

/// The typing users.
#[derive(Debug, Default)]
pub(in crate::service) struct Typing {
    users: HashMap<Arc<str>, Typist>,
    /// Each user once, by the time at which typing expires.
    ends: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Typist {
    name: Arc<str>,
    /// The socket of the last typing event, which gets no notice of the end. `None` if the user
    /// types on another server.
    socket: Option<SocketId>,
    end: Instant,
    announced: Instant,
}

impl Typing {
    /// Returns the number of typing users, and their bytes.
    pub(in crate::service::chat) fn size(&self) -> Size {
        let ends = self.ends.len();
        Size::of_map(&self.users).with_index(Size::of::<(Instant, Arc<str>)>(ends, ends))
    }

    /// Returns whether no user is typing.
    pub(in crate::service) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Records that a user types. Returns whether this must be emitted.
    ///
    /// Continued typing is emitted again at intervals, for sockets that have joined since. Without
    /// a socket the user types on another server, which announces it at intervals, and also its
    /// end.
    pub(in crate::service) fn start(
        &mut self,
        now: Instant,
        user: &User,
        socket: Option<SocketId>,
    ) -> bool {
        let end = now
            + if socket.is_some() {
                EXPIRY
            } else {
                REMOTE_EXPIRY
            };
        let announce = match self.users.get_mut(&user.user_id) {
            Some(typist) => {
                self.ends.remove(&(typist.end, Arc::clone(&user.user_id)));
                typist.end = end;
                typist.socket = socket;
                // Clients send an event with every key. Emitting each would cost more than the
                // messages.
                let announce = now.duration_since(typist.announced) >= REPEAT;
                if announce {
                    typist.announced = now;
                }
                announce
            }
            None => {
                // Any client can claim to type, and no client can show a thousand names.
                if self.users.len() >= MAX_TYPISTS {
                    return false;
                }
                let typist = Typist {
                    name: Arc::clone(&user.name),
                    socket,
                    end,
                    announced: now,
                };
                self.users.insert(Arc::clone(&user.user_id), typist);
                true
            }
        };
        self.ends.insert((end, Arc::clone(&user.user_id)));
        announce
    }

    /// Records that a user has stopped typing. Returns the user to emit this for, or `None` if the
    /// user did not type.
    pub(in crate::service) fn stop(&mut self, user: &str) -> Option<User> {
        let (user_id, typist) = self.users.remove_entry(user)?;
        self.ends.remove(&(typist.end, Arc::clone(&user_id)));
        Some(User {
            user_id,
            name: typist.name,
        })
    }

    /// Returns when [`Typing::handle_timeout`] is due.
    pub(in crate::service) fn poll_timeout(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Returns a user whose typing has expired, with the socket. Must be called until it returns
    /// `None`.
    pub(in crate::service) fn handle_timeout(
        &mut self,
        now: Instant,
    ) -> Option<(User, Option<SocketId>)> {
        self.ends.first().filter(|(end, _)| *end <= now)?;
        let (_, user_id) = self.ends.pop_first()?;
        let typist = self.users.remove(&user_id)?;
        let user = User {
            user_id,
            name: typist.name,
        };
        Some((user, typist.socket))
    }
}

/// Time after which typing expires without a further event.
const EXPIRY: Duration = Duration::from_secs(6);

/// Time after which typing on another server expires without an announcement.
///
/// The last one may be up to [`REPEAT`] late.
const REMOTE_EXPIRY: Duration = Duration::from_secs(9);

/// The interval at which continued typing is emitted again.
const REPEAT: Duration = Duration::from_secs(2);

/// The maximum number of users shown as typing in a conversation.
const MAX_TYPISTS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_announced_once_and_repeated_after_the_interval() {
        let (mut typing, now) = (Typing::default(), Instant::now());
        assert!(typing.start(now, &user("ann"), socket(1)));
        assert!(!typing.start(now + REPEAT / 2, &user("ann"), socket(1)));
        assert!(typing.start(now + REPEAT, &user("ann"), socket(1)));
        assert!(!typing.start(now + REPEAT, &user("ann"), socket(1)));
        assert!(typing.start(now, &user("bob"), socket(1)));
    }

    #[test]
    fn typing_stop_is_announced_once() {
        let (mut typing, now) = (Typing::default(), Instant::now());
        assert_eq!(typing.stop("ann"), None);
        typing.start(now, &user("ann"), socket(1));
        assert_eq!(typing.stop("ann"), Some(user("ann")));
        assert_eq!(typing.stop("ann"), None);
        assert!(typing.is_empty());
        assert_eq!(typing.poll_timeout(), None);
        assert!(typing.start(now, &user("ann"), socket(1)));
    }

    #[test]
    fn typing_expires_after_the_last_event() {
        let (mut typing, now) = (Typing::default(), Instant::now());
        typing.start(now, &user("ann"), socket(1));
        typing.start(now + EXPIRY / 2, &user("ann"), socket(2));
        typing.start(now, &user("bob"), socket(1));
        assert_eq!(typing.poll_timeout(), Some(now + EXPIRY));
        assert_eq!(
            typing.handle_timeout(now + EXPIRY),
            Some((user("bob"), socket(1)))
        );
        assert_eq!(typing.handle_timeout(now + EXPIRY), None);
        assert_eq!(
            typing.handle_timeout(now + EXPIRY / 2 + EXPIRY),
            Some((user("ann"), socket(2)))
        );
        assert!(typing.is_empty());
        assert_eq!(typing.poll_timeout(), None);
    }

    #[test]
    fn remote_typing_ends_on_stop_or_expiry() {
        let (mut typing, now) = (Typing::default(), Instant::now());
        assert!(typing.start(now, &user("ann"), None));
        assert_eq!(typing.handle_timeout(now + EXPIRY + REPEAT), None);
        let end = now + REMOTE_EXPIRY;
        assert_eq!(typing.handle_timeout(end), Some((user("ann"), None)));
        assert!(typing.start(now, &user("ann"), None));
        assert_eq!(typing.stop("ann"), Some(user("ann")));
        assert!(typing.is_empty());
    }

    #[test]
    fn typists_beyond_the_limit_are_not_shown() {
        let (mut typing, now) = (Typing::default(), Instant::now());
        for n in 0..MAX_TYPISTS {
            assert!(typing.start(now, &user(&n.to_string()), socket(1)));
        }
        assert!(!typing.start(now, &user("one more"), socket(1)));
        assert_eq!(typing.stop("one more"), None);
        assert_eq!(typing.stop("0"), Some(user("0")));
        assert!(typing.start(now, &user("one more"), socket(1)));
    }

    fn socket(n: u32) -> Option<SocketId> {
        SocketId::parse(&format!("{n:020}"))
    }

    fn user(id: &str) -> User {
        User {
            user_id: id.into(),
            name: "name".into(),
        }
    }
}
