//! Sections of what the server sends to services by itself: webhooks and spans.

mod otlp;
mod webhooks;

pub use otlp::Otlp;
pub use webhooks::Webhooks;
