//! Incoming packets of a client: its connection with namespace slots, event queues, and `CONNECT`s.
//!
//! The engine drives a connection as its application. No other module of `socket` imports this one.
//! A connection waits for admissions, middleware and handlers in one set of jobs. Therefore this
//! module is above both `dispatch` and `connect`, and `connection` and `event_queues` import each
//! other. It must not know how servers are built or served.

mod connecting;
mod connection;
mod event_queues;
mod joins;
mod v3;
