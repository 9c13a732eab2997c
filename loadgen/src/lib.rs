//! A load generator for any Socket.IO server that accounts for every message; the basis of
//! `roomcast bench`.
//!
//! The generator knows the server under test only by its messages: a [`Vocabulary`] names the
//! events to send, and a stamp in each payload identifies it wherever the server puts it. Load is
//! open loop: each message has a due time, from which its latency counts. So neither a stalled
//! server nor a stalled generator can hide delays.
//!
//! [`run`] plays a [`Plan`] against one server and [`compare()`] alternates between two. Each
//! thread has its own clients and its own figures, which are merged at the end. The result is a
//! [`Report`] or a [`Comparison`], which `serde` writes as JSON and functions format as text or a
//! page.
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

pub use load::{Call, OwnMessages, Plan, Preset, Scenario, Vocabulary};
pub use play::{BenchError, compare, run};
pub use report::{Comparison, Report, comparison_html, comparison_text, report_html, report_text};
