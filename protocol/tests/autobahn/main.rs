//! The sections of the Autobahn test suite as tables of literal bytes, a text file each.
//!
//! Every row is run as a server reads it (masked) and as a client reads it, whole, byte by byte, and cut
//! in two at every place (long ones at some), always with the same outcome. A row is
//!
//! ```text
//! name | frames | events | how it ends | largest message, most fragments
//! ```
//!
//! A frame is its header as a server sends it, in hexadecimal, and its payload in quotes, which may be
//! less than was announced. `x3` repeats the bytes before it, `times 3` the frame or event. It ends
//! `idle`, or `waits` for more of a message, or with an error. The limits may be left out.

mod case;
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

/// How many cases there are; one that is added or left out on purpose changes this.
const ROWS: usize = 354;

#[test]
fn no_row_of_the_tables_is_lost_and_their_names_are_distinct() {
    let cases: Vec<Case> = FILES.iter().flat_map(|file| row::cases(file)).collect();
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), ROWS);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len());
}
