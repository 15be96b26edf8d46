//! The front of a proxy: accepts connections in a thread of its own and dials the service behind. What is carried
//! between the two is the business of `proxy` and `kafka_proxy`.

use std::{future::Future, net::SocketAddr};

use anyhow::Result;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};

/// A listener with its connections. Dropping it ends all of them.
#[derive(Debug)]
pub(super) struct Gate {
    address: SocketAddr,
    /// Dropped without waiting: its tasks own nothing but sockets.
    runtime: Option<Runtime>,
}

impl Gate {
    /// Listens on `listen`, port 0 for a free one, and has every connection served by a task of its own.
    pub(super) fn open<F, S>(listen: SocketAddr, serve: F) -> Result<Self>
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(listen))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the suite has no supervisor: tasks end with the runtime"
                )]
                connections.spawn(serve(client));
            }
        });
        Ok(Self { address, runtime: Some(runtime) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Connects to the service. Where nobody listens the client learns it as from a closed port: with a reset.
pub(super) async fn dial(client: &TcpStream, target: SocketAddr) -> Option<TcpStream> {
    let Ok(server) = TcpStream::connect(target).await else {
        reset(client);
        return None;
    };
    // A socket that is gone already ends with its first read.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    Some(server)
}

/// Makes the end of a connection a reset: without linger the kernel resets instead of closing.
pub(super) fn reset(connection: &TcpStream) {
    // A socket that is gone needs neither.
    let _ = connection.set_zero_linger();
}
