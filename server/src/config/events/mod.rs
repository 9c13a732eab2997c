//! Sections about events of an application: `[channels.NAME]` and `[publications]`.

mod channels;
mod publications;

pub use channels::{ChannelHistory, ChannelHook, ChannelKind};
pub use publications::Publications;
