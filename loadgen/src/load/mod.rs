//! What a run says, and when: the plan with its scenario, the events of the server under test, the
//! schedule of the messages, and the stamp by which each message is known again.
//!
//! Every other folder imports this one, and whoever starts a run fills in its [`Plan`]. It imports no
//! other folder. It opens no connection and collects no figures: it must not know who sends, what came
//! of it, and who is told.

mod answer;
mod plan;
mod scenario;
mod schedule;
mod stamp;
mod vocabulary;

pub(crate) use answer::{reason, refusal, seq};
pub use plan::Plan;
#[cfg(test)]
pub(crate) use plan::tests::small_plan;
pub use scenario::Scenario;
pub(crate) use schedule::{Tick, pace};
pub(crate) use stamp::{PayloadCheck, Stamp, Stamps};
pub(crate) use vocabulary::{Blanks, Spoken};
pub use vocabulary::{Call, Own, Preset, Vocabulary};
