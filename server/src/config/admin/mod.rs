//! What operators connect to: the listener of metrics, and the admin UI.

mod listen;
mod ui;

pub use listen::AdminListen;
pub use ui::{AdminUi, AdminUiMode};
