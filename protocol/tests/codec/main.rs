//! The codec against literal bytes, hostile input and itself.

#[cfg(test)]
mod args;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod frame;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod session;
#[cfg(test)]
mod socket;
