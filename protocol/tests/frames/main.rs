//! Frames from peers that mean harm, and frames against another implementation.

mod both;
mod hostile;
mod oracle;
mod reserved_bits;
mod support;
