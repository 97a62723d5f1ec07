//! The load client as a program: prints its report as JSON.

use anyhow::{Context, Result, bail};
use e2e::load::{Length, Pace, Plan, run};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const USAGE: &str =
    "usage: e2e-load ADDRESS:PORT [--path P] [--keep-alive] [--concurrency N | --rate PER_SECOND]
                [--requests N | --seconds S] [--timeout-ms MS] [--targets N (addresses 127.0.0.1 to N)]";

fn main() -> Result<()> {
    let report = run(&plan()?)?;
    writeln!(std::io::stdout(), "{}", report.json())?;
    Ok(())
}

fn plan() -> Result<Plan> {
    let mut args = std::env::args().skip(1);
    let target: SocketAddr = args.next().context(USAGE)?.parse().context(USAGE)?;
    let mut plan = Plan::fresh(target, 64, 10_000);
    while let Some(name) = args.next() {
        let mut value = || {
            args.next()
                .with_context(|| format!("{name} needs a value\n{USAGE}"))
        };
        match name.as_str() {
            "--path" => plan.path = value()?,
            "--keep-alive" => plan.keep_alive = true,
            "--concurrency" => {
                plan.pace = Pace::Closed {
                    concurrency: value()?.parse()?,
                }
            }
            "--rate" => {
                plan.pace = Pace::Open {
                    per_second: value()?.parse()?,
                    at_most: 10_000,
                }
            }
            "--requests" => plan.length = Length::Requests(value()?.parse()?),
            "--seconds" => plan.length = Length::For(Duration::from_secs_f64(value()?.parse()?)),
            "--timeout-ms" => plan.timeout = Duration::from_millis(value()?.parse()?),
            "--targets" => {
                let count: u8 = value()?.parse()?;
                let address = |last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), target.port()));
                plan.targets = (1..=count).map(address).collect();
            }
            _ => bail!("{name}: unknown\n{USAGE}"),
        }
    }
    Ok(plan)
}
