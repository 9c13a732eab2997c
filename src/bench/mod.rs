//! `roomcast bench`: load for any Socket.IO server, and what came of it.
//!
//! It knows the server under test only by what it says on the wire: a [`Vocabulary`] names the
//! events to send, and a [`Stamp`](stamp::Stamp) inside the payload is found again wherever the
//! server puts it. Load is open loop: a message has a time at which it is due, and latency counts
//! from there, so that neither a stalled server nor a stalled generator can hide what it delays.
//!
//! [`run`](run::run) plays a [`Plan`] against one server; [`compare`](compare::compare) alternates
//! between two. Each thread has its own clients and its own figures, merged at the end.

mod cast;
mod chat;
mod compare;
mod completion;
mod connect;
mod host;
mod html;
mod ledger;
mod plan;
mod preflight;
mod progress;
mod report;
mod run;
mod schedule;
mod shard;
mod stamp;
mod stats;
mod svg;
mod text;
mod vocabulary;

pub(crate) use compare::compare;
pub(crate) use html::{comparison as comparison_html, page as report_html};
pub(crate) use plan::{Plan, Scenario};
pub(crate) use run::{BenchError, run};
pub(crate) use text::{comparison as comparison_text, summary as report_text};
pub(crate) use vocabulary::{Call, Own, Preset, Vocabulary};
