//! Arguments of ours in the form in which those of clients are.

use roomcast_protocol::{
    Frame,
    engine::{self, Message, payload},
    socket::{
        Args, Arguments, Decoder, EncodeError, Limits, Packet, Parser, encode::MAX_ATTACHMENTS,
    },
};

/// Arguments of the library's own events.
pub(crate) fn literal(json: &str) -> Args {
    let text = format!("3{json}");
    match Decoder::new(LIMITS).text(text.into()) {
        Ok(Some(packet)) => packet.args,
        Ok(None) | Err(_) => Args::default(),
    }
}

/// Arguments of ours in the form in which those of clients are.
pub(crate) fn arguments(parser: Parser, args: &impl Arguments) -> Result<Args, EncodeError> {
    read(parser, &parser.ack("/", 0, args)?)
}

/// The same in JSON, or in MessagePack where more binary is in them than JSON has places for.
pub(crate) fn whatever(args: &impl Arguments) -> Result<Args, EncodeError> {
    match arguments(Parser::Json, args) {
        #[cfg(feature = "msgpack")]
        Err(EncodeError::TooManyAttachments) => arguments(Parser::MessagePack, args),
        written => written,
    }
}

/// The arguments in a frame that is one packet of ours.
pub(crate) fn read(parser: Parser, frame: &Frame) -> Result<Args, EncodeError> {
    Ok(packet(parser, frame)?.args)
}

/// The name and the arguments of the event in a frame of ours.
#[cfg(feature = "cluster")]
pub(crate) fn event(parser: Parser, frame: &Frame) -> Result<(String, Args), EncodeError> {
    let packet = packet(parser, frame)?;
    Ok((packet.event_name().to_owned(), packet.args))
}

fn packet(parser: Parser, frame: &Frame) -> Result<Packet, EncodeError> {
    let mut decoder = Decoder::with_parser(parser, LIMITS);
    let mut packet = None;
    // The polling form has all parts of the packet one behind the other, attachments included.
    for message in payload::decode(frame.polling()) {
        packet = match message {
            Ok(engine::Packet::Message(Message::Text(text))) => decoder.text(text),
            Ok(engine::Packet::Message(Message::Binary(data))) => decoder.binary(data),
            Ok(_) => continue,
            Err(error) => Err(error),
        }
        .map_err(|_| EncodeError::InvalidArguments)?;
    }
    packet.ok_or(EncodeError::InvalidArguments)
}

/// Arguments of the application are not limited in size.
const LIMITS: Limits = Limits {
    max_attachments: MAX_ATTACHMENTS,
    max_bytes: usize::MAX,
    max_depth: 128,
    max_nsp: 256,
    max_connect_payload: usize::MAX,
};
