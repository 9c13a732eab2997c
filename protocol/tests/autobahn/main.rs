//! The sections of the Autobahn test suite as tables of literal bytes, one text file each.
//!
//! Every row is decoded as a server (masked) and as a client. Its bytes arrive as a whole, byte by
//! byte, and split in two at every position (long rows at some positions). The outcome must always
//! be the same. A row is
//!
//! ```text
//! name | frames | events | how it ends | largest message, most fragments
//! ```
//!
//! A frame is its header as a server sends it, in hexadecimal, and its payload in quotes, which may
//! be shorter than announced. `x3` repeats the bytes before it, `times 3` the frame or event. A row
//! ends with `idle`, with `waits` (for the rest of a message), or with an error. The limits are
//! optional.
//!
//! Sections 12 and 13 are in `deflate`, because their messages are generated.

mod case;
mod deflate;
mod row;

use case::Case;

macro_rules! sections {
    ($($name:ident = $file:literal;)+) => {
        const FILES: &[&str] = &[$(include_str!(concat!("cases/", $file, ".txt"))),+];

        $(
            #[test]
            fn $name() {
                for case in row::cases(include_str!(concat!("cases/", $file, ".txt"))) {
                    case.check();
                }
            }
        )+
    };
}

sections! {
    framing = "1_framing";
    pings = "2_pings";
    reserved_bits = "3_reserved_bits";
    opcodes = "4_opcodes";
    fragmentation = "5_fragmentation";
    utf8 = "6_utf8";
    utf8_stress = "6_utf8_stress";
    close = "7_close";
    limits = "9_limits";
    misc = "10_misc";
}

/// The number of cases; adding or removing a case intentionally changes this.
const ROWS: usize = 354;

#[test]
fn no_table_row_is_lost_and_names_are_distinct() {
    let cases: Vec<Case> = FILES.iter().flat_map(|file| row::cases(file)).collect();
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), ROWS);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len());
}
