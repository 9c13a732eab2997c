use roomcast::{Event, Io};

struct Database;

async fn save(_: Event, _: Database, _: u32) {}

fn main() {
    Io::builder().state(Database).namespace("/", |namespace| namespace.on("save", save));
}
