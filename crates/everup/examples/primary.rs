//! A primary in a few lines: runs a Node script on N workers and prints what happens.
//!
//! `cargo run -p everup --example primary -- app.js 4`
#![expect(clippy::print_stdout, reason = "an example prints what it does")]

use everup::{Cluster, Event, Policy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let script = args.next().ok_or("which script?")?;
    let workers: u32 = args.next().map_or(Ok(2), |count| count.parse())?;
    let policy = match args.next().as_deref() {
        Some("shared") => Policy::Shared,
        Some("round-robin") => Policy::RoundRobin,
        _ => Policy::default(),
    };
    let (cluster, mut events) = Cluster::builder()
        .node(script)
        .workers(workers)
        .policy(policy)
        .start()?;
    while let Some(event) = events.recv_blocking() {
        println!("{event:?}");
        if let Event::Error { .. } = event {
            cluster.stop();
        }
    }
    println!("{:?}", cluster.join());
    Ok(())
}
