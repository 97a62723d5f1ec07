//! A primary in a few lines: runs a Node script on N workers and prints what happens.
//!
//! `cargo run -p everup --example primary -- app.js 4`
#![expect(clippy::print_stdout, reason = "an example prints what it does")]

use everup::{Cluster, Event, Spec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let mut spec = Spec::new("node");
    spec.args = vec![args.next().ok_or("which script?")?];
    spec.workers = args
        .next()
        .map_or(Ok(2), |count| count.to_string_lossy().parse())?;
    if let Some(policy) = args.next() {
        spec.policy = match &*policy.to_string_lossy() {
            "shared" => everup::Policy::Shared,
            "round-robin" => everup::Policy::RoundRobin,
            _ => everup::Policy::LeastConnections,
        };
    }
    let (cluster, mut events) = Cluster::start(spec)?;
    while let Some(event) = events.recv_blocking() {
        println!("{event:?}");
        if let Event::Error { .. } = event {
            cluster.stop();
        }
    }
    println!("{:?}", cluster.join());
    Ok(())
}
