use roomcast::{Event, Io};

struct Message {
    _text: String,
}

async fn say(_: Event, _: Message) {}

fn main() {
    Io::builder().namespace("/", |namespace| namespace.on("say", say));
}
