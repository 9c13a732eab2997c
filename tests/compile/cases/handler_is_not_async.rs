use roomcast::{Event, Io};

fn main() {
    Io::builder().namespace("/", |namespace| {
        namespace.on("say", |event: Event, text: String| {
            event.socket.emit("said", text);
        })
    });
}
