//! The sections of the Autobahn test suite as tables of literal bytes.
//!
//! Every row is run as a server reads it (masked) and as a client reads it, whole, byte by byte, and cut
//! in two at every place (long ones at some), always with the same outcome.

mod table;

mod s10_misc;
mod s1_framing;
mod s2_pings;
mod s3_reserved_bits;
mod s4_opcodes;
mod s5_fragmentation;
mod s6_utf8;
mod s6_utf8_stress;
mod s7_close;
mod s9_limits;

use table::Case;

const TABLES: &[&[Case]] = &[
    s1_framing::CASES,
    s2_pings::CASES,
    s3_reserved_bits::CASES,
    s4_opcodes::CASES,
    s5_fragmentation::CASES,
    s6_utf8::CASES,
    s6_utf8_stress::CASES,
    s7_close::CASES,
    s9_limits::CASES,
    s10_misc::CASES,
];

#[test]
fn the_table_has_at_least_200_rows_of_distinct_names() {
    let mut names: Vec<_> = TABLES.iter().copied().flatten().map(Case::name).collect();
    let rows = names.len();
    assert!(rows >= 200, "{rows} rows");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rows);
}
