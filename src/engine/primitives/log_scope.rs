//! The connection that a thread currently works for, for log lines.
//!
//! The driver of a session and the calls of handlers enter a scope. A log writer asks for the
//! fields only when it writes a line, so connections cost nothing per delivery.

use std::{cell::RefCell, fmt, marker::PhantomData, net::SocketAddr, sync::Arc};

use super::ConnectionId;

/// The fields of log lines about a connection.
#[derive(Clone, Debug)]
pub struct LogFields {
    /// The id of the connection.
    pub connection: ConnectionId,
    /// The address of the client.
    pub address: SocketAddr,
    /// The user, after the client has entered a namespace.
    pub user: Option<String>,
    /// The id of the socket, after the client has entered a namespace.
    pub socket: Option<String>,
}

/// A connection or a socket.
pub(crate) trait LogSource: Send + Sync {
    /// Returns the fields. A line can be written while locks are held, so this must not wait.
    fn log_fields(&self) -> LogFields;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn LogSource>>> = const { RefCell::new(None) };
}

/// Until it is dropped, log lines of this thread are about a connection.
#[must_use = "the scope ends when it is dropped"]
pub struct LogScope {
    previous: Option<Arc<dyn LogSource>>,
    /// The scope belongs to its thread.
    on_thread: PhantomData<*const ()>,
}

impl LogScope {
    pub(crate) fn enter(source: Arc<dyn LogSource>) -> Self {
        let previous = CURRENT.try_with(|current| current.replace(Some(source)));
        Self {
            previous: previous.ok().flatten(),
            on_thread: PhantomData,
        }
    }
}

impl Drop for LogScope {
    fn drop(&mut self) {
        let previous = self.previous.take();
        // The former source is dropped outside of the cell, because that can write a line.
        let _former = CURRENT.try_with(|current| current.replace(previous));
    }
}

impl fmt::Debug for LogScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogScope").finish_non_exhaustive()
    }
}

/// Returns the fields of the connection that this thread works for.
#[must_use]
pub fn current_log_fields() -> Option<LogFields> {
    let source = CURRENT.try_with(|current| current.try_borrow().ok()?.clone());
    source.ok().flatten().map(|source| source.log_fields())
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::Sid;

    use super::*;

    struct Source(u8);

    impl LogSource for Source {
        fn log_fields(&self) -> LogFields {
            LogFields {
                connection: ConnectionId::of(Sid::from_random([self.0; 15])),
                address: ([127, 0, 0, 1], self.0.into()).into(),
                user: None,
                socket: None,
            }
        }
    }

    #[test]
    fn inner_scope_hides_the_outer_scope_until_it_ends() {
        let port = || current_log_fields().map(|fields| fields.address.port());
        assert_eq!(port(), None);
        let outer = LogScope::enter(Arc::new(Source(1)));
        let inner = LogScope::enter(Arc::new(Source(2)));
        assert_eq!(port(), Some(2));
        drop(inner);
        assert_eq!(port(), Some(1));
        drop(outer);
        assert_eq!(port(), None);
    }
}
