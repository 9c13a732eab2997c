use roomcast::Io;

async fn say(_: String) {}

fn main() {
    Io::builder().namespace("/", |namespace| namespace.on("say", say));
}
