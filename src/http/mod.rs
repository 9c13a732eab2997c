//! What is answered over HTTP beside Engine.IO.

#[cfg(feature = "ui")]
pub mod page;
