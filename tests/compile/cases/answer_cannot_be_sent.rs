use roomcast::{Event, Io};

async fn count(_: Event) -> usize {
    1
}

fn main() {
    Io::builder().namespace("/", |namespace| namespace.on("count", count));
}
