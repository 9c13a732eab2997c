use std::sync::Arc;

/// The name of an event, without a copy where one is known already.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    /// An event of the library itself.
    Own(&'static str),
    /// Position in the handlers of the socket's namespace.
    Registered(u32),
    /// An event for which no handler is registered.
    Wire(Arc<str>),
}

/// Names for which clients cannot send an event.
pub(crate) const RESERVED: [&str; 5] = [
    "connect",
    "connection",
    "connect_error",
    "newListener",
    "removeListener",
];
