//! gRPC: one channel per client, as gRPC clients have it.

use crate::{TIMEOUT, alone, stands};
use anyhow::{Context, Result};
use e2e::Example;
use e2e::load::{Answer, Session};
use std::net::SocketAddr;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// A client of `tonic`. Its runtime has a thread of its own, so that the channel hears what the server says meanwhile.
struct Greeted {
    runtime: Runtime,
    channel: Grpc<Channel>,
}

impl Greeted {
    fn open(address: SocketAddr) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(TIMEOUT);
        let channel = runtime.block_on(endpoint.connect());
        let channel = Grpc::new(channel.with_context(|| format!("connect to {address}"))?);
        Ok(Self { runtime, channel })
    }
}

async fn greet(channel: &mut Grpc<Channel>) -> Result<Response<String>, Status> {
    let ready = channel.ready().await;
    ready.map_err(|error| Status::unavailable(format!("{error:?}")))?;
    let path = PathAndQuery::from_static("/hello.Greeter/Greet");
    let codec = ProstCodec::<String, String>::default();
    channel.unary(Request::new("e2e".into()), path, codec).await
}

impl Session for Greeted {
    fn exchange(&mut self) -> Result<Answer> {
        let greeting = self
            .runtime
            .block_on(greet(&mut self.channel))
            .map_err(|status| anyhow::anyhow!("{status:?}"))?
            .into_inner();
        let (_, worker) = greeting
            .split_once("hello e2e from worker ")
            .with_context(|| greeting.clone())?;
        Ok(Answer {
            worker: worker.to_owned(),
            stays: true,
        })
    }
}

#[test]
fn tonic() -> Result<()> {
    let _alone = alone();
    let example = Example::start("tonic", &[])?;
    let address = example.address;
    stands(&example, move |_| Greeted::open(address))?;
    example.end()
}
