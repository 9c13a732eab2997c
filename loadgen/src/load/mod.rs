//! The load of a run: the plan with its scenario, the events of the server under test, the schedule
//! of the messages, and the stamp that identifies each message.
//!
//! All other folders import this one, and the caller of a run fills in its [`Plan`]. This folder
//! imports no other. It opens no connection and collects no figures. It must not know the senders,
//! the results, or their reports.

mod answer;
mod plan;
mod scenario;
mod schedule;
mod stamp;
mod vocabulary;

pub(crate) use answer::{error_event, refusal, seq};
pub use plan::Plan;
#[cfg(test)]
pub(crate) use plan::tests::small_plan;
pub use scenario::Scenario;
pub(crate) use schedule::{Tick, pace};
pub(crate) use stamp::{PayloadCheck, Stamp, Stamps};
pub use vocabulary::{Call, OwnMessages, Preset, Vocabulary};
pub(crate) use vocabulary::{CallArguments, Placeholders};
