//! 6.1–6.6: text is UTF-8, judged at its first bad byte.

use roomcast_protocol::websocket::FrameError::InvalidUtf8;

use crate::table::{
    Case,
    End::{Fails, Idle, Waits},
    Seen::{Binary, Ping, Text},
    case, check, f,
};

#[test]
fn utf8() {
    check(CASES);
}

pub(crate) const CASES: &[Case] = &[
    case(
        "6.1.1 empty text",
        &[f(b"\x81\x00", b"")],
        &[Text(b"")],
        Idle,
    ),
    case(
        "6.1.2 three empty fragments",
        &[
            f(b"\x01\x00", b""),
            f(b"\x00\x00", b""),
            f(b"\x80\x00", b""),
        ],
        &[Text(b"")],
        Idle,
    ),
    case(
        "6.1.3 a payload between empty fragments",
        &[
            f(b"\x01\x00", b""),
            f(b"\x00\x14", b"middle frame payload"),
            f(b"\x80\x00", b""),
        ],
        &[Text(b"middle frame payload")],
        Idle,
    ),
    case(
        "6.2.1 valid text at once",
        &[f(
            b"\x81\x1d",
            b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
        )],
        &[Text(
            b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
        )],
        Idle,
    ),
    case(
        "6.2.2 valid text cut between characters",
        &[
            f(b"\x01\x08", b"Hello-\xc2\xb5"),
            f(
                b"\x80\x15",
                b"@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
            ),
        ],
        &[Text(
            b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
        )],
        Idle,
    ),
    case(
        "6.2 valid text cut inside a character",
        &[
            f(b"\x01\x07", b"Hello-\xc2"),
            f(
                b"\x80\x16",
                b"\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
            ),
        ],
        &[Text(
            b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
        )],
        Idle,
    ),
    case(
        "6.2.3 valid text in fragments of one byte",
        &[
            f(b"\x01\x01", b"H"),
            f(b"\x00\x01", b"e"),
            f(b"\x00\x01", b"l"),
            f(b"\x00\x01", b"l"),
            f(b"\x00\x01", b"o"),
            f(b"\x00\x01", b"-"),
            f(b"\x00\x01", b"\xc2"),
            f(b"\x00\x01", b"\xb5"),
            f(b"\x00\x01", b"@"),
            f(b"\x00\x01", b"\xc3"),
            f(b"\x00\x01", b"\x9f"),
            f(b"\x00\x01", b"\xc3"),
            f(b"\x00\x01", b"\xb6"),
            f(b"\x00\x01", b"\xc3"),
            f(b"\x00\x01", b"\xa4"),
            f(b"\x00\x01", b"\xc3"),
            f(b"\x00\x01", b"\xbc"),
            f(b"\x00\x01", b"\xc3"),
            f(b"\x00\x01", b"\xa0"),
            f(b"\x00\x01", b"\xc3"),
            f(b"\x00\x01", b"\xa1"),
            f(b"\x00\x01", b"-"),
            f(b"\x00\x01", b"U"),
            f(b"\x00\x01", b"T"),
            f(b"\x00\x01", b"F"),
            f(b"\x00\x01", b"-"),
            f(b"\x00\x01", b"8"),
            f(b"\x00\x01", b"!"),
            f(b"\x80\x01", b"!"),
        ],
        &[Text(
            b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
        )],
        Idle,
    ),
    case(
        "6.2.4 κόσμε in fragments of one byte",
        &[
            f(b"\x01\x01", b"\xce"),
            f(b"\x00\x01", b"\xba"),
            f(b"\x00\x01", b"\xcf"),
            f(b"\x00\x01", b"\x8c"),
            f(b"\x00\x01", b"\xcf"),
            f(b"\x00\x01", b"\x83"),
            f(b"\x00\x01", b"\xce"),
            f(b"\x00\x01", b"\xbc"),
            f(b"\x00\x01", b"\xce"),
            f(b"\x80\x01", b"\xb5"),
        ],
        &[Text(b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5")],
        Idle,
    ),
    case(
        "6.2 four bytes of one character in four fragments and pings",
        &[
            f(b"\x01\x01", b"\xf0"),
            f(b"\x89\x01", b"p"),
            f(b"\x00\x01", b"\x9f"),
            f(b"\x89\x01", b"p"),
            f(b"\x00\x01", b"\x98"),
            f(b"\x89\x01", b"p"),
            f(b"\x80\x01", b"\x80"),
        ],
        &[
            Ping(b"p"),
            Ping(b"p"),
            Ping(b"p"),
            Text(b"\xf0\x9f\x98\x80"),
        ],
        Idle,
    ),
    case(
        "6.3.1 invalid text at once",
        &[f(
            b"\x81\x13",
            b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        )],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.3.2 invalid text in fragments of one byte",
        &[
            f(b"\x01\x01", b"\xce"),
            f(b"\x00\x01", b"\xba"),
            f(b"\x00\x01", b"\xcf"),
            f(b"\x00\x01", b"\x8c"),
            f(b"\x00\x01", b"\xcf"),
            f(b"\x00\x01", b"\x83"),
            f(b"\x00\x01", b"\xce"),
            f(b"\x00\x01", b"\xbc"),
            f(b"\x00\x01", b"\xce"),
            f(b"\x00\x01", b"\xb5"),
            f(b"\x00\x01", b"\xed"),
            f(b"\x00\x01", b"\xa0"),
            f(b"\x00\x01", b"\x80"),
            f(b"\x00\x01", b"e"),
            f(b"\x00\x01", b"d"),
            f(b"\x00\x01", b"i"),
            f(b"\x00\x01", b"t"),
            f(b"\x00\x01", b"e"),
            f(b"\x80\x01", b"d"),
        ],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.4.1 a bad fragment before the last",
        &[
            f(b"\x01\x0a", b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5"),
            f(b"\x00\x04", b"\xf4\x90\x80\x80"),
        ],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.4.2 a bad fragment at its second byte",
        &[
            f(b"\x01\x0b", b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5\xf4"),
            f(b"\x00\x01", b"\x90"),
        ],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.4.3 a bad byte before the frame is there",
        &[f(
            b"\x81\x64",
            b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5\xf4\x90",
        )],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.4.4 a bad byte alone before the frame is there",
        &[f(b"\x81\x05", b"\xc0")],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.4 a bad byte in a fragment that is not there",
        &[
            f(
                b"\x01\x0c",
                b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5\xe2\x82",
            ),
            f(b"\x00\x46", b"("),
        ],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.4 a bad byte behind a ping",
        &[
            f(b"\x01\x02", b"\xf0\x9f"),
            f(b"\x89\x00", b""),
            f(b"\x00\x02", b"\xc0"),
        ],
        &[Ping(b"")],
        Fails(InvalidUtf8),
    ),
    case(
        "6.4 an incomplete character may still come",
        &[f(
            b"\x81\x64",
            b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5\xf0\x9f\x98",
        )],
        &[],
        Waits,
    ),
    case(
        "6.4 an incomplete character between fragments",
        &[f(b"\x01\x03", b"\xf0\x9f\x98"), f(b"\x00\x00", b"")],
        &[],
        Waits,
    ),
    case(
        "6.5.1 valid text, CE BA CF 8C CF 83 CE BC CE B5",
        &[
            f(b"\x01\x01", b"\xce"),
            f(b"\x80\x09", b"\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5"),
        ],
        &[Text(b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5")],
        Idle,
    ),
    case(
        "6.5.2 valid text, F4 8F BF BF",
        &[f(b"\x01\x01", b"\xf4"), f(b"\x80\x03", b"\x8f\xbf\xbf")],
        &[Text(b"\xf4\x8f\xbf\xbf")],
        Idle,
    ),
    case(
        "6.5.3 valid text, 61 00 62",
        &[f(b"\x01\x01", b"a"), f(b"\x80\x02", b"\x00b")],
        &[Text(b"a\x00b")],
        Idle,
    ),
    case(
        "6.5.4 valid text, EF BB BF 42 4F 4D",
        &[f(b"\x01\x01", b"\xef"), f(b"\x80\x05", b"\xbb\xbfBOM")],
        &[Text(b"\xef\xbb\xbfBOM")],
        Idle,
    ),
    case(
        "6.5.5 valid text, E2 80 8D CC 81",
        &[f(b"\x01\x01", b"\xe2"), f(b"\x80\x04", b"\x80\x8d\xcc\x81")],
        &[Text(b"\xe2\x80\x8d\xcc\x81")],
        Idle,
    ),
    case(
        "6.6.1 κόσμε after 1 bytes",
        &[f(b"\x81\x01", b"\xce")],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.6.2 κόσμε after 2 bytes",
        &[f(b"\x81\x02", b"\xce\xba")],
        &[Text(b"\xce\xba")],
        Idle,
    ),
    case(
        "6.6.3 κόσμε after 3 bytes",
        &[f(b"\x81\x03", b"\xce\xba\xcf")],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.6.4 κόσμε after 4 bytes",
        &[f(b"\x81\x04", b"\xce\xba\xcf\x8c")],
        &[Text(b"\xce\xba\xcf\x8c")],
        Idle,
    ),
    case(
        "6.6.5 κόσμε after 5 bytes",
        &[f(b"\x81\x05", b"\xce\xba\xcf\x8c\xcf")],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.6.6 κόσμε after 6 bytes",
        &[f(b"\x81\x06", b"\xce\xba\xcf\x8c\xcf\x83")],
        &[Text(b"\xce\xba\xcf\x8c\xcf\x83")],
        Idle,
    ),
    case(
        "6.6.7 κόσμε after 7 bytes",
        &[f(b"\x81\x07", b"\xce\xba\xcf\x8c\xcf\x83\xce")],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.6.8 κόσμε after 8 bytes",
        &[f(b"\x81\x08", b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc")],
        &[Text(b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc")],
        Idle,
    ),
    case(
        "6.6.9 κόσμε after 9 bytes",
        &[f(b"\x81\x09", b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce")],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.6.10 κόσμε after 10 bytes",
        &[f(b"\x81\x0a", b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5")],
        &[Text(b"\xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5")],
        Idle,
    ),
    case(
        "6.6 an incomplete character in the last fragment",
        &[f(b"\x01\x02", b"a\xe2"), f(b"\x80\x01", b"\x82")],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.6 an incomplete character before an empty last fragment",
        &[f(b"\x01\x03", b"a\xe2\x82"), f(b"\x80\x00", b"")],
        &[],
        Fails(InvalidUtf8),
    ),
    case(
        "6.6 binary is not checked",
        &[f(b"\x02\x01", b"\xff"), f(b"\x80\x01", b"\xc0")],
        &[Binary(b"\xff\xc0")],
        Idle,
    ),
    case(
        "6.6 a ping is not checked",
        &[f(b"\x89\x01", b"\xff")],
        &[Ping(b"\xff")],
        Idle,
    ),
];
