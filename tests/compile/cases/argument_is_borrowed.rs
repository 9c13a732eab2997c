use roomcast::{Event, Io};

async fn say(_: Event, _: &str) {}

fn main() {
    Io::builder().namespace("/", |namespace| namespace.on("say", say));
}
