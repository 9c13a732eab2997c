//! The packets of a client on their way in: one connection with its slots for namespaces, the queues
//! in which its events wait, and its attempts to connect to namespaces.
//!
//! The engine drives a connection as its application; no other module of `socket` imports this one.
//! A connection waits for admissions, middleware and handlers in one set of jobs, which is why this
//! module lies above both `dispatch` and `connect`, and why `connection` and `event_queues` import each
//! other. Nothing in this module may know how servers are built or served.

mod connecting;
mod connection;
mod event_queues;
mod joins;
