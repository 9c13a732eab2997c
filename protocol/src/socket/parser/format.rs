use super::Parser;

/// The encoding of arguments in memory. A custom parser reads and writes JSON, so its format is
/// `Json`, and [`parser`](Self::parser) does not return it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::socket) enum Format {
    #[default]
    Json,
    #[cfg(feature = "msgpack")]
    MessagePack,
}

impl Format {
    pub(in crate::socket) const fn of(parser: Parser) -> Self {
        match parser {
            Parser::Json | Parser::Custom(_) => Self::Json,
            #[cfg(feature = "msgpack")]
            Parser::MessagePack => Self::MessagePack,
        }
    }

    pub(in crate::socket) const fn parser(self) -> Parser {
        match self {
            Self::Json => Parser::Json,
            #[cfg(feature = "msgpack")]
            Self::MessagePack => Parser::MessagePack,
        }
    }
}
