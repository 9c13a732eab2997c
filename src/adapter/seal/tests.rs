//! Sealing and opening together.
