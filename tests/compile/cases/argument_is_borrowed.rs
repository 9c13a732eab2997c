use roomcast::{Event, Io};

async fn say(_: Event, _: &str) {}

fn main() {
    Io::builder().namespace("/").on("say", say);
}
