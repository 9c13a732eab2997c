//! Sections of what the server sends to services by itself: questions, webhooks and spans.

mod ask;
mod otlp;
mod webhooks;

pub use ask::Ask;
pub use otlp::Otlp;
pub use webhooks::Webhooks;
