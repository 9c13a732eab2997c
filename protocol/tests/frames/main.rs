//! Tests frames of hostile peers, and compares with another implementation.

mod both;
mod hostile;
mod oracle;
mod reserved_bits;
mod support;
