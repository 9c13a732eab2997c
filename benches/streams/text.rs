//! The text of a message, which is the same for all: each piece is its number.

/// The number of characters of a piece.
pub const PIECE: usize = 20;

pub fn piece(number: usize) -> String {
    format!("{number:019} ")
}

/// Returns whether a text is that of the message from an offset on. Both ends of it are ends of
/// pieces.
pub fn is_exact(offset: usize, text: &str) -> bool {
    let length = text.len();
    offset.is_multiple_of(PIECE)
        && length.is_multiple_of(PIECE)
        && (offset..offset + length)
            .step_by(PIECE)
            .zip(text.as_bytes().chunks(PIECE))
            .all(|(at, chunk)| chunk == piece(at / PIECE).as_bytes())
}
