//! The events of the namespace `/admin` with their rows, in both directions, and the types that they carry.
//!
//! `commands` has what admins ask for, `emissions` what they are told. The gateway registers the commands, `api`
//! answers them and emits, and `policy` lists the rows for checks and documents. As in all of `rules` there are values
//! in here and functions of values: nothing in this folder may know a socket or who is an admin.

pub(crate) mod commands;
pub(crate) mod emissions;
