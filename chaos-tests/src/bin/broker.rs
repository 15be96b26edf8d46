//! `broker`: a real Kafka broker for an afternoon of trying things out, without installing one. It ends with standard
//! input (Ctrl-D) or Ctrl-C.

use anyhow::Result;
use twinfeed_chaos::broker::Broker;

fn main() -> Result<()> {
    let broker = Broker::start()?;
    println!("listening {}", broker.bootstrap());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
