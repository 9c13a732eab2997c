//! Tests the codec with literal bytes, hostile input and round trips.

#[cfg(test)]
mod answer;
mod args;
#[cfg(test)]
mod buffered_paths;
#[cfg(test)]
mod custom;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod floats;
#[cfg(test)]
mod frame;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod msgpack;
#[cfg(test)]
mod msgpack_hostile;
#[cfg(test)]
mod msgpack_values;
#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod session;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod v3;
