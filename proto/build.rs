//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=twinfeed");
    let files = ["twinfeed/admin/v1/admin.proto", "twinfeed/internal/v1/internal.proto"];
    let set = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The reflection service answers from this set.
    std::fs::write(out.join("descriptor.bin"), protox::prost::Message::encode_to_vec(&set))?;
    tonic_prost_build::configure().bytes(".twinfeed.internal.v1").compile_fds(set)?;
    Ok(())
}
