use roomcast::Io;

fn tell(io: &Io) {
    io.send("hello");
}

fn main() {}
