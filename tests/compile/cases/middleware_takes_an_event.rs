use roomcast::{Event, Io, Refusal};

async fn let_in(_: Event) -> Result<(), Refusal> {
    Ok(())
}

fn main() {
    Io::builder().namespace("/", |namespace| namespace.middleware(let_in));
}
