use std::sync::Arc;

/// The name of an event, without a copy if it is known.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    /// An internal event of the library.
    Own(&'static str),
    /// The position in the handlers of the socket's namespace.
    Registered(u32),
    /// An event without a registered handler.
    Wire(Arc<str>),
}

/// Event names that clients cannot send.
pub(crate) const RESERVED: [&str; 5] = [
    "connect",
    "connection",
    "connect_error",
    "newListener",
    "removeListener",
];
