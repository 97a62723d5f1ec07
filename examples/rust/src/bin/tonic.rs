//! gRPC with tonic, one unary call, over HTTP/2 without TLS.
//!
//! ```text
//! cargo run -p everup-examples --bin tonic    PORT, WORKERS, POLICY
//! printf '\0\0\0\0\7\n\5World' | curl -sS --http2-prior-knowledge -H 'content-type: application/grpc' \
//!     -H 'te: trailers' --data-binary @- http://127.0.0.1:3000/hello.Greeter/Greet
//! ```
//!
//! The service is `rpc Greet(google.protobuf.StringValue) returns (google.protobuf.StringValue)`. `Greeter` is written
//! by hand as `tonic-build` would write it, so that no `protoc` is needed. A gRPC client keeps one connection for all
//! its calls: a draining worker tells it (GOAWAY) to make a new one, and answers what it has begun.

use std::convert::Infallible;
use std::task::{Context, Poll};

use anyhow::Result;
use everup::{Cluster, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};
use std::future::{Ready, ready};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

fn main() -> Result<()> {
    match Worker::from_env()? {
        Some(worker) => serve(worker),
        None => primary(),
    }
}

fn primary() -> Result<()> {
    let cluster = Cluster::builder()
        .workers(workers()?)
        .policy(policy(Policy::LeastConnections)?);
    check(&cluster.run_with(|_, event| tell(&event))?)
}

#[tokio::main(flavor = "current_thread")]
async fn serve(worker: Worker) -> Result<()> {
    let listener = worker.listen(address()?).await?;
    let greeter = Greeter {
        worker: name(&worker),
    };
    axum::serve(listener, Routes::new(greeter).into_axum_router())
        .with_graceful_shutdown(worker.on_drain())
        .await?;
    Ok(())
}

#[derive(Debug, Clone)]
struct Greeter {
    worker: String,
}

/// `Greet`.
impl UnaryService<String> for Greeter {
    type Response = String;
    type Future = Ready<Result<Response<String>, Status>>;

    fn call(&mut self, name: Request<String>) -> Self::Future {
        let text = format!("hello {} from worker {}", name.into_inner(), self.worker);
        ready(Ok(Response::new(text)))
    }
}

impl NamedService for Greeter {
    const NAME: &'static str = "hello.Greeter";
}

/// Its calls by their paths.
impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let greeter = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/hello.Greeter/Greet" => {
                    let mut unary = Grpc::new(ProstCodec::<String, String>::default());
                    unary.unary(greeter, request).await
                }
                other => Status::unimplemented(other).into_http(),
            })
        })
    }
}
