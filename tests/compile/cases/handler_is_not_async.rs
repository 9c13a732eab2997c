use roomcast::{Event, Io};

fn main() {
    let mut io = Io::builder();
    io.namespace("/").on("say", |event: Event, text: String| {
        event.socket.emit("said", text);
    });
}
