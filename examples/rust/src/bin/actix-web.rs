//! A server of a framework that wants a real listening socket: actix-web.
//!
//! ```text
//! cargo run -p everup-examples --bin actix-web    PORT, WORKERS, POLICY (reuseport or shared)
//! curl http://127.0.0.1:3000/
//! ```
//!
//! With the policies `reuseport` and `shared` the worker has a listening socket, and `into_std` gives it to whoever
//! accepts by himself. The primary keeps the socket when a worker dies: what waits in its queue is not lost. Connections
//! that everup did not give it cannot be moved to another worker at the end; so the clients are asked to come again, and
//! get a moment for it.

use std::process;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, rt, web};
use anyhow::{Result, anyhow};
use everup::{Cluster, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};

/// So long clients that keep their connection are answered with `Connection: close`. Whoever is silent for longer may meet
/// the end of the connection with a request on its way, as with every server that ends idle connections.
const FAREWELL: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    match Worker::from_env()? {
        Some(worker) => rt::System::new().block_on(serve(worker)),
        None => primary(),
    }
}

fn primary() -> Result<()> {
    let cluster = Cluster::builder()
        .workers(workers()?)
        .policy(policy(Policy::ReusePort)?);
    check(&cluster.run_with(|_, event| tell(&event))?)
}

async fn serve(worker: Worker) -> Result<()> {
    let listener = worker.listen(address()?).await?;
    let listener = listener
        .into_std()
        .map_err(|_| anyhow!("there is no socket of our own: POLICY=reuseport or shared"))?;
    let drain = worker.on_drain();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(worker.clone()))
            .route("/", web::get().to(hello))
    })
    // One thread: there is a process for every CPU.
    .workers(1)
    // Whether and when we end is the primary's to say.
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    rt::spawn(async move {
        drain.await;
        // The other workers have the socket, too: who comes now comes to them.
        handle.pause().await;
        rt::time::sleep(FAREWELL).await;
        handle.stop(true).await;
    });
    server.await?;
    Ok(())
}

async fn hello(worker: web::Data<Worker>) -> HttpResponse {
    let name = name(&worker);
    let mut answer = HttpResponse::Ok();
    if worker.drain_reason().is_some() {
        // The client is to come again, to another worker.
        answer.force_close();
    }
    let text = format!("hello from worker {name}, process {}\n", process::id());
    answer.insert_header(("x-worker", name)).body(text)
}
