use roomcast::Io;

fn tell(io: &Io, team: u32) {
    io.to(team).emit("news", ());
}

fn main() {}
