//! Converts the server's own arguments to the type of received arguments.

use roomcast_protocol::{
    Frame,
    socket::{
        Args, Arguments, Decoder, EncodeError, Limits, Packet, Parser, encode::MAX_ATTACHMENTS,
    },
    websocket::Opcode,
};

/// Parses the arguments of an internal event.
pub(crate) fn literal(json: &str) -> Args {
    let text = format!("3{json}");
    match Decoder::new(LIMITS).text(text.into()) {
        Ok(Some(packet)) => packet.args,
        Ok(None) | Err(_) => Args::default(),
    }
}

/// Converts arguments to the type of received arguments.
pub(crate) fn arguments(parser: Parser, args: &dyn Arguments) -> Result<Args, EncodeError> {
    read(parser, &parser.ack("/", 0, args)?)
}

/// Converts arguments to JSON, or to MessagePack if they exceed the number of JSON attachments.
pub(crate) fn any_arguments(args: &dyn Arguments) -> Result<Args, EncodeError> {
    match arguments(Parser::Json, args) {
        #[cfg(feature = "msgpack")]
        Err(EncodeError::TooManyAttachments) => arguments(Parser::MessagePack, args),
        written => written,
    }
}

/// Returns the arguments of a frame that this server encoded as one packet.
pub(crate) fn read(parser: Parser, frame: &Frame) -> Result<Args, EncodeError> {
    Ok(packet(parser, frame)?.args)
}

/// Returns the name and arguments of the event in a frame of this server.
pub(crate) fn event(parser: Parser, frame: &Frame) -> Result<(String, Args), EncodeError> {
    let packet = packet(parser, frame)?;
    Ok((packet.event_name().to_owned(), packet.args))
}

fn packet(parser: Parser, frame: &Frame) -> Result<Packet, EncodeError> {
    let mut decoder = Decoder::with_parser(parser, LIMITS);
    let mut packet = None;
    for (opcode, message) in frame.messages() {
        let message = frame.websocket().slice_ref(message);
        packet = match opcode {
            // The first byte is the Engine.IO type, `4`.
            Opcode::Text => decoder.text(message.slice(1..)),
            Opcode::Binary => decoder.binary(message),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => continue,
        }
        .map_err(|_| EncodeError::InvalidArguments)?;
    }
    packet.ok_or(EncodeError::InvalidArguments)
}

/// Limits for the application's arguments, whose size is unlimited.
const LIMITS: Limits = Limits {
    max_attachments: MAX_ATTACHMENTS,
    max_bytes: usize::MAX,
    max_depth: 128,
    max_nsp: 256,
    max_connect_payload: usize::MAX,
};
