use roomcast::{Ack, Event, Io};

struct Fault;

async fn divide(_: Event) -> Result<Ack<f64>, Fault> {
    Err(Fault)
}

fn main() {
    Io::builder().namespace("/", |namespace| namespace.on("divide", divide));
}
