//! A load generator for any Socket.IO server, with an account of every message; `roomcast bench` is
//! made of it.
//!
//! The generator knows the server under test only by what it says on the wire: a [`Vocabulary`]
//! names the events to send, and a stamp inside the payload is found again wherever the server puts
//! it. Load is open loop: a message has a time at which it is due, and latency counts from there,
//! so that neither a stalled server nor a stalled generator can hide what it delays.
//!
//! [`run`] plays a [`Plan`] against one server and [`compare()`] alternates between two; each thread
//! has its own clients and its own figures, merged at the end. What came of it is a [`Report`] or a
//! [`Comparison`], which `serde` writes as JSON and which functions turn into text or a page.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//!
//! use roomcast::client::Options;
//! use roomcast_loadgen::{BenchError, Plan, Preset, Scenario, report_text, run};
//!
//! # fn main() -> Result<(), BenchError> {
//! let (scenario, preset) = (Scenario::Rooms, Preset::Rooms);
//! let (clients, rooms, rate) = scenario.defaults();
//! let plan = Plan {
//!     scenario,
//!     client: Options::new("http://localhost:3000"),
//!     vocabulary: preset.vocabulary(),
//!     preset: preset.name().to_owned(),
//!     clients,
//!     rooms,
//!     senders: 1,
//!     rate,
//!     payload: 128,
//!     duration: Duration::from_secs(10),
//!     warmup: Duration::from_secs(1),
//!     drain: Duration::from_secs(5),
//!     connect_rate: 1000.0,
//!     threads: 1,
//!     slow_share: 0.2,
//!     tokens: Arc::default(),
//!     server_pid: None,
//! };
//! let report = run(&plan, "many rooms")?;
//! print!("{}", report_text(&report));
//! assert!(report.is_clean());
//! # Ok(())
//! # }
//! ```

mod account;
mod clients;
mod load;
mod play;
mod report;

pub use load::{Call, Own, Plan, Preset, Scenario, Vocabulary};
pub use play::{BenchError, compare, run};
pub use report::{Comparison, Report, comparison_html, comparison_text, report_html, report_text};
