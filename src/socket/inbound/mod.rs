//! A client's packets on their way in: one connection with its seats in namespaces, the lanes in
//! which its events wait, and its entering.
//!
//! The engine drives it as its application; nobody in `socket` comes in here. A connection waits
//! for admissions, checks and handlers in one set of jobs, which is why it lies above both
//! `dispatch` and `connect`, and why `connection` and `lanes` import one another. Nothing in here
//! may know how servers are built or served.

mod connection;
mod entering;
mod lanes;
